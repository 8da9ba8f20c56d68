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
	name string
	set  atomic.Pointer[set]

	// clock is the virtual time of the turns; see least. It is written about
	// once a round, so it does not share a line with the pointer above, which
	// every pick reads.
	_     [cacheLine]byte
	clock atomic.Uint64
	_     [cacheLine]byte

	mu      sync.Mutex // guards the fields below, and writing set
	byID    map[string]*Backend
	removed map[string]*Backend // that had sessions when they were last looked at
}

// Pick describes the session that needs a backend.
type Pick struct {
	// Client is the client's address, and Name the server name it asked for.
	// Least connections uses neither.
	Client netip.Addr
	Name   string

	// Tried holds the backends that were picked for this session and failed:
	// none of them is picked again. It is searched, so it should be short, and
	// it is not kept.
	Tried []*Backend
}

// Result is what became of a session, given when it is released.
type Result struct {
	// Dial is how long connecting to the backend took, and FirstByte how long
	// the backend's first byte took from there on; 0 if it did not come to that.
	Dial, FirstByte time.Duration

	// Err is why the session failed by the backend's fault; else nil.
	Err error
}

// New returns an empty pool. The name is for the caller's use.
func New(name string) *Pool {
	p := &Pool{name: name, byID: make(map[string]*Backend), removed: make(map[string]*Backend)}
	p.set.Store(newSet(nil))
	return p
}

// Name returns the name given to New.
func (p *Pool) Name() string { return p.name }

// Update makes specs the backends of the pool and returns the IDs of those that
// are new and of those that are gone, in spec order and in the former order. Of
// several specs with the same ID the first counts.
//
// A backend whose ID was there before keeps its handle, counts and state, and
// takes its weight, limit, tier and value from the new Spec. A new one starts
// ready. A removed one is draining: its handle stays valid until the last of
// its sessions is released. Should its ID return before that, so does the
// handle, with its counts and ready, so that MaxConnections holds for the
// sessions of both lives together.
func (p *Pool) Update(specs []Spec) (added, removed []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
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
			b.state.Store(uint32(Draining))
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
	p.set.Store(newSet(next))
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
	p.readyLocked(b)
	return b
}

func (p *Pool) readyLocked(b *Backend) {
	b.state.Store(uint32(Ready))
	// The turns it missed are not made up for.
	b.turn.Store(p.clock.Load())
}

// SetState sets the state of the backend with the given ID and reports whether
// the pool has one. A session that is being acquired at the same instant may
// still get the backend.
func (p *Pool) SetState(id string, s State) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.byID[id]
	if b == nil {
		return false
	}
	if b.State() == s {
		return true
	}
	if s == Ready {
		p.readyLocked(b)
	} else {
		b.state.Store(uint32(s))
	}
	p.set.Store(newSet(p.set.Load().all))
	return true
}

// Backends returns the backends of the pool in spec order. The slice is the
// caller's.
func (p *Pool) Backends() []*Backend { return slices.Clone(p.set.Load().all) }

// Ready returns how many backends may be given new sessions: those that are
// ready and have a weight, backups included.
func (p *Pool) Ready() int {
	s := p.set.Load()
	return len(s.primary) + len(s.backup)
}
