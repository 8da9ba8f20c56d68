package proxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snicketlb/snicket/balancer"
	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/proxy"
	"github.com/snicketlb/snicket/pkg/proxyheader"
	"github.com/snicketlb/snicket/pkg/terminate"
	"github.com/snicketlb/snicket/pkg/web"
)

// site makes r end TLS and speak HTTP.
func (c ca) site(t testing.TB, r *proxy.Route) *web.Pool {
	t.Helper()
	c.terminate(t, r, "a.test", "b.test")
	r.TLS.Fixed = terminate.ServerConfig(terminate.ServerOptions{Store: r.TLS.Store, ALPN: []string{"h2", "http/1.1"}})
	var pool *web.Pool
	r.Site, pool = newWebSite(r)
	return pool
}

// newWebSite is a Site with a pool of its own, which is to be closed before the data
// plane is looked at for what it leaves.
func newWebSite(r *proxy.Route) (*web.Site, *web.Pool) {
	o := web.PoolOptions{
		Balancer: r.Pool.Balancer, Retries: r.Pool.Retries, QueueTimeout: r.Pool.QueueTimeout,
		Dial: r.Pool.Dial, Shared: r.Pool.ProxyProtocol == 0,
	}
	if r.Pool.TLS != nil {
		o.ALPN = []string{"h2", "http/1.1"}
	}
	pool := web.NewPool(o)
	return web.NewSite(web.SiteOptions{
		Name: r.Name, Owns: proxy.Owns, Forwarded: true, MaxHeader: 64 << 10,
		HeaderTimeout: 10 * time.Second, Keepalive: time.Minute, Idle: r.Idle, Pool: pool,
		Log: slog.New(slog.DiscardHandler),
	}), pool
}

// answering is an HTTP server that says who was asked for what. A request for /wait is
// not answered until release is called.
type answering struct {
	*httptest.Server
	waiting chan struct{} // one for each request that waits
	release func()
}

func newAnswering(t testing.TB, cfg *tls.Config) *answering {
	t.Helper()
	released := make(chan struct{})
	a := &answering{waiting: make(chan struct{}, 100), release: sync.OnceFunc(func() { close(released) })}
	a.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path == "/wait" {
			a.waiting <- struct{}{}
			select {
			case <-released:
			case <-r.Context().Done():
				return
			}
		}
		fmt.Fprintf(w, "%s %s %s", r.Method, r.Host+r.URL.Path, body)
	}))
	a.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	if cfg != nil {
		a.TLS = cfg
		a.EnableHTTP2 = true
		a.StartTLS()
	} else {
		a.Start()
	}
	t.Cleanup(a.Close)
	t.Cleanup(a.release)
	return a
}

func (a *answering) addr() string { return a.Listener.Addr().String() }

const (
	asked   = "GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n"
	waiting = "GET /wait HTTP/1.1\r\nHost: a.test\r\n\r\n"
)

// siteHarness is a running route that speaks HTTP.
type siteHarness struct {
	*harness
	ca      ca
	route   *proxy.Route
	state   proxy.State
	backend *answering
}

func newSite(t testing.TB, change ...func(r *proxy.Route, s *proxy.State)) *siteHarness {
	t.Helper()
	lab.Leaks(t)
	h := &siteHarness{ca: authority(t), backend: newAnswering(t, nil)}
	h.route = route("a.test", h.backend.addr())
	h.state = state(t, h.route)
	for _, f := range change {
		f(h.route, &h.state)
	}
	pool := h.ca.site(t, h.route)
	h.harness = start(t, h.state)
	t.Cleanup(pool.Close)
	return h
}

// newSite is another Site for r.
func (h *siteHarness) newSite(r *proxy.Route) *web.Site {
	site, pool := newWebSite(r)
	h.t.Cleanup(pool.Close)
	return site
}

// client is a connection of HTTP/1.1, and what reads from it.
func (h *siteHarness) client() (*tls.Conn, *bufio.Reader) {
	h.t.Helper()
	c := h.tls(h.ca.client("a.test", "http/1.1"))
	return c, bufio.NewReader(c)
}

// answered checks the answer to asked.
func answered(t testing.TB, r *http.Response, body string) {
	t.Helper()
	if r.StatusCode != http.StatusOK || body != "GET a.test/x " {
		t.Errorf("%s %q, want the backend's answer", r.Status, body)
	}
}

