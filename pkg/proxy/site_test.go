package proxy_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/proxy"
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
