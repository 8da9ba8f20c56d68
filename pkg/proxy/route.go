package proxy

import (
	"errors"
	"math"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/balancer"
)

// table is the table of now and the name by which the session's listener stands in it.
func (s *session) table() (t *Table, listener string) { return s.w.p.table(s.socks) }

func (p *Proxy) table(s *sockets) (t *Table, listener string) {
	live := p.live.Load()
	if l := live.listeners[s.address]; l != nil {
		return live.table, l.Name
	}
	return s.last.Load(), s.listener.Load().Name // removed
}

// findRoute gives the session its route, and counts it there.
func (s *session) findRoute(o offer) Outcome {
	if s.limited != OK {
		s.err = errPerIP.Error()
		return s.limited
	}
	table, listener := s.table()
	r, outcome := table.lookup(listener, s.sni, s.client().Addr(), o)
	s.route = r
	if outcome != OK {
		return outcome
	}
	s.pool = r.Pool
	if n := r.Active.Add(1); r.MaxConnections > 0 && n > int64(r.MaxConnections) {
		r.Active.Add(-1)
		s.err = "the route's max_connections"
		return OverLimit
	}
	s.routeHeld = true
	return OK
}

// A choice is the search of one session for a backend.
type choice struct {
	s    *session
	via  *Pool // by whose settings the backend is reached
	pick balancer.Pick
	err  error // of the last try
	// begun is when the dial that goes on, or was the last, began.
	begun time.Duration
}

var errUnresolved = errors.New("the name does not resolve")

// unreachable tells why t has no address.
func (t *Target) unreachable() error {
	if t.Unreachable != nil {
		return t.Unreachable
	}
	return errUnresolved
}

// start begins the search of a session that has its route.
func (c *choice) start(s *session) {
	c.s, c.via = s, s.pool
	c.pick = balancer.Pick{Client: s.client().Addr(), Name: s.sni}
}

// next acquires a backend. Without one the outcome says why; QueueTimeout is that one
// with room may be waited for.
func (c *choice) next() (*Target, Outcome) {
	b, err := c.s.pool.Balancer.Acquire(c.pick)
	switch {
	case err == nil:
		return c.take(b), OK
	case errors.Is(err, balancer.ErrFull) && c.s.pool.QueueTimeout > 0:
		return nil, QueueTimeout
	}
	return nil, c.none(err)
}

// none is the outcome of a search that err has ended.
func (c *choice) none(err error) Outcome {
	if len(c.pick.Tried) > 0 {
		return DialFailed // of the tries before, whose error stands
	}
	c.err = err
	return NoBackend
}

// take makes b, which is acquired, the session's.
func (c *choice) take(b *balancer.Backend) *Target {
	c.s.retries = uint16(min(len(c.pick.Tried), math.MaxUint16))
	if counter := c.s.pool.Retried; counter != nil && len(c.pick.Tried) > 0 {
		counter.Add(1)
	}
	c.s.backend = b
	t := b.Value().(*Target)
	if c.via = c.s.pool; t.Pool != nil {
		c.via = t.Pool
	}
	return t
}

// failed gives back a backend that could not be reached, and tells who keeps the
// count of that; it reports whether another may be tried. A failure of ours
// condemns no backend, and no other would do better.
func (c *choice) failed(err error, took time.Duration) (again bool, outcome Outcome) {
	c.err = err
	b := c.s.backend
	c.s.backend = nil
	if ours(err) {
		c.s.pool.Balancer.Release(b, balancer.Result{})
		return false, Internal
	}
	b.DialFailed()
	c.s.pool.Balancer.Release(b, balancer.Result{Dial: took, Err: err})
	if c.s.pool.Failed != nil {
		c.s.pool.Failed(b.ID(), err)
	}
	reached(b, err)
	c.pick.Tried = append(c.pick.Tried, b)
	return len(c.pick.Tried) <= c.s.pool.Retries, DialFailed
}

// reached tells whoever counts it that b was reached, or why not.
func reached(b *balancer.Backend, err error) {
	if t := b.Value().(*Target); t.Reached != nil {
		t.Reached(err)
	}
}

// ours reports whether a failed dial says nothing of the backend: descriptors,
// memory or ports have run out, or this host forbids the connection.
func ours(err error) bool {
	for _, errno := range []unix.Errno{
		unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM, unix.ENOSPC, // of epoll
		unix.EADDRNOTAVAIL, unix.EACCES, unix.EPERM,
	} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}
