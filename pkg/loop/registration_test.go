package loop_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/pkg/loop"
)

// Two descriptors are ready in one batch; whichever is told first ends the
// other's registration and gives its slot to a third that has no event at all.
func TestEventOfAnEndedRegistrationReachesNoOtherTenant(t *testing.T) {
	leakCheck(t)
	l := newLoop(t)
	a, peerA := pair(t)
	b, peerB := pair(t)
	c, _ := pair(t)
	d, _ := pair(t)
	write(t, peerA, "x")
	write(t, peerB, "x")

	var tokens [2]loop.Token
	told, strange := 0, 0
	quiet := handle(func(loop.Events) { strange++ })
	swap := func(other int) handle {
		return func(loop.Events) {
			told++
			l.Forget(tokens[other])
			l.Forget(tokens[1-other])
			// The slot freed last is the first to be given again: that of this
			// one, then the other's.
			if _, err := l.AddLevel(c, quiet, false); err != nil {
				t.Error(err)
			}
			tenant, err := l.AddLevel(d, quiet, false)
			if err != nil || uint32(tenant) != uint32(tokens[other]) {
				t.Errorf("tenant %x, %v; want the slot of %x", tenant, err, tokens[other])
			}
			l.Stop()
		}
	}
	var err error
	if tokens[0], err = l.AddLevel(a, swap(1), false); err != nil {
		t.Fatal(err)
	}
	if tokens[1], err = l.AddLevel(b, swap(0), false); err != nil {
		t.Fatal(err)
	}
	if err := l.Run(); err != nil {
		t.Fatal(err)
	}
	if told != 1 || strange != 0 {
		t.Errorf("%d handlers told, tenant told %d times; want 1 and 0", told, strange)
	}
}

func TestSlotIsUsedAgainWithAnotherToken(t *testing.T) {
	leakCheck(t)
	l := newLoop(t)
	serve(t, l)
	a, _ := pair(t)
	on(l, func() {
		h := handle(func(loop.Events) {})
		first, err := l.Add(a, h)
		if err != nil {
			t.Error(err)
		}
		l.Remove(first, a)
		second, err := l.Add(a, h)
		if err != nil {
			t.Error(err)
		}
		if uint32(second) != uint32(first) || second == first {
			t.Errorf("tokens %x, then %x: want the same slot and another generation", first, second)
		}
		l.Forget(first) // stale
		l.Remove(first, a)
		if got := l.Registered(); got != 1 {
			t.Errorf("Registered() = %d after a stale Forget and Remove, want 1", got)
		}
		l.Forget(second)
		l.Forget(second)
		l.Forget(loop.NoToken)
		if got := l.Registered(); got != 0 {
			t.Errorf("Registered() = %d, want 0", got)
		}
	})
}

func TestAddOfABadDescriptorLeavesNothing(t *testing.T) {
	leakCheck(t)
	l := newLoop(t)
	serve(t, l)
	on(l, func() {
		if got, err := l.Add(-1, handle(func(loop.Events) {})); got != loop.NoToken || err == nil {
			t.Errorf("Add(-1) = %x, %v; want no token and an error", got, err)
		}
		if got := l.Registered(); got != 0 {
			t.Errorf("Registered() = %d, want 0", got)
		}
	})
}

