package balancer

// A turn is the virtual time at which a member is next due: each session moves
// it by the stride, which is the inverse of the weight. The clock of the pool
// is the highest turn that was picked. A member that was busy falls behind it,
// and makes up for a few turns but not for an hour's: see arrears. (Start-time
// fair queueing, Goyal, Vin and Cheng, SIGCOMM 1996, with sessions for packets.)

// arrears is how many turns a member may make up for. With none, a member would
// lose its turn to each session of an instant that was there when it was due, and
// goroutines that run in step would starve some members; with no bound, a member
// that was long busy would win every tie for as long.
const arrears = 8

// due returns the turn of a member: what it has, but no more than arrears
// behind the clock, and no more than a stride ahead of it, as it may be whose
// weight has grown.
func due(turn, clock, stride uint64) uint64 {
	if low := clock - arrears*stride; before(turn, low) {
		return low
	}
	if high := clock + stride; before(high, turn) {
		return high
	}
	return turn
}

// advance moves the turn of a member that was picked at turn, when seen was what
// it had, and the clock. Losing a race here costs a turn, never a count.
func (p *Pool) advance(b *Backend, seen, turn, stride, clock uint64) {
	if !b.turn.CompareAndSwap(seen, turn+stride) {
		b.turn.Add(stride)
	}
	p.tick(clock, turn)
}

// tick moves the clock to turn if that is later.
func (p *Pool) tick(clock, turn uint64) {
	if before(clock, turn) {
		p.clock.CompareAndSwap(clock, turn)
	}
}

// before reports whether virtual time a lies before b. Virtual time wraps
// around: what counts is the distance.
func before(a, b uint64) bool { return int64(a-b) < 0 }

// least picks the member with the fewest sessions per weight, of those that tie
// the one whose turn is the lowest.
func (p *Pool) least(t *tier, not []*Backend, now int64) (b *Backend, full bool) {
	for {
		clock := p.clock.Load()
		full = false
		var best *member
		var bestActive, bestWeight int64
		var bestSeen, bestTurn, bestStride uint64
		for i := range t.members {
			m := &t.members[i]
			active := m.active.Load()
			weight, stride := m.weight, m.stride
			if m.rampEnd != 0 {
				weight, stride = m.at(now)
			}
			// Cross-multiplied: active/weight of m against best's.
			if best != nil && active*bestWeight > bestActive*weight {
				continue
			}
			seen := m.turn.Load()
			turn := due(seen, clock, stride)
			if best != nil && active*bestWeight == bestActive*weight && !before(turn, bestTurn) {
				continue
			}
			if tried(not, m.Backend) {
				continue
			}
			if m.limit > 0 && active >= m.limit {
				full = true
				continue
			}
			best, bestActive, bestWeight = m, active, weight
			bestSeen, bestTurn, bestStride = seen, turn, stride
		}
		if best == nil {
			return nil, full
		}
		if best.enter(best.limit) {
			p.advance(best.Backend, bestSeen, bestTurn, bestStride, clock)
			return best.Backend, false
		}
		// Others filled it meanwhile: look for the next best.
	}
}

// roundRobin picks the member whose turn comes first. What counts is the middle
// of the turn: of weights 5, 1 and 1 the light ones then come between the
// sessions of the heavy one and not at once after the first (Sainte-Laguë's
// order).
func (p *Pool) roundRobin(t *tier, not []*Backend, now int64) (b *Backend, full bool) {
	for {
		clock := p.clock.Load()
		full = false
		var best *member
		var bestSeen, bestTurn, bestStride, bestKey uint64
		for i := range t.members {
			m := &t.members[i]
			stride := m.stride
			if m.rampEnd != 0 {
				_, stride = m.at(now)
			}
			seen := m.turn.Load()
			turn := due(seen, clock, stride)
			key := turn + stride/2
			if best != nil && !before(key, bestKey) || tried(not, m.Backend) {
				continue
			}
			if m.full(m.limit) {
				full = true
				continue
			}
			best, bestSeen, bestTurn, bestStride, bestKey = m, seen, turn, stride, key
		}
		if best == nil {
			return nil, full
		}
		// Whoever moves the turn has it, so that no two sessions share one.
		if best.turn.CompareAndSwap(bestSeen, bestTurn+bestStride) && best.enter(best.limit) {
			p.tick(clock, bestTurn)
			return best.Backend, false
		}
	}
}
