package proxy_test

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/balancer"
	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/proxy"
)

// limited is a route to backends that take one session each, with a queue.
func limited(host string, size int, timeout time.Duration, backends ...string) *proxy.Route {
	r := route(host, backends...)
	var specs []balancer.Spec
	for _, a := range backends {
		specs = append(specs, balancer.Spec{ID: a, Weight: 1, MaxConnections: 1, Value: target(a)})
	}
	r.Pool.Balancer.Update(specs)
	r.Pool.Balancer.Configure(balancer.Options{QueueSize: size})
	r.Pool.QueueTimeout = timeout
	return r
}

// waits waits until n sessions of the route do.
func waits(t *testing.T, r *proxy.Route, n int) {
	t.Helper()
	eventually(t, "sessions in the queue", func() bool { return r.Pool.Balancer.QueueLength() == n })
}

// TestQueueInOrder has sessions wait for one backend: they are served in the order in
// which they came, and lose no byte by the wait.
func TestQueueInOrder(t *testing.T) {
	const sessions = 4
	live := lab.Serve(t, lab.Echo(), lab.Options{})
	r := limited("a.test", sessions, time.Hour, live.Addr())
	h := start(t, state(t, r))
	hello := lab.Hello("a.test")
	var conns []*net.TCPConn
	for i := range sessions {
		c := h.hello("a.test")
		if conns = append(conns, c); i == 0 {
			if _, err := io.ReadFull(c, make([]byte, len(hello))); err != nil {
				t.Fatal(err)
			}
			continue
		}
		waits(t, r, i)
	}
	for i, c := range conns {
		if i > 0 {
			if _, err := io.ReadFull(c, make([]byte, len(hello))); err != nil {
				t.Fatalf("session %d: %v", i, err)
			}
		}
		waits(t, r, sessions-1-i)
		_ = c.CloseWrite()
		closed(t, c)
		rec := h.want(proxy.OK)
		if rec.Client.String() != c.LocalAddr().String() {
			t.Errorf("the session that ended is of %v, want %v", rec.Client, c.LocalAddr())
		}
		if waited := rec.Queue > 0; waited != (i > 0) || i == 0 && rec.Queue >= 0 {
			t.Errorf("session %d waited %v", i, rec.Queue)
		}
	}
}

