package balancer

import (
	"cmp"
	"slices"
	"time"
)

// set is one immutable snapshot of a pool: every backend in spec order, and of
// those the ones that may be picked, by tier.
type set struct {
	all     []*Backend
	tiers   []tier // that have members, the lowest first
	ready   int    // members of all tiers
	options Options
	base    time.Time
	panic   Panic

	// timed says that picking needs the time. rampEnd is when the last slow
	// start is over, and settled the set from then on.
	timed   bool
	rampEnd int64
	settled *set
}

func (s *set) now() int64 { return int64(s.options.Now().Sub(s.base)) }

// tier is what may be picked at one level.
type tier struct {
	members []member

	// sums are the running totals of the weights, for RandomTwo; nil if all
	// weigh the same.
	sums []int64

	// table is the Maglev table of the hash policies, over all backends of the
	// tier, ready or not. places leads from its indices to members, -1 to none.
	// thin says that members which count for less than their weight pass
	// clients on: some member does not.
	table  *table
	places []int32
	thin   bool
}

// member is a backend that may be picked, with what a pick needs to know of it
// side by side in memory.
type member struct {
	*Backend
	weight int64  // in weightUnits, 1 to maxWeight*weightUnit
	limit  int64  // 0: none
	stride uint64 // how far one session moves its turn

	// A slow start lasts from rampFrom to rampEnd, which is 0 if there is none.
	rampFrom, rampEnd int64
}

// rampStart is the share of its weight with which a backend begins its slow
// start.
const rampStart = 0.05

// ramp returns the share of its weight that a backend in its slow start has.
func (m *member) ramp(now int64) float64 {
	if m.rampEnd == 0 || now >= m.rampEnd {
		return 1
	}
	done := float64(max(now-m.rampFrom, 0)) / float64(m.rampEnd-m.rampFrom)
	return rampStart + (1-rampStart)*done
}

// at returns the weight and stride that m has now.
func (m *member) at(now int64) (weight int64, stride uint64) {
	if m.rampEnd == 0 {
		return m.weight, m.stride
	}
	w := max(int64(float64(m.weight)*m.ramp(now)), 1)
	return w, strideOf(w)
}

func strideOf(weight int64) uint64 { return uint64(maxWeight * weightUnit * weightUnit / weight) }

// draft is a tier being built: its backends that have a weight, even if their share of
// it is 0, so that a share moves nobody's clients but its own in the hash tables.
type draft struct {
	number   int
	declared []*Backend
	wanted   int // not draining, and with a share
	ready    int
	panicked bool
}

// buildLocked makes the snapshot of what the pool is now.
func (p *Pool) buildLocked(all []*Backend) *set {
	s := &set{all: all, options: p.options, base: p.base, timed: p.options.Policy == LeastTime}
	drafts := draftsOf(all)
	s.panic = panicOf(drafts, p.options.PanicBelow)
	tables := make(map[int]*table)
	for _, d := range drafts {
		t := tier{members: make([]member, 0, d.ready)}
		for _, b := range d.declared {
			m := marks(b.marks.Load())
			if b.scaled() > 0 && (m == 0 || d.panicked && !m.has(Draining)) {
				t.members = append(t.members, p.memberLocked(b))
			}
		}
		if len(t.members) == 0 {
			continue
		}
		switch p.options.Policy {
		case RandomTwo:
			t.sum()
		case SourceHash, SNIHash:
			t.table = p.tableLocked(d)
			tables[d.number] = t.table
			t.index()
		default:
		}
		for i := range t.members {
			s.rampEnd = max(s.rampEnd, t.members[i].rampEnd)
		}
		s.ready += len(t.members)
		s.tiers = append(s.tiers, t)
	}
	p.tables = tables
	if s.rampEnd > 0 {
		s.timed = true
		s.settled = s.withoutRamps()
	}
	return s
}

// withoutRamps returns s as it is when all slow starts are over.
func (s *set) withoutRamps() *set {
	c := *s
	c.timed, c.rampEnd = c.options.Policy == LeastTime, 0
	c.tiers = slices.Clone(s.tiers)
	for i := range c.tiers {
		t := &c.tiers[i]
		t.members = slices.Clone(t.members)
		for j := range t.members {
			t.members[j].rampFrom, t.members[j].rampEnd = 0, 0
		}
		t.thin = t.thins()
	}
	return &c
}

// draftsOf sorts the backends that have a weight into their tiers.
func draftsOf(all []*Backend) []*draft {
	var drafts []*draft
	for _, b := range all {
		if b.Weight() == 0 {
			continue
		}
		n := b.spec.Load().tier()
		i, found := slices.BinarySearchFunc(drafts, n, func(d *draft, n int) int { return cmp.Compare(d.number, n) })
		if !found {
			drafts = slices.Insert(drafts, i, &draft{number: n})
		}
		d := drafts[i]
		d.declared = append(d.declared, b)
		if b.scaled() == 0 {
			continue
		}
		m := marks(b.marks.Load())
		if !m.has(Draining) {
			d.wanted++
		}
		if m == 0 {
			d.ready++
		}
	}
	return drafts
}

// panicOf decides whether too few backends are ready, and notes at the tiers
// concerned that all are tried.
func panicOf(drafts []*draft, below float64) Panic {
	p := Panic{Tier: -1}
	for _, d := range drafts {
		if d.ready > 0 {
			p = Panic{Tier: d.number, Ready: d.ready, Total: d.wanted}
			break
		}
		p.Total += d.wanted
	}
	p.On = p.Total > 0 && float64(p.Ready)/float64(p.Total) < below
	for _, d := range drafts {
		d.panicked = p.On && (p.Tier < 0 || p.Tier == d.number)
	}
	return p
}

func (p *Pool) memberLocked(b *Backend) member {
	w := b.scaled()
	m := member{Backend: b, weight: w, limit: int64(max(b.spec.Load().MaxConnections, 0)), stride: strideOf(w)}
	if b.ramping && p.options.SlowStart > 0 {
		m.rampFrom, m.rampEnd = b.rampFrom, b.rampFrom+int64(p.options.SlowStart)
		return m // which may wait for as long as its first, small weight says
	}
	p.hastenLocked(b, m.stride)
	return m
}