func TestSiteServesManyRequests(t *testing.T) {
	h := newSite(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		cfg := h.ca.client("a.test", "http/1.1")
		cfg.MaxVersion = version
		c := h.tls(cfg)
		from := bufio.NewReader(c)
		var said, heard int
		for i := range 3 {
			request := fmt.Sprintf("POST /%d HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nbody", i)
			res, body := get(t, c, from, request)
			if want := fmt.Sprintf("POST a.test/%d body", i); res.StatusCode != 200 || body != want {
				t.Errorf("%s %q, want 200 %q", res.Status, body, want)
			}
			said += len(request)
			heard += len(body)
		}
		if n := h.route.Active.Load(); n != 1 {
			t.Errorf("%d sessions counted, want 1", n)
		}
		views, err := h.p.Sessions(t.Context(), proxy.SessionFilter{})
		if err != nil || len(views) != 1 || views[0].Phase != proxy.PhaseRelay || views[0].BytesIn != int64(said) || views[0].Backend != h.backend.addr() {
			t.Errorf("%+v, %v", views, err)
		}
		c.Close()
		rec := h.want(proxy.OK)
		if rec.Requests != 3 || rec.BytesIn != int64(said) || rec.BytesOut < int64(heard) || rec.EndedBy != proxy.ByClient {
			t.Errorf("%d requests, %d bytes in, %d out, ended by %v; want 3, %d, at least %d, the client",
				rec.Requests, rec.BytesIn, rec.BytesOut, rec.EndedBy, said, heard)
		}
		if rec.Backend != h.backend.addr() || rec.Pool != "a.test" || rec.Route != "a.test" || rec.Mode != proxy.Terminate {
			t.Errorf("backend %q, pool %q, route %q, mode %v", rec.Backend, rec.Pool, rec.Route, rec.Mode)
		}
		if rec.TLSVersion != version || rec.ALPN != "http/1.1" || rec.Handshake <= 0 || rec.Hello < 0 {
			t.Errorf("version %#x, alpn %q, handshake %v, hello %v", rec.TLSVersion, rec.ALPN, rec.Handshake, rec.Hello)
		}
		if first := version == tls.VersionTLS12; first != (rec.Dial >= 0) {
			t.Errorf("dial %v: the first session makes the connection, the second finds it", rec.Dial)
		}
	}
}

func TestSiteByHTTP2(t *testing.T) {
	h := newSite(t)
	client := h.httpClient(h.ca.client("a.test", "h2"))
	if res, err := client.Get("https://a.test/x"); err != nil { // the connection of all others
		t.Fatal(err)
	} else {
		res.Body.Close()
	}
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			res, err := client.Post("https://a.test/p", "text/plain", strings.NewReader(strings.Repeat("x", i*1000)))
			if err != nil {
				t.Error(err)
				return
			}
			defer res.Body.Close()
			if body, err := io.ReadAll(res.Body); err != nil || len(body) != len("POST a.test/p ")+i*1000 || res.ProtoMajor != 2 {
				t.Errorf("%d bytes by %s, %v", len(body), res.Proto, err)
			}
		})
	}
	all.Wait()
	client.CloseIdleConnections()
	if rec := h.want(proxy.OK); rec.Requests != 21 || rec.ALPN != "h2" || rec.BytesIn < 190_000 {
		t.Errorf("%d requests by %q, %d bytes in; want 21, h2", rec.Requests, rec.ALPN, rec.BytesIn)
	}
}

// A route's connection is for its hosts alone, whatever else the certificate covers.
func TestSiteOwnsItsHosts(t *testing.T) {
	h := newSite(t, func(r *proxy.Route, s *proxy.State) {
		r.Hosts = append(r.Hosts, "*.c.test", "-")
		other := route("b.test", "127.0.0.1:1")
		s.Routes = append(s.Routes, other)
		exact := route("exact.c.test", "127.0.0.1:1")
		s.Routes = append(s.Routes, exact)
	})
	for _, tc := range []struct {
		sni, host string
		want      int
	}{
		{"a.test", "a.test", 200},
		{"a.test", "A.Test.:443", 200},
		{"a.test", "x.c.test", 200},
		{"a.test", "exact.c.test", 421},
		{"a.test", "b.test", 421},
		{"a.test", "nobody.test", 421},
		{"a.test", "127.0.0.1", 421},
	} {
		c := h.tls(h.ca.client(tc.sni, "http/1.1"))
		res, _ := get(t, c, bufio.NewReader(c), "GET /x HTTP/1.1\r\nHost: "+tc.host+"\r\n\r\n")
		if res.StatusCode != tc.want {
			t.Errorf("%q over the connection of %q: %s, want %d", tc.host, tc.sni, res.Status, tc.want)
		}
		c.Close()
		h.want(proxy.OK)
	}
}