// A descriptor that is shared goes on living after it was handed over; its
// events must not come here any more.
func TestRemoveEndsEventsOfASharedDescriptor(t *testing.T) {
	leakCheck(t)
	l := newLoop(t)
	serve(t, l)
	a, peer := pair(t)
	shared, err := unix.FcntlInt(uintptr(a), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer loop.Close(shared)
	told := 0
	on(l, func() {
		token, err := l.Add(shared, handle(func(loop.Events) { told++ }))
		if err != nil {
			t.Error(err)
		}
		l.Remove(token, shared)
	})
	write(t, peer, "x")
	turns(l, 3)
	on(l, func() {
		if told != 0 {
			t.Errorf("told %d times after Remove, want 0", told)
		}
	})
}

func TestEdgeTellsOnceLevelTellsUntilRead(t *testing.T) {
	leakCheck(t)
	l := newLoop(t)
	l.Background(1)
	serve(t, l)
	e, peerE := pair(t)
	v, peerV := pair(t)
	edge, level := 0, 0
	on(l, func() {
		if _, err := l.Add(e, handle(func(ev loop.Events) {
			if ev&loop.Readable != 0 {
				edge++
			}
		})); err != nil {
			t.Error(err)
		}
		if _, err := l.AddLevel(v, handle(func(ev loop.Events) {
			if ev != loop.Readable {
				t.Errorf("level events %x, want %x", ev, loop.Readable)
			}
			if level++; level == 5 {
				var b [1]byte
				_, _ = loop.Read(v, b[:])
			}
		}), false); err != nil {
			t.Error(err)
		}
	})
	write(t, peerE, "x")
	write(t, peerV, "x")
	turns(l, 10)
	on(l, func() {
		if edge != 1 || level != 5 {
			t.Errorf("edge told %d times, level %d; want 1 and 5", edge, level)
		}
	})
	write(t, peerE, "x") // unread bytes and all, the next byte is told of
	turns(l, 3)
	on(l, func() {
		if edge != 2 {
			t.Errorf("edge told %d times after another byte, want 2", edge)
		}
	})
}

func TestEventsNameThePeersEnd(t *testing.T) {
	leakCheck(t)
	l := newLoop(t)
	l.Background(1)
	serve(t, l)
	for _, tt := range []struct {
		name string
		act  func(peer int)
		want loop.Events
	}{
		{"FIN", func(peer int) { loop.Shut(peer) }, loop.Readable | loop.PeerShut},
		{"RST", loop.Reset, loop.Readable | loop.PeerShut | loop.Error | loop.Hangup},
		{"urgent", func(peer int) { _ = unix.Sendto(peer, []byte("u"), unix.MSG_OOB, nil) }, loop.Urgent},
	} {
		t.Run(tt.name, func(t *testing.T) {
			client, server := tcpPair(t, "127.0.0.1")
			defer loop.Close(server)
			if tt.name != "RST" {
				defer loop.Close(client)
			}
			seen := make(chan struct{})
			var got loop.Events
			var token loop.Token
			on(l, func() {
				var err error
				token, err = l.Add(server, handle(func(ev loop.Events) {
					was := got
					got |= ev
					if got&tt.want == tt.want && was&tt.want != tt.want {
						close(seen)
					}
				}))
				if err != nil {
					t.Error(err)
				}
			})
			tt.act(client)
			<-seen
			on(l, func() { l.Remove(token, server) })
			if extra := got &^ (tt.want | loop.Readable | loop.Writable); extra != 0 {
				t.Errorf("events %x, want %x", got, tt.want)
			}
		})
	}
}

// A socket that exists once is shared by all loops; each connection is accepted
// once, and a loop that gives the socket up leaves it to the others.
func TestExclusiveListenerOnTwoLoops(t *testing.T) {
	leakCheck(t)
	const each = 100
	a, ok := loop.UnixAddress(t.TempDir() + "/s")
	if !ok {
		t.Fatal("no address")
	}
	ln := listen(t, a)
	loops := [2]*loop.Loop{newLoop(t), newLoop(t)}
	var tokens [2]loop.Token
	accepted := make(chan int, 2*each)
	for i, l := range loops {
		l.Background(1)
		serve(t, l)
		on(l, func() {
			var err error
			tokens[i], err = l.AddLevel(ln, handle(func(loop.Events) {
				if fd, _, errno := loop.Accept(ln); errno == 0 {
					loop.Close(fd)
					accepted <- i
				}
			}), true)
			if err != nil {
				t.Error(err)
			}
		})
	}
	dial := func(only int) {
		for range each {
			fd, errno := a.Socket()
			if errno != 0 {
				t.Fatal(errno)
			}
			if errno := a.Connect(fd); errno != 0 {
				t.Fatalf("Connect: %v", errno)
			}
			if by := <-accepted; only >= 0 && by != only {
				t.Errorf("accepted by loop %d, want %d", by, only)
			}
			loop.Close(fd)
		}
	}
	dial(-1)
	on(loops[0], func() { loops[0].Remove(tokens[0], ln) })
	dial(1)
	on(loops[1], func() {
		if len(accepted) != 0 {
			t.Errorf("%d accepted too many", len(accepted))
		}
		loops[1].Remove(tokens[1], ln)
	})
}
