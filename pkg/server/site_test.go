package server_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/server"
)

// web is a server of HTTP that tells how it was asked.
func web(t *testing.T, config *tls.Config) string {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s for %q", r.Proto, r.Host+r.URL.Path, r.Header.Get("X-Forwarded-Proto"))
	}))
	if s.TLS = config; config != nil {
		s.EnableHTTP2 = true
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// speaks is a connection of HTTP/1.1 to name.
func (r *running) speaks(a *lab.Authority, name string) (*tls.Conn, *bufio.Reader) {
	r.t.Helper()
	c, err := r.dial(a, name, "http/1.1")
	if err != nil {
		r.t.Fatalf("%s: %v", name, err)
	}
	r.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(lab.Patience))
	return c, bufio.NewReader(c)
}

// asks sends a request for host and reads the answer.
func asks(t *testing.T, c io.Writer, from *bufio.Reader, host string) (*http.Response, string) {
	t.Helper()
	if _, err := fmt.Fprintf(c, "GET /x HTTP/1.1\r\nHost: %s\r\n\r\n", host); err != nil {
		t.Fatal(err)
	}
	r, err := http.ReadResponse(from, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r, string(body)
}

// A route that speaks HTTP does so by what the file says; a reload that changes nothing
// of that leaves its clients alone, and one that does asks them to come again.
func TestSite(t *testing.T) {
	a := lab.NewAuthority(t, "test")
	cert, key := a.WriteServer(t, "a.test", "b.test")
	plain, secured := web(t, nil), web(t, a.Server(t, "a.test"))
	text := func(comment, hsts, backend, pool string) string {
		return fmt.Sprintf(`%s
[[routes]]
hosts = ["a.test"]
mode = "terminate"
pool = "web"
[routes.tls]
certificates = [{ cert = %q, key = %q }]
[routes.http]
hsts = %s
[pools.web]
backends = [%q]
%s
`, comment, cert, key, hsts, backend, pool)
	}
	r := start(t, nil, text("", "true", plain, ""))
	c, from := r.speaks(a, "a.test")
	check := func(hsts, body string) {
		t.Helper()
		res, got := asks(t, c, from, "a.test")
		if res.StatusCode != http.StatusOK || got != body || res.Header.Get("Strict-Transport-Security") != hsts {
			t.Errorf("%s %q, HSTS %q; want %q, %q", res.Status, got, res.Header.Get("Strict-Transport-Security"), body, hsts)
		}
	}
	check("max-age=63072000", `HTTP/1.1 a.test/x for "https"`)
	if res, _ := asks(t, c, from, "b.test"); res.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("another host: %s, want 421", res.Status)
	}

	r.reload(1, text("# further down\n", "true", plain, ""))
	check("max-age=63072000", `HTTP/1.1 a.test/x for "https"`)

	r.reload(2, text("", `"max-age=5"`, plain, ""))
	if _, err := io.Copy(io.Discard, from); err != nil {
		t.Fatal(err)
	}
	line := r.access.wait(t, `outcome=(\S+) .*ended_by=(\S+) requests=(\d+)`, 1)
	if line[1] != "ok" || line[2] != "snicket" || line[3] != "3" {
		t.Errorf("got %v, want ok, ended by snicket, 3 requests", line[1:])
	}
	c, from = r.speaks(a, "a.test")
	check("max-age=5", `HTTP/1.1 a.test/x for "https"`)

	r.reload(3, text("", `"max-age=5"`, secured, fmt.Sprintf("[pools.web.tls]\nca = %q", a.WriteCA(t))))
	if _, err := io.Copy(io.Discard, from); err != nil {
		t.Fatal(err)
	}
	c, from = r.speaks(a, "a.test")
	check("max-age=5", `HTTP/2.0 a.test/x for "https"`)
}

// TestSiteAsksForTheClientsName: without a server_name, a backend that speaks TLS is
// asked for the name of the client that a request is from, and verified by that, though
// its connections are kept and shared.
func TestSiteAsksForTheClientsName(t *testing.T) {
	a := lab.NewAuthority(t, "test")
	cert, key := a.WriteServer(t, "a.test", "b.test")
	config := a.Server(t, "a.test") // which is not for b.test
	var asked sync.Map
	config.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		n, _ := asked.LoadOrStore(h.ServerName, new(atomic.Int32))
		n.(*atomic.Int32).Add(1)
		return nil, nil
	}
	r := start(t, nil, fmt.Sprintf(`
[[routes]]
hosts = ["a.test", "b.test"]
mode = "terminate"
pool = "web"
[routes.tls]
certificates = [{ cert = %q, key = %q }]
[routes.http]
[pools.web]
backends = [%q]
health = { enabled = false }
[pools.web.tls]
ca = %q
`, cert, key, web(t, config), a.WriteCA(t)))
	for i, tc := range []struct {
		host string
		want int
	}{{"a.test", 200}, {"b.test", 502}, {"a.test", 200}} {
		c, from := r.speaks(a, tc.host)
		if res, body := asks(t, c, from, tc.host); res.StatusCode != tc.want {
			t.Errorf("%s: %s %q, want %d", tc.host, res.Status, body, tc.want)
		}
		c.Close()
		r.access.wait(t, `^.*requests=1`, i+1) // its connection is free again
	}
	if n, ok := asked.Load("a.test"); !ok || n.(*atomic.Int32).Load() != 1 {
		t.Error("the connection to a.test was not kept for the second client")
	}
}

