package proxy_test

import (
	"io"
	"log/slog"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/snicketlb/snicket/balancer"
	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/proxy"
)

// TestMoveQueued moves sessions that wait for a backend with room. They wait on, in their
// order and for no longer: the place that they wait for is taken by one that has moved too.
func TestMoveQueued(t *testing.T) {
	live := lab.Serve(t, lab.Echo(), lab.Options{})
	fresh := func() proxy.State { return state(t, limited("a.test", 4, time.Hour, live.Addr())) }
	s := fresh()
	h := start(t, s)
	hello := lab.Hello("a.test")
	conns := []*net.TCPConn{h.open(hello)}
	readFull(t, conns[0], hello)
	for n := range 3 {
		conns = append(conns, h.open(hello))
		waits(t, s.Routes[0], n+1)
	}
	queued := time.Now()
	h.p.Freeze().Thaw() // which leaves them where they are
	waits(t, s.Routes[0], 3)
	then := fresh()
	next, change := h.successor(then, 1)
	waited := time.Since(queued)
	if moved := h.move(next, change, then); moved != 4 {
		t.Errorf("%d sessions moved, want 4", moved)
	}
	waits(t, s.Routes[0], 0)
	waits(t, then.Routes[0], 3)
	for i, c := range conns {
		if i > 0 {
			readFull(t, c, hello)
		}
		waits(t, then.Routes[0], 3-i)
		if got := then.Routes[0].Pool.Balancer.Backends()[0].Active(); got != 1 {
			t.Errorf("with %d ended the backend has %d sessions, want 1", i, got)
		}
		_ = c.CloseWrite()
		closed(t, c)
		if r := next.want(proxy.OK); r.Client.String() != c.LocalAddr().String() || i > 0 && r.Queue < waited {
			t.Errorf("session %d: that of %v waited %v, want that of %v and %v at least", i, r.Client, r.Queue, c.LocalAddr(), waited)
		}
	}
}

// TestMoveWaited moves a session that waits to where there is room: its record has the wait.
func TestMoveWaited(t *testing.T) {
	live := lab.Serve(t, lab.Echo(), lab.Options{})
	s := state(t, limited("a.test", 1, time.Hour, live.Addr()))
	h := start(t, s)
	hello := lab.Hello("a.test")
	readFull(t, h.open(hello), hello)
	c := h.open(hello)
	waits(t, s.Routes[0], 1)
	then := state(t, route("a.test", live.Addr()))
	queued := time.Now()
	next, change := h.successor(then, 1)
	waited := time.Since(queued)
	h.move(next, change, then)
	readFull(t, c, hello)
	_ = c.CloseWrite()
	closed(t, c)
	if r := next.want(proxy.OK); r.Queue < waited {
		t.Errorf("it waited %v, want %v at least", r.Queue, waited)
	}
}

// TestMoveServedInFrost gives a place to a session that stands still in the queue: it has
// it once all goes on, and gives it back if it has moved by then.
func TestMoveServedInFrost(t *testing.T) {
	for _, moves := range []bool{false, true} {
		live := lab.Serve(t, lab.Echo(), lab.Options{})
		r := limited("a.test", 1, time.Hour, live.Addr())
		s := state(t, r)
		h := start(t, s)
		b, err := r.Pool.Balancer.Acquire(balancer.Pick{})
		if err != nil {
			t.Fatal(err)
		}
		hello := lab.Hello("a.test")
		c := h.open(hello)
		waits(t, r, 1)
		f := h.p.Freeze()
		r.Pool.Balancer.Release(b, balancer.Result{})
		waits(t, r, 0)
		if !moves {
			f.Thaw()
			readFull(t, c, hello)
			_ = c.CloseWrite()
			closed(t, c)
			h.want(proxy.OK)
		} else {
			f.Leave()
		}
		if got := r.Pool.Balancer.Backends()[0].Active(); got != 0 {
			t.Errorf("moves %t: the backend has %d sessions, want none", moves, got)
		}
	}
}

// TestMoveCountsFirst connects while nobody accepts: by the time that the new process does,
// all that has moved counts against the limits.
func TestMoveCountsFirst(t *testing.T) {
	live := lab.Serve(t, lab.Echo(), lab.Options{})
	fresh := func() proxy.State {
		s := state(t, limited("a.test", 0, 0, live.Addr()), route("b.test", live.Addr()))
		s.Routes[1].MaxConnections = 1
		s.Limits.PerIPConnections = 5
		return s
	}
	s := fresh()
	h := start(t, s)
	var kept []*net.TCPConn
	for _, name := range []string{"a.test", "b.test"} {
		hello := lab.Hello(name)
		c := h.open(hello)
		readFull(t, c, hello)
		kept = append(kept, c)
	}
	kept = append(kept, h.dial()) // with no hello yet
	h.begun(3)
	then := fresh()
	next, change := h.successor(then, 2)
	f := h.p.Freeze()
	var waiting []*net.TCPConn
	for range 4 {
		waiting = append(waiting, h.hello("a.test"), h.hello("b.test"))
	}
	a := h.sent(f, then)
	f.Leave()
	next.p.Inherit(a)
	change.Commit()
	for _, c := range waiting { // by an alert, or by a reset
		_, _ = io.Copy(io.Discard, c)
		_ = c.Close()
	}
	for range waiting {
		if r := next.record(); r.Outcome != proxy.NoBackend && r.Outcome != proxy.OverLimit {
			t.Errorf("a session above the limits: got %v", r.Outcome)
		}
	}
	for i, name := range []string{"a.test", "b.test"} {
		next.send(kept[i], []byte("here"))
		readFull(t, kept[i], []byte("here"))
		if got := then.Routes[i].Pool.Balancer.Backends()[0].Active(); got != 1 {
			t.Errorf("%s: its backend has %d sessions, want 1", name, got)
		}
	}
}

