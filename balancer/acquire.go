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

	// ErrBusy says that there are ready backends and each has as many sessions
	// as its MaxConnections allows. The caller refuses the session, or tries
	// again after a release.
	ErrBusy = errors.New("every ready backend is at its connection limit")
)

// Acquire picks a backend for a new session and counts the session. Whoever
// acquires a backend releases it, once, also when the dial fails. The error is
// ErrNoBackend or ErrBusy.
//
// Backups are picked only if there is no other ready backend, or if each of
// those was tried for this session. That the others are at their limits is no
// reason: backups stand in for a failure, not for missing capacity.
func (p *Pool) Acquire(pk Pick) (*Backend, error) {
	s := p.set.Load()
	for _, tier := range [...][]member{s.primary, s.backup} {
		b, busy := p.least(tier, pk.Tried)
		if b != nil {
			return b, nil
		}
		if busy {
			return nil, ErrBusy
		}
	}
	return nil, ErrNoBackend
}

// Release takes back the count of a session that Acquire gave to b, which may
// have left the pool since. It panics if b has no session: counts that are off
// would misguide every later pick.
func (p *Pool) Release(b *Backend, _ Result) {
	if b.active.Add(-1) < 0 {
		panic("balancer: backend " + b.id + " released more often than acquired")
	}
}

// least picks the member with the fewest sessions per weight and counts a
// session on it. If it returns nil, busy tells whether a member would do that
// is at its limit.
//
// Ties go to the member whose turn is the lowest. A turn is the virtual time at
// which a member is next due: each session moves it by the inverse of the
// weight. The clock of the pool is the highest turn that was picked. A member
// that was busy falls behind it, and makes up for a few turns but not for an
// hour's: see arrears. (Start-time fair queueing, Goyal, Vin and Cheng 1996, with
// sessions for packets.)
func (p *Pool) least(tier []member, tried []*Backend) (b *Backend, busy bool) {
	for {
		now := p.clock.Load()
		busy = false
		var best *member
		var bestActive int64
		var bestTurn uint64
		for i := range tier {
			m := &tier[i]
			active := m.active.Load()
			// Cross-multiplied: active/weight of m against best's.
			if best != nil && active*best.weight > bestActive*m.weight {
				continue
			}
			turn := later(m.turn.Load(), now-arrears*m.stride)
			if best != nil && active*best.weight == bestActive*m.weight && !before(turn, bestTurn) {
				continue
			}
			if len(tried) > 0 && slices.Contains(tried, m.Backend) {
				continue
			}
			if m.limit > 0 && active >= m.limit {
				busy = true
				continue
			}
			best, bestActive, bestTurn = m, active, turn
		}
		if best == nil {
			return nil, busy
		}
		if best.enter(best.limit) {
			p.advance(best, bestTurn, now)
			return best.Backend, false
		}
		// Others filled it meanwhile: look for the next best.
	}
}

// arrears is how many turns a member may make up for. With none, a member would
// lose its turn to each session of an instant that was there when it was due, and
// goroutines that run in step would starve some members; with no bound, a member
// that was long busy would win every tie for as long.
const arrears = 8

// advance moves the turn of a member that was picked at turn, and the clock.
// Losing a race here costs a turn, never a count.
func (p *Pool) advance(m *member, turn, now uint64) {
	old := m.turn.Load()
	if !before(old, turn) || !m.turn.CompareAndSwap(old, turn+m.stride) {
		m.turn.Add(m.stride)
	}
	if before(now, turn) {
		p.clock.CompareAndSwap(now, turn)
	}
}

// before reports whether virtual time a lies before b. Virtual time wraps
// around: what counts is the distance.
func before(a, b uint64) bool { return int64(a-b) < 0 }

func later(a, b uint64) uint64 {
	if before(a, b) {
		return b
	}
	return a
}
