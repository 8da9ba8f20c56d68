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
	"syscall"
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

const unprobed = "[pools.web.health]\nenabled = false\n"

// A wish keeps new sessions away, is shown, lives over a reload, and ends with ready.
func TestWishes(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	options := lab.Options{TLS: ca.Server(t, "a.test")}
	one, two := lab.Serve(t, lab.Echo(), options), lab.Serve(t, lab.Echo(), options)
	text := pool(unprobed, one, two)
	o := operate(t, text)

	held := o.session(ca, "a.test")
	name, stays, other := "b1", one, two
	if two.Accepted() == 1 {
		name, stays, other = "b2", two, one
	}
	b := must(o.SetState(t.Context(), "web", name, "drain"))
	if b.State != "draining" || b.Wish == nil || b.Wish.Value != "drain" || b.Wish.By == "" || time.Since(b.Wish.Since) > time.Hour || b.Sessions != 1 {
		t.Errorf("got %+v, wish %+v; want it draining, with one session", b, b.Wish)
	}
	o.log.wait(t, `msg=operator does=drain pool=web backend=`+name+` by=\S+ uid=\d+ gid=\d+ pid=\d+`, 1)
	o.log.wait(t, `msg="backend drains" pool=web backend=`+name+` why="operator \S+ wishes it"`, 1)
	for range 4 {
		hangUp(t, o.session(ca, "a.test"))
	}
	o.reload(1, text+"[timeouts]\nidle = \"2h\"\n")
	for range 4 {
		hangUp(t, o.session(ca, "a.test"))
	}
	if got := stays.Accepted(); got != 1 {
		t.Errorf("got %d connections to the backend that drains, want the one of before", got)
	}
	if got := other.Accepted(); got != 8 {
		t.Errorf("got %d connections to the other, want 8", got)
	}
	o.echo(held)
	since := b.Wish.Since
	if b = o.backend(t, "web", name); b.State != "draining" || !b.Wish.Since.Equal(since) {
		t.Errorf("got %+v after a reload, want the wish of before", b)
	}
	if b = must(o.SetState(t.Context(), "web", name, "ready")); b.State != "ready" || b.Wish != nil {
		t.Errorf("got %+v after ready, want no wish", b)
	}
	o.session(ca, "a.test")
	o.session(ca, "a.test") // fewer are on the one that was to drain, or as many
	stays.WaitAccepted(t, 2)
}

// Down is down whatever probes say, and ready does not overrule a failing probe.
func TestWishesAndProbes(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	backend := lab.Serve(t, lab.Echo(), lab.Options{TLS: ca.Server(t, "a.test")})
	o := operate(t, pool(quick, backend))
	o.log.wait(t, `msg="backend ready"`, 1)
	if b := must(o.SetState(t.Context(), "web", "b1", "down")); b.State != "down" || b.Probe != "ready" || !strings.Contains(b.Why, "operator") {
		t.Errorf("got %+v, want it down by an operator, and its probe good", b)
	}
	o.refused(ca, "a.test", "internal error")
	if status, body := o.get(t, "/readyz"); status != http.StatusServiceUnavailable || body != "pool web: every backend is down\n" {
		t.Errorf("got %d %q, want not ready, and why", status, body)
	}
	if b := must(o.SetState(t.Context(), "web", "b1", "ready")); b.State != "ready" {
		t.Errorf("got %+v, want it ready", b)
	}
	hangUp(t, o.session(ca, "a.test"))
	if status, body := o.get(t, "/readyz"); status != http.StatusOK || body != "ok\n" {
		t.Errorf("got %d %q, want ready", status, body)
	}
	backend.Close()
	o.log.wait(t, `msg="backend down" pool=web backend=b1 why=.*refused`, 1)
	if b := must(o.SetState(t.Context(), "web", "b1", "ready")); b.State != "down" || b.Probe != "down" {
		t.Errorf("got %+v, want it down, as its probe says", b)
	}
}

// With too few ready, backends are tried that probes have down, but none that an
// operator has: it does not count among those of which too few are ready.
func TestWishesInPanic(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	options := lab.Options{TLS: ca.Server(t, "a.test")}
	one, two := lab.Serve(t, lab.Echo(), options), lab.Serve(t, lab.Echo(), options)
	o := operate(t, pool("panic_below = 0.9\nbalance = \"round-robin\"\n"+unprobed, one, two))
	must(o.SetState(t.Context(), "web", "b1", "down"))
	for range 4 {
		hangUp(t, o.session(ca, "a.test"))
	}
	if got := one.Accepted(); got != 0 {
		t.Errorf("got %d connections to a backend that an operator has down, want none", got)
	}
}

func TestWeightWishes(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	options := lab.Options{TLS: ca.Server(t, "a.test")}
	one, two := lab.Serve(t, lab.Echo(), options), lab.Serve(t, lab.Echo(), options)
	text := pool(unprobed, one, two)
	o := operate(t, text)
	if b := must(o.SetWeight(t.Context(), "web", "b1", 0)); b.Weight != 0 || b.WeightDeclared != 1 || b.WeightWish == nil || b.WeightWish.Value != "0" {
		t.Errorf("got %+v, want weight 0, by a wish", b)
	}
	o.reload(1, text+"[timeouts]\nidle = \"2h\"\n")
	for range 4 {
		hangUp(t, o.session(ca, "a.test"))
	}
	if got := one.Accepted(); got != 0 {
		t.Errorf("got %d connections to a backend of weight 0, want none", got)
	}
	if b := must(o.ResetWeight(t.Context(), "web", "b1")); b.Weight != 1 || b.WeightWish != nil {
		t.Errorf("got %+v, want the declared weight", b)
	}
	held := o.session(ca, "a.test")
	o.session(ca, "a.test")
	one.WaitAccepted(t, 1)
	o.echo(held)
}

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

