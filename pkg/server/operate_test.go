package server_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/admin"
	"github.com/snicketlb/snicket/pkg/admin/client"
	"github.com/snicketlb/snicket/pkg/server"
)

// operated is a running server with its admin API.
type operated struct {
	*running
	*client.Client
	socket string
}

// operate starts a server by preamble and text, with an admin socket.
func operate(t *testing.T, text string) *operated {
	t.Helper()
	return operateBy(t, server.Options{}, text)
}

func operateBy(t *testing.T, by server.Options, text string) *operated {
	t.Helper()
	by.AdminSocket, by.Version = filepath.Join(t.TempDir(), "run", "admin.sock"), "v0.0.0-test"
	o := &operated{socket: by.AdminSocket, Client: client.New(by.AdminSocket)}
	o.running = startBy(t, by, preamble+text)
	t.Cleanup(o.Close) // before the server ends
	return o
}

// http is a client of net/http to the socket.
func (o *operated) http(t *testing.T) *http.Client {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", o.socket)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: lab.Patience}
}

// get reads a path over the socket.
func (o *operated) get(t *testing.T, path string) (status int, body string) {
	t.Helper()
	res, err := o.http(t).Get("http://snicket" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

// backend is one of a pool.
func (o *operated) backend(t *testing.T, pool, name string) admin.Backend {
	t.Helper()
	for _, b := range must(o.Backends(t.Context(), pool)) {
		if b.Name == name {
			return b
		}
	}
	t.Fatalf("no backend %s/%s", pool, name)
	return admin.Backend{}
}

// must is v, or a panic by err, which fails the test.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// pool is a pool web of backends without probes, and a route to it.
func pool(settings string, backends ...*lab.Server) string {
	entries := make([]string, len(backends))
	for i, b := range backends {
		entries[i] = fmt.Sprintf("{ address = %q, name = \"b%d\" }", b.Addr(), i+1)
	}
	return "[[routes]]\nname = \"shop\"\nhosts = [\"a.test\"]\npool = \"web\"\n" +
		"[pools.web]\nbackends = [" + strings.Join(entries, ", ") + "]\n" + settings
}

// echoes are two backends for a.test, and who signed their certificates.
func echoes(t *testing.T) (ca *lab.Authority, one, two *lab.Server) {
	ca = lab.NewAuthority(t, "ca")
	options := lab.Options{TLS: ca.Server(t, "a.test")}
	return ca, lab.Serve(t, lab.Echo(), options), lab.Serve(t, lab.Echo(), options)
}

const unprobed = "[pools.web.health]\nenabled = false\n"

func TestSessionsAreSeenAndKilled(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	backend := lab.Serve(t, lab.Echo(), lab.Options{TLS: ca.Server(t, "a.test")})
	o := operate(t, pool(unprobed, backend))
	first, second := o.session(ca, "a.test"), o.session(ca, "a.test")
	all := must(o.Sessions(t.Context(), client.SessionOptions{}))
	if all.Matched != 2 || len(all.Sessions) != 2 {
		t.Fatalf("got %+v, want two sessions", all)
	}
	for _, s := range all.Sessions {
		if s.Route != "shop" || s.Pool != "web" || s.Backend != "b1" || s.SNI != "a.test" || s.Phase != "relay" ||
			s.Listener != "https" || s.Mode != "passthrough" || s.BytesIn == 0 || s.BytesOut == 0 || len(s.JA4) != 36 {
			t.Errorf("got %+v", s)
		}
	}
	for name, tc := range map[string]struct {
		o    client.SessionOptions
		want int
	}{
		"route":        {client.SessionOptions{Route: "shop"}, 2},
		"other route":  {client.SessionOptions{Route: "a.test"}, 0},
		"backend":      {client.SessionOptions{Pool: "web", Backend: "b1"}, 2},
		"other pool":   {client.SessionOptions{Pool: "db"}, 0},
		"client":       {client.SessionOptions{Client: first.LocalAddr().(*net.TCPAddr).IP.String()}, 2},
		"network":      {client.SessionOptions{Client: "127.0.0.0/8"}, 2},
		"other client": {client.SessionOptions{Client: "192.0.2.0/24"}, 0},
		"idle":         {client.SessionOptions{IdleOver: time.Hour}, 0},
	} {
		if got := must(o.Sessions(t.Context(), tc.o)); got.Matched != tc.want {
			t.Errorf("%s: got %d sessions, want %d", name, got.Matched, tc.want)
		}
	}
	if got := must(o.Sessions(t.Context(), client.SessionOptions{Limit: 1})); got.Matched != 2 || len(got.Sessions) != 1 {
		t.Errorf("got %d of %d sessions, want 1 of 2", len(got.Sessions), got.Matched)
	}

	local := first.LocalAddr().String()
	for _, s := range all.Sessions {
		if s.Client == local {
			if err := o.Kill(t.Context(), s.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
	ended(t, first)
	o.access.wait(t, `client=`+local+` .*outcome=killed .*ended_by=snicket`, 1)
	o.echo(second)
	err := o.Kill(t.Context(), "0123456789abcdef")
	if refused, ok := errors.AsType[*admin.Error](err); !ok || refused.Status != http.StatusNotFound || refused.Hint == "" {
		t.Errorf("got %v of a session that is none, want not found, and a hint", err)
	}
}

// More sessions than a loop looks at in one turn are all seen, each once.
func TestManySessionsAreSeen(t *testing.T) {
	lab.Leaks(t)
	const n = 700
	backend := lab.Serve(t, lab.Mute(), lab.Options{})
	o := operate(t, pool(unprobed, backend))
	hello := lab.Hello("a.test")
	for range n {
		c, err := net.Dial("tcp", o.address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write(hello); err != nil {
			t.Fatal(err)
		}
	}
	backend.WaitAccepted(t, n)
	all := must(o.Sessions(t.Context(), client.SessionOptions{Limit: 10 * n}))
	seen := map[string]bool{}
	for _, s := range all.Sessions {
		seen[s.ID] = true
	}
	if len(seen) != n || all.Matched != n {
		t.Errorf("got %d sessions, %d of them different; want %d", all.Matched, len(seen), n)
	}
}

// attribute is the value of an event's attribute; empty for none.
func attribute(e admin.Event, key string) string {
	for _, a := range e.Attrs {
		if a.Key == key {
			return a.Value
		}
	}
	return ""
}

func TestRefusalsAndEvents(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	backend := lab.Serve(t, lab.Echo(), lab.Options{TLS: ca.Server(t, "a.test")})
	o := operate(t, pool(unprobed, backend))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events, followed := make(chan admin.Event), make(chan error, 1)
	go func() {
		followed <- o.Follow(ctx, 0, func(e admin.Event) error {
			select {
			case events <- e:
			case <-ctx.Done():
			}
			return nil
		})
	}()
	wait := func(message string) admin.Event {
		t.Helper()
		late := time.After(lab.Patience)
		for {
			select {
			case e := <-events:
				if e.Message == message {
					return e
				}
			case <-late:
				t.Fatalf("no event %q", message)
			}
		}
	}
	wait("ready") // of before
	o.refused(ca, "b.test", "unrecognized name")
	o.access.wait(t, `outcome=no-route`, 1)
	refused := must(o.Refused(t.Context()))
	if len(refused) != 1 || refused[0].SNI != "b.test" || refused[0].Outcome != "no-route" || refused[0].Client == "" || len(refused[0].JA4) != 36 {
		t.Errorf("got %+v, want the one refused", refused)
	}
	must(o.SetState(t.Context(), "web", "b1", "drain"))
	if e := wait("backend drains"); fmt.Sprint(e.Attrs[:2]) != "[{pool web} {backend b1}]" || e.Level != "info" {
		t.Errorf("got %+v, want the backend that drains", e)
	}
	if e := wait("operator"); e.Level != "info" || attribute(e, "does") != "drain" || attribute(e, "error") != "" {
		t.Errorf("got %+v, want what the operator has done", e)
	}
	// What is refused is no deed.
	for _, tc := range []struct {
		does, why string
		do        func() error
	}{
		{"drain", "pool web has no backend b9", func() error { _, err := o.SetState(ctx, "web", "b9", "drain"); return err }},
		{"weight", "no pool none", func() error { _, err := o.SetWeight(ctx, "none", "b1", 3); return err }},
		{"kill", "no session", func() error { return o.Kill(ctx, "0123456789abcdef") }},
		{"reload", "reload failed", func() error { o.write("nonsense"); _, err := o.Reload(ctx); return err }},
		{"upgrade", "upgrade", func() error { _, err := o.Upgrade(ctx, ""); return err }},
	} {
		if err := tc.do(); err == nil {
			t.Errorf("%s: got no error", tc.does)
		}
		e := wait("operator")
		if e.Level != "warn" || attribute(e, "does") != tc.does || !strings.Contains(attribute(e, "error"), tc.why) {
			t.Errorf("%s: got %+v, want that it was refused as %q", tc.does, e, tc.why)
		}
	}
	cancel()
	if err := <-followed; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that it was canceled", err)
	}
}

func TestExplainRunning(t *testing.T) {
	lab.Leaks(t)
	o := operate(t, passthrough("a.test", "127.0.0.1:1"))
	// What counts is what runs, not the file.
	o.write("nonsense")
	e := must(o.Explain(t.Context(), admin.Question{Name: "a.test"}))
	if e.Outcome != "ok" || e.Route != "a.test" || e.Pool != "a.test" || e.Listener != "https" || len(e.Verdicts) != 1 || !e.Verdicts[0].Won {
		t.Errorf("got %+v, want its route", e)
	}
	if e := must(o.Explain(t.Context(), admin.Question{Name: "b.test"})); e.Outcome != "no-route" || fmt.Sprint(e.Looked) != "[a.test]" {
		t.Errorf("got %+v, want no route", e)
	}
	if _, err := o.Explain(t.Context(), admin.Question{Name: "a.test", Listener: "spare"}); err == nil || !strings.Contains(err.Error(), `no listener "spare"`) {
		t.Errorf("got %v, want that there is no such listener", err)
	}
}

// Routes that speak HTTP are seen, counted and ended as all others.
func TestOperateHTTP(t *testing.T) {
	lab.Leaks(t)
	a := lab.NewAuthority(t, "test")
	cert, key := a.WriteServer(t, "a.test")
	backend := web(t, nil)
	o := operate(t, fmt.Sprintf("[[routes]]\nname = \"site\"\nhosts = [\"a.test\"]\nmode = \"terminate\"\npool = \"web\"\n"+
		"[routes.tls]\ncertificates = [{ cert = %q, key = %q }]\n[routes.http]\n[pools.web]\nbackends = [%q]\n", cert, key, backend)+unprobed)
	c, from := o.speaks(a, "a.test")
	if res, body := asks(t, c, from, "a.test"); res.StatusCode != http.StatusOK {
		t.Fatalf("got %s %q", res.Status, body)
	}
	// A goroutine counts what it has written, perhaps after the client has read it.
	var s admin.Session
	var m metrics
	await(t, "a session and its route that have counted the same", func() bool {
		all := must(o.Sessions(t.Context(), client.SessionOptions{Route: "site", Pool: "web", Backend: backend}))
		if all.Matched != 1 {
			t.Fatalf("got %+v, want the one session", all)
		}
		s, m = all.Sessions[0], o.metrics(t)
		return s.BytesIn > 0 && m[`snicket_route_bytes_total{direction="in",route="site"}`] == float64(s.BytesIn) &&
			s.BytesOut > 0 && m[`snicket_route_bytes_total{direction="out",route="site"}`] == float64(s.BytesOut)
	})
	if s.Client != c.LocalAddr().String() || s.Phase != "relay" || s.Mode != "terminate" || s.ALPN != "http/1.1" {
		t.Errorf("got %+v", s)
	}
	m.want(t, metrics{
		`snicket_sessions_active{listener="https"}`:                            1,
		`snicket_backend_sessions_total{backend="` + backend + `",pool="web"}`: 1, `snicket_handshakes_total{kind="full",side="client"}`: 1,
	})
	// What is drained gets no further request, over whichever connection.
	must(o.SetState(t.Context(), "web", backend, "drain"))
	if res, _ := asks(t, c, from, "a.test"); res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("got %s from a pool whose backend drains, want 503", res.Status)
	}
	must(o.SetState(t.Context(), "web", backend, "ready"))
	c, from = o.speaks(a, "a.test")
	if res, body := asks(t, c, from, "a.test"); res.StatusCode != http.StatusOK {
		t.Fatalf("got %s %q", res.Status, body)
	}
	for _, s := range must(o.Sessions(t.Context(), client.SessionOptions{})).Sessions {
		if s.Client != c.LocalAddr().String() {
			continue
		}
		if err := o.Kill(t.Context(), s.ID); err != nil {
			t.Error(err)
		}
	}
	ended(t, c)
	o.access.wait(t, `route=site .*outcome=killed`, 1)
}
