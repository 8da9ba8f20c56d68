package relay_test

import (
	"bytes"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/pkg/loop"
	"github.com/snicketlb/snicket/pkg/relay"
)

// A desk drives a relay by hand, one step at a time: the order of events and
// reads is the test's.
type desk struct {
	t     *testing.T
	env   *relay.Env
	relay relay.Relay
	peers [2]peer
	fds   [2]int
}

func newDesk(t *testing.T, network string, buffer int) *desk {
	t.Helper()
	leakCheck(t)
	d := &desk{t: t, env: relay.NewEnv(2)}
	for i := range d.fds {
		d.peers[i], d.fds[i] = connect(t, network, buffer)
	}
	d.relay.Start(d.env, d.fds[0], d.fds[1], nil, 0)
	t.Cleanup(func() {
		d.relay.Close(d.env)
		if got := d.env.Caught(); got != 0 {
			t.Errorf("Caught() = %d at the end, want 0", got)
		}
		d.env.Close()
		loop.Close(d.fds[0])
		loop.Close(d.fds[1])
	})
	return d
}

// pump pumps until nothing is left to do without an event.
func (d *desk) pump() relay.Status {
	d.t.Helper()
	return settle(d.t, &d.relay, d.env)
}

const (
	whenReset = loop.Readable | loop.Writable | loop.PeerShut | loop.Error | loop.Hangup
	whenEnded = loop.Readable | loop.PeerShut
)

var sides = map[relay.Side]string{relay.Client: "client", relay.Backend: "backend"}

// A side is reset: what it had sent is delivered, its error is reported once and
// the session is Cut, whether the event or a read meets the reset first.
func TestResetAtEachPhase(t *testing.T) {
	sent := pattern(3*relay.ChunkSize + 100)
	for _, tt := range []struct {
		phase  string
		before func(*desk, relay.Side)
		queued []byte // sent right before the reset
		errno  unix.Errno
	}{
		{"before data", func(*desk, relay.Side) {}, nil, unix.ECONNRESET},
		{"with data in the queue", func(*desk, relay.Side) {}, sent, unix.ECONNRESET},
		{"mid-stream", func(d *desk, s relay.Side) {
			d.peers[s].send(sent[:100])
			await(d.t, d.fds[s], unix.POLLIN)
			d.relay.Note(s, loop.Readable)
			d.pump()
			if got := d.peers[s^1].receive(100); !bytes.Equal(got, sent[:100]) {
				d.t.Error("wrong bytes")
			}
		}, sent, unix.ECONNRESET},
		{"after its FIN", func(d *desk, s relay.Side) {
			d.peers[s].end()
			await(d.t, d.fds[s], unix.POLLRDHUP)
			d.relay.Note(s, whenEnded)
			if got := d.pump(); got != relay.Waiting {
				d.t.Errorf("Pump = %d after a FIN, want Waiting", got)
			}
		}, nil, unix.EPIPE},
		{"after the other's FIN", func(d *desk, s relay.Side) {
			d.peers[s^1].end()
			await(d.t, d.fds[s^1], unix.POLLRDHUP)
			d.relay.Note(s^1, whenEnded)
			d.pump()
			if _, err := d.peers[s].rest(); err != nil {
				d.t.Error(err)
			}
		}, sent, unix.ECONNRESET},
	} {
		for side, name := range sides {
			for _, eventFirst := range []bool{true, false} {
				for _, network := range []string{"tcp4", "tcp6"} {
					t.Run(fmt.Sprintf("%s/%s/%s/event first %t", tt.phase, name, network, eventFirst), func(t *testing.T) {
						d := newDesk(t, network, 0)
						if got := d.pump(); got != relay.Waiting {
							t.Fatalf("Pump = %d at first, want Waiting", got)
						}
						tt.before(d, side)
						if len(tt.queued) > 0 {
							d.peers[side].send(tt.queued)
						}
						d.peers[side].reset()
						await(t, d.fds[side], unix.POLLHUP)
						checkCut(t, d, side, tt.errno, tt.queued, eventFirst, tt.errno == unix.EPIPE)
					})
				}
			}
		}
	}
}

