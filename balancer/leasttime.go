package balancer

import (
	"sync/atomic"
	"time"
)

const (
	// 2^halfLifeShift ns, about 8.6 s, is how long an average takes to lose half
	// its weight: against newer samples, and, when none comes because its backend
	// is avoided, against nothing, so that a slow backend is tried again.
	halfLifeShift = 33

	// newest is the least that a sample weighs in the average, however soon it
	// follows the one before. Of a busy backend that is hundreds of samples: with
	// a livelier average, sessions run from a backend that had one slow answer,
	// and then from the one they ran to. See docs/balancing.md.
	newest = 1.0 / 256

	// failure is the least that a failed session counts as, and newestFailure
	// the least that it weighs, so that a backend does not shine by refusing at
	// once.
	failure       = time.Second
	newestFailure = 1.0 / 16
)

// timing is what LeastTime knows of a backend: the average in nanoseconds, 0
// without a sample, and when the last sample came. The two are not written
// together: a reader between sees an average that is one sample off.
type timing struct {
	average atomic.Int64
	stamp   atomic.Int64
}

// Observe tells what became of the first steps of a session, at the time that
// is known; the session's Release is then given a zero Result. Release does it
// otherwise, at the session's end, which is late for sessions that last.
func (p *Pool) Observe(b *Backend, r Result) {
	sample := r.Dial + r.FirstByte
	if sample <= 0 && r.Err == nil {
		return
	}
	s := p.set.Load()
	if s.options.Policy != LeastTime {
		return
	}
	least := newest
	if r.Err != nil {
		sample, least = max(sample, failure), newestFailure
	}
	b.timing.add(int64(sample), s.now(), least)
}

// add takes a sample into the average, with no less than the given share. Losing
// a race here costs a sample.
func (t *timing) add(sample, now int64, least float64) {
	old := t.average.Load()
	next := sample
	if old > 0 {
		share := max(1-fade(now-t.stamp.Load()), least)
		next = old + int64(float64(sample-old)*share)
	}
	if t.average.CompareAndSwap(old, max(next, 1)) {
		t.stamp.Store(now)
	}
}

// now returns the average as it has faded since the last sample, in
// nanoseconds; 0 without a sample.
func (t *timing) now(now int64) float64 {
	return float64(t.average.Load()) * fade(now-t.stamp.Load())
}

// fade returns 1/2 to the power of age in half-lives, between whole ones
// linearly. A fade that ended in 0 would make a backend free of charge.
func fade(age int64) float64 {
	age = min(max(age, 0), 30<<halfLifeShift)
	whole := uint64(age) >> halfLifeShift
	part := float64(age&(1<<halfLifeShift-1)) / (1 << halfLifeShift)
	return (1 - part/2) / float64(uint64(1)<<whole)
}

// best is the best member so far by one measure.
type best struct {
	*member
	cost         float64
	far          int64
	seen, stride uint64
}

// consider makes m the best if its cost is lower, or the same and its turn
// earlier.
func (b *best) consider(m *member, cost float64, clock, stride uint64) {
	if b.member != nil && cost > b.cost {
		return
	}
	seen := m.turn.Load()
	far := ahead(seen, clock, stride)
	if b.member == nil || cost < b.cost || far < b.far {
		*b = best{m, cost, far, seen, stride}
	}
}

// leastTime picks the member with the least (sessions + 1) × time per weight. A
// member without a sample is taken to be as fast as the fastest that has one:
// it is tried soon, and its sessions then count against it until it has shown
// what it can do. Without any sample this is least connections.
func (p *Pool) leastTime(t *tier, not []*Backend, now int64) (b *Backend, full bool) {
	for {
		clock := p.clock.Load()
		full = false
		var known, unknown best
		fastest := 0.0
		for i := range t.members {
			m := &t.members[i]
			weight, stride := m.at(now)
			took := m.timing.now(now)
			if took > 0 && (fastest == 0 || took < fastest) {
				fastest = took
			}
			if tried(not, m.Backend) {
				continue
			}
			active := m.active.Load()
			if m.limit > 0 && active >= m.limit {
				full = true
				continue
			}
			cost := float64(active+1) / float64(weight)
			if took > 0 {
				known.consider(m, cost*took, clock, stride)
			} else {
				unknown.consider(m, cost, clock, stride)
			}
		}
		unknown.cost *= fastest
		pick := known
		if unknown.member != nil && (known.member == nil || unknown.cost <= known.cost) {
			pick = unknown
		}
		if pick.member == nil {
			return nil, full
		}
		if pick.enter(pick.limit) {
			p.advance(pick.Backend, pick.seen, pick.far, pick.stride, clock)
			return pick.Backend, false
		}
	}
}
