package lab

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// Echo answers every byte with itself, and the end of the input with its own.
func Echo() Handler {
	return func(c *Conn) {
		// Not io.Copy on the TCP connection: splice would hold pipes, which the leak check of a test counts.
		if _, err := io.Copy(writerOnly{c}, readerOnly{c}); err != nil {
			return
		}
		c.CloseWrite()
	}
}

// Mute reads and discards, and never answers, not even the end of the input; it holds the connection until it fails.
// Under TLS it does not even shake hands: the accepted connection stays silent.
func Mute() Handler {
	return func(c *Conn) {
		io.Copy(io.Discard, readerOnly{c.tcp})
		c.waitGone()
	}
}

// Deaf accepts and never reads: the peer's bytes fill the socket's buffers and stay there.
func Deaf() Handler {
	return func(c *Conn) { c.waitGone() }
}

// ResetAfter reads n bytes, or the end of the input, and answers with RST; n 0 resets at accept.
func ResetAfter(n int64) Handler {
	return func(c *Conn) {
		if n > 0 {
			io.CopyN(io.Discard, c, n)
		}
		c.Reset()
	}
}

// ResetAnswering answers n bytes of [Pattern] after the first byte of the input, and then RST.
func ResetAnswering(n int64) Handler {
	return func(c *Conn) {
		var b [1]byte
		if _, err := io.ReadFull(c, b[:]); err != nil {
			return
		}
		io.CopyN(writerOnly{c}, Pattern(1), n)
		c.Reset()
	}
}

// AnswerAfterEnd reads to the end of the input, waits for delay and answers n bytes of [Pattern] with seed n: the
// answer that relays lose which end both directions when one ends.
func AnswerAfterEnd(n int64, delay time.Duration) Handler {
	return func(c *Conn) {
		if _, err := io.Copy(io.Discard, readerOnly{c}); err != nil {
			return
		}
		<-time.After(delay)
		if _, err := io.CopyN(writerOnly{c}, Pattern(uint64(n)), n); err == nil {
			c.CloseWrite()
		}
	}
}

// Slow reads to the end of the input, then answers n bytes of [Pattern] with seed n at rate bytes a second, in ten
// pieces a second.
func Slow(n, rate int64) Handler {
	return func(c *Conn) {
		if _, err := io.Copy(io.Discard, readerOnly{c}); err != nil {
			return
		}
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for src := io.LimitReader(Pattern(uint64(n)), n); ; <-tick.C {
			sent, err := io.CopyN(writerOnly{c}, src, max(1, rate/10))
			if errors.Is(err, io.EOF) || err == nil && sent == 0 {
				c.CloseWrite()
				return
			}
			if err != nil {
				return
			}
		}
	}
}

// Flood writes as fast as the peer takes it, from the first byte of the input on, and reads nothing more.
func Flood() Handler {
	return func(c *Conn) {
		var b [1]byte
		if _, err := io.ReadFull(c, b[:]); err != nil {
			return
		}
		io.Copy(writerOnly{c}, Pattern(0))
	}
}

// Digest reads to the end of the input and answers one line, "BYTES SHA256\n", with the count and the sum of what it
// read.
func Digest() Handler {
	return func(c *Conn) {
		h := sha256.New()
		n, err := io.Copy(h, readerOnly{c})
		if err != nil {
			return
		}
		fmt.Fprintf(c, "%d %s\n", n, hex.EncodeToString(h.Sum(nil)))
		c.CloseWrite()
	}
}

// Recorder keeps what the connections of one [Announce] handler received. Its methods may be called from any
// goroutine.
type Recorder struct {
	mu      sync.Mutex // mu guards the fields below
	changed *sync.Cond
	heard   [][]byte // by connection, in the order of their first byte
}

// NewRecorder returns an empty recorder.
func NewRecorder() *Recorder {
	r := &Recorder{}
	r.changed = sync.NewCond(&r.mu)
	return r
}

// Heard returns a copy of what the connection of that index has received so far, by the order of first bytes, and nil
// when there is none.
func (r *Recorder) Heard(index int) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	if index >= len(r.heard) {
		return nil
	}
	return append([]byte{}, r.heard[index]...)
}

// Count returns how many connections have sent at least one byte.
func (r *Recorder) Count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.heard)
}

// Wait waits until the connection of that index has received at least n bytes and returns a copy of all it has.
func (r *Recorder) Wait(t testing.TB, index, n int) []byte {
	t.Helper()
	late := false
	timer := time.AfterFunc(Patience, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		late = true
		r.changed.Broadcast()
	})
	defer timer.Stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	for (index >= len(r.heard) || len(r.heard[index]) < n) && !late {
		r.changed.Wait()
	}
	if late {
		t.Fatalf("recorder: connection %d of %d did not receive %d bytes", index, len(r.heard), n)
	}
	return append([]byte{}, r.heard[index]...)
}

func (r *Recorder) start(b []byte) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heard = append(r.heard, append([]byte{}, b...))
	r.changed.Broadcast()
	return len(r.heard) - 1
}

func (r *Recorder) more(index int, b []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heard[index] = append(r.heard[index], b...)
	r.changed.Broadcast()
}

// Announce answers the first byte of the input with name and a newline, and keeps all of the input in r, which may be
// nil: the client learns which backend it reached, the test what that backend was sent. It closes when the input ends.
func Announce(name string, r *Recorder) Handler {
	return func(c *Conn) {
		buf := make([]byte, 64<<10)
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		index := 0
		if r != nil {
			index = r.start(buf[:n])
		}
		if _, err := io.WriteString(c, name+"\n"); err != nil {
			return
		}
		for {
			n, err := c.Read(buf)
			if r != nil && n > 0 {
				r.more(index, buf[:n])
			}
			if err != nil {
				c.CloseWrite()
				return
			}
		}
	}
}

// Pattern returns an endless stream of bytes, the same for the same seed, that no relay can guess or compress. It is
// for one goroutine.
func Pattern(seed uint64) io.Reader {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	return rand.NewChaCha8(key)
}

type readerOnly struct{ io.Reader }

type writerOnly struct{ io.Writer }
