package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/server"
)

// described checks what an API answers against its own description.
type described struct {
	t      *testing.T
	router routers.Router
	seen   map[string]bool // by method, path and status
	doc    *openapi3.T
}

func newDescribed(t *testing.T, text string) *described {
	t.Helper()
	for _, plain := range []string{"application/toml", "text/html", "text/javascript", "text/event-stream"} {
		openapi3filter.RegisterBodyDecoder(plain, openapi3filter.PlainBodyDecoder)
		t.Cleanup(func() { openapi3filter.UnregisterBodyDecoder(plain) })
	}
	doc, err := openapi3.NewLoader().LoadFromData([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatalf("the description: %v", err)
	}
	router, err := legacy.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	return &described{t, router, map[string]bool{}, doc}
}

// request makes a request, which must be one that is described unless its answer is
// 400, and checks the answer; it returns its body.
func (d *described) request(c *http.Client, method, path, body string, status int) string {
	d.t.Helper()
	r, err := http.NewRequestWithContext(d.t.Context(), method, "http://snicket"+path, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	res, err := c.Do(r)
	if err != nil {
		d.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != status {
		d.t.Fatalf("%s %s: got %s, %v, want %d\n%s", method, path, res.Status, err, status, text)
	}
	route, params, err := d.router.FindRoute(r)
	if err != nil {
		d.t.Fatalf("%s %s is not described: %v", method, path, err)
	}
	d.seen[fmt.Sprintf("%s %s %d", method, route.Path, status)] = true
	asked := &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route}
	if status != http.StatusBadRequest {
		r.Body = io.NopCloser(strings.NewReader(body))
		if err := openapi3filter.ValidateRequest(context.Background(), asked); err != nil {
			d.t.Errorf("%s %s: %v", method, path, err)
		}
	}
	answered := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: asked, Status: res.StatusCode, Header: res.Header, Body: io.NopCloser(bytes.NewReader(text)),
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	}
	if err := openapi3filter.ValidateResponse(context.Background(), answered); err != nil {
		d.t.Errorf("%s %s: %v\n%s", method, path, err, text)
	}
	return string(text)
}

// frames checks the frames of /v1/live.
func (d *described) frames(stream string) {
	d.t.Helper()
	for text := range strings.SplitSeq(strings.TrimSpace(stream), "\n\n") {
		var frame any
		if err := json.Unmarshal([]byte(strings.TrimPrefix(text, "data: ")), &frame); err != nil {
			d.t.Fatalf("%v in %s", err, text)
		}
		if err := d.doc.Components.Schemas["Frame"].Value.VisitJSON(frame); err != nil {
			d.t.Errorf("%v\n%s", err, text)
		}
	}
}

// complete fails the test unless every answer that is described was seen.
func (d *described) complete() {
	d.t.Helper()
	for path, item := range d.doc.Paths.Map() {
		for method, op := range item.Operations() {
			for status := range op.Responses.Map() {
				if key := fmt.Sprintf("%s %s %s", method, path, status); !d.seen[key] {
					d.t.Errorf("no answer was compared with %s", key)
				}
			}
		}
	}
}

// Every answer that the description has is got from a server at work, and is as it says.
func TestAPIIsAsDescribed(t *testing.T) {
	lab.Leaks(t)
	ca, one, two := echoes(t)
	cert, key := ca.WriteServer(t, "t.test")
	text := pool("[pools.web.health]\ninterval = \"10ms\"\nrise = 1\nfall = 1\n", one, two) + "[[routes]]\nhosts = [\"no.test\"]\nmode = \"reject\"\n" +
		fmt.Sprintf("[[routes]]\nhosts = [\"t.test\"]\nmode = \"terminate\"\nbackends = [\"unix:%s\"]\n[routes.tls]\ncertificates = [{ cert = %q, key = %q }]\n",
			filepath.Join(t.TempDir(), "plain.sock"), cert, key)
	o := operateBy(t, server.Options{Upgrade: followed(t)}, text)
	c := o.http(t)
	_, description := o.get(t, "/openapi.yaml")
	d := newDescribed(t, description)
	o.log.wait(t, `msg="backend ready"`, 2)
	o.log.wait(t, `msg="backend down" pool=t.test`, 1)
	o.session(ca, "a.test")
	second := o.session(ca, "a.test")
	o.refused(ca, "no.test", "access denied")
	o.access.wait(t, `outcome=rejected`, 1)

	ok := func(path string) string { t.Helper(); return d.request(c, "GET", path, "", http.StatusOK) }
	for _, path := range []string{
		"/healthz", "/metrics", "/openapi.yaml", "/v1/status", "/v1/routes", "/v1/backends", "/v1/backends?pool=web", "/v1/sessions",
		"/v1/sessions?route=shop&pool=web&backend=b1&client=127.0.0.0/8&idle_over=0s&sort=bytes&limit=5", "/v1/certificates", "/v1/refused",
		"/v1/events", "/v1/events?after=3", "/v1/config", "/v1/config/difference", "/v1/explain?name=a.test&alpn=h2&alpn=x&from=192.0.2.1&listener=https",
		"/v1/explain", "/v1/explain?name=none.test", "/", "/dashboard/dashboard.js",
	} {
		ok(path)
	}
	d.request(c, "GET", "/readyz", "", http.StatusServiceUnavailable) // t.test has no backend
	for _, path := range []string{
		"/v1/sessions?client=here", "/v1/sessions?idle_over=5", "/v1/sessions?limit=0", "/v1/sessions?sort=name", "/v1/events?after=x",
		"/v1/explain?name=a..test", "/v1/explain?from=here", "/v1/live?frames=0", "/v1/live?frames=x",
	} {
		d.request(c, "GET", path, "", http.StatusBadRequest)
	}
	d.request(c, "GET", "/v1/explain?listener=none", "", http.StatusNotFound)

	web := "/v1/pools/web/backends/b1"
	for _, state := range []string{"drain", "down", "ready"} {
		d.request(c, "PUT", web+"/state", `{"state": "`+state+`"}`, http.StatusOK)
	}
	d.request(c, "PUT", web+"/weight", `{"weight": 0}`, http.StatusOK)
	ok("/v1/backends")
	d.request(c, "DELETE", web+"/weight", "", http.StatusOK)
	for _, body := range []string{"", "{}", `{"state": "off"}`, `{"state": "drain", "for": "1h"}`} {
		d.request(c, "PUT", web+"/state", body, http.StatusBadRequest)
	}
	for _, body := range []string{"", "{}", `{"weight": -1}`, `{"weight": 257}`} {
		d.request(c, "PUT", web+"/weight", body, http.StatusBadRequest)
	}
	for _, none := range []string{"/v1/pools/web/backends/b9", "/v1/pools/none/backends/b1"} {
		d.request(c, "PUT", none+"/state", `{"state": "drain"}`, http.StatusNotFound)
		d.request(c, "PUT", none+"/weight", `{"weight": 1}`, http.StatusNotFound)
		d.request(c, "DELETE", none+"/weight", "", http.StatusNotFound)
	}
	// A backend's name may hold a "/".
	name := regexp.MustCompile(`"name":"(unix:[^"]+)"`).FindStringSubmatch(ok("/v1/backends?pool=t.test"))[1]
	if b := must(o.SetState(t.Context(), "t.test", name, "drain")); b.Wish == nil {
		t.Errorf("got %+v, want a wish", b)
	}

	d.frames(ok("/v1/live?frames=2"))
	watchers := make([]*http.Response, 16)
	for i := range watchers {
		watchers[i] = must(c.Get("http://snicket/v1/live"))
	}
	d.request(c, "GET", "/v1/live", "", http.StatusServiceUnavailable)
	for _, w := range watchers {
		w.Body.Close()
	}

	id := regexp.MustCompile(`"id":"([0-9a-f]{16})"`).FindStringSubmatch(ok("/v1/sessions?sort=idle"))[1]
	d.request(c, "DELETE", "/v1/sessions/"+id, "", http.StatusOK)
	d.request(c, "DELETE", "/v1/sessions/"+id, "", http.StatusNotFound)
	d.request(c, "DELETE", "/v1/sessions/first", "", http.StatusBadRequest)
	second.Close()

	d.request(c, "POST", "/v1/reload", "", http.StatusOK)
	o.write("nonsense")
	d.request(c, "POST", "/v1/reload", "", http.StatusConflict)
	d.request(c, "GET", "/v1/config/difference", "", http.StatusConflict)
	ok("/v1/status") // with why the reload failed

	o.write(preamble + pool(unprobed, one, two))
	d.request(c, "POST", "/v1/reload", "", http.StatusOK)
	ok("/readyz")
	for _, body := range []string{"", `{"binary": "snicket"}`} {
		d.request(c, "POST", "/v1/upgrade", body, http.StatusBadRequest)
	}
	d.request(c, "POST", "/v1/upgrade", `{"binary": "/nowhere/snicket"}`, http.StatusConflict)
	end(t, d.request(c, "POST", "/v1/upgrade", "{}", http.StatusOK))
	d.complete()
}

const unprobedRoute = "[[routes]]\nhosts = [\"z.test\"]\npool = \"z\"\n[pools.z]\nbackends = [\"127.0.0.1:1\"]\n" +
	"[pools.z.health]\nenabled = false\n"

// Over TCP all is read and nothing changed.
func TestAddressIsReadOnly(t *testing.T) {
	lab.Leaks(t)
	address := lab.FreeAddr(t)
	file := filepath.Join(t.TempDir(), "admin.sock")
	text := preamble + unprobedRoute
	r := startBy(t, server.Options{}, text+fmt.Sprintf("[admin]\nsocket = %q\naddress = %q\n", file, address))
	r.log.wait(t, `msg="admin api answers" address=`+address, 1)
	transport := &http.Transport{DisableKeepAlives: true}
	ask := func(method, path string) (int, string) {
		t.Helper()
		q, err := http.NewRequestWithContext(t.Context(), method, "http://"+address+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := transport.RoundTrip(q)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(body)
	}
	for _, path := range []string{"/healthz", "/readyz", "/metrics", "/v1/status", "/v1/sessions", "/v1/events", "/v1/live?frames=1", "/", "/openapi.yaml"} {
		if status, body := ask("GET", path); status != http.StatusOK {
			t.Errorf("GET %s: got %d %q", path, status, body)
		}
	}
	for _, request := range [][2]string{
		{"GET", "/v1/config"},
		{"GET", "/v1/config/difference"},
		{"POST", "/v1/reload"},
		{"DELETE", "/v1/sessions/0123456789abcdef"},
		{"PUT", "/v1/pools/z/backends/127.0.0.1:1/state"},
		{"PUT", "/v1/pools/z/backends/127.0.0.1:1/weight"},
		{"DELETE", "/v1/pools/z/backends/127.0.0.1:1/weight"},
		{"GET", "/debug/pprof/"},
		{"GET", "/debug/pprof/goroutine"},
		{"POST", "/v1/status"},
		{"PUT", "/readyz"},
	} {
		if status, body := ask(request[0], request[1]); status != http.StatusNotFound && status != http.StatusMethodNotAllowed {
			t.Errorf("%s %s: got %d %q, want none of that over TCP", request[0], request[1], status, body)
		}
	}
	// Without it, nobody answers; the socket goes with the configuration, too.
	r.reload(1, unprobedRoute+"[admin]\nsocket = \"off\"\n")
	if _, err := transport.RoundTrip(must(http.NewRequest("GET", "http://"+address+"/healthz", nil))); err == nil {
		t.Error("got an answer at an address that the configuration has no more")
	}
	if _, err := os.Lstat(file); !os.IsNotExist(err) {
		t.Errorf("got %v of a socket that the configuration has no more, want no file", err)
	}
}
