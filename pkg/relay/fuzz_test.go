package relay_test

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/pkg/loop"
	"github.com/snicketlb/snicket/pkg/relay"
)

// A puppet is a relay and both its peers, all moved by one hand. Its sockets are
// Unix ones: what one does, the other sees at once, so that a run repeats.
type puppet struct {
	t        *testing.T
	epfd     int
	env      *relay.Env
	relay    relay.Relay
	fds      [2]int // the relay's
	peers    [2]int
	sent     [2]int // by each peer
	received [2]int // by each peer
	ended    [2]bool
	closed   [2]bool
	status   relay.Status
}

func newPuppet(t *testing.T, pipes int) *puppet {
	t.Helper()
	p := &puppet{t: t, env: relay.NewEnv(pipes)}
	var err error
	if p.epfd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	for side := range p.fds {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		p.fds[side], p.peers[side] = fds[0], fds[1]
		for _, fd := range fds {
			_ = loop.SetInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 32<<10)
		}
		ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(side)}
		if err := unix.EpollCtl(p.epfd, unix.EPOLL_CTL_ADD, fds[0], &ev); err != nil {
			t.Fatal(err)
		}
	}
	p.relay.Start(p.env, p.fds[0], p.fds[1], nil, 0)
	return p
}

func (p *puppet) close() {
	p.relay.Close(p.env)
	if got := p.env.Caught(); got != 0 {
		p.t.Errorf("Caught() = %d after Close, want 0", got)
	}
	p.env.Close()
	loop.Close(p.epfd)
	for side := range p.fds {
		loop.Close(p.fds[side])
		if !p.closed[side] {
			loop.Close(p.peers[side])
		}
	}
}

// at is the byte at a place of what a side sends.
func at(side, place int) byte { return byte(place*7 + place>>8*13 + side) }

func (p *puppet) send(side, n int) {
	if p.ended[side] || p.closed[side] || n == 0 {
		return
	}
	b := make([]byte, n)
	for i := range b {
		b[i] = at(side, p.sent[side]+i)
	}
	k, errno := loop.Write(p.peers[side], b)
	if errno != 0 && errno != unix.EAGAIN && errno != unix.EPIPE && errno != unix.ECONNRESET {
		p.t.Fatal(errno)
	}
	p.sent[side] += k
}

func (p *puppet) receive(side, n int) (end bool) {
	if p.closed[side] || n == 0 {
		return true
	}
	b := make([]byte, n)
	k, errno := loop.Read(p.peers[side], b)
	for i, got := range b[:k] {
		if want := at(side^1, p.received[side]+i); got != want {
			p.t.Fatalf("%s: byte %d is %d, want %d", sides[relay.Side(side)], p.received[side]+i, got, want)
		}
	}
	p.received[side] += k
	if p.received[side] > p.sent[side^1] {
		p.t.Fatalf("%s: %d bytes received, %d sent", sides[relay.Side(side)], p.received[side], p.sent[side^1])
	}
	return k == 0 && errno != unix.EAGAIN
}

func (p *puppet) end(side int) {
	if !p.ended[side] && !p.closed[side] {
		p.ended[side] = true
		loop.Shut(p.peers[side])
	}
}

func (p *puppet) shut(side int) {
	if !p.closed[side] {
		p.closed[side] = true
		loop.Close(p.peers[side])
	}
}

// pump pumps once; an ended relay is left alone, as its owner would.
func (p *puppet) pump() relay.Status {
	if p.status != relay.Ended && p.status != relay.Cut {
		p.status = p.relay.Pump(p.env)
	}
	return p.status
}

// settle has the relay see each event and do all it can.
func (p *puppet) settle() {
	events := make([]unix.EpollEvent, 4)
	for {
		n, err := unix.EpollWait(p.epfd, events, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			p.t.Fatal(err)
		}
		for _, ev := range events[:n] {
			p.relay.Note(relay.Side(ev.Fd), loop.Events(ev.Events))
		}
		for range 1000 {
			if p.pump() != relay.More {
				break
			}
		}
		if p.status == relay.More {
			p.t.Fatal("More for ever")
		}
		if n == 0 {
			return
		}
	}
}

// finish ends both sides and reads all; the relay must come to its end by events
// alone.
func (p *puppet) finish() {
	p.end(0)
	p.end(1)
	for range 10_000 {
		p.settle()
		if p.status == relay.Ended || p.status == relay.Cut {
			break
		}
		was := p.received
		for side := range p.peers {
			p.receive(side, 64<<10)
		}
		if p.received == was {
			p.settle()
			if p.status == relay.Waiting {
				p.t.Fatalf("stuck: sent %v, received %v, caught %d", p.sent, p.received, p.env.Caught())
			}
		}
	}
	whole := !p.closed[0] && !p.closed[1]
	if whole && p.status != relay.Ended || p.status == relay.Waiting {
		p.t.Fatalf("status %d at the end, sides closed: %v", p.status, p.closed)
	}
	for side := range p.peers {
		if !whole {
			break
		}
		for range 10_000 {
			if p.receive(side, 64<<10) {
				break
			}
		}
		if got, want := p.received[side], p.sent[side^1]; got != want {
			p.t.Errorf("%s: %d bytes received, %d sent", sides[relay.Side(side)], got, want)
		}
		if got, want := p.relay.Bytes(relay.Side(side)), int64(p.sent[side]); got != want {
			p.t.Errorf("Bytes(%s) = %d, want %d", sides[relay.Side(side)], got, want)
		}
	}
}

// Any order of what peers can do, with edge-triggered events between: no byte is
// lost or changed, and the relay never waits for an event that does not come.
func FuzzRelay(f *testing.F) {
	f.Add([]byte{1, 0, 10, 6, 0, 3, 10, 4, 6, 0, 1, 255, 6, 0, 2, 255})
	f.Add([]byte{0, 0, 255, 0, 255, 0, 255, 6, 0, 6, 0, 3, 255, 6, 0, 3, 20, 6, 0, 5, 0})
	f.Add([]byte{1, 0, 200, 1, 200, 6, 0, 0, 255, 8, 0, 6, 0, 3, 9, 6, 0})
	f.Add([]byte{2, 1, 255, 1, 255, 1, 255, 6, 0, 2, 100, 6, 0, 9, 0, 6, 0})
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) < 1 || len(script) > 256 {
			return
		}
		p := newPuppet(t, int(script[0]%3))
		defer p.close()
		for ops := script[1:]; len(ops) >= 2; ops = ops[2:] {
			side := int(ops[0] & 1)
			n := int(ops[1]) * int(ops[1]) // up to 64 KiB
			switch ops[0] % 10 {
			case 0, 1:
				p.send(side, n)
			case 2, 3:
				p.receive(side, n)
			case 4, 5:
				p.end(side)
			case 6:
				p.settle()
			case 7:
				p.pump()
			case 8, 9:
				if ops[1] > 200 { // seldom, as little follows it
					p.shut(side)
				}
			}
		}
		p.finish()
	})
}
