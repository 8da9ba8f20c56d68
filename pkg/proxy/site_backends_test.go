package proxy_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snicketlb/snicket/balancer"
	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/proxy"
	"github.com/snicketlb/snicket/pkg/proxyheader"
	"github.com/snicketlb/snicket/pkg/terminate"
)

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
