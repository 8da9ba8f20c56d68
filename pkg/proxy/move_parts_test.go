package proxy_test

import (
	"bytes"
	"crypto/sha256"
	"io"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/proxy"
)

// readFull expects want.
func readFull(t testing.TB, c io.Reader, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("got %.40q, %v, want %.40q", got, err, want)
	}
}

// TestMoveFull moves a session whose both ways are full: what was caught in buffers and
// pipes arrives, whole and in order.
func TestMoveFull(t *testing.T) {
	const size = 24 << 20
	released := make(chan struct{})
	sums := make(chan [32]byte, 1)
	b := lab.Serve(t, func(c *lab.Conn) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = io.Copy(c, io.LimitReader(lab.Pattern(7), size))
		}()
		<-released
		sum := sha256.New()
		_, _ = io.Copy(sum, c)
		<-done
		sums <- [32]byte(sum.Sum(nil))
	}, lab.Options{})
	h, move := moving(t, b.Addr(), func(*proxy.Route) {})
	hello := lab.Hello("a.test")
	c := h.open(hello)
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = io.Copy(struct{ io.Writer }{c}, io.LimitReader(lab.Pattern(5), size))
		_ = c.CloseWrite()
	}()
	h.full()
	next := move()
	close(released)
	sum := sha256.New()
	if n, err := io.Copy(sum, c); err != nil || n != size {
		t.Fatalf("got %d bytes, %v, want %d", n, err, size)
	}
	<-sent
	if got, want := [32]byte(sum.Sum(nil)), digest(nil, 7, size); got != want {
		t.Error("what came from the backend is not what it sent")
	}
	if got, want := <-sums, digest(hello, 5, size); got != want {
		t.Error("what came to the backend is not what the client sent")
	}
	if r := next.want(proxy.OK); r.BytesOut != size {
		t.Errorf("bytes out: got %d, want %d", r.BytesOut, size)
	}
}

// digest is the SHA-256 of first and of so many bytes of a pattern.
func digest(first []byte, seed uint64, size int64) [32]byte {
	sum := sha256.New()
	sum.Write(first)
	_, _ = io.Copy(sum, io.LimitReader(lab.Pattern(seed), size))
	return [32]byte(sum.Sum(nil))
}

// full waits until nothing moves any more, with bytes caught.
func (h *harness) full() {
	h.t.Helper()
	still, last := 0, ""
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(lab.Patience); still < 10; <-tick.C {
		if time.Now().After(deadline) {
			h.t.Fatal("no way is ever full")
		}
		now := h.p.Dump()
		if still++; now != last || h.p.Counters().Caught == 0 {
			still, last = 0, now
		}
	}
}