// What another route of the same host demands of a client is not got around.
func TestSiteOwnsByClient(t *testing.T) {
	h := newSite(t, func(r *proxy.Route, s *proxy.State) {
		r.Hosts = append(r.Hosts, "b.test")
		stricter := route("strict", "127.0.0.1:1")
		stricter.Hosts, stricter.From, stricter.Mode = []string{"b.test"}, prefixes("127.0.0.0/8"), proxy.Reject
		s.Routes = append(s.Routes, stricter)
	})
	c, from := h.client()
	if res, _ := get(t, c, from, "GET /x HTTP/1.1\r\nHost: b.test\r\n\r\n"); res.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("%s, want 421: a hello of this client for b.test is refused", res.Status)
	}
	c.Close()
	h.want(proxy.OK)
}

func TestSiteFails(t *testing.T) {
	refusing := lab.Listen(t, "127.0.0.1:0")
	refused := refusing.Addr().String()
	refusing.Close()
	full := fullBacklog(t)
	for _, tc := range []struct {
		name    string
		change  func(r *proxy.Route)
		status  int
		want    proxy.Outcome
		retries int
	}{
		{"no backend", func(r *proxy.Route) { r.Pool.Balancer.Update(nil) }, 503, proxy.NoBackend, 0},
		{"refused", func(r *proxy.Route) { update(r.Pool.Balancer, []any{target(refused)}, "x") }, 502, proxy.DialFailed, 0},
		{
			"name does not resolve", func(r *proxy.Route) { update(r.Pool.Balancer, []any{&proxy.Target{Name: "x"}}, "x") },
			502, proxy.DialFailed, 0,
		},
		{
			"no answer", func(r *proxy.Route) {
				r.Pool.DialTimeout = 50 * time.Millisecond
				update(r.Pool.Balancer, []any{target(full)}, "x")
			}, 502, proxy.DialFailed, 0,
		},
		{
			"not TLS", func(r *proxy.Route) {
				r.Pool.TLS = terminate.NewBackend(terminate.BackendOptions{InsecureSkipVerify: true})
			}, 502, proxy.BackendTLSFailed, 0,
		},
		{
			"nobody of that name", func(r *proxy.Route) {
				r.Pool.TLS = terminate.NewBackend(terminate.BackendOptions{ServerName: "other.test"})
			}, 502, proxy.BackendTLSFailed, 0,
		},
		{
			"forbidden source", func(r *proxy.Route) { r.Pool.Sources = []netip.Addr{netip.MustParseAddr("192.0.2.1")} }, 502, proxy.Internal, 0,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newSite(t, func(r *proxy.Route, _ *proxy.State) { tc.change(r) })
			c, from := h.client()
			res, _ := get(t, c, from, asked)
			if res.StatusCode != tc.status {
				t.Errorf("%s, want %d", res.Status, tc.status)
			}
			c.Close()
			if rec := h.want(tc.want); rec.Requests != 1 || rec.Error == "" {
				t.Errorf("%d requests, error %q", rec.Requests, rec.Error)
			}
		})
	}
}

