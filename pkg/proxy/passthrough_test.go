package proxy_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/proxy"
)

func TestPassthroughIsByteExact(t *testing.T) {
	echo := lab.Serve(t, lab.Echo(), lab.Options{})
	h := start(t, state(t, route("a.test", echo.Addr())))
	hello := lab.Hello("a.test", "h2")
	c := h.dial()
	h.send(c, hello)
	h.send(c, []byte("and more"))
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	want := append(hello, "and more"...)
	if got := readAll(t, c); !bytes.Equal(got, want) {
		t.Errorf("the backend got %d bytes, want the client's %d", len(got), len(want))
	}
	r := h.want(proxy.OK)
	if r.SNI != "a.test" || r.ALPN != "h2" || r.Route != "a.test" || r.Backend != echo.Addr() {
		t.Errorf("record: sni %q alpn %q route %q backend %q", r.SNI, r.ALPN, r.Route, r.Backend)
	}
	if r.BytesIn != int64(len(want)) || r.BytesOut != int64(len(want)) {
		t.Errorf("%d bytes in, %d out, want %d both", r.BytesIn, r.BytesOut, len(want))
	}
	if r.EndedBy != proxy.ByClient {
		t.Errorf("ended by %q, want the client", r.EndedBy)
	}
}

func TestHalfCloseKeepsTheAnswer(t *testing.T) {
	const size = 1_000_000
	srv := lab.Serve(t, lab.AnswerAfterEnd(size, 0), lab.Options{})
	h := start(t, state(t, route("a.test", srv.Addr())))
	c := h.hello("a.test")
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	want, _ := io.ReadAll(io.LimitReader(lab.Pattern(size), size))
	if got := readAll(t, c); !bytes.Equal(got, want) {
		t.Errorf("%d bytes of answer, want %d", len(got), len(want))
	}
	h.want(proxy.OK)
}

func TestBackendResetReachesTheClient(t *testing.T) {
	const size = 300_000
	srv := lab.Serve(t, lab.ResetAnswering(size), lab.Options{})
	h := start(t, state(t, route("a.test", srv.Addr())))
	c := h.hello("a.test")
	_, err := io.Copy(io.Discard, c)
	if !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the client read %v, want a reset", err)
	}
	if r := h.want(proxy.BackendReset); r.EndedBy != proxy.ByBackend {
		t.Errorf("ended by %q, want the backend", r.EndedBy)
	}
}

func TestClientResetReachesTheBackend(t *testing.T) {
	rec := lab.NewRecorder()
	srv := lab.Serve(t, lab.Announce("a", rec), lab.Options{})
	h := start(t, state(t, route("a.test", srv.Addr())))
	c := h.hello("a.test")
	if _, err := io.ReadFull(c, make([]byte, 2)); err != nil {
		t.Fatal(err)
	}
	_ = c.SetLinger(0)
	_ = c.Close()
	h.want(proxy.ClientReset)
}

func TestDeadBackendsAreNotNoticed(t *testing.T) {
	echo := lab.Serve(t, lab.Announce("alive", nil), lab.Options{})
	dead1, dead2 := lab.FreeAddr(t), lab.FreeAddr(t)
	h := start(t, state(t, route("a.test", dead1, dead2, echo.Addr())))
	retries := 0
	for range 12 {
		c := h.hello("a.test")
		if got := make([]byte, 6); true {
			if _, err := io.ReadFull(c, got); err != nil || string(got) != "alive\n" {
				t.Fatalf("read %q, %v", got, err)
			}
		}
		_ = c.Close()
		retries += h.record().Retries
	}
	if retries == 0 {
		t.Error("no session was retried: the dead backends were never tried")
	}
}

// A server that closes first often answers the client's close_notify, which
// comes behind its end, with a reset.
func TestLateBytesForABackendThatEndedAreNoFault(t *testing.T) {
	srv := lab.Serve(t, func(c *lab.Conn) { // answers once and is gone
		_, _ = c.Read(make([]byte, 16<<10))
		_, _ = c.Write([]byte("done"))
	}, lab.Options{})
	h := start(t, state(t, route("a.test", srv.Addr())))
	c := h.hello("a.test")
	if got := readAll(t, c); string(got) != "done" {
		t.Fatalf("read %q", got)
	}
	h.send(c, []byte("close_notify"))
	r := h.want(proxy.OK)
	if r.EndedBy != proxy.ByBackend || r.Error == "" {
		t.Errorf("ended by %q, error %q; want the backend, and why", r.EndedBy, r.Error)
	}
	// A read behind the end only says the end again. Linux tells a reset of a
	// connection whose end was read by EPIPE; had it only been closed, the first
	// write would pass.
	if _, err := c.Write([]byte("x")); !errors.Is(err, unix.EPIPE) {
		t.Errorf("the client wrote with %v, want the reset", err)
	}
}

// A client that closes first is gone when the backend's close_notify comes.
func TestGoodbyeForAClientThatEndedIsNoFault(t *testing.T) {
	tests := map[string]struct {
		late int // bytes the backend sends after the client's end
		want proxy.Outcome
	}{
		"goodbye": {31, proxy.OK},
		"answer":  {10_000, proxy.ClientReset},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			gone := make(chan struct{})
			srv := lab.Serve(t, func(c *lab.Conn) {
				_, _ = io.Copy(io.Discard, c)
				<-gone
				_, _ = c.Write(make([]byte, tt.late))
				// Read on: the backend is to see the reset.
				if _, err := c.TCP().Read(make([]byte, 1)); err == nil {
					t.Error("the backend read a byte")
				}
			}, lab.Options{})
			h := start(t, state(t, route("a.test", srv.Addr())))
			c := h.hello("a.test")
			_ = c.Close()
			close(gone)
			r := h.want(tt.want)
			if r.EndedBy != proxy.ByClient || r.Error == "" {
				t.Errorf("ended by %q, error %q; want the client, and why", r.EndedBy, r.Error)
			}
		})
	}
}
