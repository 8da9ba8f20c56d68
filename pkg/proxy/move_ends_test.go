package proxy_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/proxy"
)

// TestMoveTimeouts moves sessions whose time is running: it ends them where they are then.
func TestMoveTimeouts(t *testing.T) {
	const soon = 200 * time.Millisecond
	hello := lab.Hello("a.test")
	for _, tt := range []struct {
		want   proxy.Outcome
		limit  func(*proxy.State)
		sends  []byte
		closes bool
	}{
		{want: proxy.HelloTimeout, limit: func(s *proxy.State) { s.Timeouts.Hello = soon }, sends: hello[:20]},
		{want: proxy.IdleTimeout, limit: func(s *proxy.State) { s.Routes[0].Idle = soon }, sends: hello},
		{want: proxy.FinTimeout, limit: func(s *proxy.State) { s.Routes[0].Fin = soon }, sends: hello, closes: true},
	} {
		t.Run(tt.want.String(), func(t *testing.T) {
			heard := make(chan struct{})
			b := lab.Serve(t, func(c *lab.Conn) {
				_, _ = io.ReadFull(c, make([]byte, len(hello)))
				if tt.closes {
					_, _ = io.Copy(io.Discard, c)
				}
				close(heard)
				lab.Deaf()(c) // until it is reset
			}, lab.Options{})
			fresh := func() proxy.State {
				s := state(t, route("a.test", b.Addr()))
				tt.limit(&s)
				return s
			}
			h := start(t, fresh())
			s := fresh()
			next, change := h.successor(s, 1)
			c := h.open(tt.sends)
			if tt.closes {
				_ = c.CloseWrite()
			}
			if tt.want == proxy.HelloTimeout {
				h.begun(1)
			} else {
				<-heard
			}
			moved := h.move(next, change, s) // or it has ended before, on a slow machine
			all := [2]*harness{next, h}
			r := all[1-moved].want(tt.want)
			if r.Duration < soon {
				t.Errorf("it ended after %v, want %v at least", r.Duration, soon)
			}
		})
	}
}

// TestMoveReset moves a session whose backend was reset while what it had sent before could
// not be delivered: all of that arrives, and then the reset.
func TestMoveReset(t *testing.T) {
	full := make(chan struct{})
	b := lab.Serve(t, func(c *lab.Conn) {
		go func() { _, _ = io.Copy(struct{ io.Writer }{c}, lab.Pattern(7)) }()
		<-full
		c.Reset()
	}, lab.Options{})
	h, move := moving(t, b.Addr(), func(*proxy.Route) {})
	c := h.open(lab.Hello("a.test"))
	h.full()
	close(full)
	eventually(t, "the reset is noted", func() bool { return strings.Contains(h.p.Dump(), "reset:true") })
	next := move()
	got, err := io.ReadAll(c)
	if !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("behind %d bytes: got %v, want a reset", len(got), err)
	}
	want := make([]byte, len(got))
	_, _ = io.ReadFull(lab.Pattern(7), want)
	if len(got) == 0 || !bytes.Equal(got, want) {
		t.Errorf("got %d bytes, and not those that were sent", len(got))
	}
	if r := next.want(proxy.BackendReset); r.BytesOut < int64(len(got)) {
		t.Errorf("its record counts %d bytes, and %d arrived", r.BytesOut, len(got))
	}
}

// TestResetInFrost has a client reset its connection, and another end its own, while nobody
// looks: both are noticed where the sessions go on, here and there.
func TestResetInFrost(t *testing.T) {
	for _, moves := range []bool{false, true} {
		b := lab.Serve(t, lab.Echo(), lab.Options{})
		fresh := func() proxy.State { return state(t, route("a.test", b.Addr())) }
		h := start(t, fresh())
		s := fresh()
		next, change := h.successor(s, 2)
		hello := lab.Hello("a.test")
		resets, ends := h.open(hello), h.open(hello)
		readFull(t, resets, hello)
		readFull(t, ends, hello)
		f := h.p.Freeze()
		_ = resets.SetLinger(0)
		_ = resets.Close()
		_ = ends.CloseWrite()
		on := h
		if moves {
			a := h.sent(f, s)
			f.Leave()
			next.p.Inherit(a)
			on = next
		} else {
			f.Thaw()
		}
		change.Commit()
		closed(t, ends)
		outcomes := map[proxy.Outcome]int{on.record().Outcome: 1}
		outcomes[on.record().Outcome]++
		if outcomes[proxy.ClientReset] != 1 || outcomes[proxy.OK] != 1 {
			t.Errorf("moves %t: got %v, want one reset and one end", moves, outcomes)
		}
	}
}