// A backend that refuses is told so, once for each request that tried it, and the next
// one is tried.
func TestSiteTriesTheNext(t *testing.T) {
	gone := lab.Listen(t, "127.0.0.1:0")
	refused := gone.Addr().String()
	gone.Close()
	var failed, reached, good atomic.Int32
	h := newSite(t, func(r *proxy.Route, _ *proxy.State) {
		r.Pool.Retried = new(atomic.Uint64)
		r.Pool.Failed = func(id string, _ error) {
			if id == "bad" {
				failed.Add(1)
			}
		}
		working := r.Pool.Balancer.Backends()[0].Value().(*proxy.Target)
		working.Reached = func(err error) {
			if err == nil {
				good.Add(1)
			}
		}
		bad := target(refused)
		bad.Reached = func(error) { reached.Add(1) }
		r.Pool.Balancer.Configure(balancer.Options{Policy: balancer.RoundRobin})
		update(r.Pool.Balancer, []any{bad, working}, "bad", "good")
	})
	c, from := h.client()
	res, body := get(t, c, from, asked)
	answered(t, res, body)
	c.Close()
	rec := h.want(proxy.OK)
	if rec.Retries != 1 || failed.Load() != 1 || reached.Load() != 1 || good.Load() != 1 || h.route.Pool.Retried.Load() != 1 {
		t.Errorf("%d retries, %d failed dials told to the pool, %d to the backend, %d good ones, %d counted; want 1 of each",
			rec.Retries, failed.Load(), reached.Load(), good.Load(), h.route.Pool.Retried.Load())
	}
	for _, b := range h.route.Pool.Balancer.Backends() {
		if n := b.Active(); n != 0 {
			t.Errorf("backend %s has %d requests", b.ID(), n)
		}
	}
}

// TLS to backends: one handshake serves many requests, h2 if the backend speaks it, and
// a later connection resumes.
func TestSiteReencrypts(t *testing.T) {
	for _, client := range []string{"http/1.1", "h2"} {
		t.Run(client, func(t *testing.T) {
			ca := authority(t)
			var full, resumed atomic.Int32
			cfg := ca.server(t, "a.test")
			cfg.VerifyConnection = func(s tls.ConnectionState) error {
				if s.DidResume {
					resumed.Add(1)
				} else {
					full.Add(1)
				}
				return nil
			}
			backend := newAnswering(t, cfg)
			h := newSite(t, func(r *proxy.Route, _ *proxy.State) {
				r.Pool.TLS = terminate.NewBackend(terminate.BackendOptions{Roots: ca.a.Pool(), SessionCache: 8})
				update(r.Pool.Balancer, []any{target(backend.addr())}, "tls")
			})
			c := h.httpClient(h.ca.client("a.test", client))
			ask := func() {
				t.Helper()
				res, err := c.Get("https://a.test/x")
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				body, _ := io.ReadAll(res.Body)
				answered(t, res, string(body))
			}
			for range 5 {
				ask()
			}
			if full.Load() != 1 || resumed.Load() != 0 {
				t.Errorf("%d full and %d resumed handshakes for 5 requests, want 1 and 0", full.Load(), resumed.Load())
			}
			h.p.EndBackend("a.test", "tls", proxy.BackendReset)
			ask()
			if full.Load() != 1 || resumed.Load() != 1 {
				t.Errorf("%d full and %d resumed handshakes behind the end of the connection, want 1 and 1", full.Load(), resumed.Load())
			}
			if n := h.p.Counters().BackendHandshakes; n.Full != 1 || n.Resumed != 1 {
				t.Errorf("%+v counted, want 1 and 1", n)
			}
			c.CloseIdleConnections()
			h.want(proxy.OK)
		})
	}
}

// The PROXY header tells of the client of the connection, which then serves nobody else.
func TestSiteTellsOfItsClient(t *testing.T) {
	headers := make(chan proxyheader.Header, 10)
	backend := lab.Serve(t, func(c *lab.Conn) {
		from := bufio.NewReader(c)
		b, _ := from.Peek(1)
		b, _ = from.Peek(max(from.Buffered(), len(b)))
		head, n, err := proxyheader.Parse(b)
		if err != nil {
			t.Error(err)
			return
		}
		headers <- head
		_, _ = from.Discard(n)
		for {
			r, err := http.ReadRequest(from)
			if err != nil {
				return
			}
			_ = r.Body.Close()
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	}, lab.Options{})
	h := newSite(t, func(r *proxy.Route, _ *proxy.State) {
		r.Pool.ProxyProtocol, r.Pool.TLVs = 2, proxy.TLVs{Authority: true, ALPN: true, UniqueID: true, SSL: true, CRC32C: true}
		update(r.Pool.Balancer, []any{target(backend.Addr())}, "told")
	})
	for range 2 {
		c, from := h.client()
		for range 2 {
			if res, _ := get(t, c, from, asked); res.StatusCode != 200 {
				t.Errorf("%s", res.Status)
			}
		}
		head := <-headers
		if head.Source.String() != c.LocalAddr().String() || head.Destination.String() != h.addr {
			t.Errorf("told of %v to %v, want %v to %s", head.Source, head.Destination, c.LocalAddr(), h.addr)
		}
		c.Close()
		h.want(proxy.OK)
	}
	if n := backend.Accepted(); n != 2 {
		t.Errorf("%d connections, want one for each client", n)
	}
}

func TestSiteToUnixSocket(t *testing.T) {
	h := newSite(t, func(r *proxy.Route, _ *proxy.State) {
		path := t.TempDir() + "/s"
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "GET %s ", r.Host+r.URL.Path)
		}))
		server.Listener.Close()
		server.Listener = l
		server.Start()
		t.Cleanup(server.Close)
		update(r.Pool.Balancer, []any{target(path)}, "unix")
	})
	c, from := h.client()
	res, body := get(t, c, from, asked)
	answered(t, res, body)
	c.Close()
	h.want(proxy.OK)
}

