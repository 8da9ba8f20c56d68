package health

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Ejectable takes the results of one backend's sessions for an [Ejector]. Its
// methods may be called from any goroutine and on a nil Ejectable, which does
// nothing.
type Ejectable struct {
	ejector *Ejector
	id      string
	options atomic.Pointer[EjectOptions]
	suspect atomic.Bool // there are failures to count successes against
	out     atomic.Bool // ejected

	mu             sync.Mutex // guards the fields below
	row            int        // failures in a row
	windowEnd      time.Time  // of the window that the last two count in
	failed, passed int

	// The ejector's mu guards these.
	pool     *ejectPool
	ready    bool
	level    int       // how often For is doubled, and once more
	until    time.Time // the end of the ejection
	returned time.Time // the end of the one before
}

// OK says that a session reached the backend, at now. While the backend has no
// failures that count it costs one atomic load.
func (b *Ejectable) OK(now time.Time) {
	if b == nil || !b.suspect.Load() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.row = 0
	if b.failed > 0 && now.Before(b.windowEnd) {
		b.passed++
		return
	}
	b.forgetLocked()
}

// Failed says that a session failed at now by the backend's fault, for the reason
// err. It may eject the backend, also when a ratio is reached: that is judged at
// failures only. An error of this side's making, such as EMFILE, is ignored, and so
// is what comes while the backend is ejected. It never blocks for long: no report is
// made in it.
func (b *Ejectable) Failed(now time.Time, err error) {
	if b == nil || b.out.Load() || ours(err) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.out.Load() { // by another that failed just now
		return
	}
	o := b.options.Load()
	if o.Ratio > 0 {
		if !now.Before(b.windowEnd) {
			b.windowEnd = now.Add(o.Window)
			b.failed, b.passed = 0, 0
		}
		b.failed++
	}
	b.row++
	b.suspect.Store(true)
	if reason := b.reasonLocked(o, err); reason != "" && b.eject(now, o, reason) {
		b.forgetLocked()
	}
}

// Ejected reports whether the backend is ejected.
func (b *Ejectable) Ejected() bool { return b != nil && b.out.Load() }

// SetReady says whether the backend would be used if it were not ejected: that its
// probes take it for up or unknown, and no operator took it out. It is ready until
// it is said to be not; while it is not it needs no ejection and gets none.
func (b *Ejectable) SetReady(ready bool) {
	if b == nil {
		return
	}
	b.ejector.mu.Lock()
	defer b.ejector.mu.Unlock()
	b.ready = ready
}

// Return ends the ejection, as an operator may wish, and forgets all failures and
// former ejections. It reports whether the backend was ejected.
func (b *Ejectable) Return(now time.Time) bool {
	if b == nil {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forgetLocked()
	b.ejector.mu.Lock()
	defer b.ejector.mu.Unlock()
	b.level = 0
	if _, ejected := b.ejector.ejected[b]; !ejected {
		return false
	}
	b.endLocked(now)
	return true
}

// forgetLocked forgets all failures.
func (b *Ejectable) forgetLocked() {
	b.row, b.failed, b.passed, b.windowEnd = 0, 0, 0, time.Time{}
	b.suspect.Store(false)
}

// reasonLocked says why the backend is to be ejected; "" if it is not.
func (b *Ejectable) reasonLocked(o *EjectOptions, err error) string {
	results := b.failed + b.passed
	switch {
	case o.Failures > 0 && b.row >= o.Failures:
		return fmt.Sprintf("%s in a row: %v", count(b.row, "failure"), err)
	case o.Ratio > 0 && results >= o.MinResults && float64(b.failed) >= o.Ratio*float64(results):
		return fmt.Sprintf("%d of %d failed within %v: %v", b.failed, results, o.Window, err)
	}
	return ""
}

// eject ejects the backend if the pool can spare it.
func (b *Ejectable) eject(now time.Time, o *EjectOptions, reason string) bool {
	e := b.ejector
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.backendLocked(b.pool.name, b.id) != b || !b.pool.spares(b, o.MaxEjected) {
		return false
	}
	b.decay(now, o)
	if b.level == 0 || o.length(b.level) < o.Max {
		b.level++
	}
	b.until = now.Add(o.length(b.level))
	b.out.Store(true)
	e.ejected[b] = struct{}{}
	e.pending = append(e.pending, Ejection{
		Pool: b.pool.name, ID: b.id, Ejected: true, Reason: reason, At: now, Until: b.until, Level: b.level,
	})
	signal(e.wake)
	return true
}

// endLocked ends the ejection. The caller holds the ejector's mu.
func (b *Ejectable) endLocked(now time.Time) {
	e := b.ejector
	delete(e.ejected, b)
	b.out.Store(false)
	b.returned = now
	e.pending = append(e.pending, Ejection{Pool: b.pool.name, ID: b.id, At: now, Level: b.level})
	signal(e.wake)
}

// decay takes back doublings for the time that the backend was in use since its
// last ejection.
func (b *Ejectable) decay(now time.Time, o *EjectOptions) {
	for good := now.Sub(b.returned); b.level > 0 && good >= o.length(b.level); b.level-- {
		good -= o.length(b.level)
	}
}

// spares reports whether b may be ejected: it is in use itself, enough others are
// not ejected, and one of them is ready. The caller holds the ejector's mu.
func (p *ejectPool) spares(b *Ejectable, most float64) bool {
	ejected, ready := 1, 0
	for _, other := range p.backends {
		switch {
		case other == b:
		case other.out.Load():
			ejected++
		case other.ready:
			ready++
		}
	}
	const rounding = 1e-9 // 0.29 of 100 is 29
	return b.ready && ready > 0 && float64(ejected) <= most*float64(len(p.backends))+rounding
}

// length returns how long an ejection of a level lasts.
func (o *EjectOptions) length(level int) time.Duration {
	d := o.For
	for ; level > 1 && d < o.Max; level-- {
		d *= 2
	}
	return min(d, o.Max)
}
