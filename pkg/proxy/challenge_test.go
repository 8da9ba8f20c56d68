package proxy_test

import (
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/certs"
	"github.com/snicketlb/snicket/pkg/proxy"
	"github.com/snicketlb/snicket/pkg/terminate"
)

const acmeTLS = "acme-tls/1"

// challenge makes r answer challenges, by a certificate of its own, while open.
func (c ca) challenge(t testing.TB, r *proxy.Route) (open *atomic.Bool, asked *atomic.Int64) {
	t.Helper()
	cert := c.issue(t, certs.IssueOptions{Names: r.Hosts[:1], CommonName: "challenge"})
	cfg := &tls.Config{Certificates: []tls.Certificate{cert.Certificate}, NextProtos: []string{acmeTLS}}
	open, asked = new(atomic.Bool), new(atomic.Int64)
	open.Store(true)
	r.Challenge = func(name string) *tls.Config {
		asked.Add(1)
		if name != r.Hosts[0] || !open.Load() {
			return nil
		}
		return cfg
	}
	return open, asked
}

// validated wants conn to be shown the challenge's certificate, and no more.
func validated(t testing.TB, conn *tls.Conn) {
	t.Helper()
	state := conn.ConnectionState()
	if cn := state.PeerCertificates[0].Subject.CommonName; cn != "challenge" || state.NegotiatedProtocol != acmeTLS {
		t.Errorf("certificate of %q by %q, want the challenge's by %q", cn, state.NegotiatedProtocol, acmeTLS)
	}
	closed(t, conn)
	_ = conn.Close()
}

// TestChallenge holds that a validation is answered whatever forbids other clients of
// the route their session.
func TestChallenge(t *testing.T) {
	ca := authority(t)
	tests := []struct {
		name    string
		prepare func(s *proxy.State, r *proxy.Route)
	}{
		{name: "plainly", prepare: func(*proxy.State, *proxy.Route) {}},
		{name: "from", prepare: func(_ *proxy.State, r *proxy.Route) { r.From = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} }},
		{name: "deny_from", prepare: func(_ *proxy.State, r *proxy.Route) {
			r.DenyFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		}},
		{name: "alpn", prepare: func(_ *proxy.State, r *proxy.Route) { r.ALPN = []string{"h2"} }},
		{name: "no ready backend", prepare: func(_ *proxy.State, r *proxy.Route) { r.Pool.Balancer.Update(nil) }},
		{name: "max_connections", prepare: func(_ *proxy.State, r *proxy.Route) {
			r.MaxConnections = 1
			r.Active.Add(1)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			echo := lab.Serve(t, lab.Echo(), lab.Options{})
			r := route("a.test", echo.Addr())
			ca.terminate(t, r)
			ca.challenge(t, r)
			s := state(t, r)
			tt.prepare(&s, r)
			before := r.Active.Load()
			h := start(t, s)
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				cfg := ca.client("a.test", acmeTLS)
				cfg.MaxVersion = version
				validated(t, h.tls(cfg))
				rec := h.want(proxy.ACME)
				if rec.Backend != "" || rec.Pool != "" || rec.Dial >= 0 {
					t.Errorf("backend %q, pool %q, dial %v; want none", rec.Backend, rec.Pool, rec.Dial)
				}
				if rec.Route != "a.test" || rec.ALPN != acmeTLS || rec.TLSVersion != version || rec.EndedBy != proxy.BySnicket || rec.Handshake < 0 {
					t.Errorf("route %q, alpn %q, version %#x, ended by %v, handshake %v", rec.Route, rec.ALPN, rec.TLSVersion, rec.EndedBy, rec.Handshake)
				}
			}
			if got := r.Active.Load(); got != before {
				t.Errorf("%d sessions counted for the route, want %d", got, before)
			}
			r.Active.Store(0)
		})
	}
}

