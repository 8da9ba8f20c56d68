package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/proxy"
	"github.com/snicketlb/snicket/pkg/proxyheader"
	"github.com/snicketlb/snicket/pkg/web"
)

// httpListener is a listener for plain HTTP.
func httpListener(addr string) proxy.Listener {
	l := listener("http", addr)
	l.Plain = web.NewPlain(web.PlainOptions{
		Known: proxy.Known, Site: proxy.SiteFor,
		MaxHeader: 64 << 10, HeaderTimeout: 10 * time.Second, Keepalive: time.Minute,
	})
	l.Idle, l.Handshake = time.Minute, 10*time.Second
	return l
}

// plainState is a State with an http listener alone.
func plainState(t testing.TB, routes ...*proxy.Route) proxy.State {
	s := state(t, routes...)
	s.Listeners = []proxy.Listener{httpListener("127.0.0.1:0")}
	return s
}

const misdirected = "GET / HTTP/1.1\r\nHost: nobody.test\r\n\r\n"

func TestPlainListener(t *testing.T) {
	const client, destination = "192.0.2.7:1234", "192.0.2.1:80"
	with := func(header []byte) []byte { return append(bytes.Clone(header), misdirected...) }
	for _, tc := range []struct {
		name   string
		listed bool
		sent   []byte
		chunk  int // 0: at once
		want   proxy.Outcome
		client string // "": the peer
	}{
		{name: "request", sent: []byte(misdirected)},
		{name: "byte by byte", sent: []byte(misdirected), chunk: 1},
		{name: "a method with P", sent: []byte("POST / HTTP/1.1\r\nHost: nobody.test\r\nContent-Length: 0\r\n\r\n"), chunk: 1},
		{name: "listed, v1", listed: true, sent: with(headerFrom(t, 1, client, destination)), client: client},
		{name: "listed, v2 in sevens", listed: true, sent: with(headerFrom(t, 2, client, destination)), chunk: 7, client: client},
		{name: "listed, LOCAL", listed: true, sent: with(proxyheader.Local(2))},
		{name: "listed without a header", listed: true, sent: []byte(misdirected), want: proxy.BadProxyHeader},
		{name: "unlisted with v1", sent: with(headerFrom(t, 1, client, destination)), want: proxy.BadProxyHeader},
		{name: "unlisted with v2 byte by byte", sent: with(headerFrom(t, 2, client, destination)), chunk: 1, want: proxy.BadProxyHeader},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := plainState(t)
			if tc.listed {
				s.Listeners[0].AcceptProxyFrom = prefixes("127.0.0.0/8")
			}
			h := start(t, s)
			c := h.dial()
			chunk := tc.chunk
			if chunk == 0 {
				chunk = len(tc.sent)
			}
			for i := 0; i < len(tc.sent); i += chunk {
				if _, err := c.Write(tc.sent[i:min(i+chunk, len(tc.sent))]); err != nil {
					break // refused before its end
				}
			}
			if tc.want != proxy.OK {
				h.want(tc.want)
				return
			}
			res, _ := response(t, bufio.NewReader(c))
			if res.StatusCode != http.StatusMisdirectedRequest {
				t.Errorf("%s, want 421", res.Status)
			}
			c.Close()
			rec := h.want(proxy.OK)
			want := tc.client
			if want == "" {
				want = c.LocalAddr().String()
			}
			if rec.Requests != 1 || rec.Listener != "http" || rec.Client.String() != want || rec.Peer.String() != c.LocalAddr().String() {
				t.Errorf("%d requests, listener %q, client %v, peer %v; want 1, http, %s", rec.Requests, rec.Listener, rec.Client, rec.Peer, want)
			}
			if rec.Routed || rec.SNI != "" || rec.TLSVersion != 0 || rec.BytesOut == 0 || rec.EndedBy != proxy.ByClient {
				t.Errorf("routed %t, sni %q, TLS %#x, %d bytes out, ended by %v", rec.Routed, rec.SNI, rec.TLSVersion, rec.BytesOut, rec.EndedBy)
			}
		})
	}
}