func TestSiteSourceAddressesTakeTurns(t *testing.T) {
	seen := make(chan string, 100)
	backend := lab.Serve(t, func(c *lab.Conn) {
		seen <- c.RemoteAddr().(*net.TCPAddr).IP.String()
		_, _ = c.Read(make([]byte, 1000))
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	}, lab.Options{})
	h := newSite(t, func(r *proxy.Route, _ *proxy.State) {
		r.Pool.Sources = []netip.Addr{netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("::1"), netip.MustParseAddr("127.0.0.3")}
		update(r.Pool.Balancer, []any{target(backend.Addr())}, "seen")
	})
	c, from := h.client()
	counts := map[string]int{}
	for range 6 {
		get(t, c, from, asked)
		counts[<-seen]++
	}
	if len(counts) != 2 || counts["127.0.0.2"] == 0 || counts["127.0.0.3"] == 0 {
		t.Errorf("sources %v, want both IPv4 addresses", counts)
	}
}

// A process that runs out of descriptors on a session's way off its loop says so, and
// goes on with the next.
func TestSiteOutOfDescriptors(t *testing.T) {
	if !inChild(t) {
		return
	}
	h := newSite(t)
	c, from := h.client() // what there is once is there now
	res, body := get(t, c, from, asked)
	answered(t, res, body)
	raw := h.dial()
	eventually(t, "it is accepted", func() bool { return h.p.Active() == 2 })
	lift := limitDescriptors(t, 0)
	failing := tls.Client(raw, h.ca.client("a.test", "http/1.1"))
	_ = failing.Handshake()
	if _, err := failing.Read(make([]byte, 1)); err == nil {
		t.Error("a byte from nobody")
	}
	rec := h.want(proxy.Internal)
	lift()
	if !strings.Contains(rec.Error, "too many open files") {
		t.Errorf("error %q", rec.Error)
	}
	res, body = get(t, c, from, asked)
	answered(t, res, body)
	c.Close()
	h.want(proxy.OK)
}

