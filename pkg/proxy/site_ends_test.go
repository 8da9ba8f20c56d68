package proxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/proxy"
	"github.com/snicketlb/snicket/pkg/web"
)

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