// TestMoveGoneListener moves sessions of a listener that stays and of one that is no more:
// that one's have the drain timeout.
func TestMoveGoneListener(t *testing.T) {
	live := lab.Serve(t, lab.Echo(), lab.Options{})
	fresh := func() proxy.State {
		s := state(t, route("a.test", live.Addr()))
		s.Timeouts.Drain = 50 * time.Millisecond
		s.Routes[0].Listeners = []string{"https", "second"}
		return s
	}
	s := fresh()
	s.Listeners = append(s.Listeners, listener("second", "127.0.0.2:0"))
	h := start(t, s)
	hello := lab.Hello("a.test")
	stays := h.open(hello)
	readFull(t, stays, hello)
	goes, err := net.Dial("tcp", h.p.Bound()[1].Address)
	if err != nil {
		t.Fatal(err)
	}
	defer goes.Close()
	_ = goes.SetDeadline(time.Now().Add(lab.Patience))
	h.send(goes, hello)
	readFull(t, goes, hello)
	then := fresh()
	next, change := h.successor(then, 2)
	h.move(next, change, then)
	if r := next.want(proxy.Drained); r.Listener != "second" {
		t.Errorf("the session of %s was drained, want that of the second listener", r.Listener)
	}
	reset(t, goes)
	next.send(stays, []byte("here"))
	readFull(t, stays, []byte("here"))
}

// TestMoveGoneRoute moves a session whose route is no more, and whose pool is there: it
// stays in that, for as long as it likes.
func TestMoveGoneRoute(t *testing.T) {
	live := lab.Serve(t, lab.Echo(), lab.Options{})
	h := start(t, state(t, route("a.test", live.Addr())))
	hello := lab.Hello("a.test")
	c := h.open(hello)
	readFull(t, c, hello)
	other := route("b.test", live.Addr())
	other.Pool.Name = "a.test"
	s := state(t, other)
	s.Timeouts.Drain = time.Nanosecond
	next, change := h.successor(s, 1)
	h.move(next, change, s)
	if got := other.Pool.Balancer.Backends()[0].Active(); got != 1 {
		t.Errorf("the backend has %d sessions, want 1", got)
	}
	next.send(c, []byte("here"))
	readFull(t, c, []byte("here"))
	_ = c.CloseWrite()
	closed(t, c)
	if r := next.want(proxy.OK); r.Route != "a.test" || r.Pool != "a.test" {
		t.Errorf("its record names route %q and pool %q", r.Route, r.Pool)
	}
}

// TestReclaim takes back what a process had that has ended: sessions are reset, and new
// ones are served as before.
func TestReclaim(t *testing.T) {
	live := lab.Serve(t, lab.Echo(), lab.Options{})
	s := state(t, limited("a.test", 1, time.Hour, live.Addr()))
	h := start(t, s)
	hello := lab.Hello("a.test")
	relayed := h.open(hello)
	readFull(t, relayed, hello)
	queued := h.open(hello)
	waits(t, s.Routes[0], 1)
	silent := h.dial()
	h.begun(3)
	f := h.p.Freeze()
	lost := h.sent(f, s)
	h.send(relayed, []byte("which one read that?"))
	proxy.CloseAll(lost.Sessions)
	f.Reclaim()
	for _, c := range []*net.TCPConn{relayed, queued, silent} {
		reset(t, c)
		if r := h.want(proxy.Internal); r.Error != "the process that it was moved to has ended" {
			t.Errorf("its record says %q", r.Error)
		}
	}
	c := h.open(hello)
	readFull(t, c, hello)
}

// TestMoveIDs has a process with fewer loops between two with more: no id is given twice.
func TestMoveIDs(t *testing.T) {
	given := []proxy.SessionID{7<<48 | 5, 7<<48 | 1<<40 | 3, 7<<48 | 2<<40 | 900, 7<<48 | 3<<40 | 2}
	want := given
	for _, loops := range []int{1, 4, 5} {
		p := newHarness(t, proxy.Options{Loops: loops, Log: slog.New(slog.DiscardHandler)})
		p.run()
		change, err := p.p.Prepare(state(t))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.p.Sessions(t.Context(), proxy.SessionFilter{}); err != nil { // answered once it runs
			t.Fatal(err)
		}
		p.p.Inherit(&proxy.Arrival{Heritage: proxy.Heritage{Next: given}})
		change.Commit()
		f := p.p.Freeze()
		given = f.Heritage.Next
		f.Thaw()
		if loops == 5 {
			want = append(slices.Clone(want), 7<<48|4<<40|900)
		}
		if !slices.Equal(given, want) {
			t.Errorf("%d loops: got %x, want %x", loops, given, want)
		}
	}
}
