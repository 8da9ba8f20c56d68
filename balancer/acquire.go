package balancer

import (
	"errors"
	"slices"
)

var (
	// ErrNoBackend says that there is no backend to pick: none is ready, or
	// each one that is was tried for this session. The caller refuses the
	// session.
	ErrNoBackend = errors.New("no ready backend")

	// ErrFull says that there are ready backends and each has as many sessions
	// as its MaxConnections allows. The caller refuses the session, or lets it
	// wait, see [Pool.Wait].
	ErrFull = errors.New("every ready backend is at its connection limit")
)

// Acquire picks a backend for a new session and counts the session. Whoever
// acquires a backend releases it, once, also when the dial fails. The error is
// ErrNoBackend or ErrFull.
//
// Backends of a tier are picked only if no lower tier has a ready one, or if
// each of those was tried for this session. That the others are at their limits
// is no reason: a tier stands in for a failure, not for missing capacity.
//
// No session overtakes those that wait: while there are any, Acquire serves
// them first.
func (p *Pool) Acquire(pk Pick) (*Backend, error) {
	if p.queue.length.Load() != 0 {
		return p.acquireBehind(pk)
	}
	return p.pick(&pk)
}

// Adopt counts a session that is there already, of another life of the caller's, at the
// backend with that ID, whatever its state and its limit. It reports whether the pool has
// such a backend. Whoever adopts releases.
func (p *Pool) Adopt(id string) (*Backend, bool) {
	p.mu.Lock()
	b := p.byID[id]
	p.mu.Unlock()
	if b == nil {
		return nil, false
	}
	return b, b.enter(0)
}

// Release takes back the count of a session that Acquire gave to b, which may
// have left the pool since, and gives the place to the first that waits for it.
// It panics if b has no session: counts that are off would misguide every later
// pick.
func (p *Pool) Release(b *Backend, r Result) {
	if b.active.Add(-1) < 0 {
		panic("balancer: backend " + b.id + " released more often than acquired")
	}
	if r.Err != nil {
		b.failed.Add(1)
	}
	p.Observe(b, r)
	// In this order, and in Wait the other way round: either sees the other.
	if p.queue.length.Load() != 0 {
		p.serve()
	}
}

// pick counts a session at the backend that the policy picks.
func (p *Pool) pick(pk *Pick) (*Backend, error) {
	s := p.set.Load()
	var now int64
	if s.timed {
		now = s.now()
		if s.rampEnd > 0 && now >= s.rampEnd {
			// Only so that later picks need no clock; whoever changes the pool
			// meanwhile knows better.
			p.set.CompareAndSwap(s, s.settled)
			s = s.settled
		}
	}
	for i := range s.tiers {
		b, full := p.pickFrom(s, &s.tiers[i], pk, now)
		if b != nil {
			return b, nil
		}
		if full {
			return nil, ErrFull
		}
	}
	return nil, ErrNoBackend
}

// pickFrom counts a session at a backend of one tier. If it returns nil, full
// tells whether a member would do that is at its limit.
func (p *Pool) pickFrom(s *set, t *tier, pk *Pick, now int64) (b *Backend, full bool) {
	switch s.options.Policy {
	case RoundRobin:
		return p.roundRobin(t, pk.Tried, now)
	case RandomTwo:
		return p.randomTwo(t, pk.Tried, now, s.options.Rand)
	case SourceHash:
		if pk.Client.IsValid() {
			return t.byHash(hashAddr(pk.Client), pk.Tried, now)
		}
	case SNIHash:
		if pk.Name != "" {
			return t.byHash(hashString(pk.Name), pk.Tried, now)
		}
	case LeastTime:
		return p.leastTime(t, pk.Tried, now)
	case LeastConnections:
	}
	return p.least(t, pk.Tried, now)
}

func tried(list []*Backend, b *Backend) bool { return len(list) > 0 && slices.Contains(list, b) }
