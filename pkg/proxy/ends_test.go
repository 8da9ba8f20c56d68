package proxy_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/proxy"
)

// TestBackendHalfCloseStillReads is a backend that ends its own side at once:
// what the client sends after that still reaches it.
func TestBackendHalfCloseStillReads(t *testing.T) {
	got := make(chan []byte, 1)
	srv := lab.Serve(t, func(c *lab.Conn) {
		_, _ = io.WriteString(c, "bye")
		_ = c.CloseWrite()
		b, _ := io.ReadAll(c)
		got <- b
	}, lab.Options{})
	h := start(t, state(t, route("a.test", srv.Addr())))
	hello := lab.Hello("a.test")
	c := h.dial()
	h.send(c, hello)
	if b := readAll(t, c); string(b) != "bye" {
		t.Errorf("read %q", b)
	}
	body := bytes.Repeat([]byte("x"), 300_000)
	h.send(c, body)
	_ = c.CloseWrite()
	if b := <-got; !bytes.Equal(b, append(hello, body...)) {
		t.Errorf("the backend got %d bytes after its end, want %d", len(b), len(hello)+len(body))
	}
	if r := h.want(proxy.OK); r.EndedBy != proxy.ByBackend {
		t.Errorf("ended by %v, want the backend", r.EndedBy)
	}
}

// TestResetDeliversWhatWasSent is a backend that answers and resets, with a
// client that reads slowly: it gets the whole answer, and then the reset.
func TestResetDeliversWhatWasSent(t *testing.T) {
	const size = 300_000
	sent := make(chan struct{})
	srv := lab.Serve(t, func(c *lab.Conn) {
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			return
		}
		// All of it has left for the data plane before the reset drops the rest.
		_, _ = io.CopyN(struct{ io.Writer }{c}, lab.Pattern(1), size)
		eventually(t, "the answer is acknowledged", func() bool {
			l, ok := sideOf(t, c.LocalAddr().String(), c.RemoteAddr().String())
			return ok && l.unsent == 0
		})
		_ = c.Reset()
		close(sent)
	}, lab.Options{})
	h := start(t, state(t, route("a.test", srv.Addr())))
	c := h.dial()
	_ = c.SetReadBuffer(32 << 10)
	h.send(c, lab.Hello("a.test"))
	<-sent
	want, _ := io.ReadAll(io.LimitReader(lab.Pattern(1), size))
	got := make([]byte, size)
	if n, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("read %d bytes, %v; want the %d sent before the reset", n, err, size)
	}
	reset(t, c)
	if r := h.want(proxy.BackendReset); r.BytesOut != size {
		t.Errorf("%d bytes out, want %d", r.BytesOut, size)
	}
}

// TestResets is a reset of either side at each phase of a relay: the other side
// sees a reset, never an end.
func TestResets(t *testing.T) {
	tests := []struct {
		name      string
		clientFin bool
		byClient  bool
	}{
		{name: "client, both ways open", byClient: true},
		{name: "client, after its own end", byClient: true, clientFin: true},
		{name: "backend, both ways open"},
		{name: "backend, after the client's end", clientFin: true},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			ended := make(chan error, 1)
			srv := lab.Serve(t, func(c *lab.Conn) {
				hello := make([]byte, len(lab.Hello("a.test")))
				_, _ = io.ReadFull(c, hello)
				_, _ = io.WriteString(c, "up\n")
				if tc.clientFin {
					if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
						t.Errorf("the backend read %v, want the client's end", err)
					}
					// More than a goodbye, and read by the client before it resets.
					_, _ = io.WriteString(c, strings.Repeat("x", 100)+"seen\n")
				}
				if !tc.byClient {
					_ = c.Reset()
					ended <- nil
					return
				}
				if tc.clientFin { // an end has been read: only writing tells of a reset
					for {
						if _, err := c.Write(make([]byte, 100)); err != nil {
							ended <- err
							return
						}
					}
				}
				_, err := io.Copy(io.Discard, struct{ io.Reader }{c})
				ended <- err
			}, lab.Options{})
			h := start(t, state(t, route("a.test", srv.Addr())))
			c := h.hello("a.test")
			line(t, c)
			if tc.clientFin {
				_ = c.CloseWrite()
				line(t, c)
			}
			if tc.byClient {
				_ = c.SetLinger(0)
				_ = c.Close()
				if err := <-ended; !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EPIPE) {
					t.Errorf("the backend saw %v, want a reset", err)
				}
				if r := h.want(proxy.ClientReset); r.EndedBy != proxy.ByClient {
					t.Errorf("ended by %v", r.EndedBy)
				}
				return
			}
			<-ended
			reset(t, c)
			if r := h.want(proxy.BackendReset); r.EndedBy != proxy.ByBackend {
				t.Errorf("ended by %v", r.EndedBy)
			}
		})
	}
}

