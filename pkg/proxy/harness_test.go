package proxy_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/balancer"
	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/loop"
	"github.com/snicketlb/snicket/pkg/proxy"
)

// harness is a running data plane with one listener, whose records a test reads.
type harness struct {
	t       testing.TB
	p       *proxy.Proxy
	addr    string
	records chan proxy.Record
	cancel  context.CancelFunc
	done    chan error
	routes  []*proxy.Route // of all states
}

// state is the smallest State on a free port of 127.0.0.1; tests change it.
func state(t testing.TB, routes ...*proxy.Route) proxy.State {
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
func start(t testing.TB, s proxy.State) *harness {
	t.Helper()
	return startLoops(t, 2, s)
}

func startLoops(t testing.TB, loops int, s proxy.State) *harness {
	t.Helper()
	return startWith(t, s, proxy.Options{Loops: loops, Log: slog.New(slog.DiscardHandler)})
}

func startWith(t testing.TB, s proxy.State, o proxy.Options) *harness {
	t.Helper()
	h := newHarness(t, o)
	h.run()
	h.apply(s)
	h.listening()
	return h
}

// newHarness makes a data plane that does not run yet.
func newHarness(t testing.TB, o proxy.Options) *harness {
	t.Helper()
	lab.Leaks(t)
	h := &harness{t: t, records: make(chan proxy.Record, 20000), done: make(chan error, 1)}
	o.Access = func(r *proxy.Record) { h.records <- *r }
	p, err := proxy.New(o)
	if err != nil {
		t.Fatal(err)
	}
	h.p = p
	return h
}

// run has the data plane run until the test ends.
func (h *harness) run() {
	var ctx context.Context
	ctx, h.cancel = context.WithCancel(h.t.Context())
	go func() { h.done <- h.p.Run(ctx) }()
	h.t.Cleanup(h.stop)
}

// stop ends the data plane and checks what it leaves; once.
func (h *harness) stop() {
	if h.cancel == nil {
		return
	}
	h.cancel()
	h.cancel = nil
	if err := <-h.done; err != nil {
		h.t.Errorf("Run: %v", err)
	}
	h.settled()
}

// listening notes the address of the first listener.
func (h *harness) listening() {
	if bound := h.p.Bound(); len(bound) > 0 {
		h.addr = bound[0].Address
	}
}

// settled checks that every session has given back all that it was counted for.
func (h *harness) settled() {
	h.t.Helper()
	if n := h.p.Active(); n != 0 {
		h.t.Errorf("%d sessions left", n)
	}
	if c := h.p.Counters(); c.Hellos != 0 || c.Caught != 0 || c.DroppedRecords != 0 {
		h.t.Errorf("left: %d hellos, %d caught bytes, %d dropped records", c.Hellos, c.Caught, c.DroppedRecords)
	}
	for _, r := range h.routes {
		if n := r.Active.Load(); n != 0 {
			h.t.Errorf("route %s has %d sessions left", r.Name, n)
		}
		if r.Pool == nil {
			continue
		}
		for _, b := range r.Pool.Balancer.Backends() {
			if n := b.Active(); n != 0 {
				h.t.Errorf("backend %s has %d sessions left", b.ID(), n)
			}
		}
	}
}

func (h *harness) apply(s proxy.State) {
	h.t.Helper()
	h.routes = append(h.routes, s.Routes...)
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
func readAll(t testing.TB, c io.Reader) []byte {
	t.Helper()
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("after %d bytes: %v", len(b), err)
	}
	return b
}

// line reads the name that an Announce server answers with.
func line(t testing.TB, c io.Reader) string {
	t.Helper()
	var got []byte
	for b := make([]byte, 1); ; {
		if _, err := io.ReadFull(c, b); err != nil {
			t.Fatalf("after %q: %v", got, err)
		}
		if b[0] == '\n' {
			return string(got)
		}
		got = append(got, b[0])
	}
}

// closed reads to the end, which must be one in order and have nothing before it.
func closed(t testing.TB, c io.Reader) {
	t.Helper()
	if b := readAll(t, c); len(b) != 0 {
		t.Errorf("read %q, want the end", b)
	}
}

// reset reads until the connection breaks, which must be by a reset.
func reset(t testing.TB, c io.Reader) {
	t.Helper()
	if _, err := io.Copy(io.Discard, c); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("read %v, want a reset", err)
	}
}

// alerted reads the alert that must come, and the end behind it.
func alerted(t testing.TB, c io.Reader, want byte) {
	t.Helper()
	got, err := lab.ReadAlert(c)
	if err != nil {
		t.Errorf("no readable alert: %v", err)
		return
	}
	if got.Level != 2 || got.Description != want {
		t.Errorf("alert %d of level %d, want fatal %d", got.Description, got.Level, want)
	}
}

// eventually waits for what no event tells of.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(lab.Patience); !ok(); {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("never: %s", what)
		}
	}
}

// update gives a pool these backends, with what they are dialled at.
func update(b *balancer.Pool, values []any, ids ...string) {
	var specs []balancer.Spec
	for i, id := range ids {
		specs = append(specs, balancer.Spec{ID: id, Weight: 1, Value: values[i]})
	}
	b.Update(specs)
}

// acceptUntil takes connections off a Unix listener until one sends hello, however late. The
// others are closed then.
func acceptUntil(t testing.TB, fd int, hello []byte) *net.UnixConn {
	t.Helper()
	var all []net.Conn
	var reading sync.WaitGroup
	says := make(chan net.Conn, 1) // hello; one does
	var found net.Conn
	eventually(t, "a connection with the hello", func() bool {
		if conn := accepted(t, fd); conn != nil {
			all = append(all, conn)
			reading.Go(func() {
				b := make([]byte, len(hello))
				if _, err := io.ReadFull(conn, b); err == nil && bytes.Equal(b, hello) {
					says <- conn
				}
			})
		}
		select {
		case found = <-says:
			return true
		default:
			return false
		}
	})
	for _, conn := range all {
		if conn != found {
			_ = conn.Close()
		}
	}
	reading.Wait()
	return found.(*net.UnixConn)
}

// accepted takes a connection off a listener; nil: there is none.
func accepted(t testing.TB, fd int) net.Conn {
	t.Helper()
	c, _, errno := loop.Accept(fd)
	if errno != 0 {
		return nil
	}
	f := os.NewFile(uintptr(c), "accepted")
	defer func() { _ = f.Close() }()
	conn, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(lab.Patience))
	return conn
}

// dialTo connects to the listener of that name.
func (h *harness) dialTo(name string) *net.TCPConn {
	h.t.Helper()
	for _, b := range h.p.Bound() {
		if b.Listener == name {
			c, err := net.Dial("tcp", b.Address)
			if err != nil {
				h.t.Fatal(err)
			}
			h.t.Cleanup(func() { _ = c.Close() })
			_ = c.SetDeadline(time.Now().Add(lab.Patience))
			return c.(*net.TCPConn)
		}
	}
	h.t.Fatalf("no listener %q", name)
	return nil
}

// refusedAtOnce connects and is reset, perhaps before the connect is over.
func (h *harness) refusedAtOnce() {
	h.t.Helper()
	c, err := net.Dial("tcp", h.addr)
	if err != nil {
		if !errors.Is(err, unix.ECONNRESET) {
			h.t.Fatal(err)
		}
		return
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(lab.Patience))
	reset(h.t, c)
}

// dialContext connects to the listener, whatever the address.
func (h *harness) dialContext(ctx context.Context, network, _ string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, h.addr)
}
