//go:build e2e

package e2e_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
)

// pass starts snicket with a.test passed through to one backend.
func pass(t *testing.T, backend, settings string) (b *balancer, addr string) {
	t.Helper()
	addr = lab.FreeAddr(t)
	return run(t, listener(addr)+settings+passthrough("a.test", "a", []string{backend},
		"[pools.a.health]", "enabled = false")), addr
}

// bulk is how much goes each way in TestBulk.
const bulk = 1 << 30

// TestBulk moves 1 GiB both ways at once, and then once more with a client that reads slowly at first; the sum of
// each direction must be the sender's.
func TestBulk(t *testing.T) {
	for _, slowReader := range []bool{false, true} {
		t.Run(fmt.Sprintf("slow reader %v", slowReader), func(t *testing.T) {
			size := int64(bulk)
			if slowReader {
				size /= 4
			}
			received := make(chan string, 1)
			sent := make(chan string, 1)
			backend := lab.Serve(t, func(c *lab.Conn) {
				done := make(chan struct{})
				go func() {
					defer close(done)
					sum, n := digest(c)
					received <- fmt.Sprintf("%d %x", n, sum)
				}()
				h := sha256.New()
				io.CopyN(io.MultiWriter(c, h), lab.Pattern(2), size)
				c.CloseWrite()
				sent <- fmt.Sprintf("%d %x", size, h.Sum(nil))
				<-done
			}, lab.Options{})
			b, addr := pass(t, backend.Addr(), "")
			mark := b.Mark()
			c := dial(t, addr)
			c.SetDeadline(time.Now().Add(4 * lab.Patience))
			up := make(chan string, 1)
			hello := lab.Hello("a.test")
			go func() {
				h := sha256.New()
				w := io.MultiWriter(c, h)
				w.Write(hello)
				io.CopyN(w, lab.Pattern(1), size)
				c.CloseWrite()
				up <- fmt.Sprintf("%d %x", size+int64(len(hello)), h.Sum(nil))
			}()
			var source io.Reader = c
			if slowReader {
				source = &pausing{r: c, pauses: 40}
			}
			sum, n := digest(source)
			if got, want := fmt.Sprintf("%d %x", n, sum), <-sent; got != want {
				t.Errorf("the client received %s, sent was %s", got, want)
			}
			if got, want := <-received, <-up; got != want {
				t.Errorf("the backend received %s, sent was %s", got, want)
			}
			r := b.waitRecord(mark, record{"outcome": "ok"})
			if got, want := r["bytes_out"], fmt.Sprint(size); got != want {
				t.Errorf("got bytes_out %s, want %s", got, want)
			}
			if got, want := r["bytes_in"], fmt.Sprint(size+int64(len(hello))); got != want {
				t.Errorf("got bytes_in %s, want %s", got, want)
			}
		})
	}
}

func digest(r io.Reader) ([]byte, int64) {
	h := sha256.New()
	n, _ := io.CopyBuffer(struct{ hash.Hash }{h}, struct{ io.Reader }{r}, make([]byte, 256<<10))
	return h.Sum(nil), n
}

// pausing reads 64 KiB and waits, that many times: long enough for every buffer on the way to fill.
type pausing struct {
	r      io.Reader
	pauses int
}

func (p *pausing) Read(b []byte) (int, error) {
	if p.pauses > 0 {
		p.pauses--
		<-time.After(25 * time.Millisecond)
		b = b[:min(len(b), 64<<10)]
	}
	return p.r.Read(b)
}

// TestHalfClose ends the client's direction and waits for the whole answer, in each of the modes.
func TestHalfClose(t *testing.T) {
	const answer = 1_000_000
	tests := []struct {
		name    string
		handler lab.Handler
		size    int64
		config  string
	}{
		{"1,000,000 bytes half a second later", lab.AnswerAfterEnd(answer, 500*time.Millisecond), answer, ""},
		// Three times fin, at 100 KB/s: fin is inactivity, not a total.
		{"100 KB/s for three times fin", lab.Slow(300_000, 100_000), 300_000, "[timeouts]\nfin = \"1s\"\n"},
	}
	for _, tt := range tests {
		t.Run("passthrough, "+tt.name, func(t *testing.T) {
			backend := lab.Serve(t, tt.handler, lab.Options{})
			b, addr := pass(t, backend.Addr(), tt.config)
			mark := b.Mark()
			c := dial(t, addr)
			c.Write(lab.Hello("a.test"))
			c.CloseWrite()
			wantPattern(t, c, tt.size)
			b.waitRecord(mark, record{"outcome": "ok", "bytes_out": fmt.Sprint(tt.size)})
		})
		for _, mode := range []string{"terminate", "re-encrypt"} {
			t.Run(mode+", "+tt.name, func(t *testing.T) {
				e := newEdge(t, tt.handler, mode == "re-encrypt", tt.config)
				c := dialTLS(t, e.addr, e.edge.Client("a.test"))
				c.Write([]byte("a question"))
				c.CloseWrite()
				wantPattern(t, c, tt.size)
			})
		}
	}
}

func wantPattern(t *testing.T, r io.Reader, size int64) {
	t.Helper()
	got, err := io.ReadAll(r)
	want, _ := io.ReadAll(io.LimitReader(lab.Pattern(uint64(size)), size))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %d bytes, error %v; want the %d of the pattern", len(got), err, size)
	}
}

// TestFinTimeout gives a backend that never ends its side fin after the client ended its own, and no more.
func TestFinTimeout(t *testing.T) {
	backend := lab.Serve(t, lab.Mute(), lab.Options{})
	b, addr := pass(t, backend.Addr(), "[timeouts]\nfin = \"1s\"\n")
	mark := b.Mark()
	c := dial(t, addr)
	c.Write(lab.Hello("a.test"))
	c.CloseWrite()
	b.waitRecord(mark, record{"outcome": "fin-timeout"})
	backend.WaitOpen(t, 0)
}