func TestPlainListenerBounds(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(s *proxy.State)
		client func(h *harness, c *net.TCPConn)
		want   proxy.Outcome
	}{
		{
			"silent", func(s *proxy.State) { s.Timeouts.Hello = 50 * time.Millisecond },
			func(h *harness, c *net.TCPConn) { closed(h.t, c) }, proxy.HelloTimeout,
		},
		{
			"slow header", func(s *proxy.State) {
				s.Listeners[0].Plain = web.NewPlain(web.PlainOptions{HeaderTimeout: 50 * time.Millisecond})
			},
			func(h *harness, c *net.TCPConn) {
				h.send(c, []byte("GET / HTTP/1.1\r\nHost:"))
				_, _ = io.Copy(io.Discard, c)
			}, proxy.HelloTimeout,
		},
		{
			"left", nil, func(h *harness, c *net.TCPConn) {
				h.send(c, []byte("GET / HTTP/1.1\r\n"))
				c.Close()
			}, proxy.NoHello,
		},
		{
			"no byte", nil, func(_ *harness, c *net.TCPConn) { c.Close() }, proxy.NoHello,
		},
		{
			"reset", nil, func(h *harness, c *net.TCPConn) {
				h.send(c, []byte(misdirected))
				response(h.t, bufio.NewReader(c))
				_ = c.SetLinger(0)
				c.Close()
			}, proxy.ClientReset,
		},
		{
			"idle", func(s *proxy.State) { s.Listeners[0].Idle = 50 * time.Millisecond },
			func(h *harness, c *net.TCPConn) {
				h.send(c, []byte(misdirected))
				reset(h.t, c) // behind the answer, or before it if that takes too long
			}, proxy.IdleTimeout,
		},
		{
			"rate", func(s *proxy.State) { s.Limits.PerIPRate = proxy.Rate{N: 1, Per: time.Hour} },
			func(h *harness, c *net.TCPConn) {
				h.send(c, []byte(misdirected))
				response(h.t, bufio.NewReader(c))
				h.refusedAtOnce()
				h.want(proxy.RateLimited)
				c.Close()
			}, proxy.OK,
		},
		{
			"connections", func(s *proxy.State) { s.Limits.PerIPConnections = 1 },
			func(h *harness, c *net.TCPConn) {
				h.send(c, []byte(misdirected))
				response(h.t, bufio.NewReader(c))
				h.refusedAtOnce()
				h.want(proxy.OverLimit)
				c.Close()
			}, proxy.OK,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := plainState(t)
			if tc.change != nil {
				tc.change(&s)
			}
			h := start(t, s)
			tc.client(h, h.dial())
			h.want(tc.want)
		})
	}
}

// An address may turn from one kind into the other: who is speaking goes on as it is.
func TestListenerChangesKind(t *testing.T) {
	srv := lab.Serve(t, lab.Announce("a", nil), lab.Options{})
	plain := plainState(t, route("a.test", srv.Addr()))
	h := start(t, plain)
	c := h.dial()
	h.send(c, []byte(misdirected))
	from := bufio.NewReader(c)
	response(t, from)

	tls := plain
	tls.Routes = []*proxy.Route{route("a.test", srv.Addr())}
	tls.Listeners = []proxy.Listener{plain.Listeners[0]}
	tls.Listeners[0].Plain, tls.Listeners[0].Name = nil, "https"
	h.apply(tls)
	closed(t, from) // no further request is taken
	h.want(proxy.OK)
	if got := line(t, h.hello("a.test")); got != "a" {
		t.Errorf("a hello reached %q", got)
	}
}

// A drain lets those go that wait for their next request, and others say their first.
func TestPlainListenerDrains(t *testing.T) {
	h := start(t, plainState(t))
	idle := h.dial()
	h.send(idle, []byte(misdirected))
	fromIdle := bufio.NewReader(idle)
	response(t, fromIdle)
	begun := h.dial()
	h.send(begun, []byte("GET / HTTP/1.1\r\nHost: "))
	eventually(t, "both are handed over", func() bool { return h.p.Held()["guests"] == 2 })
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		h.p.Drain(context.Background())
	}()
	closed(t, fromIdle)
	h.want(proxy.OK)
	h.send(begun, []byte("nobody.test\r\n\r\n"))
	fromBegun := bufio.NewReader(begun)
	if res, _ := response(t, fromBegun); res.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("%s, want 421", res.Status)
	}
	closed(t, fromBegun)
	if rec := h.want(proxy.OK); rec.EndedBy != proxy.BySnicket {
		t.Errorf("ended by %v, want snicket", rec.EndedBy)
	}
	<-drained
}

// What outlives the drain is cut.
func TestPlainListenerDrainEnds(t *testing.T) {
	h := start(t, plainState(t))
	c := h.dial()
	h.send(c, []byte("GET / HTTP/1.1\r\nHost: "))
	eventually(t, "it is handed over", func() bool { return h.p.Held()["guests"] == 1 })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	h.p.Drain(ctx)
	reset(t, c)
	if rec := h.want(proxy.Drained); rec.EndedBy != proxy.BySnicket || rec.Error != "" {
		t.Errorf("ended by %v, error %q", rec.EndedBy, rec.Error)
	}
}
