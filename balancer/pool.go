package balancer

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Pool is a set of backends that can serve the same sessions. All its methods
// may be called from any goroutine.
type Pool struct {
	name   string
	base   time.Time
	set    atomic.Pointer[set]
	panics atomic.Uint64
	queue  queue

	// clock is the virtual time of the turns; see least. It is written about
	// once a round, so it does not share a line with what every pick reads.
	_     [cacheLine]byte
	clock atomic.Uint64
	_     [cacheLine]byte

	mu      sync.Mutex // guards the fields below, and writing set
	options Options
	byID    map[string]*Backend
	removed map[string]*Backend // that had sessions when they were last looked at
	tables  map[int]*table      // by tier
}

// Pick describes the session that needs a backend.
type Pick struct {
	// Client is the client's address, which SourceHash picks by, and Name the
	// server name it asked for, which SNIHash picks by. An IPv6 address counts
	// whole, without its zone; an IPv4 address mapped into IPv6 is the IPv4
	// address. The name counts as it stands: in lower case, without a dot at
	// its end.
	Client netip.Addr
	Name   string

	// Tried holds the backends that were picked for this session and failed:
	// none of them is picked again. It is searched, so it should be short, and
	// it is not kept.
	Tried []*Backend
}

// Result is what became of a session, given when it is released, or before with
// [Pool.Observe].
type Result struct {
	// Dial is how long connecting to the backend took, and FirstByte how long
	// the backend's first byte took from there on; 0 if it did not come to that.
	Dial, FirstByte time.Duration

	// Err is why the session failed by the backend's fault; else nil.
	Err error
}

// New returns an empty pool of the default Options. The name is for the
// caller's use.
func New(name string) *Pool {
	p := &Pool{
		name: name, base: time.Now(), options: Options{}.withDefaults(),
		byID: make(map[string]*Backend), removed: make(map[string]*Backend),
	}
	p.set.Store(p.buildLocked(nil))
	return p
}

// Name returns the name given to New.
func (p *Pool) Name() string { return p.name }

// Configure sets the options. Every count, mark and weight stays; a value that
// makes no sense counts as the default.
func (p *Pool) Configure(o Options) {
	p.mu.Lock()
	p.options = o.withDefaults()
	p.queue.size.Store(int64(max(o.QueueSize, 0)))
	p.publishLocked(p.set.Load().all)
	p.mu.Unlock()
	p.serve()
}

// Update makes specs the backends of the pool and returns the IDs of those that
// are new and of those that are gone, in spec order and in the former order. Of
// several specs with the same ID the first counts.
//
// A backend whose ID was there before keeps its handle, counts, marks and
// weight by SetWeight and SetShare, and takes its declared weight, limit, tier
// and value from the new Spec. A new one starts ready. A removed one is
// draining: its handle stays valid until the last of its sessions is released.
// Should its ID return before that, so does the handle, with its counts and
// ready, so that MaxConnections holds for the sessions of both lives together.
func (p *Pool) Update(specs []Spec) (added, removed []string) {
	p.mu.Lock()
	next := make([]*Backend, 0, len(specs))
	byID := make(map[string]*Backend, len(specs))
	for i := range specs {
		s := specs[i]
		if byID[s.ID] != nil {
			continue
		}
		b := p.byID[s.ID]
		if b == nil {
			b = p.enlistLocked(&s)
			added = append(added, s.ID)
		}
		b.spec.Store(&s)
		byID[s.ID] = b
		next = append(next, b)
	}
	for _, b := range p.set.Load().all {
		if byID[b.id] == nil {
			b.marks.Store(b.marks.Load() | uint32(markOf(Draining)))
			p.removed[b.id] = b
			removed = append(removed, b.id)
		}
	}
	for id, b := range p.removed {
		if b.Active() == 0 {
			delete(p.removed, id)
		}
	}
	p.byID = byID
	p.publishLocked(next)
	p.mu.Unlock()
	p.serve()
	return added, removed
}

// enlistLocked returns the handle of a backend that is new to the pool, or that
// returns to it while sessions of its former life are still there.
func (p *Pool) enlistLocked(s *Spec) *Backend {
	b := p.removed[s.ID]
	if b == nil {
		b = newBackend(s)
	}
	delete(p.removed, s.ID)
	b.override.Store(-1)
	b.share.Store(100)
	b.cold = p.set.Load().ready > 0
	p.remarkLocked(b, 0)
	return b
}