func TestIdleTimeout(t *testing.T) {
	srv := lab.Serve(t, lab.Announce("a", nil), lab.Options{})
	r := route("a.test", srv.Addr())
	r.Idle = 100 * time.Millisecond
	h := start(t, state(t, r))
	c := h.hello("a.test")
	line(t, c)
	reset(t, c)
	if rec := h.want(proxy.IdleTimeout); rec.EndedBy != proxy.BySnicket || rec.Duration < r.Idle {
		t.Errorf("ended by %v after %v; want snicket, %v at least", rec.EndedBy, rec.Duration, r.Idle)
	}
	srv.WaitOpen(t, 0)
}

func TestFinTimeout(t *testing.T) {
	srv := lab.Serve(t, lab.Mute(), lab.Options{})
	r := route("a.test", srv.Addr())
	r.Fin = 100 * time.Millisecond
	h := start(t, state(t, r))
	c := h.hello("a.test")
	_ = c.CloseWrite()
	reset(t, c)
	if rec := h.want(proxy.FinTimeout); rec.EndedBy != proxy.BySnicket {
		t.Errorf("ended by %v", rec.EndedBy)
	}
	srv.WaitOpen(t, 0)
}

// TestFinCountsSilence is an answer that trickles for much longer than fin: any
// byte restarts the clock, so it completes.
func TestFinCountsSilence(t *testing.T) {
	const pieces, piece = 20, 100
	gaps := make(chan time.Duration, 1) // the longest between two pieces, of each answer
	srv := lab.Serve(t, func(c *lab.Conn) {
		if _, err := io.Copy(io.Discard, c); err != nil {
			return
		}
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		longest, before := time.Duration(0), time.Now()
		for range pieces {
			<-tick.C
			_, err := c.Write(make([]byte, piece))
			longest = max(longest, time.Since(before))
			if err != nil {
				break
			}
			before = time.Now()
		}
		c.CloseWrite()
		gaps <- longest
	}, lab.Options{})
	r := route("a.test", srv.Addr())
	r.Fin = 500 * time.Millisecond
	h := start(t, state(t, r))
	for late := time.After(lab.Patience); ; {
		c := h.hello("a.test")
		_ = c.CloseWrite()
		n, err := io.Copy(io.Discard, c)
		rec := h.record()
		if gap := <-gaps; gap >= r.Fin { // the machine stood still: that was no trickle
			select {
			case <-late:
				t.Fatalf("no answer without a pause of %v", r.Fin)
			default:
				continue
			}
		}
		if n != pieces*piece || err != nil || rec.Outcome != proxy.OK {
			t.Errorf("%d bytes of answer, %v, outcome %v; want %d, and ok", n, err, rec.Outcome, pieces*piece)
		}
		if rec.Duration < 3*r.Fin {
			t.Errorf("the answer took %v, too little to say anything about a fin of %v", rec.Duration, r.Fin)
		}
		return
	}
}

func TestHelloTimeout(t *testing.T) {
	s := state(t, route("a.test"))
	s.Timeouts.Hello = 100 * time.Millisecond
	h := start(t, s)
	c := h.dial()
	h.send(c, lab.Hello("a.test")[:20])
	closed(t, c)
	if r := h.want(proxy.HelloTimeout); r.EndedBy != proxy.BySnicket || !r.Bytes || r.Hello >= 0 {
		t.Errorf("ended by %v, bytes %v, hello %v", r.EndedBy, r.Bytes, r.Hello)
	}
}

// TestKeepaliveIsArmed looks at the timers of both sockets of an idle session.
func TestKeepaliveIsArmed(t *testing.T) {
	for _, want := range []string{"02", "00"} {
		srv := lab.Serve(t, lab.Announce("a", nil), lab.Options{})
		s := state(t, route("a.test", srv.Addr()))
		if want == "00" {
			s.Timeouts.Keepalive = 0
		}
		h := start(t, s)
		c := h.hello("a.test")
		line(t, c)
		for side, is := range map[string]func() (sockLine, bool){
			"client":  func() (sockLine, bool) { return sideOf(t, h.addr, c.LocalAddr().String()) },
			"backend": func() (sockLine, bool) { return sideOf(t, "", srv.Addr()) },
		} {
			eventually(t, side+" timer "+want, func() bool {
				l, ok := is()
				return ok && l.timer == want
			})
		}
		_ = c.CloseWrite()
		closed(t, c)
	}
}

func TestUnixSockets(t *testing.T) {
	path := filepath.Join(t.TempDir(), "listen")
	srv := lab.Serve(t, lab.Announce("a", nil), lab.Options{})
	s := state(t, route("a.test", srv.Addr()))
	s.Listeners = append(s.Listeners, unixListener(t, "unix", path))
	s.Routes[0].Listeners = append(s.Routes[0].Listeners, "unix")
	// A socket file that nobody listens on is replaced.
	stale(t, path)
	h := start(t, s)
	for range 20 { // both loops share the one socket
		c := dialUnix(t, path)
		h.send(c, lab.Hello("a.test"))
		if got := line(t, c); got != "a" {
			t.Errorf("read %q", got)
		}
		_ = c.Close()
		if r := h.record(); r.Listener != "unix" || r.Client.IsValid() {
			t.Errorf("record of listener %q, client %v; want unix, none", r.Listener, r.Client)
		}
	}
	s.Listeners = s.Listeners[:1]
	h.apply(s)
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket file outlives its listener: %v", err)
	}
}