// However a session ends, its record says so.
func TestSiteEnds(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(r *proxy.Route, s *proxy.State)
		act    func(h *siteHarness, c *tls.Conn, from *bufio.Reader)
		want   proxy.Outcome
		by     proxy.Party
	}{
		{
			"close_notify between requests", nil, func(h *siteHarness, c *tls.Conn, from *bufio.Reader) {
				get(h.t, c, from, asked)
				c.Close()
			}, proxy.OK, proxy.ByClient,
		},
		{
			"FIN alone between requests", nil, func(h *siteHarness, c *tls.Conn, from *bufio.Reader) {
				get(h.t, c, from, asked)
				c.NetConn().Close()
			}, proxy.OK, proxy.ByClient,
		},
		{
			"without a request", nil, func(_ *siteHarness, c *tls.Conn, _ *bufio.Reader) { c.Close() }, proxy.OK, proxy.ByClient,
		},
		{
			"reset between requests", nil, func(h *siteHarness, c *tls.Conn, from *bufio.Reader) {
				get(h.t, c, from, asked)
				_ = c.NetConn().(*net.TCPConn).SetLinger(0)
				c.NetConn().Close()
			}, proxy.ClientReset, proxy.ByClient,
		},
		{
			"reset within a request", nil, func(h *siteHarness, c *tls.Conn, _ *bufio.Reader) {
				h.send(c, []byte(waiting))
				<-h.backend.waiting
				_ = c.NetConn().(*net.TCPConn).SetLinger(0)
				c.NetConn().Close()
			}, proxy.ClientReset, proxy.ByClient,
		},
		{
			"Connection: close", nil, func(h *siteHarness, c *tls.Conn, from *bufio.Reader) {
				get(h.t, c, from, "GET /x HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
				closed(h.t, from)
			}, proxy.OK, proxy.BySnicket,
		},
		{
			"idle within a request", func(r *proxy.Route, _ *proxy.State) { r.Idle = 50 * time.Millisecond },
			func(_ *siteHarness, c *tls.Conn, from *bufio.Reader) {
				_, _ = io.WriteString(c, waiting) // perhaps too late already
				_, _ = io.Copy(io.Discard, from)
			}, proxy.IdleTimeout, proxy.BySnicket,
		},
		{
			"killed", nil, func(h *siteHarness, c *tls.Conn, from *bufio.Reader) {
				h.send(c, []byte(waiting))
				<-h.backend.waiting
				views, err := h.p.Sessions(h.t.Context(), proxy.SessionFilter{})
				if err != nil || len(views) != 1 {
					h.t.Fatalf("%d sessions, %v", len(views), err)
				}
				if ok, err := h.p.Kill(h.t.Context(), views[0].ID); !ok || err != nil {
					h.t.Errorf("killed %t, %v", ok, err)
				}
				reset(h.t, from)
			}, proxy.Killed, proxy.BySnicket,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var changes []func(*proxy.Route, *proxy.State)
			if tc.change != nil {
				changes = append(changes, tc.change)
			}
			h := newSite(t, changes...)
			c, from := h.client()
			tc.act(h, c, from)
			if rec := h.want(tc.want); rec.EndedBy != tc.by {
				t.Errorf("ended by %v, want %v", rec.EndedBy, tc.by)
			}
			for _, b := range h.route.Pool.Balancer.Backends() {
				eventually(t, "the backend's count is given back", func() bool { return b.Active() == 0 })
			}
		})
	}
}

// A drain lets requests under way be answered, and takes no more of them; what is left
// at its end is cut.
func TestSiteDrains(t *testing.T) {
	h := newSite(t)
	busy, fromBusy := h.client()
	h.send(busy, []byte(waiting))
	<-h.backend.waiting
	idle, fromIdle := h.client()
	get(t, idle, fromIdle, asked)
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		h.p.Drain(context.Background())
	}()
	closed(t, fromIdle)
	if rec := h.want(proxy.OK); rec.EndedBy != proxy.BySnicket {
		t.Errorf("ended by %v, want snicket", rec.EndedBy)
	}
	h.backend.release()
	if _, body := response(t, fromBusy); body != "GET a.test/wait " {
		t.Errorf("%q, want the answer", body)
	}
	closed(t, fromBusy)
	h.want(proxy.OK)
	<-drained
}

func TestSiteDrainEnds(t *testing.T) {
	h := newSite(t)
	c, from := h.client()
	h.send(c, []byte(waiting))
	<-h.backend.waiting
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	h.p.Drain(ctx)
	reset(t, from)
	h.want(proxy.Drained)
}

// A session's site may change by a reload: who is connected is served by the new one at
// its next request, over a new connection. One that stays leaves its clients alone.
func TestSiteReload(t *testing.T) {
	h := newSite(t)
	c, from := h.client()
	get(t, c, from, asked)
	same := h.state
	kept := *h.route
	same.Routes = []*proxy.Route{&kept}
	h.apply(same)
	res, body := get(t, c, from, asked)
	answered(t, res, body)

	changed := h.state
	other := *h.route
	other.Site = h.newSite(&other)
	changed.Routes = []*proxy.Route{&other}
	h.apply(changed)
	closed(t, from)
	if rec := h.want(proxy.OK); rec.Requests != 2 || rec.EndedBy != proxy.BySnicket {
		t.Errorf("%d requests, ended by %v; want 2, snicket", rec.Requests, rec.EndedBy)
	}
	c, from = h.client()
	res, body = get(t, c, from, asked)
	answered(t, res, body)
	c.Close()
	h.want(proxy.OK)
}

