package proxy_test

import (
	"net"
	"net/netip"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/proxy"
)

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func TestRouting(t *testing.T) {
	named := func(name, host string, change func(*proxy.Route)) *proxy.Route {
		srv := lab.Serve(t, lab.Announce(name, nil), lab.Options{})
		r := route(host, srv.Addr())
		r.Name = name
		if change != nil {
			change(r)
		}
		return r
	}
	h := start(t, state(t,
		named("exact", "www.a.test", nil),
		named("star", "*.a.test", nil),
		named("deep", "**.a.test", nil),
		named("h2", "alpn.test", func(r *proxy.Route) { r.ALPN = []string{"h2"} }),
		named("any", "alpn.test", nil),
		named("only-h2", "only.a.test", func(r *proxy.Route) { r.ALPN = []string{"h2"} }),
		named("near", "from.test", func(r *proxy.Route) { r.From = prefixes("127.0.0.0/8") }),
		named("nearer", "from.test", func(r *proxy.Route) { r.From = prefixes("10.0.0.0/8", "127.0.0.1/32") }),
		named("far", "far.a.test", func(r *proxy.Route) { r.From = prefixes("192.0.2.0/24") }),
		named("deny", "deny.a.test", func(r *proxy.Route) { r.DenyFrom = prefixes("127.0.0.0/8") }),
		named("reject", "reject.a.test", func(r *proxy.Route) { r.Mode, r.Pool = proxy.Reject, nil }),
		named("elsewhere", "elsewhere.test", func(r *proxy.Route) { r.Listeners = []string{"other"} }),
	))
	tests := []struct {
		name    string
		host    string
		alpn    []string
		backend string // or an outcome with its alert
		outcome proxy.Outcome
		alert   byte
		route   string // in the record of a refusal
	}{
		{name: "exact over wildcard", host: "www.a.test", backend: "exact"},
		{name: "one label", host: "x.a.test", backend: "star"},
		{name: "several labels", host: "y.x.a.test", backend: "deep"},
		{name: "unknown name", host: "b.test", outcome: proxy.NoRoute, alert: 112},
		{name: "no name", host: "", outcome: proxy.NoRoute, alert: 112},
		{name: "another listener's", host: "elsewhere.test", outcome: proxy.NoRoute, alert: 112},
		{name: "alpn fits", host: "alpn.test", alpn: []string{"http/1.1", "h2"}, backend: "h2"},
		{name: "alpn does not fit", host: "alpn.test", alpn: []string{"http/1.1"}, backend: "any"},
		{name: "alpn fails, no wildcard", host: "only.a.test", outcome: proxy.NoRoute, alert: 112},
		{name: "longest from", host: "from.test", backend: "nearer"},
		{name: "from fails, no wildcard", host: "far.a.test", outcome: proxy.Denied, alert: 49},
		{name: "deny_from", host: "deny.a.test", outcome: proxy.Denied, alert: 49, route: "deny"},
		{name: "reject", host: "reject.a.test", outcome: proxy.Rejected, alert: 49, route: "reject"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			c := h.hello(tc.host, tc.alpn...)
			if tc.backend != "" {
				if got := line(t, c); got != tc.backend {
					t.Errorf("backend %s, want %s", got, tc.backend)
				}
				_ = c.Close()
				if r := h.record(); r.Route != tc.backend || !r.Routed {
					t.Errorf("record of route %q, want %q", r.Route, tc.backend)
				}
				return
			}
			alerted(t, c, tc.alert)
			_ = c.Close()
			r := h.want(tc.outcome)
			if r.Route != tc.route || r.EndedBy != proxy.BySnicket || r.Backend != "" {
				t.Errorf("record of route %q, backend %q, ended by %q; want %q, none, snicket", r.Route, r.Backend, r.EndedBy, tc.route)
			}
		})
	}
}

