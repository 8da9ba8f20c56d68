package balancer

import (
	"container/list"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
)

// ErrQueueFull says that as many sessions wait as [Options.QueueSize] allows, or
// that there is no queue. The caller refuses the session.
var ErrQueueFull = errors.New("the queue is full")

// queue holds the sessions that wait for a place, the first to come first.
type queue struct {
	size   atomic.Int64
	length atomic.Int64 // of waiters; what Acquire and Release look at

	mu      sync.Mutex // guards what follows, and raising length
	waiters list.List  // of *waiter
	retries int        // of them, those that tried some backend
}

// retries tells whether w takes another backend than one that comes anew would: one of
// a higher tier even, if each of a lower one failed it.
func (w *waiter) retries() bool { return len(w.pick.Tried) > 0 }

// waiter is one session that waits. place is nil once it left.
type waiter struct {
	pick  Pick
	ready func(*Backend)
	place *list.Element
	given *Backend // nil: no backend is ready
}

// Wait queues a session for which Acquire returned ErrFull. As soon as a
// backend has a place for it, and no session that came before it wants that, the
// place is counted as its and ready is called with the backend, which is then
// acquired. ready is called with nil if no backend is left for it: none is
// ready, or each that is was tried. It is called once, from the goroutine that
// made the change, which may be the caller's before Wait returns, and must do no
// more than pass the backend on.
//
// How long to wait is up to the caller: cancel takes the session out of the
// queue and reports true; ready is then never called. It reports false if it
// came too late: ready was called or is about to be, and a backend that it is
// given has to be released.
//
// The error is ErrQueueFull, and cancel then nil.
func (p *Pool) Wait(pk Pick, ready func(*Backend)) (cancel func() bool, err error) {
	q := &p.queue
	pk.Tried = slices.Clone(pk.Tried)
	w := &waiter{pick: pk, ready: ready}
	q.mu.Lock()
	if q.length.Load() >= q.size.Load() {
		q.mu.Unlock()
		return nil, ErrQueueFull
	}
	w.place = q.waiters.PushBack(w)
	if w.retries() {
		q.retries++
	}
	q.length.Add(1)
	// Whoever released a place before it saw the length left it to us.
	served := p.serveLocked()
	q.mu.Unlock()
	tell(served)
	return func() bool {
		q.mu.Lock()
		defer q.mu.Unlock()
		return q.leaveLocked(w)
	}, nil
}

// QueueLength returns how many sessions wait.
func (p *Pool) QueueLength() int { return int(p.queue.length.Load()) }

func (q *queue) leaveLocked(w *waiter) bool {
	if w.place == nil {
		return false
	}
	q.waiters.Remove(w.place)
	q.length.Add(-1)
	if w.retries() {
		q.retries--
	}
	w.place = nil
	return true
}

// serve gives to those that wait what is there for them.
func (p *Pool) serve() {
	if p.queue.length.Load() == 0 {
		return
	}
	p.queue.mu.Lock()
	served := p.serveLocked()
	p.queue.mu.Unlock()
	tell(served)
}

// acquireBehind is Acquire while sessions wait.
func (p *Pool) acquireBehind(pk Pick) (*Backend, error) {
	p.queue.mu.Lock()
	served := p.serveLocked()
	// What is free now, none of those that still wait can use.
	b, err := p.pick(&pk)
	p.queue.mu.Unlock()
	tell(served)
	return b, err
}

// serveLocked takes out of the queue all that need not wait any more. The caller
// holds the queue's mu, and tells them when it no longer does.
func (p *Pool) serveLocked() (served []*waiter) {
	full := false           // for those that tried none: what one of them lacks they all do
	left := p.queue.retries // of those that are still to be looked at
	for e := p.queue.waiters.Front(); e != nil && (!full || left > 0); {
		w := e.Value.(*waiter)
		e = e.Next()
		if w.retries() {
			left--
		} else if full {
			continue
		}
		b, err := p.pick(&w.pick)
		if errors.Is(err, ErrFull) {
			full = full || !w.retries()
			continue
		}
		w.given = b
		p.queue.leaveLocked(w)
		served = append(served, w)
	}
	return served
}

// tell calls those that were served. It is done without the lock, so that what
// they do may be anything.
func tell(served []*waiter) {
	for _, w := range served {
		w.ready(w.given)
	}
}
