package proxy

import (
	"errors"
	"time"
)

// lookTime is how long a session that stood still has at least: what came meanwhile, which
// its loop learns in one of the next turns, goes before a timeout that is over by then.
const lookTime = 100 * time.Millisecond

// errLost is why a session ends that another process had taken over.
var errLost = errors.New("the process that it was moved to has ended")

// Thaw goes on as if nothing had been.
func (f *Frozen) Thaw() {
	for _, w := range f.p.workers {
		w.l.Post(w.thaw)
	}
	f.p.barrier()
}

// Leave gives up all that another process has now: the sessions that are listed end
// here, as moved, without a record, and so do the listeners. The connections and the
// sockets stay open, in the hands of that process; the files of Unix sockets are its own.
func (f *Frozen) Leave() {
	p := f.p
	p.mu.Lock()
	for _, s := range p.sockets {
		s.path = ""
		for _, w := range p.workers {
			w.l.Post(func() { w.leave(s, func(*acceptor) {}) })
		}
	}
	clear(p.sockets)
	p.mu.Unlock()
	p.disinherit()
	for _, w := range p.workers {
		w.l.Post(w.depart)
	}
	p.barrier()
}

// Reclaim takes the listeners back from a process that has ended behind taking all over.
// Nobody knows how far it came with the sessions that are listed: both sides of each are
// reset, and they end as internal.
func (f *Frozen) Reclaim() {
	for _, w := range f.p.workers {
		w.l.Post(w.reclaim)
	}
	f.p.barrier()
}

func (w *worker) thaw() { w.endFrost((*session).thaw, w.resumeAccepting) }

func (w *worker) depart() {
	w.endFrost(func(s *session) {
		s.frozen = false
		s.outcome = Moved
		s.finish()
	}, func() {})
	// Those in HTTP finish the requests under way, and come again.
	w.windDown(func(*session) bool { return true })
}

func (w *worker) reclaim() {
	w.endFrost(func(s *session) {
		s.outcome, s.endedBy = Internal, BySnicket
		s.finish() // frozen, as is seen from the record
	}, w.resumeAccepting)
}

// endFrost does with each frozen session what is due, then what was put off, and accept
// once no session can take the place of one that either still tells of.
func (w *worker) endFrost(each func(*session), accept func()) {
	f := w.frost
	w.frost = nil
	for _, s := range f.sessions {
		each(s)
	}
	for _, do := range f.later {
		do()
	}
	accept()
}

func (w *worker) resumeAccepting() {
	if !w.full {
		w.resume()
	}
}

// thaw gives the session back to its loop.
func (s *session) thaw() {
	s.frozen = false
	if !s.register() {
		return
	}
	look := s.w.l.Now() + lookTime
	switch s.phase { //nolint:exhaustive // no other is frozen
	case inHello:
		s.w.l.Set(&s.timer, look, s)
	case inQueue:
		s.w.l.Set(&s.timer, max(s.ticket.since+s.pool.QueueTimeout, look), s)
	case inDial:
		until := max(s.choice.begun+s.choice.via.DialTimeout, look)
		if s.dialUntil != 0 { // no event tells: it is tried
			until = s.w.l.Now()
		}
		s.w.l.Set(&s.timer, until, s)
	case inRelay:
		s.relay.Renew()
		s.goOn()
	}
}

// goOn takes up a relay that stood still.
func (s *session) goOn() {
	limit := s.route.Idle
	if s.half {
		limit = s.route.Fin
	}
	s.rearm(limit)
	s.pump()
}

// register has the loop tell of both connections; false: the session could not live on.
func (s *session) register() bool {
	var err error
	if s.c.tok, err = s.w.l.Add(int(s.c.fd), (*clientEnd)(s)); err == nil && s.b.fd >= 0 && s.dialWaitsNot() {
		s.b.tok, err = s.w.l.Add(int(s.b.fd), (*backendEnd)(s))
	}
	if err != nil {
		s.outcome, s.endedBy = Internal, BySnicket
		s.finish()
	}
	return err == nil
}

// dialWaitsNot reports whether the backend's descriptor is connected, or on its way: not
// one that waits for room in the backlog of a Unix socket.
func (s *session) dialWaitsNot() bool { return s.opening == nil || s.dialUntil == 0 }