func TestReloadInWords(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	options := lab.Options{TLS: ca.Server(t, "a.test")}
	one, two := lab.Serve(t, lab.Echo(), options), lab.Serve(t, lab.Echo(), options)
	both := pool(unprobed, one, two)
	o := operate(t, both)
	// One on each.
	held := []io.Closer{o.session(ca, "a.test"), o.session(ca, "a.test")}
	two.WaitAccepted(t, 1)
	next := "[[routes]]\nname = \"x\"\nhosts = [\"x.test\"]\npool = \"web\"\n[[routes]]\nname = \"y\"\nhosts = [\"y.test\"]\nmode = \"reject\"\n" +
		pool(unprobed, one) + "[timeouts]\ndrain = \"1h\"\n"
	o.write(preamble + next)
	want := []string{"2 routes added: x, y", "pool web changed", "pool web: backend b2 removed, drains 1 session", "settings changed: timeouts"}
	d := must(o.Difference(t.Context()))
	if got := fmt.Sprintf("%q", d.Changes); got != fmt.Sprintf("%q", want) {
		t.Errorf("got %s that would change, want %q", got, want)
	}
	if !strings.Contains(d.Diff, "\n+drain = \"1h\"\n") || !strings.Contains(d.Diff, "\n-drain = \"30s\"\n") {
		t.Errorf("got a difference of\n%s\nwant the new drain in it", d.Diff)
	}
	if got := must(o.Status(t.Context())).Generation; got != 1 {
		t.Errorf("got generation %d, want that of the start: nothing was to change", got)
	}
	done := must(o.Reload(t.Context()))
	if got := fmt.Sprintf("%q", done.Changes); got != fmt.Sprintf("%q", want) || done.Generation != 2 {
		t.Errorf("got generation %d, %s; want 2, %q", done.Generation, got, want)
	}
	o.log.wait(t, `msg="backend removed" pool=web backend=b2 sessions=1`, 1)
	if d := must(o.Difference(t.Context())); len(d.Changes) != 0 || d.Diff != "" {
		t.Errorf("got %+v that would change, want nothing", d)
	}

	o.write(preamble + "[[routes]]\nhosts = [\"a.test\"]\n")
	_, err := o.Reload(t.Context())
	refused, ok := errors.AsType[*admin.Error](err)
	if !ok || refused.Status != http.StatusConflict || len(refused.Problems) != 1 || !strings.Contains(refused.Problems[0], "neither pool nor backends") {
		t.Errorf("got %+v, want each problem of the file", err)
	}
	if got := must(o.Status(t.Context())); got.Generation != 2 || !strings.Contains(got.ReloadFailed, "neither pool nor backends") {
		t.Errorf("got %+v, want the configuration of before, and why the reload failed", got)
	}
	for _, c := range held {
		c.Close()
	}
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
	wait("operator")
	if e := wait("backend drains"); fmt.Sprint(e.Attrs[:2]) != "[{pool web} {backend b1}]" || e.Level != "info" {
		t.Errorf("got %+v, want the backend that drains", e)
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

// Within shutdown_delay all goes on, but for readiness; then the drain begins, at once
// if a second signal asks for it.
func TestShutdownDelay(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	backend := lab.Serve(t, lab.Echo(), lab.Options{TLS: ca.Server(t, "a.test")})
	text := pool(unprobed, backend) + "[timeouts]\ndrain = \"1h\"\nshutdown_delay = "
	o := operate(t, text+"\"1h\"\n")
	held := o.session(ca, "a.test")
	o.signals <- syscall.SIGTERM
	o.log.wait(t, `msg=stopping signal=terminated shutdown_delay=1h`, 1)
	if status, body := o.get(t, "/readyz"); status != http.StatusServiceUnavailable || !strings.HasPrefix(body, "stopping") {
		t.Errorf("got %d %q, want not ready", status, body)
	}
	if status, _ := o.get(t, "/healthz"); status != http.StatusOK {
		t.Errorf("got %d, want a process in good health", status)
	}
	if s := must(o.Status(t.Context())); s.State != admin.Stopping || s.Ready {
		t.Errorf("got %+v, want it stopping", s)
	}
	if _, err := o.Reload(t.Context()); err == nil {
		t.Error("got a reload while stopping")
	}
	hangUp(t, o.session(ca, "a.test"))
	o.echo(held)
	o.signals <- syscall.SIGTERM
	o.log.wait(t, `msg="ending at once"`, 1)
	ended(t, held)
	o.wait()

	o = operate(t, text+"\"1ms\"\n")
	held = o.session(ca, "a.test")
	o.signals <- syscall.SIGTERM
	o.log.wait(t, `msg=draining`, 1)
	if s := must(o.Status(t.Context())); s.State != admin.Draining || s.Ready || s.Sessions != 1 {
		t.Errorf("got %+v, want it draining", s)
	}
	o.echo(held)
	hangUp(t, held)
	o.wait()
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