func TestQueueTimeout(t *testing.T) {
	live := lab.Serve(t, lab.Echo(), lab.Options{})
	r := limited("a.test", 1, 20*time.Millisecond, live.Addr())
	h := start(t, state(t, r))
	first := h.hello("a.test")
	if _, err := io.ReadFull(first, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	second := h.hello("a.test")
	alerted(t, second, 80)
	_ = second.Close()
	rec := h.want(proxy.QueueTimeout)
	if rec.Queue < r.Pool.QueueTimeout || rec.Backend != "" || rec.EndedBy != proxy.BySnicket || rec.Dial >= 0 {
		t.Errorf("waited %v, backend %q, ended by %v, dial %v; want %v, none, snicket, never",
			rec.Queue, rec.Backend, rec.EndedBy, rec.Dial, r.Pool.QueueTimeout)
	}
}

func TestQueueFull(t *testing.T) {
	for _, tc := range []struct {
		name string
		size int
		want string
	}{
		{"no queue", 0, "every ready backend is at its connection limit"},
		{"a full one", 1, "every ready backend is at its connection limit, and the queue is full"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			live := lab.Serve(t, lab.Echo(), lab.Options{})
			r := limited("a.test", tc.size, time.Hour, live.Addr())
			if tc.size == 0 {
				r.Pool.QueueTimeout = 0
			}
			h := start(t, state(t, r))
			first := h.hello("a.test")
			if _, err := io.ReadFull(first, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			for i := range tc.size {
				h.hello("a.test")
				waits(t, r, i+1)
			}
			c := h.hello("a.test")
			alerted(t, c, 80)
			_ = c.Close()
			if rec := h.want(proxy.NoBackend); rec.Error != tc.want || rec.Queue >= 0 {
				t.Errorf("error %q, waited %v; want %q, never", rec.Error, rec.Queue, tc.want)
			}
		})
	}
}

// TestQueueLeft has clients leave the queue, by FIN and by RST: their places are free
// for others at once.
func TestQueueLeft(t *testing.T) {
	for _, tc := range []struct {
		name  string
		leave func(*net.TCPConn)
	}{
		{"fin", func(c *net.TCPConn) { _ = c.Close() }},
		{"rst", func(c *net.TCPConn) { _ = c.SetLinger(0); _ = c.Close() }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			live := lab.Serve(t, lab.Echo(), lab.Options{})
			r := limited("a.test", 1, time.Hour, live.Addr())
			h := start(t, state(t, r))
			first := h.hello("a.test")
			if _, err := io.ReadFull(first, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			second := h.hello("a.test")
			waits(t, r, 1)
			tc.leave(second)
			if rec := h.want(proxy.ClientReset); rec.EndedBy != proxy.ByClient || rec.Queue < 0 {
				t.Errorf("ended by %v, waited %v; want the client, some time", rec.EndedBy, rec.Queue)
			}
			waits(t, r, 0)
			third := h.hello("a.test")
			waits(t, r, 1)
			_ = first.CloseWrite()
			if _, err := io.Copy(io.Discard, first); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(third, make([]byte, 1)); err != nil {
				t.Errorf("the next in the queue: %v", err)
			}
		})
	}
}

// TestQueueWithoutBackends ends a wait that has become vain, with what would have been
// said at once.
func TestQueueWithoutBackends(t *testing.T) {
	live := lab.Serve(t, lab.Echo(), lab.Options{})
	r := limited("a.test", 1, time.Hour, live.Addr())
	h := start(t, state(t, r))
	first := h.hello("a.test")
	if _, err := io.ReadFull(first, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	c := h.hello("a.test")
	waits(t, r, 1)
	r.Pool.Balancer.Mark(live.Addr(), balancer.Down, true)
	alerted(t, c, 80)
	_ = c.Close()
	if rec := h.want(proxy.NoBackend); rec.Queue < 0 {
		t.Error("never waited")
	}
}

// TestQueueTerminated has sessions wait behind their handshake.
func TestQueueTerminated(t *testing.T) {
	ca := authority(t)
	live := lab.Serve(t, lab.Echo(), lab.Options{})
	r := limited("a.test", 2, time.Hour, live.Addr())
	ca.terminate(t, r)
	h := start(t, state(t, r))
	first := h.tls(ca.client("a.test"))
	echoes(t, first)
	second := h.tls(ca.client("a.test"))
	waits(t, r, 1)
	_ = first.Close()
	h.record()
	echoes(t, second)

	r.Pool.Balancer.Mark(live.Addr(), balancer.Draining, true)
	_ = second.Close()
	h.record()
}

// TestQueueTerminatedTimeout resets a client whose wait took too long.
func TestQueueTerminatedTimeout(t *testing.T) {
	ca := authority(t)
	live := lab.Serve(t, lab.Echo(), lab.Options{})
	r := limited("a.test", 2, 20*time.Millisecond, live.Addr())
	ca.terminate(t, r)
	h := start(t, state(t, r))
	first := h.tls(ca.client("a.test"))
	echoes(t, first)
	second := h.tls(ca.client("a.test"))
	if _, err := second.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("read %v, want a reset", err)
	}
	if rec := h.want(proxy.QueueTimeout); rec.Queue < r.Pool.QueueTimeout {
		t.Errorf("waited %v, want %v", rec.Queue, r.Pool.QueueTimeout)
	}
}

// TestQueueAtTheEnd ends sessions in the queue with the data plane.
func TestQueueAtTheEnd(t *testing.T) {
	live := lab.Serve(t, lab.Echo(), lab.Options{})
	r := limited("a.test", 1, time.Hour, live.Addr())
	h := start(t, state(t, r))
	first := h.hello("a.test")
	if _, err := io.ReadFull(first, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	h.hello("a.test")
	waits(t, r, 1)
	h.stop()
	for range 2 {
		h.want(proxy.Drained)
	}
}

// echoes sends a byte and reads it back.
func echoes(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}

// TestQueueUnderLoad has many clients want few places at the same time, of whom some
// leave while they wait: all others are served, and every count is given back.
func TestQueueUnderLoad(t *testing.T) {
	const clients = 300
	one, two := lab.Serve(t, lab.Echo(), lab.Options{}), lab.Serve(t, lab.Echo(), lab.Options{})
	r := limited("a.test", clients, time.Hour, one.Addr(), two.Addr())
	h := start(t, state(t, r))
	hello := lab.Hello("a.test")
	var wg sync.WaitGroup
	errs := make([]error, clients)
	for i := range clients {
		c := h.dial()
		wg.Go(func() {
			if _, err := c.Write(hello); err != nil {
				errs[i] = err
				return
			}
			switch i % 5 {
			case 3:
				_ = c.Close()
				return
			case 4:
				_ = c.SetLinger(0)
				_ = c.Close()
				return
			}
			if _, err := io.ReadFull(c, make([]byte, len(hello))); err != nil {
				errs[i] = err
				return
			}
			_ = c.CloseWrite()
			_, errs[i] = io.Copy(io.Discard, c)
		})
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			t.Errorf("client %d: %v", i, err)
		}
	}
	outcomes := map[proxy.Outcome]int{}
	for range clients {
		outcomes[h.record().Outcome]++
	}
	if outcomes[proxy.OK] < clients*3/5 || outcomes[proxy.QueueTimeout]+outcomes[proxy.NoBackend]+outcomes[proxy.DialFailed] > 0 {
		t.Errorf("outcomes %v, want ok or a client's own leaving", outcomes)
	}
	waits(t, r, 0)
}
