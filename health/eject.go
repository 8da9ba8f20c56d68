package health

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"
)

// EjectOptions say when a backend is ejected and for how long. With Failures and
// Ratio 0 none ever is. A zero field is its default.
type EjectOptions struct {
	// Failures is how many failures in a row eject a backend. Default 0: none do.
	Failures int

	// Ratio is the share of failures among the results of a window that ejects a
	// backend, above 0 and at most 1. Default 0: none does.
	Ratio float64

	// Window is how long a window is. One begins with a failure, so that a
	// backend without failures need not be counted. Default 10s.
	Window time.Duration

	// MinResults is how many results a window must hold for Ratio to count.
	// Default 20.
	MinResults int

	// For is how long the first ejection lasts; each further one lasts twice as
	// long as the one before. Default 10s.
	For time.Duration

	// Max is the longest ejection. Default 5m; at least For.
	Max time.Duration

	// MaxEjected is the largest share of a pool's backends that is ejected at one
	// time, at most 1. Default 0.5.
	MaxEjected float64
}

func (o EjectOptions) withDefaults() EjectOptions {
	if o.Window <= 0 {
		o.Window = 10 * time.Second
	}
	if o.MinResults <= 0 {
		o.MinResults = 20
	}
	if o.For <= 0 {
		o.For = 10 * time.Second
	}
	if o.Max <= 0 {
		o.Max = 5 * time.Minute
	}
	o.Max = max(o.Max, o.For)
	if o.MaxEjected <= 0 {
		o.MaxEjected = 0.5
	}
	return o
}

// EjectPool is a pool whose backends may be ejected.
type EjectPool struct {
	// Name names the pool, uniquely among those of one ejector.
	Name string

	// Options may change from one update to the next; an ejection that lasts
	// keeps its end.
	Options EjectOptions

	// Backends are the IDs of all backends of the pool.
	Backends []string
}

// Ejection says that a backend is ejected, or that its ejection is over.
type Ejection struct {
	Pool, ID string

	// Ejected is whether the backend is now ejected.
	Ejected bool

	// Reason says why the backend is ejected: "5 failures in a row: connect:
	// connection refused"; "" if it is not.
	Reason string

	// At is when it happened, Until when the ejection will be over; zero if the
	// backend is not ejected.
	At, Until time.Time

	// Level says how long the ejection lasts: For at level 1, twice that at 2, and
	// so on.
	Level int
}

// Ejector takes backends out of use for a time because of what sessions met, be
// their probes as they may. An ejection is ended by time or by [Ejectable.Return],
// not by a probe that passes.
//
// A backend that stays in use after an ejection for as long as that lasted has its
// next one shortened by half, and so on.
//
// It never ejects more of a pool than MaxEjected allows, nor the last backend that
// is ready, see [Ejectable.SetReady]. A backend spared by one of these rules is
// ejected at the next failure that finds them kept; one that is ejected stays so
// although the others go down.
//
// All methods may be called from any goroutine.
type Ejector struct {
	report func(Ejection)
	wake   chan struct{} // 1 deep: there is something to report, or another end to wait for

	mu      sync.Mutex // guards the fields below; taken after that of an Ejectable
	pools   map[string]*ejectPool
	ejected map[*Ejectable]struct{}
	pending []Ejection // not yet reported
}

// ejectPool is a pool of an ejector; it is immutable.
type ejectPool struct {
	name     string
	backends map[string]*Ejectable
}

// NewEjector returns an Ejector without pools. It calls report for each ejection
// and for its end, from the goroutine of Run and without a lock held.
func NewEjector(report func(Ejection)) *Ejector {
	return &Ejector{
		report:  report,
		wake:    make(chan struct{}, 1),
		pools:   make(map[string]*ejectPool),
		ejected: make(map[*Ejectable]struct{}),
	}
}

