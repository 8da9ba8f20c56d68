package proxy_test

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/proxy"
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

// plan is what a session of the soak does, told to its backend behind the hello.
type plan struct {
	Up, Down     uint32
	UpSeed       uint64
	DownSeed     uint64
	ChunkSeed    uint64
	BackendReset bool // after its last byte
	ClientReset  bool // after its last byte, without reading further
}

const planSize = 4 + 4 + 8 + 8 + 8 + 1 + 1

func (p *plan) bytes() []byte {
	b, _ := binary.Append(nil, binary.BigEndian, p)
	return b
}

// send writes n bytes of a pattern in chunks of any size, yielding now and then.
func send(w io.Writer, n int64, seed, chunks uint64) error {
	r := rand.New(rand.NewPCG(chunks, 1))
	src := io.LimitReader(lab.Pattern(seed), n)
	buf := make([]byte, 100<<10)
	for {
		size := 1 + r.IntN(200)
		if r.IntN(3) == 0 {
			size = 1 + r.IntN(len(buf))
		}
		m, err := io.ReadFull(src, buf[:size])
		if m > 0 {
			if _, err := w.Write(buf[:m]); err != nil {
				return err
			}
		}
		if err != nil {
			return nil
		}
		for range r.IntN(20) {
			runtime.Gosched()
		}
	}
}

func sumOf(n int64, seed uint64) (sum [32]byte) {
	h := sha256.New()
	_, _ = io.CopyN(h, lab.Pattern(seed), n)
	h.Sum(sum[:0])
	return sum
}

// receive reads to the end and returns the sum and count of what came.
func receive(r io.Reader) (sum [32]byte, n int64, err error) {
	h := sha256.New()
	n, err = io.Copy(h, struct{ io.Reader }{r})
	h.Sum(sum[:0])
	return sum, n, err
}

// TestSoak runs random sessions side by side: both ways at once, in chunks of
// any size, ended by half-closes or resets. Every stream that ends in order is
// the one that was sent, and no reset is sold as an end.
func TestSoak(t *testing.T) {
	const sessions, atOnce = 300, 24
	hello := lab.Hello("a.test")
	srv := lab.Serve(t, func(c *lab.Conn) {
		b := make([]byte, len(hello)+planSize)
		if _, err := io.ReadFull(c, b); err != nil {
			if !errors.Is(err, unix.ECONNRESET) { // of a client that reset before it was connected to here
				t.Errorf("the backend's plan: %v", err)
			}
			return
		}
		var p plan
		_, _ = binary.Decode(b[len(hello):], binary.BigEndian, &p)
		sent := make(chan error, 1)
		go func() { sent <- send(c, int64(p.Down), p.DownSeed, p.ChunkSeed+1) }()
		sum, n, err := receive(c)
		lost := <-sent
		if err == nil { // the kernel tells of a reset once, here perhaps to the sender
			err = lost
		}
		switch {
		case err == nil && p.ClientReset:
			t.Errorf("the backend read an end of a client that was reset, after %d of %d", n, p.Up)
		case err == nil && sum != sumOf(int64(p.Up), p.UpSeed):
			t.Errorf("the backend read %d bytes, not the %d sent", n, p.Up)
		case err != nil && !p.ClientReset:
			t.Errorf("the backend read %d bytes of %d: %v", n, p.Up, err)
		}
		if p.BackendReset {
			_ = c.Reset()
			return
		}
		_ = c.CloseWrite()
	}, lab.Options{})
	h := start(t, state(t, route("a.test", srv.Addr())))
	run := func(seed uint64) {
		r := rand.New(rand.NewPCG(seed, 2))
		size := func() uint32 { return uint32(r.IntN(1 << (1 + r.IntN(20)))) }
		p := plan{Up: size(), Down: size(), UpSeed: r.Uint64(), DownSeed: r.Uint64(), ChunkSeed: r.Uint64()}
		switch r.IntN(5) {
		case 0:
			p.ClientReset = true
		case 1:
			p.BackendReset = true
		}
		c := h.dial()
		defer func() { _ = c.Close() }()
		first := append(append([]byte{}, hello...), p.bytes()...)
		cut := r.IntN(len(first))
		_, _ = c.Write(first[:cut])
		_, _ = c.Write(first[cut:])
		sent := make(chan error, 1)
		go func() {
			err := send(c, int64(p.Up), p.UpSeed, p.ChunkSeed)
			if p.ClientReset {
				_ = c.SetLinger(0)
				_ = c.Close()
			} else {
				_ = c.CloseWrite()
			}
			sent <- err
		}()
		sum, n, err := receive(c)
		if lost := <-sent; err == nil {
			err = lost
		}
		switch {
		case p.ClientReset:
		case err == nil && p.BackendReset:
			t.Errorf("session %d: an end of a backend that was reset, after %d of %d", seed, n, p.Down)
		case err == nil && sum != sumOf(int64(p.Down), p.DownSeed):
			t.Errorf("session %d: %d bytes, not the %d sent", seed, n, p.Down)
		case err != nil && !p.BackendReset:
			t.Errorf("session %d: %d bytes of %d: %v", seed, n, p.Down, err)
		}
	}
	var wg sync.WaitGroup
	next := make(chan uint64)
	for range atOnce {
		wg.Go(func() {
			for seed := range next {
				run(seed)
			}
		})
	}
	for seed := range sessions {
		next <- uint64(seed)
	}
	close(next)
	wg.Wait()
	counts := map[proxy.Outcome]int{}
	for range sessions {
		counts[h.record().Outcome]++
	}
	if counts[proxy.OK] == 0 || counts[proxy.ClientReset] == 0 || counts[proxy.BackendReset] == 0 ||
		counts[proxy.OK]+counts[proxy.ClientReset]+counts[proxy.BackendReset] != sessions {
		t.Errorf("outcomes %v", counts)
	}
}