// TestSorry: a route whose backends are all down says so by a page, also one that passes
// TLS through, if [tls] has a certificate for it.
func TestSorry(t *testing.T) {
	a := lab.NewAuthority(t, "test")
	cert, key := a.WriteServer(t, "through.test", "ended.test")
	gone := lab.Listen(t, "127.0.0.1:0")
	address := gone.Addr().String()
	gone.Close()
	r := start(t, nil, fmt.Sprintf(`
[tls]
certificates = [{ cert = %q, key = %q }]
[[routes]]
hosts = ["through.test"]
backends = [%[3]q]
sorry = true
[[routes]]
hosts = ["ended.test"]
mode = "terminate"
backends = [%[3]q]
sorry = true
[[routes]]
hosts = ["silent.test"]
backends = [%[3]q]
sorry = true
`, cert, key, address))
	r.log.wait(t, `msg=configuration warning=".*sorry cannot be said to .*silent.test`, 1)
	r.log.wait(t, `msg="backend down"`, 3)
	for i, host := range []string{"through.test", "ended.test"} {
		c, from := r.speaks(a, host)
		if res, _ := asks(t, c, from, host); res.StatusCode != http.StatusServiceUnavailable || !res.Close {
			t.Errorf("%s: %s, close %t; want 503 and the end", host, res.Status, res.Close)
		}
		c.Close()
		if line := r.access.wait(t, `sni="(\S+)" .*outcome=(\S+) .*requests=(\d+)`, i+1); line[1] != host || line[2] != "no-backend" || line[3] != "1" {
			t.Errorf("got %v, want %s, no-backend, 1", line[1:], host)
		}
	}
	r.refused(a, "silent.test", "internal error")
}

func TestCheckWarnsOfSorry(t *testing.T) {
	path := filepath.Join(t.TempDir(), "snicket.toml")
	lab.WriteFile(t, path, []byte("[[routes]]\nhosts = [\"a.test\"]\nbackends = [\"127.0.0.1:443\"]\nsorry = true\n"))
	_, problems := server.Check(path)
	if len(problems) != 1 || !problems[0].Warning || problems[0].Pos.Line != 2 || !strings.Contains(problems[0].Text, `"a.test"`) {
		t.Errorf("got %v, want one warning of line 2", problems)
	}
}

// TestPlainListener: an http listener knows the hosts of the others, and serves routes
// that name it.
func TestPlainListener(t *testing.T) {
	a := lab.NewAuthority(t, "test")
	cert, key := a.WriteServer(t, "a.test", "b.test")
	r := startBy(t, server.Options{}, preamble+fmt.Sprintf(`
[listeners.http]
address = "127.0.0.2:0"
kind = "http"
https_port = 8443
[[routes]]
hosts = ["a.test"]
mode = "terminate"
backends = [%q]
[routes.tls]
certificates = [{ cert = %[2]q, key = %[3]q }]
[routes.http]
[[routes]]
hosts = ["b.test"]
mode = "terminate"
listeners = ["https", "http"]
deny_from = ["127.0.0.3"]
backends = [%[1]q]
[routes.tls]
certificates = [{ cert = %[2]q, key = %[3]q }]
[routes.http]
`, web(t, nil), cert, key))
	address := r.log.wait(t, `msg=listening listener=http address=(\S+)`, 1)[1]
	ask := func(from, host string) (*http.Response, string) {
		t.Helper()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: lab.Patience}
		c, err := d.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(lab.Patience))
		return asks(t, c, bufio.NewReader(c), host)
	}
	for _, tc := range []struct {
		from, host string
		want       int
	}{
		{"127.0.0.1", "b.test", 200},
		{"127.0.0.1", "a.test", 308},
		{"127.0.0.1", "nobody.test", 421},
		{"127.0.0.3", "b.test", 308}, // where it is refused
	} {
		res, body := ask(tc.from, tc.host)
		if res.StatusCode != tc.want {
			t.Errorf("%s from %s: %s %q, want %d", tc.host, tc.from, res.Status, body, tc.want)
		}
		if got := res.Header.Get("Location"); tc.want == 308 && !strings.HasPrefix(got, "https://"+tc.host+":8443/") {
			t.Errorf("%s is sent to %q, want its port 8443", tc.host, got)
		}
	}
}