// TestChallengeOfNobody holds that a hello which offers acme-tls/1 is one like any other
// where no challenge is open for its name.
func TestChallengeOfNobody(t *testing.T) {
	ca := authority(t)
	tests := []struct {
		name  string
		offer []string
		alter func(r *proxy.Route)
		asked int64
		alert byte // 0: a session
		want  proxy.Outcome
	}{
		{name: "the route speaks no ALPN", offer: []string{acmeTLS}, asked: 1, want: proxy.OK},
		{
			name: "the route speaks another", offer: []string{acmeTLS}, asked: 1, alert: 120, want: proxy.ClientTLSFailed,
			alter: func(r *proxy.Route) {
				r.TLS.Fixed = terminate.ServerConfig(terminate.ServerOptions{Store: r.TLS.Store, ALPN: []string{"h2"}})
			},
		},
		{
			name: "the route asks for another", offer: []string{acmeTLS}, asked: 1, alert: 112, want: proxy.NoRoute,
			alter: func(r *proxy.Route) { r.ALPN = []string{"h2"} },
		},
		{
			name: "denied", offer: []string{acmeTLS}, asked: 1, alert: 49, want: proxy.Denied,
			alter: func(r *proxy.Route) { r.DenyFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} },
		},
		{name: "a second protocol", offer: []string{acmeTLS, "h2"}, want: proxy.OK},
		{name: "none", want: proxy.OK},
		{
			name: "a wildcard", offer: []string{acmeTLS}, want: proxy.OK,
			alter: func(r *proxy.Route) { r.Hosts = []string{"*.test"} },
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			echo := lab.Serve(t, lab.Echo(), lab.Options{})
			r := route("a.test", echo.Addr())
			ca.terminate(t, r)
			open, asked := ca.challenge(t, r)
			open.Store(false)
			if tt.alter != nil {
				tt.alter(r)
			}
			h := start(t, state(t, r))
			if tt.alert != 0 {
				c := h.hello("a.test", tt.offer...)
				alerted(t, c, tt.alert)
				_ = c.Close()
			} else if got := ask(t, h.tls(ca.client("a.test", tt.offer...)), "as ever"); got != "as ever" {
				t.Errorf("read %q", got)
			}
			h.want(tt.want)
			if got := asked.Load(); got != tt.asked {
				t.Errorf("asked %d times, want %d", got, tt.asked)
			}
		})
	}
}

// TestChallengeOfAPassthroughHost holds that the backend answers for itself.
func TestChallengeOfAPassthroughHost(t *testing.T) {
	ca := authority(t)
	cert := ca.issue(t, certs.IssueOptions{Names: []string{"b.test"}, CommonName: "the backend's"})
	backend := lab.Serve(t, func(c *lab.Conn) {
		_ = c.Conn.(*tls.Conn).Handshake()
		_ = c.Conn.(*tls.Conn).CloseWrite()
		_, _ = io.Copy(io.Discard, c)
	}, lab.Options{TLS: &tls.Config{Certificates: []tls.Certificate{cert.Certificate}, NextProtos: []string{acmeTLS}}})
	sealed, through := route("a.test", backend.Addr()), route("b.test", backend.Addr())
	ca.terminate(t, sealed)
	_, asked := ca.challenge(t, sealed)
	h := start(t, state(t, sealed, through))
	c := h.tls(ca.client("b.test", acmeTLS))
	if cn := c.ConnectionState().PeerCertificates[0].Subject.CommonName; cn != "the backend's" {
		t.Errorf("certificate of %q, want the backend's", cn)
	}
	closed(t, c)
	_ = c.Close()
	if rec := h.want(proxy.OK); rec.Mode != proxy.Passthrough || rec.Backend != backend.Addr() {
		t.Errorf("mode %v, backend %q", rec.Mode, rec.Backend)
	}
	if got := asked.Load(); got != 0 {
		t.Errorf("asked %d times, want never", got)
	}
}