// By HTTP/2 the client is told, and nothing under way is lost.
func TestSiteReloadByHTTP2(t *testing.T) {
	h := newSite(t)
	client := h.httpClient(h.ca.client("a.test", "h2"))
	answers := make(chan string, 1)
	go func() {
		res, err := client.Get("https://a.test/wait")
		if err != nil {
			answers <- err.Error()
			return
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		answers <- string(b)
	}()
	<-h.backend.waiting
	changed := h.state
	other := *h.route
	other.Site = h.newSite(&other)
	changed.Routes = []*proxy.Route{&other}
	h.apply(changed)
	ask := func() {
		t.Helper()
		res, err := client.Get("https://a.test/x")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		answered(t, res, string(body))
	}
	ask() // on the old connection, if that has not been told yet, or on a new one
	h.backend.release()
	if got := <-answers; got != "GET a.test/wait " {
		t.Errorf("%q", got)
	}
	h.want(proxy.OK)
	ask()
	client.CloseIdleConnections()
	h.want(proxy.OK)
}

// A listener that goes away lets its clients go behind their requests.
func TestSiteListenerRemoved(t *testing.T) {
	h := newSite(t, func(r *proxy.Route, s *proxy.State) {
		r.Listeners = append(r.Listeners, "leaving")
		s.Listeners = append(s.Listeners, listener("leaving", "127.0.0.2:0"))
		s.Timeouts.Drain = 3 * time.Second
	})
	dial := func() (*tls.Conn, *bufio.Reader) {
		c := tls.Client(h.dialTo("leaving"), h.ca.client("a.test", "http/1.1"))
		return c, bufio.NewReader(c)
	}
	idle, fromIdle := dial()
	get(t, idle, fromIdle, asked)
	busy, fromBusy := dial()
	h.send(busy, []byte(waiting))
	<-h.backend.waiting
	fewer := h.state
	fewer.Listeners = fewer.Listeners[:1]
	h.apply(fewer)
	closed(t, fromIdle)
	h.want(proxy.OK)
	reset(t, fromBusy)
	h.want(proxy.Drained)
}

// A backend that goes away ends the requests there, not the sessions of its clients.
func TestSiteBackendEnds(t *testing.T) {
	h := newSite(t)
	id := h.route.Pool.Balancer.Backends()[0].ID()
	c, from := h.client()
	h.send(c, []byte(waiting))
	<-h.backend.waiting
	h.p.EndBackend("a.test", id, proxy.BackendReset)
	if res, _ := response(t, from); res.StatusCode != http.StatusBadGateway {
		t.Errorf("%s, want 502", res.Status)
	}
	res, body := get(t, c, from, asked)
	answered(t, res, body)
	c.Close()
	if rec := h.want(proxy.BackendReset); rec.Requests != 2 || rec.EndedBy != proxy.ByBackend {
		t.Errorf("%d requests, ended by %v; want 2, the backend", rec.Requests, rec.EndedBy)
	}
}

// The bounds of layer 4 hold for these sessions too, for as long as they live.
func TestSiteIsCounted(t *testing.T) {
	t.Run("route", func(t *testing.T) {
		h := newSite(t, func(r *proxy.Route, _ *proxy.State) { r.MaxConnections = 1 })
		c, from := h.client()
		get(t, c, from, asked)
		reset(t, h.hello("a.test"))
		h.want(proxy.OverLimit)
		c.Close()
		h.want(proxy.OK)
	})
	t.Run("address", func(t *testing.T) {
		h := newSite(t, func(_ *proxy.Route, s *proxy.State) { s.Limits.PerIPConnections = 1 })
		c, from := h.client()
		get(t, c, from, asked)
		h.refusedAtOnce()
		h.want(proxy.OverLimit)
		c.Close()
		h.want(proxy.OK)
	})
	t.Run("process", func(t *testing.T) {
		h := newSite(t, func(_ *proxy.Route, s *proxy.State) { s.Limits.MaxConnections = 1 })
		c, from := h.client()
		get(t, c, from, asked)
		next := h.hello("a.test")
		_ = next.CloseWrite()
		c.Close()
		_, _ = io.Copy(io.Discard, next) // it has its turn now
		got := map[proxy.Outcome]int{h.record().Outcome: 1}
		got[h.record().Outcome]++ // of two loops in any order
		if got[proxy.OK] != 1 || got[proxy.ClientTLSFailed] != 1 {
			t.Errorf("outcomes %v, want one ok and one that said hello and no more", got)
		}
	})
	t.Run("handshakes", func(t *testing.T) {
		h := newSite(t, func(_ *proxy.Route, s *proxy.State) { s.Limits.MaxHandshakes = 1 })
		for range 3 { // a session that is served holds no place among the handshakes
			c, from := h.client()
			get(t, c, from, asked)
		}
	})
}

// The header of a request must come in time, its bytes may not trickle for ever.
func TestSiteHeaderTimeout(t *testing.T) {
	h := newSite(t)
	r := *h.route
	r.Site = web.NewSite(web.SiteOptions{Owns: proxy.Owns, HeaderTimeout: 100 * time.Millisecond})
	s := h.state
	s.Routes = []*proxy.Route{&r}
	h.apply(s)
	c, from := h.client()
	h.send(c, []byte("GET /x HTTP/1.1\r\nHost: a.test\r\nX: "))
	go func() {
		for range 1000 {
			if _, err := c.Write([]byte("x")); err != nil {
				return
			}
			<-time.After(5 * time.Millisecond)
		}
	}()
	if _, err := io.Copy(io.Discard, from); errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if rec := h.record(); rec.Requests != 0 || rec.Duration > lab.Patience/2 {
		t.Errorf("%d requests in %v", rec.Requests, rec.Duration)
	}
}

// Clients leave at any point, or are thrown out there; all is given back, once.
func TestSiteGivesAllBack(t *testing.T) {
	const clients, each = 16, 25
	h := newSite(t, func(r *proxy.Route, s *proxy.State) {
		r.Handshake = time.Second
		r.Idle = 200 * time.Millisecond
		s.Limits.MaxHandshakes = 3
	})
	backend := h.route.Pool.Balancer.Backends()[0].ID()
	var load sync.WaitGroup
	for i := range clients {
		load.Go(func() {
			for j := range each {
				h.erratic(i*each+j, backend)
			}
		})
	}
	outcomes := map[string]int{}
	for range clients * each {
		outcomes[h.record().Outcome.String()]++
	}
	load.Wait()
	t.Log(outcomes)
	eventually(t, "all is given back", func() bool {
		h.p.EndBackend("a.test", backend, proxy.Drained) // a connection may have been on its way
		for _, n := range h.p.Held() {
			if n != 0 {
				return false
			}
		}
		return true
	})
	eventually(t, "no request is counted", func() bool { return h.route.Pool.Balancer.Backends()[0].Active() == 0 })
}

// erratic is the n-th of many clients, each of which behaves in its own way.
func (h *siteHarness) erratic(n int, backend string) {
	transport, err := net.Dial("tcp", h.addr)
	if err != nil {
		h.t.Error(err)
		return
	}
	defer transport.Close()
	_ = transport.SetDeadline(time.Now().Add(lab.Patience))
	cut := &cutter{transport.(*net.TCPConn), 1 << 20, n%2 == 0}
	if n%5 == 0 {
		cut.left = 37 * n % 1500
	}
	alpn := []string{"h2", "http/1.1"}[n%2 : n%2+1]
	c := tls.Client(cut, h.ca.client("a.test", alpn...))
	if c.Handshake() != nil {
		return
	}
	switch n % 7 {
	case 0:
		return
	case 1:
		h.p.EndBackend("a.test", backend, proxy.BackendReset)
	case 2:
		views, _ := h.p.Sessions(h.t.Context(), proxy.SessionFilter{})
		for _, v := range views {
			if v.Client.String() == transport.LocalAddr().String() {
				_, _ = h.p.Kill(h.t.Context(), v.ID)
			}
		}
	}
	request := asked
	if n%3 == 0 {
		request = waiting
	}
	if _, err := io.WriteString(c, request[:max(1, n*13%len(request))]); err != nil || n%4 == 0 {
		return
	}
	_, _ = io.WriteString(c, request[max(1, n*13%len(request)):])
	_, _ = c.Read(make([]byte, 100))
	if n%2 == 0 {
		_ = c.CloseWrite()
		_, _ = io.Copy(io.Discard, c)
	}
}
