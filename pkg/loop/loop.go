// Package loop runs event loops: each owns an epoll instance, the handlers of
// its descriptors, a timer wheel and a queue of posted work, and does all of it
// on one locked thread, so that what lives on a loop needs no lock.
//
// Start with [New] and [Loop.Run]. Descriptors are registered edge-triggered
// with [Loop.Add] (listeners level-triggered with [Loop.AddLevel]); a handler
// that runs out of its budget asks for another turn with [Loop.Again]; other
// goroutines reach a loop by [Loop.Post] alone.
//
// The package knows no protocol and never blocks but in its wait. It refuses to
// be a general poller: one handler a descriptor, no priorities, Linux only.
package loop

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Events is a set of epoll events, as epoll_wait(2) reports them.
type Events uint32

// The events a handler may be told of. Those of [Loop.Again] are none at all.
const (
	Readable Events = unix.EPOLLIN
	Writable Events = unix.EPOLLOUT
	PeerShut Events = unix.EPOLLRDHUP // the peer has sent its FIN
	Urgent   Events = unix.EPOLLPRI   // TCP urgent data lie in the receive queue
	Error    Events = unix.EPOLLERR
	Hangup   Events = unix.EPOLLHUP
)

// A Handler is told of the events of one descriptor.
//
// Ready runs on the loop's thread and must not block. It may add and remove any
// descriptor of the loop, its own as well.
type Handler interface {
	Ready(ev Events)
}

// A Token names one registration. It carries a generation: a token outlives its
// registration without ever naming the slot's next tenant.
type Token uint64

// NoToken is no registration at all.
const NoToken Token = 0

func token(index, gen uint32) Token { return Token(uint64(gen)<<32 | uint64(index)) }

func (t Token) index() uint32 { return uint32(t) }
func (t Token) gen() uint32   { return uint32(t >> 32) }

// Limits of one turn of a loop.
const (
	maxEvents = 256
	// rawWait bounds the wait that the scheduler is not told of, in milliseconds.
	rawWait = 5
	// edge is what a relayed descriptor is registered for, once and for good.
	edge  = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLPRI | unix.EPOLLET
	level = unix.EPOLLIN
)

// slot is one registration; gen is odd while the slot is taken, so that the
// zero Token never fits. next is that of the list of free slots, plus one.
type slot struct {
	h    Handler
	gen  uint32
	next uint32
}

// Slots come in pages that stay where they are: a table that grew by copying
// would leave several times its size to the collector.
const (
	pageBits = 8
	pageSize = 1 << pageBits
)

type page [pageSize]slot

// A Loop is one event loop. All methods but Post, Background and Stop belong to
// its own thread (before Run: to the one that made it).
type Loop struct {
	epfd   int
	wakefd int
	start  time.Time
	now    time.Duration
	pages  []*page
	free   uint32 // the first free slot, plus one; 0: none
	again  []Token
	turn   []Token // the list that again swaps with
	events []unix.EpollEvent
	wheel  wheel
	used   int

	stopping bool
	// background counts goroutine work that needs the scheduler: while there is
	// any, the loop waits in the call that gives its processor away.
	background atomic.Int32
	run        []func() // the list that posted swaps with

	mu     sync.Mutex // guards the fields below
	posted []func()
	woken  bool // wakefd was written and nobody has taken posted since
	closed bool // wakefd may be another file by now
}

