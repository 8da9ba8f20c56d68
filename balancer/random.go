package balancer

import (
	"math/bits"
	"slices"
)

// draws is how often randomTwo draws to find two members that would do. It is
// enough unless most members are full, tried or light.
const draws = 16

// sum prepares drawing by weight.
func (t *tier) sum() {
	if !slices.ContainsFunc(t.members, func(m member) bool { return m.weight != t.members[0].weight }) {
		return
	}
	t.sums = make([]int64, len(t.members))
	var total int64
	for i := range t.members {
		total += t.members[i].weight
		t.sums[i] = total
	}
}

// draw returns a member, each as often as its weight says.
func (t *tier) draw(random uint64) *member {
	if t.sums == nil {
		i, _ := bits.Mul64(random, uint64(len(t.members)))
		return &t.members[i]
	}
	x, _ := bits.Mul64(random, uint64(t.sums[len(t.sums)-1]))
	i, _ := slices.BinarySearch(t.sums, int64(x)+1)
	return &t.members[i]
}

// randomTwo draws two members by weight and picks the one with fewer sessions
// per weight, the first if they tie. If there are no two to be found it picks
// the one, and if there is none it looks at all.
func (p *Pool) randomTwo(t *tier, not []*Backend, now int64, random func() uint64) (b *Backend, full bool) {
	if len(t.members) == 1 {
		return p.least(t, not, now)
	}
	var first *member
	for range draws {
		m := t.draw(random())
		if m == first || tried(not, m.Backend) || m.full(m.limit) {
			continue
		}
		if m.rampEnd != 0 && float64(random()>>11)/(1<<53) >= m.ramp(now) {
			continue
		}
		if first == nil {
			first = m
			continue
		}
		if m = lighter(first, m, now); m.enter(m.limit) {
			return m.Backend, false
		}
		first = nil // others filled it meanwhile
	}
	if first != nil && first.enter(first.limit) {
		return first.Backend, false
	}
	return p.least(t, not, now)
}

// lighter returns the one with fewer sessions per weight, a if they tie: while
// the pool is idle, the draw alone decides and so the weights hold.
func lighter(a, b *member, now int64) *member {
	wa, _ := a.at(now)
	wb, _ := b.at(now)
	if b.active.Load()*wa < a.active.Load()*wb {
		return b
	}
	return a
}