// TestResets resets at every phase; the other side must see a reset, never a clean end.
func TestResets(t *testing.T) {
	hello := lab.Hello("a.test")
	t.Run("by the backend", func(t *testing.T) {
		for name, handler := range map[string]lab.Handler{
			"after the first byte": lab.ResetAfter(1),
			"after the hello":      lab.ResetAfter(int64(len(hello))),
			"after some answer":    lab.ResetAnswering(10_000),
			"after a bulky answer": lab.ResetAnswering(10 << 20),
		} {
			t.Run(name, func(t *testing.T) {
				backend := lab.Serve(t, handler, lab.Options{})
				b, addr := pass(t, backend.Addr(), "")
				mark := b.Mark()
				c := dial(t, addr)
				c.Write(hello)
				_, err := io.Copy(io.Discard, struct{ io.Reader }{c})
				if !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("the client got %v, want a reset", err)
				}
				b.waitRecord(mark, record{"outcome": "backend-reset"})
			})
		}
	})
	t.Run("by the backend at accept", func(t *testing.T) {
		// The reset may come before the connect is seen to have succeeded: then it is a failed dial, which another
		// backend would make up for, and the client is told by an alert.
		backend := lab.Serve(t, lab.ResetAfter(0), lab.Options{})
		b, addr := pass(t, backend.Addr(), "")
		mark := b.Mark()
		c := dial(t, addr)
		c.Write(hello)
		want := "backend-reset"
		alert, err := lab.ReadAlert(c)
		if err == nil && alert.Description == 80 {
			want = "dial-failed"
		} else if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the client got %v, %v, want a reset or alert 80", alert, err)
		}
		c.Close()
		b.waitRecord(mark, record{"outcome": want})
	})
	t.Run("by the client", func(t *testing.T) {
		for name, answered := range map[string]bool{"before an answer": false, "after an answer": true} {
			t.Run(name, func(t *testing.T) {
				seen := make(chan error, 1)
				heard := make(chan struct{}, 1)
				backend := lab.Serve(t, func(c *lab.Conn) {
					got := make([]byte, len(hello))
					_, err := io.ReadFull(c, got)
					if err == nil && answered {
						_, err = c.Write(got)
					}
					heard <- struct{}{}
					if err == nil {
						_, err = c.Read(got)
					}
					seen <- err
				}, lab.Options{})
				b, addr := pass(t, backend.Addr(), "")
				mark := b.Mark()
				c := dial(t, addr)
				c.Write(hello)
				<-heard
				if answered {
					if _, err := io.ReadFull(c, make([]byte, len(hello))); err != nil {
						t.Fatal(err)
					}
				}
				c.SetLinger(0)
				c.Close()
				if err := <-seen; !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("the backend got %v, want a reset", err)
				}
				b.waitRecord(mark, record{"outcome": "client-reset"})
			})
		}
	})
	t.Run("by the client after its end", func(t *testing.T) {
		backend := lab.Serve(t, lab.Mute(), lab.Options{})
		b, addr := pass(t, backend.Addr(), "")
		mark := b.Mark()
		c := dial(t, addr)
		c.Write(hello)
		backend.WaitAccepted(t, 1)
		c.CloseWrite()
		c.SetLinger(0)
		c.Close()
		backend.WaitOpen(t, 0)
		r := b.waitRecord(mark, record{"sni": "a.test"})
		if r["outcome"] != "client-reset" {
			t.Errorf("got outcome %s, want client-reset", r["outcome"])
		}
	})
	t.Run("before the hello is whole", func(t *testing.T) {
		backend := lab.Serve(t, lab.Echo(), lab.Options{})
		b, addr := pass(t, backend.Addr(), "")
		mark := b.Mark()
		c := dial(t, addr)
		c.Write(hello[:20])
		c.SetLinger(0)
		c.Close()
		r := b.waitRecord(mark, record{"client": c.LocalAddr().String()})
		if r["outcome"] != "client-reset" && r["outcome"] != "no-hello" {
			t.Errorf("got outcome %s, want client-reset or no-hello", r["outcome"])
		}
		if got := backend.Accepted(); got != 0 {
			t.Errorf("%d connections reached the backend, want none", got)
		}
	})
}

// TestFamilies passes sessions over IPv6, dual stack and a Unix socket.
func TestFamilies(t *testing.T) {
	echo6 := lab.Serve(t, lab.Echo(), lab.Options{Addr: "[::1]:0"})
	four := lab.FreeAddr(t)
	both := ":" + port(t, lab.FreeAddr(t))
	b := run(t, fmt.Sprintf("[listeners.four]\naddress = %q\n[listeners.both]\naddress = %q\n", four, both)+
		passthrough("a.test", "a", []string{echo6.Addr()}))
	for name, addr := range map[string]string{
		"IPv4 to IPv6":             four,
		"IPv6 to IPv6":             "[::1]" + both,
		"IPv4 to dual stack to v6": "127.0.0.1" + both,
	} {
		t.Run(name, func(t *testing.T) {
			mark := b.Mark()
			c := dial(t, addr)
			exchangeEcho(t, c, lab.Hello("a.test"))
			c.Close()
			r := b.waitRecord(mark, record{"outcome": "ok"})
			if strings.Contains(r["client"], "ffff") || r["client"] != c.LocalAddr().String() {
				t.Errorf("got client %s, want %s", r["client"], c.LocalAddr())
			}
		})
	}
}
