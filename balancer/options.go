package balancer

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Policy is how a pool chooses among the backends that may be given a session.
type Policy uint8

const (
	// LeastConnections picks the backend with the fewest sessions per unit of
	// weight; those that tie take turns. The zero Policy.
	LeastConnections Policy = iota
	// RoundRobin picks the backends in turn, as often as their weights say and
	// as evenly interleaved as they can be, however many sessions each has.
	RoundRobin
	// RandomTwo draws two backends by weight and picks the one with fewer
	// sessions per unit of weight (Mitzenmacher, "The Power of Two Choices in
	// Randomized Load Balancing", IEEE TPDS 2001). It looks at two backends
	// however large the pool is.
	RandomTwo
	// SourceHash picks by the client's address, and SNIHash by the server name,
	// always the same backend for the same one, on every balancer whose pool
	// has the same backends. A session without the key is picked by least
	// connections.
	SourceHash
	// SNIHash is SourceHash by [Pick.Name].
	SNIHash
	// LeastTime picks the backend with the least (sessions + 1) × time per unit
	// of weight, where time is the moving average of dial plus first byte.
	LeastTime
)

// Policies returns the names of all policies, by Policy and so the default
// first.
func Policies() []string {
	return []string{"least-connections", "round-robin", "random-two", "source-hash", "sni-hash", "least-time"}
}

// ParsePolicy returns the policy of that name.
func ParsePolicy(name string) (Policy, error) {
	if i := slices.Index(Policies(), name); i >= 0 {
		return Policy(i), nil
	}
	return 0, fmt.Errorf("policy %q, want one of %q", name, Policies())
}

// String returns the name that ParsePolicy takes.
func (p Policy) String() string {
	if names := Policies(); int(p) < len(names) {
		return names[p]
	}
	return fmt.Sprintf("Policy(%d)", uint8(p))
}

// Options are the settings of a pool. The zero value is least connections with
// nothing else.
type Options struct {
	// Policy chooses among the backends. A change keeps every count; hash
	// policies build their tables in Configure, which takes milliseconds.
	Policy Policy

	// SlowStart is how long a backend that comes back from Down or Ejected, or
	// joins a pool that has ready backends, needs to reach its full weight: it
	// rises linearly from a twentieth. 0 is at once. A backend that was only
	// drained is at full weight at once, and so are those of a pool's first
	// Update.
	SlowStart time.Duration

	// PanicBelow is the share of ready backends, 0 to 1, below which the pool
	// is in panic and tries all: those marked Down or Ejected as well, but none
	// that is Draining or of weight 0. The share is that of the tier in use,
	// which is the lowest with a ready backend; backends that are Draining or
	// of weight 0 do not count in it. Only when no tier has a ready backend is
	// every tier tried, in order. 0 is never; a share that one ready backend
	// exceeds, such as 0.01, is only when none is ready.
	PanicBelow float64

	// QueueSize is the most sessions that wait at once, see [Pool.Wait]; 0 or
	// less is no queue. Lowered, it ends no waiting.
	QueueSize int

	// OnPanic, if not nil, is called when the pool gets into panic and out of
	// it, in that order, by whoever made the change: it may pick and read, and
	// must not change the pool.
	OnPanic func(Panic)

	// Now is the clock, by default time.Now. Acquire reads it only while a
	// backend is in its slow start, or with LeastTime. Rand is the randomness
	// of RandomTwo, by default that of math/rand/v2. Both are called from any
	// goroutine that uses the pool.
	Now  func() time.Time
	Rand func() uint64
}

// Panic is what [Options.OnPanic] is told.
type Panic struct {
	// On says whether the pool is in panic now.
	On bool
	// Tier is the tier whose share is meant, or -1 if no backend is ready.
	Tier int
	// Ready of Total backends, which are those of that tier, or all, that are
	// neither Draining nor of weight 0.
	Ready, Total int
}

func (o Options) withDefaults() Options {
	if o.Policy > LeastTime {
		o.Policy = LeastConnections
	}
	o.SlowStart = max(o.SlowStart, 0)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Uint64
	}
	return o
}
