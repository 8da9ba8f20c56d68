package balancer

import (
	"sync/atomic"
	"time"
)

// maxWeight bounds weights, and weightUnit is what a weight of 1 counts
// within the pool, so that a share of it is still a whole number. Together they
// leave 2^33 sessions before comparing active/weight by multiplication
// overflows.
const (
	maxWeight  = 1 << 20
	weightUnit = 1 << 10
)

// maxShare is the highest share in percent, see Pool.SetShare.
const maxShare = 10_000

// Spec declares one backend of a pool. A Spec that was given to [Pool.Update]
// is not changed by the pool, and the caller must not change what Value refers
// to.
type Spec struct {
	// ID names the backend within its pool and decides, across updates, which
	// backend is the same one. The hash policies place backends by it.
	ID string

	// Weight is the backend's share relative to its peers: a backend of weight
	// 3 is given three sessions for each one of a backend of weight 1. A
	// backend of weight 0 or less is given none, whatever its state, and keeps
	// those it has; there is no default. Weights above 1048576 count as 1048576.
	Weight int

	// MaxConnections is the most sessions the backend has at once; 0 or less is
	// no limit. A lower limit ends no session: the backend is given none until
	// it is below the limit again.
	MaxConnections int

	// Tier orders backends that stand in for each other: those of a tier are
	// given sessions only while none of a lower tier is ready. 0 or less are
	// the primaries.
	Tier int

	// Backup puts a backend without a Tier into tier 1.
	Backup bool

	// Value is the caller's own, such as the address to dial. The pool only
	// carries it.
	Value any
}

func (s *Spec) tier() int {
	if s.Backup {
		return max(s.Tier, 1)
	}
	return max(s.Tier, 0)
}

// cacheLine is the distance that keeps two counters from slowing each other
// down: two lines of 64 bytes, because processors fetch them in pairs.
const cacheLine = 128

// Backend is the handle of one backend of a pool, the same one over all updates
// that keep its ID. Its methods may be called from any goroutine.
type Backend struct {
	id       string
	hash     uint64 // of id
	spec     atomic.Pointer[Spec]
	marks    atomic.Uint32
	override atomic.Int64 // of the weight; negative: none
	share    atomic.Int64 // percent

	// Guarded by the pool's mu. cold: it was down or ejected since it was last
	// given sessions. rampFrom: when it became ready, if it is ramping.
	cold     bool
	ramping  bool
	rampFrom int64

	// What each session writes lies apart from what each pick only reads. The
	// counters share a line because whoever writes one writes the others.
	_         [cacheLine]byte
	active    atomic.Int64
	total     atomic.Uint64
	failed    atomic.Uint64
	turn      atomic.Uint64
	timing    timing
	undialled atomic.Uint64
	_         [cacheLine]byte
}

func newBackend(s *Spec) *Backend {
	b := &Backend{id: s.ID, hash: hashString(s.ID)}
	b.spec.Store(s)
	b.override.Store(-1)
	b.share.Store(100)
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
// draining, or down if it was.
func (b *Backend) State() State { return marks(b.marks.Load()).state() }

// Marked reports whether the backend bears the mark s; for Ready, whether it
// bears none.
func (b *Backend) Marked(s State) bool {
	m := marks(b.marks.Load())
	return m.has(s) || s == Ready && m == 0
}

// Weight returns the weight the backend has by [Pool.SetWeight], or else by its
// Spec; neither its share nor a slow start is in it.
func (b *Backend) Weight() int {
	if o := b.override.Load(); o >= 0 {
		return int(o)
	}
	return min(max(b.spec.Load().Weight, 0), maxWeight)
}

// Share returns the percentage of its weight that counts, see [Pool.SetShare].
func (b *Backend) Share() int { return int(b.share.Load()) }

// Active returns how many sessions are acquired and not yet released.
func (b *Backend) Active() int { return int(b.active.Load()) }

// Total returns how many sessions were ever acquired.
func (b *Backend) Total() uint64 { return b.total.Load() }

// Failures returns how many sessions were released with an Err.
func (b *Backend) Failures() uint64 { return b.failed.Load() }

// DialFailed counts a dial that failed by the backend's fault. It says nothing of the
// session it was for: one dial may be for several, and Release counts what failed.
func (b *Backend) DialFailed() { b.undialled.Add(1) }

// DialFailures returns how often DialFailed was called.
func (b *Backend) DialFailures() uint64 { return b.undialled.Load() }

// Latency returns the moving average of dial plus first byte, as of the last
// sample; 0 without one. Only LeastTime takes samples.
func (b *Backend) Latency() time.Duration { return time.Duration(b.timing.average.Load()) }

// scaled is the weight that counts, in weightUnits; 0 if it is none.
func (b *Backend) scaled() int64 {
	w := int64(b.Weight()) * weightUnit * b.share.Load() / 100
	if w == 0 && b.Weight() > 0 && b.share.Load() > 0 {
		return 1
	}
	return min(w, maxWeight*weightUnit)
}

// full reports whether the backend has limit sessions; a limit of 0 is none.
func (b *Backend) full(limit int64) bool { return limit > 0 && b.active.Load() >= limit }

// enter counts one more session unless the backend has limit sessions already.
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