// TestChallengeBehindProxyHeader holds that what was read ahead of the hello is not
// taken for it once the answer is there.
func TestChallengeBehindProxyHeader(t *testing.T) {
	ca := authority(t)
	echo := lab.Serve(t, lab.Echo(), lab.Options{})
	r := route("a.test", echo.Addr())
	ca.terminate(t, r)
	open, _ := ca.challenge(t, r)
	s := state(t, r)
	s.Listeners[0].AcceptProxyFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	h := start(t, s)
	connect := func() *tls.Conn {
		c := h.dial()
		h.send(c, []byte("PROXY TCP4 192.0.2.7 192.0.2.1 5000 443\r\n"))
		conn := tls.Client(c, ca.client("a.test", acmeTLS))
		if err := conn.Handshake(); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	validated(t, connect())
	if rec := h.want(proxy.ACME); rec.Client.Addr() != netip.MustParseAddr("192.0.2.7") {
		t.Errorf("client %v", rec.Client)
	}
	open.Store(false)
	if got := ask(t, connect(), "as ever"); got != "as ever" {
		t.Errorf("read %q", got)
	}
	h.want(proxy.OK)
}

// TestChallengeSparesPerIPLimits holds that while a challenge is open a client over a
// limit is refused by its hello, not before it.
func TestChallengeSparesPerIPLimits(t *testing.T) {
	ca := authority(t)
	echo := lab.Serve(t, lab.Echo(), lab.Options{})
	r := route("a.test", echo.Addr())
	ca.terminate(t, r)
	open, _ := ca.challenge(t, r)
	s := state(t, r)
	s.Limits.PerIPRate = proxy.Rate{N: 1, Per: time.Hour}
	s.ChallengeOpen = open.Load
	h := start(t, s)
	ask(t, h.tls(ca.client("a.test")), "the one of this hour")
	h.want(proxy.OK)
	for range 3 {
		validated(t, h.tls(ca.client("a.test", acmeTLS)))
		h.want(proxy.ACME)
		c := h.hello("a.test")
		reset(t, c)
		if rec := h.want(proxy.RateLimited); rec.SNI != "a.test" || rec.Error != "per-IP limit" || rec.Routed {
			t.Errorf("sni %q, error %q, route %q", rec.SNI, rec.Error, rec.Route)
		}
	}
	open.Store(false)
	h.refusedAtOnce()
	if rec := h.want(proxy.RateLimited); rec.SNI != "" {
		t.Errorf("sni %q, want none: refused before the hello", rec.SNI)
	}
}

// TestChallengeHeld has sessions end while nobody knows yet whether a challenge is open
// for them.
func TestChallengeHeld(t *testing.T) {
	ca := authority(t)
	tests := []struct {
		name string
		end  func(h *harness, c *net.TCPConn)
		want proxy.Outcome
	}{
		{name: "hello timeout", want: proxy.HelloTimeout, end: func(h *harness, c *net.TCPConn) { closed(h.t, c) }},
		{name: "drained", want: proxy.Drained, end: func(h *harness, _ *net.TCPConn) { h.cancel() }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			echo := lab.Serve(t, lab.Echo(), lab.Options{})
			r := route("a.test", echo.Addr())
			ca.terminate(t, r)
			looking, release := make(chan struct{}, 1), make(chan struct{})
			r.Challenge = func(string) *tls.Config {
				looking <- struct{}{}
				<-release
				return &tls.Config{}
			}
			s := state(t, r)
			if tt.want == proxy.HelloTimeout {
				s.Timeouts.Hello = 200 * time.Millisecond
			}
			h := start(t, s)
			c := h.hello("a.test", acmeTLS)
			for asked := false; !asked; {
				select {
				case <-looking:
					asked = true
				case r := <-h.records: // a machine that stood still
					if r.Outcome != proxy.HelloTimeout {
						t.Fatalf("outcome %v (%s)", r.Outcome, r.Error)
					}
					c = h.hello("a.test", acmeTLS)
				}
			}
			tt.end(h, c)
			h.want(tt.want)
			close(release) // what it finds is nobody's
		})
	}
}

// TestChallengeFails holds that a validation whose client breaks it off is told apart
// from one that was answered.
func TestChallengeFails(t *testing.T) {
	ca := authority(t)
	echo := lab.Serve(t, lab.Echo(), lab.Options{})
	r := route("a.test", echo.Addr())
	ca.terminate(t, r)
	ca.challenge(t, r)
	h := start(t, state(t, r))
	c := tls.Client(h.dial(), authority(t).client("a.test", acmeTLS))
	if err := c.Handshake(); err == nil {
		t.Error("it trusts the certificate")
	}
	_ = c.Close()
	if rec := h.want(proxy.ClientTLSFailed); rec.Route != "a.test" || rec.EndedBy != proxy.ByClient {
		t.Errorf("route %q, ended by %v", rec.Route, rec.EndedBy)
	}
}