func TestRouteMaxConnections(t *testing.T) {
	srv := lab.Serve(t, lab.Announce("a", nil), lab.Options{})
	r := route("a.test", srv.Addr())
	r.MaxConnections = 1
	h := start(t, state(t, r))
	first := h.hello("a.test")
	line(t, first)
	reset(t, h.hello("a.test"))
	if rec := h.want(proxy.OverLimit); rec.Route != "a.test" || rec.Error == "" {
		t.Errorf("record of route %q, error %q; want a.test and the limit", rec.Route, rec.Error)
	}
	_ = first.CloseWrite()
	closed(t, first)
	h.want(proxy.OK)
	if got := line(t, h.hello("a.test")); got != "a" {
		t.Errorf("after the first has left: %q, want a", got)
	}
}

func TestNoBackendIsAnAlert(t *testing.T) {
	h := start(t, state(t, route("a.test")))
	c := h.hello("a.test")
	alerted(t, c, 80)
	_ = c.Close()
	if r := h.want(proxy.NoBackend); r.Pool != "a.test" || r.Dial >= 0 {
		t.Errorf("pool %q, dialled %v; want a.test, never", r.Pool, r.Dial)
	}
}

// TestAlertSurvivesUnreadBytes is about what comes behind a refused hello:
// closing with it unread would reset the connection and the alert with it.
func TestAlertSurvivesUnreadBytes(t *testing.T) {
	h := start(t, state(t))
	c := h.dial()
	h.send(c, append(lab.Hello("a.test"), make([]byte, 40<<10)...))
	alerted(t, c, 112)
	h.send(c, make([]byte, 8<<10))
	_ = c.Close()
	h.want(proxy.NoRoute)
}

func TestClientThatLeavesBeforeItsHello(t *testing.T) {
	h := start(t, state(t, route("a.test")))
	tests := []struct {
		name  string
		sent  []byte
		reset bool
	}{
		{name: "nothing, end"},
		{name: "nothing, reset", reset: true},
		{name: "a part, end", sent: lab.Hello("a.test")[:50]},
		{name: "a part, reset", sent: lab.Hello("a.test")[:50], reset: true},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			c := h.dial()
			h.send(c, tc.sent)
			if len(tc.sent) > 0 { // taken in before the reset, which would destroy it
				eventually(t, "the bytes are read", func() bool { return h.p.Counters().Hellos == 1 && unread(t, h, c) == 0 })
			}
			if tc.reset {
				_ = c.SetLinger(0)
			}
			_ = c.Close()
			r := h.want(proxy.NoHello)
			if r.Bytes != (len(tc.sent) > 0) || r.EndedBy != proxy.ByClient || (r.Error != "") != tc.reset {
				t.Errorf("bytes %v, ended by %v, error %q", r.Bytes, r.EndedBy, r.Error)
			}
		})
	}
}

// TestDualStack takes both families on one socket, where it is asked to.
func TestDualStack(t *testing.T) {
	srv := lab.Serve(t, lab.Announce("a", nil), lab.Options{})
	for _, dual := range []bool{true, false} {
		s := state(t, route("a.test", srv.Addr()))
		s.Listeners[0] = listener("https", "[::]:0")
		s.Listeners[0].Dual = dual
		h := start(t, s)
		_, port, err := net.SplitHostPort(h.addr)
		if err != nil {
			t.Fatal(err)
		}
		for _, host := range []string{"127.0.0.1", "::1"} {
			h.addr = net.JoinHostPort(host, port)
			if host == "127.0.0.1" && !dual {
				if c, err := net.Dial("tcp", h.addr); err == nil {
					_ = c.Close()
					t.Error("IPv4 is served without being asked for")
				}
				continue
			}
			c := h.hello("a.test")
			line(t, c)
			_ = c.Close()
			if r := h.record(); r.Client.Addr().String() != host || r.Client != r.Peer {
				t.Errorf("client %v, peer %v, want %s", r.Client, r.Peer, host)
			}
		}
	}
}
