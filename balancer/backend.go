package balancer

import (
	"strconv"
	"sync/atomic"
)

// State says whether a backend may be given new sessions. Its sessions that
// exist already are the caller's business in every state.
type State uint8

const (
	// Ready backends are given new sessions. A new backend is ready until
	// SetState says otherwise: not knowing is no reason to refuse.
	Ready State = iota
	// Draining backends keep the sessions they have and are given no new one.
	Draining
	// Down backends are given no new session, because they would not serve it.
	Down
)

// String returns "ready", "draining" or "down".
func (s State) String() string {
	switch s {
	case Ready:
		return "ready"
	case Draining:
		return "draining"
	case Down:
		return "down"
	}
	return "State(" + strconv.Itoa(int(s)) + ")"
}

// maxWeight bounds weights so that comparing active/weight by multiplication
// cannot overflow: 2^20 leaves 2^43 sessions.
const maxWeight = 1 << 20

// Spec declares one backend of a pool. A Spec that was given to [Pool.Update]
// is not changed by the pool, and the caller must not change what Value refers
// to.
type Spec struct {
	// ID names the backend within its pool and decides, across updates, which
	// backend is the same one.
	ID string

	// Weight is the backend's share relative to its peers: a backend of weight
	// 3 is given three sessions for each one of a backend of weight 1. A
	// backend of weight 0 or less is given none, whatever its state; there is
	// no default. Weights above 1048576 count as 1048576.
	Weight int

	// MaxConnections is the most sessions the backend has at once; 0 or less is
	// no limit. A lower limit ends no session: the backend is given none until
	// it is below the limit again.
	MaxConnections int

	// Backup backends are given sessions only while no other one is ready.
	Backup bool

	// Value is the caller's own, such as the address to dial. The pool only
	// carries it.
	Value any
}

func (s *Spec) weight() int64 {
	return int64(min(max(s.Weight, 0), maxWeight))
}

// cacheLine is the distance that keeps two counters from slowing each other
// down: two lines of 64 bytes, because processors fetch them in pairs.
const cacheLine = 128

// Backend is the handle of one backend of a pool, the same one over all updates
// that keep its ID. Its methods may be called from any goroutine.
type Backend struct {
	id    string
	spec  atomic.Pointer[Spec]
	state atomic.Uint32

	// What each session writes lies apart from what each pick only reads. The
	// three counters share a line because whoever writes one writes the others.
	_      [cacheLine]byte
	active atomic.Int64
	total  atomic.Uint64
	turn   atomic.Uint64
	_      [cacheLine]byte
}

func newBackend(s *Spec) *Backend {
	b := &Backend{id: s.ID}
	b.spec.Store(s)
	return b
}

// ID returns the backend's name within its pool. It never changes.
func (b *Backend) ID() string { return b.id }

// Value returns the Value of the newest Spec. Whoever needs the same value for
// a whole session keeps it.
func (b *Backend) Value() any { return b.spec.Load().Value }

// Spec returns the newest Spec of the backend; of a removed backend, its last.
func (b *Backend) Spec() Spec { return *b.spec.Load() }

// State returns the backend's state. A backend removed from its pool is
// draining.
func (b *Backend) State() State { return State(b.state.Load()) }

// Active returns how many sessions are acquired and not yet released.
func (b *Backend) Active() int { return int(b.active.Load()) }

// Total returns how many sessions were ever acquired.
func (b *Backend) Total() uint64 { return b.total.Load() }

// enter counts one more session unless the backend has limit sessions already;
// a limit of 0 is none.
func (b *Backend) enter(limit int64) bool {
	if limit <= 0 {
		b.active.Add(1)
		b.total.Add(1)
		return true
	}
	// Adding first and stepping back when above the limit would let others
	// observe the excess, and be refused a slot that is free.
	for n := b.active.Load(); n < limit; n = b.active.Load() {
		if b.active.CompareAndSwap(n, n+1) {
			b.total.Add(1)
			return true
		}
	}
	return false
}
