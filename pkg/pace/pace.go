// Package pace lets long computations give way to the event loops.
//
// A reload goes through 100,000 routes a dozen times, on a thread of its own, and the
// kernel is to run a loop's thread instead as soon as that wakes. It does, unless the loop
// has had its share of the processor just before: then it looks again at the next tick of
// its clock, up to 4 ms later. Whoever asks it by sched_yield(2) has it look at once. That
// costs a third of a microsecond where nobody waits. Where others compute as well, each of
// them gets a slice of some milliseconds for it; so a computation that has been away for
// longer than it has worked asks no more until it has caught up, and takes twice the time
// at most.
//
// Start at [All], or at [Walk] where there is no list. What must not be interrupted, as it
// holds a lock that a loop may want, does not belong here; no loop waits for a lock.
package pace

import (
	"iter"
	"time"
)

// every is how many steps there are from one look to the next: of half a microsecond
// each, a tenth of a millisecond.
const every = 256

// All is [slices.All] that gives way as it goes.
func All[S ~[]E, E any](list S) iter.Seq2[int, E] {
	return func(yield func(int, E) bool) {
		var w Walk
		for i, e := range list {
			if w.Step(); !yield(i, e) {
				return
			}
		}
	}
}

// A Walk is one way through very many rows. The zero Walk is at its beginning. It is for
// one goroutine.
type Walk struct {
	steps        uint
	back         time.Time // when it was back from giving way, or looked last
	worked, away time.Duration
}

// Step is to be called for each row. It gives way now and then.
func (w *Walk) Step() {
	if w.steps++; w.steps%every == 0 {
		w.Rest()
	}
}

// Rest is a Step of many rows at once: it gives way now, if that is due.
func (w *Walk) Rest() { w.rest(yield) }

func (w *Walk) rest(yield func()) {
	now := time.Now()
	if !w.back.IsZero() {
		w.worked += now.Sub(w.back)
	}
	w.back = now
	if w.away > w.worked {
		return
	}
	yield()
	w.back = time.Now()
	w.away += w.back.Sub(now)
}