// TestSiteAdmission changes who may come: who was let in before is asked to come again, and
// his requests are answered no more on the connection that he has.
func TestSiteAdmission(t *testing.T) {
	a, clients := lab.NewAuthority(t, "test"), lab.NewAuthority(t, "clients")
	cert, key := a.WriteServer(t, "a.test")
	backend := web(t, nil)
	text := func(route, policy string) string {
		return fmt.Sprintf("[[routes]]\nhosts = [\"a.test\"]\nmode = \"terminate\"\nbackends = [%q]\n%s\n[routes.tls]\n"+
			"certificates = [{ cert = %q, key = %q }]\n%s\n[routes.http]\n", backend, route, cert, key, policy)
	}
	for _, tt := range []struct{ name, route, policy string }{
		{"a certificate", "", fmt.Sprintf("client_ca = %q", clients.WriteCA(t))},
		{"another place", `from = ["192.0.2.0/24"]`, ""},
		{"any place but theirs", `deny_from = ["127.0.0.0/8"]`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lab.Leaks(t)
			r := start(t, nil, text("", ""))
			c, from := r.speaks(a, "a.test")
			if res, _ := asks(t, c, from, "a.test"); res.StatusCode != http.StatusOK {
				t.Fatalf("before: %s", res.Status)
			}
			r.reload(1, text(tt.route, tt.policy))
			if b, err := io.ReadAll(from); err != nil || len(b) > 0 {
				t.Errorf("got %q, %v; want the connection to end", b, err)
			}
			if line := r.access.wait(t, `outcome=(\S+) .*ended_by=(\S+)`, 1); line[1] != "ok" || line[2] != "snicket" {
				t.Errorf("got %v, want ok, ended by snicket", line[1:])
			}
		})
	}
}

func TestCheckNeedsANameForPlainClients(t *testing.T) {
	a := lab.NewAuthority(t, "test")
	cert, key := a.WriteServer(t, "a.test")
	path := filepath.Join(t.TempDir(), "snicket.toml")
	for _, tc := range []struct{ tls, want string }{
		{"", "serves the http listener"},
		{"server_name = \"a.test\"", ""},
		{"insecure_skip_verify = true", ""},
	} {
		lab.WriteFile(t, path, fmt.Appendf(nil, `
[listeners.https]
[listeners.http]
address = ":80"
kind = "http"
[[routes]]
hosts = ["a.test"]
listeners = ["https", "http"]
mode = "terminate"
pool = "web"
[routes.tls]
certificates = [{ cert = %q, key = %q }]
[routes.http]
[pools.web]
backends = ["10.0.0.1:443"]
[pools.web.tls]
%s
`, cert, key, tc.tls))
		_, problems := server.Check(path)
		err := problems.Err()
		switch {
		case tc.want == "" && err != nil:
			t.Errorf("%q: got %v, want none", tc.tls, err)
		case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%q: got %v, want %q", tc.tls, err, tc.want)
		}
	}
}

// TestSiteLosesHost gives a host of a route to another one, which demands certificates: a
// connection from before brings requests for what the first one has still, and no others.
func TestSiteLosesHost(t *testing.T) {
	lab.Leaks(t)
	a, clients := lab.NewAuthority(t, "test"), lab.NewAuthority(t, "clients")
	cert, key := a.WriteServer(t, "a.test", "b.test")
	backend := web(t, nil)
	const route = "[[routes]]\nname = %q\nhosts = [%s]\nmode = \"terminate\"\nbackends = [%q]\n[routes.tls]\n%s\n[routes.http]\n"
	shared := fmt.Sprintf("[tls]\ncertificates = [{ cert = %q, key = %q }]\n", cert, key)
	r := start(t, nil, fmt.Sprintf(route, "one", `"a.test", "b.test"`, backend, "")+shared)
	c, from := r.speaks(a, "b.test")
	check := func(host string, want int) {
		t.Helper()
		if res, _ := asks(t, c, from, host); res.StatusCode != want {
			t.Errorf("%s: got %s, want %d", host, res.Status, want)
		}
	}
	check("b.test", http.StatusOK)
	check("a.test", http.StatusOK)
	r.reload(1, fmt.Sprintf(route, "one", `"a.test"`, backend, "")+
		fmt.Sprintf(route, "two", `"b.test"`, backend, fmt.Sprintf("client_ca = %q", clients.WriteCA(t)))+shared)
	check("a.test", http.StatusOK)
	check("b.test", http.StatusMisdirectedRequest)
}