// New makes a loop whose clock counts from start; loops that share a start
// share a clock. The caller runs it with Run, which closes it in the end.
func New(start time.Time) (*Loop, error) {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	wakefd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		_ = unix.Close(epfd)
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	l := &Loop{
		epfd:   epfd,
		wakefd: wakefd,
		start:  start,
		events: make([]unix.EpollEvent, maxEvents),
	}
	l.now = time.Since(start)
	l.wheel.init(l.now)
	if _, err := l.add(wakefd, level, wake{l}); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// Now is the time of this turn, from the start given to New. It is read once
// after each wait.
func (l *Loop) Now() time.Duration { return l.now }

// Clock reads the time anew, for what is measured within a turn.
func (l *Loop) Clock() time.Duration { return time.Since(l.start) }

// Registered is the number of handlers registered now, without the loop's own.
func (l *Loop) Registered() int { return l.used - 1 }

// Add registers fd edge-triggered for reading, writing and the peer's FIN. The
// first events come in a later turn. The descriptor stays the caller's.
func (l *Loop) Add(fd int, h Handler) (Token, error) { return l.add(fd, edge, h) }

// AddLevel registers fd level-triggered for reading. With exclusive, only one
// of the loops that share the descriptor is woken (EPOLLEXCLUSIVE).
func (l *Loop) AddLevel(fd int, h Handler, exclusive bool) (Token, error) {
	events := uint32(level)
	if exclusive {
		events |= unix.EPOLLEXCLUSIVE
	}
	return l.add(fd, events, h)
}

// Attach registers a handler that has no descriptor: it is called by [Loop.Again]
// alone. Forget ends that.
func (l *Loop) Attach(h Handler) Token {
	index, s := l.vacant()
	return l.occupy(index, s, h)
}

// vacant is the slot to be taken next.
func (l *Loop) vacant() (uint32, *slot) {
	if l.free == 0 {
		l.addPage()
	}
	return l.free - 1, l.slot(l.free - 1)
}

func (l *Loop) occupy(index uint32, s *slot, h Handler) Token {
	l.free = s.next
	s.gen++
	s.h = h
	l.used++
	return token(index, s.gen)
}

func (l *Loop) add(fd int, events uint32, h Handler) (Token, error) {
	index, s := l.vacant()
	ev := unix.EpollEvent{Events: events, Fd: int32(index), Pad: int32(s.gen + 1)}
	if errno := epollCtl(l.epfd, unix.EPOLL_CTL_ADD, fd, &ev); errno != 0 {
		return NoToken, fmt.Errorf("epoll_ctl: %w", errno)
	}
	return l.occupy(index, s, h), nil
}

// addPage makes a page of free slots, of which there are none.
func (l *Loop) addPage() {
	first := uint32(len(l.pages)) << pageBits
	p := new(page)
	for i := range uint32(pageSize - 1) {
		p[i].next = first + i + 2
	}
	l.pages = append(l.pages, p)
	l.free = first + 1
}

func (l *Loop) slot(index uint32) *slot { return &l.pages[index>>pageBits][index&(pageSize-1)] }

// Forget ends a registration whose descriptor is about to be closed and is not
// shared (by dup or SCM_RIGHTS) with anyone: closing takes it out of epoll. An
// event already fetched is dropped. Forgetting twice does nothing.
func (l *Loop) Forget(t Token) {
	s := l.at(t)
	if s == nil {
		return
	}
	s.h = nil
	s.gen++
	s.next, l.free = l.free, t.index()+1
	l.used--
}

// Remove ends a registration and takes fd out of epoll: for a descriptor that
// lives on elsewhere.
func (l *Loop) Remove(t Token, fd int) {
	if l.at(t) == nil {
		return
	}
	_ = epollCtl(l.epfd, unix.EPOLL_CTL_DEL, fd, &unix.EpollEvent{})
	l.Forget(t)
}

// Again asks for a call of the handler's Ready, without events, once each
// descriptor that waits now has had its turn. The next wait does not sleep.
// Each call of Again is one call of Ready; a registration that ends meanwhile
// gets none.
func (l *Loop) Again(t Token) { l.again = append(l.again, t) }

func (l *Loop) at(t Token) *slot {
	if i := t.index(); int(i>>pageBits) < len(l.pages) && t.gen()&1 == 1 {
		if s := l.slot(i); s.gen == t.gen() {
			return s
		}
	}
	return nil
}

// Post has f run on the loop's thread, after what was posted before. It may be
// called from any goroutine, and never blocks. Work posted after Run has ended
// is dropped.
func (l *Loop) Post(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.posted = append(l.posted, f)
	if !l.woken {
		l.woken = true
		wakeUp(l.wakefd) // locked, so that close cannot come between
	}
}

// Background adds n to the count of goroutine work that the loop must leave the
// scheduler room for: add one before it starts, take one off when it is done.
func (l *Loop) Background(n int) { l.background.Add(int32(n)) }

// wake is the handler of the loop's own eventfd.
type wake struct{ l *Loop }

func (w wake) Ready(Events) {
	drain(w.l.wakefd)
	w.l.runPosted()
}

func (l *Loop) runPosted() {
	l.mu.Lock()
	l.posted, l.run = l.run[:0], l.posted
	l.woken = false
	l.mu.Unlock()
	for i, f := range l.run {
		l.run[i] = nil
		f()
	}
}

// Stop ends Run after the turn under way. Any goroutine may call it.
func (l *Loop) Stop() { l.Post(func() { l.stopping = true }) }

// Run serves until Stop, on the calling goroutine, which it locks to its thread.
// It closes the loop's own descriptors; those registered stay their owners'.
func (l *Loop) Run() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer l.close()
	for !l.stopping {
		n, err := l.wait()
		if err != nil {
			return err
		}
		l.now = time.Since(l.start)
		for i := range n {
			ev := &l.events[i]
			if s := l.at(token(uint32(ev.Fd), uint32(ev.Pad))); s != nil {
				s.h.Ready(Events(ev.Events))
			}
		}
		if len(l.again) > 0 {
			l.again, l.turn = l.turn[:0], l.again
			for _, t := range l.turn {
				if s := l.at(t); s != nil {
					s.h.Ready(0)
				}
			}
		}
		l.wheel.advance(l.now)
	}
	return nil
}

// wait fetches events: raw and short while nothing else needs this processor,
// then by the call that tells the scheduler. A raw wait counts as running: it
// saves the hand-over of the processor, which costs more than the wait itself
// when events come fast, and would starve goroutines were there any to run.
func (l *Loop) wait() (int, error) {
	timeout := l.timeout()
	if timeout == 0 || l.background.Load() == 0 {
		short := timeout
		if short < 0 || short > rawWait {
			short = rawWait
		}
		n, errno := epollWaitRaw(l.epfd, l.events, short)
		switch {
		case errno == unix.EINTR: // the runtime's preemption signal
			return 0, nil
		case errno != 0:
			return 0, fmt.Errorf("epoll_pwait: %w", errno)
		case n > 0 || short == timeout:
			return n, nil
		}
		if timeout > 0 {
			timeout -= short
		}
	}
	n, errno := epollWait(l.epfd, l.events, timeout)
	if errno != 0 && errno != unix.EINTR {
		return 0, fmt.Errorf("epoll_pwait: %w", errno)
	}
	return n, nil
}

// timeout is how long the next wait may sleep, in milliseconds; -1 for ever.
func (l *Loop) timeout() int {
	if len(l.again) > 0 {
		return 0
	}
	return l.wheel.timeout(l.now)
}

func (l *Loop) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.closed, l.posted = true, nil
	_ = unix.Close(l.epfd)
	_ = unix.Close(l.wakefd)
}

// Jitter is d lengthened by up to a quarter, so that timers set together do not
// fire together.
func Jitter(d time.Duration) time.Duration {
	return d + time.Duration(rand.Int64N(int64(d)/4+1))
}

// Close closes the descriptors of a loop that was never run; after Run it does
// nothing.
func (l *Loop) Close() { l.close() }