// checkCut has the relay meet the reset that waits on side, which had ended its
// way before if ended is true.
func checkCut(t *testing.T, d *desk, side relay.Side, errno unix.Errno, queued []byte, eventFirst, ended bool) {
	t.Helper()
	if eventFirst {
		d.relay.Note(side, whenReset)
	} else {
		// The bytes had their event; the reset came after it was fetched.
		d.relay.Note(side, loop.Readable)
		if d.pump() != relay.Cut {
			d.relay.Note(side, whenReset)
		}
	}
	if got := d.pump(); got != relay.Cut {
		t.Errorf("Pump = %d, want Cut", got)
	}
	if s, got, broken := d.relay.Broken(); s != side || got != errno || !broken {
		t.Errorf("Broken() = %s, %v, %t; want %s, %v", sides[s], got, broken, sides[side], errno)
	}
	if got := loop.PendingError(d.fds[side]); got != 0 {
		t.Errorf("error %v reported again", got)
	}
	if !d.relay.HalfEnded() {
		t.Error("HalfEnded() = false")
	}
	if len(queued) > 0 {
		if got := d.peers[side^1].receive(len(queued)); !bytes.Equal(got, queued) {
			t.Error("what was sent before the reset was not delivered")
		}
	}
	if got := finSent(t, d.fds[side^1]); got != ended {
		t.Errorf("FIN passed on: %t, want %t: a reset is no end", got, ended)
	}
}

// finSent reports whether a TCP socket has sent a FIN.
func finSent(t *testing.T, fd int) bool {
	t.Helper()
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		t.Fatal(err)
	}
	switch info.State {
	case unix.BPF_TCP_FIN_WAIT1, unix.BPF_TCP_FIN_WAIT2, unix.BPF_TCP_LAST_ACK, unix.BPF_TCP_CLOSING, unix.BPF_TCP_TIME_WAIT:
		return true
	}
	return false
}

// Both sides are reset before the relay hears of either: each queue is dropped,
// as nobody is left to take it, and the first one heard of counts.
func TestResetOfBothSides(t *testing.T) {
	for first, name := range sides {
		t.Run(name+" first", func(t *testing.T) {
			d := newDesk(t, "tcp4", 0)
			d.pump()
			for side := range d.fds {
				d.peers[side].send(pattern(100))
				d.peers[side].reset()
				await(t, d.fds[side], unix.POLLHUP)
			}
			d.relay.Note(first, whenReset)
			d.relay.Note(first^1, whenReset)
			if got := d.pump(); got != relay.Cut {
				t.Errorf("Pump = %d, want Cut", got)
			}
			if s, errno, broken := d.relay.Broken(); s != first || errno != unix.ECONNRESET || !broken {
				t.Errorf("Broken() = %d, %v, %t; want %d, ECONNRESET", s, errno, broken, first)
			}
		})
	}
}

// A reset that a write meets first, its event still to come: what the reset side
// had sent is delivered, and nothing waits for the event.
func TestResetMetByAWrite(t *testing.T) {
	for side, name := range sides {
		for _, n := range []int{100, 10 * relay.ChunkSize} {
			t.Run(fmt.Sprintf("%s/%d bytes", name, n), func(t *testing.T) {
				d := newDesk(t, "tcp4", 0)
				d.pump()
				d.peers[side].send([]byte("last words"))
				d.peers[side].reset()
				await(t, d.fds[side], unix.POLLHUP)
				d.peers[side^1].send(pattern(n))
				await(t, d.fds[side^1], unix.POLLIN)
				d.relay.Note(side^1, loop.Readable)
				if got := d.pump(); got != relay.Cut {
					t.Errorf("Pump = %d, want Cut", got)
				}
				if got := d.peers[side^1].receive(10); string(got) != "last words" {
					t.Errorf("got %q, want what was sent before the reset", got)
				}
				if s, errno, broken := d.relay.Broken(); s != side || errno != unix.ECONNRESET || !broken {
					t.Errorf("Broken() = %d, %v, %t; want %d, ECONNRESET", s, errno, broken, side)
				}
			})
		}
	}
}

// Both ways end, but the last FIN has nobody to go to: that is no good end.
func TestEndThatMeetsAReset(t *testing.T) {
	for side, name := range sides {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, "tcp4", 0)
			d.peers[side].end()
			await(t, d.fds[side], unix.POLLRDHUP)
			d.relay.Note(side, whenEnded)
			d.pump()
			d.peers[side].reset()
			await(t, d.fds[side], unix.POLLHUP)
			d.relay.Note(side, loop.Readable|loop.Writable|loop.PeerShut|loop.Error|loop.Hangup)
			d.peers[side^1].end()
			await(t, d.fds[side^1], unix.POLLRDHUP)
			d.relay.Note(side^1, whenEnded)
			if got := d.pump(); got != relay.Cut {
				t.Errorf("Pump = %d, want Cut", got)
			}
			if s, errno, broken := d.relay.Broken(); s != side || errno != unix.EPIPE || !broken {
				t.Errorf("Broken() = %d, %v, %t; want %d, EPIPE", s, errno, broken, side)
			}
		})
	}
}

