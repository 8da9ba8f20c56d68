package proxy_test

import (
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
)

// TestIdleSessionsHoldTwoDescriptors opens many sessions and leaves them alone.
func TestIdleSessionsHoldTwoDescriptors(t *testing.T) {
	const sessions = 1000
	srv := lab.Serve(t, func(c *lab.Conn) {
		b := make([]byte, 2048)
		_, _ = c.Read(b)
		_, _ = io.WriteString(c, "a\n")
		for err := error(nil); err == nil; {
			_, err = c.Read(b)
		}
	}, lab.Options{})
	h := start(t, state(t, route("a.test", srv.Addr())))
	// What is there once is there after the first session.
	line(t, h.hello("a.test"))
	count := func() (descriptors, goroutines int, heap uint64) {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return len(lab.Descriptors(t, os.Getpid())), runtime.NumGoroutine(), m.HeapInuse
	}
	d0, g0, m0 := count()
	for range sessions {
		line(t, h.hello("a.test"))
	}
	if n := h.p.Active(); n != sessions+1 {
		t.Fatalf("%d sessions, want %d", n, sessions+1)
	}
	d1, g1, m1 := count()
	// The client's and the backend's own sockets are in this process as well,
	// and one goroutine of the backend.
	if got := d1 - d0 - 2*sessions; got != 2*sessions {
		t.Errorf("%d descriptors for %d sessions, want %d", got, sessions, 2*sessions)
	}
	if got := g1 - g0 - sessions; got != 0 {
		t.Errorf("%d goroutines for %d sessions, want none", got, sessions)
	}
	if caught := h.p.Counters().Caught; caught != 0 {
		t.Errorf("%d bytes caught by idle sessions", caught)
	}
	t.Logf("%d bytes of heap a session, client and backend included", (m1-m0)/sessions)
}

// TestFairness runs bulk streams, ping-pongs and new connections on one loop:
// each kind gets on while the others last.
func TestFairness(t *testing.T) {
	const pings, rounds, short = 16, 100, 200
	flood := lab.Serve(t, lab.Flood(), lab.Options{})
	echo := lab.Serve(t, lab.Echo(), lab.Options{})
	announce := lab.Serve(t, lab.Announce("a", nil), lab.Options{})
	h := startLoops(t, 1, state(t, route("bulk.test", flood.Addr()), route("echo.test", echo.Addr()), route("a.test", announce.Addr())))
	var bulk, others sync.WaitGroup
	var streams []*net.TCPConn
	first := make(chan struct{}, 2)
	for range 2 {
		c := h.hello("bulk.test")
		streams = append(streams, c)
		bulk.Go(func() {
			if _, err := io.CopyN(io.Discard, struct{ io.Reader }{c}, 8<<20); err != nil {
				t.Errorf("bulk: %v", err)
			}
			first <- struct{}{}
			_, _ = io.Copy(io.Discard, struct{ io.Reader }{c}) // for as long as the others
		})
	}
	hello := lab.Hello("echo.test")
	for range pings {
		c := h.dial()
		others.Go(func() {
			b := make([]byte, len(hello))
			_, _ = c.Write(hello)
			for i := range rounds {
				if _, err := io.ReadFull(c, b); err != nil {
					t.Errorf("ping-pong: round %d: %v", i, err)
					return
				}
				b = b[:64]
				_, _ = c.Write(b)
			}
		})
	}
	for range short {
		c := h.hello("a.test")
		line(t, c)
		_ = c.Close()
	}
	others.Wait()
	<-first
	<-first
	for _, c := range streams {
		_ = c.Close()
	}
	bulk.Wait()
}
