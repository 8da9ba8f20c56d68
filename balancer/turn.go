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

// ahead returns how far the turn of a member is ahead of the clock, no more than
// arrears behind it. Virtual time wraps around: what counts is the distance.
func ahead(turn, clock, stride uint64) int64 {
	return max(int64(turn-clock), -arrears*int64(stride))
}

// hastenLocked brings the turn of b no more than a stride ahead of the clock, as
// it may be if its weight has grown.
func (p *Pool) hastenLocked(b *Backend, stride uint64) {
	clock, seen := p.clock.Load(), b.turn.Load()
	if int64(seen-clock) > int64(stride) {
		b.turn.CompareAndSwap(seen, clock+stride)
	}
}

// advance moves the turn of a member that was picked when its turn was seen and
// so far ahead, and the clock. Losing a race here costs a turn, never a count.
func (p *Pool) advance(b *Backend, seen uint64, far int64, stride, clock uint64) {
	if !b.turn.CompareAndSwap(seen, clock+uint64(far)+stride) {
		b.turn.Add(stride)
	}
	p.tick(clock, far)
}

// tick moves the clock to a turn that is so far ahead of it.
func (p *Pool) tick(clock uint64, far int64) {
	if far > 0 {
		p.clock.CompareAndSwap(clock, clock+uint64(far))
	}
}

// least picks the member with the fewest sessions per weight, of those that tie
// the one whose turn is the lowest.
func (p *Pool) least(t *tier, not []*Backend, now int64) (b *Backend, full bool) {
	for {
		clock := p.clock.Load()
		full = false
		var best *member
		bestActive, bestWeight := int64(1), int64(0) // more sessions per weight than any has
		var bestFar int64
		var bestSeen, bestStride uint64
		for i := range t.members {
			m := &t.members[i]
			active := m.active.Load()
			weight, stride := m.weight, m.stride
			if m.rampEnd != 0 {
				weight, stride = m.at(now)
			}
			// Cross-multiplied: active/weight of m against best's.
			mine, its := active*bestWeight, bestActive*weight
			if mine > its {
				continue
			}
			seen := m.turn.Load()
			far := ahead(seen, clock, stride)
			if mine == its && far >= bestFar {
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
			bestFar, bestSeen, bestStride = far, seen, stride
		}
		if best == nil {
			return nil, full
		}
		if best.enter(best.limit) {
			p.advance(best.Backend, bestSeen, bestFar, bestStride, clock)
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
		var bestFar, bestMiddle int64
		var bestSeen, bestStride uint64
		for i := range t.members {
			m := &t.members[i]
			stride := m.stride
			if m.rampEnd != 0 {
				_, stride = m.at(now)
			}
			seen := m.turn.Load()
			far := ahead(seen, clock, stride)
			middle := far + int64(stride/2)
			if best != nil && middle >= bestMiddle || tried(not, m.Backend) {
				continue
			}
			if m.full(m.limit) {
				full = true
				continue
			}
			best, bestFar, bestMiddle, bestSeen, bestStride = m, far, middle, seen, stride
		}
		if best == nil {
			return nil, full
		}
		// Whoever moves the turn has it, so that no two sessions share one.
		if best.turn.CompareAndSwap(bestSeen, clock+uint64(bestFar)+bestStride) && best.enter(best.limit) {
			p.tick(clock, bestFar)
			return best.Backend, false
		}
	}
}