// What a reset side had sent waits for a receiver that is full; the owner's fin
// timer bounds that, as the relay has no clock.
func TestResetWithAFullReceiver(t *testing.T) {
	for side, name := range sides {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, "tcp4", 4096)
			sent := 0
			chunk := pattern(4096)
			for { // until nothing more fits anywhere on the way
				n := d.peers[side].trySend(chunk)
				sent += n
				d.relay.Note(side, loop.Readable)
				d.pump()
				if n == 0 && d.env.Caught() > 0 {
					break
				}
			}
			d.peers[side].reset()
			await(t, d.fds[side], unix.POLLHUP)
			d.relay.Note(side, whenReset)
			if got := d.pump(); got != relay.Waiting || !d.relay.HalfEnded() {
				t.Fatalf("Pump = %d, HalfEnded() %t; want Waiting and true", got, d.relay.HalfEnded())
			}
			status, got := relay.Waiting, 0
			for status == relay.Waiting {
				b := make([]byte, 64<<10)
				n, err := d.peers[side^1].Read(b)
				if err != nil {
					t.Fatal(err)
				}
				got += n
				d.relay.Note(side^1, loop.Writable)
				status = d.pump()
			}
			if status != relay.Cut {
				t.Errorf("Pump = %d, want Cut", status)
			}
			// The reset drops what its own side's kernel had not sent yet.
			if delivered := d.relay.Bytes(side); delivered < int64(got) || delivered > int64(sent) || got == 0 {
				t.Errorf("%d bytes handed on, %d received, %d sent", delivered, got, sent)
			}
		})
	}
}

// A reset reaches the other side as a reset, after all that came before it, and
// the error of whoever meets it is the session's.
func TestResetTravelsAsAReset(t *testing.T) {
	for side, name := range sides {
		for _, network := range []string{"tcp4", "tcp6"} {
			for _, n := range []int{0, 1, 200_000} {
				t.Run(fmt.Sprintf("%s/%s/%d bytes", name, network, n), func(t *testing.T) {
					leakCheck(t)
					g := newStage(t, 2)
					var peers [2]peer
					var fds [2]int
					for i := range fds {
						peers[i], fds[i] = connect(t, network, 0)
					}
					s := g.start(fds[0], fds[1], nil, 0)
					sent := pattern(n)
					if n > 0 {
						peers[side].send(sent)
						if got := peers[side^1].receive(n); !bytes.Equal(got, sent) {
							t.Error("wrong bytes")
						}
					}
					peers[side].reset()
					if got, err := peers[side^1].rest(); len(got) != 0 || !isReset(err) {
						t.Errorf("other side: %d bytes, %v; want a reset", len(got), err)
					}
					r := s.wait(t)
					if r.status != relay.Cut || r.side != side || r.errno != unix.ECONNRESET || r.in+r.out != int64(n) {
						t.Errorf("result %+v, want Cut by the %s with %d bytes", r, name, n)
					}
				})
			}
		}
	}
}

// A Unix peer that closes with bytes unread is a reset, the only one it has.
func TestUnixPeerThatClosesUnread(t *testing.T) {
	d := newDesk(t, "unix", 0)
	d.pump()
	d.peers[relay.Client].send([]byte("nobody reads this"))
	await(t, d.fds[relay.Client], unix.POLLIN)
	d.relay.Note(relay.Client, loop.Readable)
	d.pump()
	_ = d.peers[relay.Backend].Close()
	await(t, d.fds[relay.Backend], unix.POLLHUP)
	d.relay.Note(relay.Backend, whenReset)
	if got := d.pump(); got != relay.Cut {
		t.Errorf("Pump = %d, want Cut", got)
	}
	if s, errno, broken := d.relay.Broken(); s != relay.Backend || errno != unix.ECONNRESET || !broken {
		t.Errorf("Broken() = %d, %v, %t; want the backend, ECONNRESET", s, errno, broken)
	}
}