// remarkLocked gives b these marks, and begins its slow start if it is ready by
// that.
func (p *Pool) remarkLocked(b *Backend, m marks) {
	b.marks.Store(uint32(m))
	if m != 0 {
		b.cold = b.cold || m.has(Down) || m.has(Ejected)
		b.ramping = false
		return
	}
	b.ramping, b.rampFrom = b.cold, int64(p.options.Now().Sub(p.base))
	b.cold = false
	// The turns it missed are not made up for.
	b.turn.Store(p.clock.Load())
}

// publishLocked makes the snapshot that picks see and reports a panic that
// begins or ends with it.
func (p *Pool) publishLocked(all []*Backend) {
	s := p.buildLocked(all)
	was := p.set.Load().panic.On
	p.set.Store(s)
	if s.panic.On == was {
		return
	}
	if s.panic.On {
		p.panics.Add(1)
	}
	if p.options.OnPanic != nil {
		p.options.OnPanic(s.panic)
	}
}

// change does f to the backend with the given ID, publishes the outcome if f
// reports one, and reports whether the pool has such a backend.
func (p *Pool) change(id string, f func(*Backend) bool) bool {
	p.mu.Lock()
	b := p.byID[id]
	changed := b != nil && f(b)
	if changed {
		p.publishLocked(p.set.Load().all)
	}
	p.mu.Unlock()
	if changed {
		p.serve()
	}
	return b != nil
}

// Mark sets or clears one mark of the backend with the given ID, which leaves
// the others as they are, and reports whether the pool has such a backend. A
// session that is being acquired at the same instant may still get the backend.
// To mark something Ready does nothing.
func (p *Pool) Mark(id string, s State, on bool) bool {
	return p.change(id, func(b *Backend) bool {
		was := marks(b.marks.Load())
		m := was &^ markOf(s)
		if on {
			m |= markOf(s)
		}
		if m == was {
			return false
		}
		p.remarkLocked(b, m)
		return true
	})
}

// SetState gives the backend the mark s and takes all others from it; Ready
// takes all. It is Mark for a caller that alone decides of a backend.
func (p *Pool) SetState(id string, s State) bool {
	return p.change(id, func(b *Backend) bool {
		if marks(b.marks.Load()) == markOf(s) {
			return false
		}
		p.remarkLocked(b, markOf(s))
		return true
	})
}

// SetWeight gives the backend with the given ID the weight n instead of its
// declared one, until a negative n gives that back, and reports whether the
// pool has such a backend. Updates leave it as it is; only a backend that leaves
// the pool loses it, as it does its share. Weight 0 takes new sessions from it.
func (p *Pool) SetWeight(id string, n int) bool {
	return p.change(id, func(b *Backend) bool {
		n := int64(min(max(n, -1), maxWeight))
		return b.override.Swap(n) != n
	})
}

// SetShare makes the backend with the given ID count for percent of its weight,
// whichever that is, until another call; it begins with 100. Shares below 0
// count as 0, which takes new sessions from it, those above 10000 as 10000. It
// reports whether the pool has such a backend. The hash policies take no
// notice of what is above 100.
func (p *Pool) SetShare(id string, percent int) bool {
	return p.change(id, func(b *Backend) bool {
		n := int64(min(max(percent, 0), maxShare))
		return b.share.Swap(n) != n
	})
}

// Backends returns the backends of the pool in spec order. The slice is the
// caller's.
func (p *Pool) Backends() []*Backend { return slices.Clone(p.set.Load().all) }

// Ready returns how many backends may be given new sessions, of all tiers:
// those that are ready and have a weight, and in panic those that are tried.
func (p *Pool) Ready() int { return p.set.Load().ready }

// Policy returns the policy in force.
func (p *Pool) Policy() Policy { return p.set.Load().options.Policy }

// Panicking reports whether too few backends are ready, so that all are tried.
func (p *Pool) Panicking() bool { return p.set.Load().panic.On }

// Panics returns how often the pool got into panic.
func (p *Pool) Panics() uint64 { return p.panics.Load() }
