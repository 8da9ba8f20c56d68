package proxy

import (
	"errors"
	"fmt"
	"time"

	"github.com/snicketlb/snicket/balancer"
	"github.com/snicketlb/snicket/pkg/loop"
)

var (
	errQueueTimeout = errors.New("no backend had room within the queue's timeout")
	errQueueFull    = fmt.Errorf("%w, and the queue is full", balancer.ErrFull)
	errLeftQueue    = errors.New("left while waiting for a backend with room")
)

// A ticket is a session's place in its pool's queue. The session may end, and its
// struct serve another, before the queue has heard of it: then s is nil, and who comes
// with a backend gives it back.
type ticket struct {
	s      *session
	since  time.Duration
	cancel func() bool
}

// enqueue waits for a backend with room, as the choice has none.
func (s *session) enqueue() {
	w, pool := s.w, s.pool
	t := &ticket{s: s, since: w.l.Now()}
	if s.waits {
		t.since, s.waits = s.since, false
	}
	s.phase, s.ticket = inQueue, t
	cancel, err := pool.Balancer.Wait(s.choice.pick, func(b *balancer.Backend) {
		w.l.Post(func() { t.served(pool, b) })
	})
	if err != nil {
		s.ticket = nil
		s.phase = inDial
		s.refuse(s.choice.none(errQueueFull), s.choice.err.Error())
		return
	}
	t.cancel = cancel
	w.l.Set(&s.timer, t.since+pool.QueueTimeout, s)
	s.clientInQueue(s.events)
}

// served is called on the loop with what came of the wait: a backend that is counted
// for the session, or nil if none is left for it.
func (t *ticket) served(pool *Pool, b *balancer.Backend) {
	s := t.s
	if s == nil {
		if b != nil {
			pool.Balancer.Release(b, balancer.Result{})
		}
		return
	}
	if s.frozen {
		s.w.frost.later = append(s.w.frost.later, func() { t.served(pool, b) })
		return
	}
	s.leaveQueue()
	s.phase = inDial
	if b == nil {
		s.unserved(s.choice.none(balancer.ErrNoBackend))
		return
	}
	if err := s.dial(s.choice.take(b)); err != nil && s.tryNext(err) {
		s.dialNext()
	}
}

// leaveQueue ends the wait of a session, however it came to that.
func (s *session) leaveQueue() {
	t := s.ticket
	s.queueTook = spanOf(max(s.queueTook.duration(), 0) + s.w.l.Now() - t.since)
	s.w.l.Cancel(&s.timer)
	t.s, s.ticket = nil, nil
}

// queueExpired ends a wait that takes too long, unless its end is on the way.
func (s *session) queueExpired() {
	if !s.ticket.cancel() {
		return
	}
	s.leaveQueue()
	s.refuse(QueueTimeout, errQueueTimeout.Error())
}

// clientInQueue notes a client that goes away while it waits. Where its handshake is the
// backend's it cannot go on, so that a client which has sent its FIN is gone as well.
func (s *session) clientInQueue(ev loop.Events) {
	if ev&loop.PeerShut != 0 && s.term == nil {
		s.outcome, s.endedBy, s.err = ClientReset, ByClient, errLeftQueue.Error()
		s.finish()
		return
	}
	s.clientWhileDialing(ev)
}
