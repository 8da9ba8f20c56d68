package proxy_test

import (
	"bufio"
	"crypto/tls"
	"net/http"
	"strings"
	"testing"

	"github.com/snicketlb/snicket/balancer"
	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/certs"
	"github.com/snicketlb/snicket/pkg/proxy"
	"github.com/snicketlb/snicket/pkg/terminate"
	"github.com/snicketlb/snicket/pkg/web"
)

// sorry gives r a page for the time when no backend is ready, and certificates for it.
func (c ca) sorry(t testing.TB, r *proxy.Route, names ...string) {
	t.Helper()
	store := certs.Fixed(c.issue(t, certs.IssueOptions{Names: names}))
	r.Sorry = &proxy.Sorry{
		TLS: &proxy.Terminator{
			Store: store,
			Page:  terminate.ServerConfig(terminate.ServerOptions{Store: store, ALPN: []string{"h2", "http/1.1"}}),
		},
		Site: web.NewSite(web.SiteOptions{Name: r.Name, Owns: proxy.Owns}),
	}
}

// The page is told whichever way the backends are missing, by either protocol; it is
// the last of its connection, so that the next finds them when they are back.
func TestSorry(t *testing.T) {
	ca := authority(t)
	for _, tc := range []struct {
		name string
		mode proxy.Mode
		gone func(r *proxy.Route)
	}{
		{"terminated", proxy.Terminate, func(r *proxy.Route) { r.Pool.Balancer.Update(nil) }},
		{"passed through", proxy.Passthrough, func(r *proxy.Route) { r.Pool.Balancer.Update(nil) }},
		{"down", proxy.Passthrough, func(r *proxy.Route) {
			r.Pool.Balancer.SetState(r.Pool.Balancer.Backends()[0].ID(), balancer.Down)
		}},
	} {
		for _, alpn := range []string{"http/1.1", "h2"} {
			t.Run(tc.name+" "+alpn, func(t *testing.T) {
				lab.Leaks(t)
				echo := lab.Serve(t, lab.Echo(), lab.Options{TLS: ca.server(t, "a.test")})
				r := route("a.test", echo.Addr())
				if tc.mode == proxy.Terminate {
					ca.terminate(t, r)
				}
				ca.sorry(t, r, "a.test")
				tc.gone(r)
				h := start(t, state(t, r))
				client := h.httpClient(ca.client("a.test", alpn))
				for range 2 {
					res, err := client.Get("https://a.test/")
					if err != nil {
						t.Fatal(err)
					}
					res.Body.Close()
					if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
						t.Errorf("%s with Retry-After %q, want 503 with one", res.Status, res.Header.Get("Retry-After"))
					}
					client.CloseIdleConnections()
					rec := h.want(proxy.NoBackend)
					if rec.Requests != 1 || rec.Mode != tc.mode || rec.ALPN != alpn || rec.Backend != "" || rec.EndedBy != proxy.BySnicket || rec.Handshake <= 0 {
						t.Errorf("%d requests, mode %v, alpn %q, backend %q, ended by %v, handshake %v",
							rec.Requests, rec.Mode, rec.ALPN, rec.Backend, rec.EndedBy, rec.Handshake)
					}
				}
				if n := echo.Accepted(); n != 0 {
					t.Errorf("%d connections to a backend that is not ready", n)
				}
			})
		}
	}
}

// Where nobody can be told, the alert says it as without the page.
func TestSorryCannotBeTold(t *testing.T) {
	ca := authority(t)
	for _, tc := range []struct {
		name, cert, host string
	}{
		{"no certificate", "b.test", "a.test"},
		{"no name", "a.test", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := route("a.test", "127.0.0.1:1")
			r.Hosts = append(r.Hosts, "-")
			ca.sorry(t, r, tc.cert)
			r.Pool.Balancer.Update(nil)
			h := start(t, state(t, r))
			alerted(t, h.hello(tc.host), 80)
			if rec := h.want(proxy.NoBackend); rec.Requests != -1 || rec.Handshake >= 0 {
				t.Errorf("%d requests, handshake %v, want none", rec.Requests, rec.Handshake)
			}
		})
	}
}

// A backend may be lost between the handshake and the pick; a client that has agreed on
// another protocol than HTTP is reset then.
func TestSorryBehindTheHandshake(t *testing.T) {
	ca := authority(t)
	for _, tc := range []struct {
		alpn string
		told bool
	}{{"", true}, {"http/1.1", true}, {"postgresql", false}} {
		t.Run(tc.alpn, func(t *testing.T) {
			r := route("a.test", "127.0.0.1:1")
			ca.terminate(t, r)
			ca.sorry(t, r, "a.test")
			var offers []string
			if tc.alpn != "" {
				offers = []string{tc.alpn}
			}
			fixed := terminate.ServerConfig(terminate.ServerOptions{Store: r.TLS.Store, ALPN: offers})
			choose := fixed.GetCertificate
			fixed.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
				r.Pool.Balancer.Update(nil) // now that the handshake has begun
				return choose(hello)
			}
			r.TLS.Fixed = fixed
			h := start(t, state(t, r))
			c := h.tls(ca.client("a.test", offers...))
			if !tc.told {
				reset(t, c)
				h.want(proxy.NoBackend)
				return
			}
			res, _ := get(t, c, bufio.NewReader(c), "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
			if res.StatusCode != http.StatusServiceUnavailable || !strings.EqualFold(res.Header.Get("Connection"), "close") && !res.Close {
				t.Errorf("%s, close %t, want 503 and an end", res.Status, res.Close)
			}
			c.Close()
			if rec := h.want(proxy.NoBackend); rec.Requests != 1 {
				t.Errorf("%d requests, want 1", rec.Requests)
			}
		})
	}
}
