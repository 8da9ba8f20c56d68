package proxy_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snicketlb/snicket/balancer"
	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/loop"
	"github.com/snicketlb/snicket/pkg/proxy"
)

// harness is a running data plane with one listener, whose records a test reads.
type harness struct {
	t       *testing.T
	p       *proxy.Proxy
	addr    string
	records chan proxy.Record
	cancel  context.CancelFunc
	done    chan error
}

// state is the smallest State on a free port of 127.0.0.1; tests change it.
func state(t *testing.T, routes ...*proxy.Route) proxy.State {
	t.Helper()
	return proxy.State{
		Listeners: []proxy.Listener{listener("https", "127.0.0.1:0")},
		Routes:    routes,
		Timeouts: proxy.Timeouts{
			Hello: 10 * time.Second, Keepalive: 30 * time.Second, Unacked: 2 * time.Minute,
			Drain: 10 * time.Second,
		},
		Limits: proxy.Limits{
			MaxConnections: 10000, MaxHello: 64 << 10, MaxHellos: 1000,
			MaxHellosPerIP: 1000, MaxHandshakes: 100,
		},
	}
}

func listener(name, addr string) proxy.Listener {
	return proxy.Listener{Name: name, Address: loop.TCPAddress(netip.MustParseAddrPort(addr), 0), Text: addr}
}

// route is a passthrough route to a pool of these backend addresses.
func route(host string, backends ...string) *proxy.Route {
	b := balancer.New(host)
	var specs []balancer.Spec
	for _, a := range backends {
		specs = append(specs, balancer.Spec{ID: a, Weight: 1, Value: target(a)})
	}
	b.Update(specs)
	return &proxy.Route{
		Name: host, Hosts: []string{host}, Listeners: []string{"https"},
		Pool: &proxy.Pool{Name: host, Balancer: b, DialTimeout: 5 * time.Second, Retries: 2},
		Idle: time.Minute, Fin: 30 * time.Second, Handshake: 10 * time.Second,
		Active: new(atomic.Int64),
	}
}

func target(addr string) *proxy.Target {
	if filepath.IsAbs(addr) {
		a, _ := loop.UnixAddress(addr)
		return &proxy.Target{Name: addr, Address: a}
	}
	return &proxy.Target{Name: addr, Address: loop.TCPAddress(netip.MustParseAddrPort(addr), 0)}
}

// start runs a data plane of two loops until the test ends.
func start(t *testing.T, s proxy.State) *harness {
	t.Helper()
	lab.Leaks(t)
	h := &harness{t: t, records: make(chan proxy.Record, 20000), done: make(chan error, 1)}
	p, err := proxy.New(proxy.Options{
		Loops:  2,
		Log:    slog.New(slog.DiscardHandler),
		Access: func(r *proxy.Record) { h.records <- *r },
	})
	if err != nil {
		t.Fatal(err)
	}
	h.p = p
	var ctx context.Context
	ctx, h.cancel = context.WithCancel(t.Context())
	var once sync.Once
	go func() { h.done <- p.Run(ctx) }()
	t.Cleanup(func() {
		once.Do(h.cancel)
		if err := <-h.done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	h.apply(s)
	if bound := p.Bound(); len(bound) > 0 {
		h.addr = bound[0].Address
	}
	return h
}

func (h *harness) apply(s proxy.State) {
	h.t.Helper()
	c, err := h.p.Prepare(s)
	if err != nil {
		h.t.Fatal(err)
	}
	c.Commit()
}

// dial connects to the listener.
func (h *harness) dial() *net.TCPConn {
	h.t.Helper()
	c, err := net.Dial("tcp", h.addr)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(lab.Patience))
	return c.(*net.TCPConn)
}

// hello connects and sends a ClientHello for name.
func (h *harness) hello(name string, alpn ...string) *net.TCPConn {
	h.t.Helper()
	c := h.dial()
	h.send(c, lab.Hello(name, alpn...))
	return c
}

func (h *harness) send(c net.Conn, b []byte) {
	h.t.Helper()
	if _, err := c.Write(b); err != nil {
		h.t.Fatal(err)
	}
}

// record waits for the next session's end.
func (h *harness) record() proxy.Record {
	h.t.Helper()
	select {
	case r := <-h.records:
		return r
	case <-time.After(lab.Patience):
		h.t.Fatal("no record of a session's end")
	}
	return proxy.Record{}
}

// want checks how the next session ended.
func (h *harness) want(outcome proxy.Outcome) proxy.Record {
	h.t.Helper()
	r := h.record()
	if r.Outcome != outcome {
		h.t.Fatalf("outcome %v (%s), want %v", r.Outcome, r.Error, outcome)
	}
	return r
}

// readAll reads to the end of the stream, which must be in order.
func readAll(t *testing.T, c io.Reader) []byte {
	t.Helper()
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("after %d bytes: %v", len(b), err)
	}
	return b
}