// Update makes pools the ones that are watched, by difference: a backend that
// stays keeps its counts, its ejection and its Ejectable; one that is gone is
// reported no more. Pools that eject nothing need not be given.
func (e *Ejector) Update(pools []EjectPool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	next := make(map[string]*ejectPool, len(pools))
	for _, u := range pools {
		p := &ejectPool{name: u.Name, backends: make(map[string]*Ejectable, len(u.Backends))}
		options := u.Options.withDefaults()
		for _, id := range u.Backends {
			b := e.backendLocked(u.Name, id)
			if b == nil {
				b = &Ejectable{ejector: e, id: id, ready: true}
			}
			b.pool = p
			b.options.Store(&options)
			p.backends[id] = b
		}
		next[u.Name] = p
	}
	e.pools = next
	for b := range e.ejected {
		if e.backendLocked(b.pool.name, b.id) != b {
			delete(e.ejected, b)
		}
	}
	signal(e.wake)
}

// Backend returns what the results of a backend's sessions are told to; nil, which
// drops them, if the backend is in no pool of the ejector's. It may be kept for as
// long as its sessions last.
func (e *Ejector) Backend(pool, id string) *Ejectable {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.backendLocked(pool, id)
}

func (e *Ejector) backendLocked(pool, id string) *Ejectable {
	if p := e.pools[pool]; p != nil {
		return p.backends[id]
	}
	return nil
}

// Run ends ejections when their time is over, and reports, until ctx is done; then
// it reports what happened so far and returns nil.
func (e *Ejector) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			e.deliver()
			return nil
		case <-timer.C:
		case <-e.wake:
		}
		now := time.Now()
		if next, ok := e.expire(now); ok {
			timer.Reset(next.Sub(now))
		} else {
			timer.Stop()
		}
		e.deliver()
	}
}

// expire ends the ejections whose time is over, and returns when the next one's
// is, if there is any.
func (e *Ejector) expire(now time.Time) (next time.Time, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var over []*Ejectable
	for b := range e.ejected {
		switch {
		case !now.Before(b.until):
			over = append(over, b)
		case !ok || b.until.Before(next):
			next, ok = b.until, true
		}
	}
	slices.SortFunc(over, func(a, b *Ejectable) int {
		return cmp.Or(a.until.Compare(b.until), cmp.Compare(a.pool.name, b.pool.name), cmp.Compare(a.id, b.id))
	})
	for _, b := range over {
		b.endLocked(now)
	}
	return next, ok
}

// deliver reports what is pending.
func (e *Ejector) deliver() {
	e.mu.Lock()
	pending := e.pending
	e.pending = nil
	e.mu.Unlock()
	for _, ejection := range pending {
		e.report(ejection)
	}
}

// EjectionState is what an ejector knows of a backend that is ejected, or was so lately
// that the next time would be longer.
type EjectionState struct {
	Pool, ID string
	Ejected  bool
	Level    int       // how long it is: 1 is For, each more twice as long
	Until    time.Time // the end of the ejection
	Returned time.Time // the end of the one before
}

// States returns what is known of all such backends, in no order.
func (e *Ejector) States() []EjectionState {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []EjectionState
	for pool, p := range e.pools {
		for id, b := range p.backends {
			if out := b.out.Load(); out || b.level > 0 {
				all = append(all, EjectionState{Pool: pool, ID: id, Ejected: out, Level: b.level, Until: b.until, Returned: b.returned})
			}
		}
	}
	return all
}

// Restore goes on with what another ejector knew of a backend, such as that of the
// process before this one, and reports whether there is such a backend. An ejection is
// not reported again, its end is.
func (e *Ejector) Restore(s EjectionState) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	b := e.backendLocked(s.Pool, s.ID)
	if b == nil || b.out.Load() {
		return false
	}
	b.level, b.until, b.returned = s.Level, s.Until, s.Returned
	if s.Ejected {
		b.out.Store(true)
		e.ejected[b] = struct{}{}
		signal(e.wake)
	}
	return true
}
