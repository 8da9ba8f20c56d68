package loop

import (
	"math/bits"
	"time"
)

// The wheel has four levels of 64 slots; a slot of the lowest is one tick, of
// each next level 64 times as much, so that it reaches 64⁴ ticks (46 hours at
// 10 ms). What lies beyond is parked in the last slot and set again.
const (
	tick      = 10 * time.Millisecond
	levelBits = 6
	levelSize = 1 << levelBits
	levels    = 4
	maxTicks  = 1<<(levelBits*levels) - 1
)

// A Timer calls its Expirer once at or shortly after its time (a tick of 10 ms
// late at most, more when the loop is busy). It is part of what it times: its
// address must not change while it is set. It belongs to one loop.
//
// Timers are meant to be lazy: on activity stamp the time, and let the Expirer
// look at the stamp and set the timer again, rather than set it at each byte.
type Timer struct {
	next, prev *Timer
	at         int64 // in ticks; of a slot's sentinel: its place in the wheel
	f          Expirer
}

// An Expirer is told on the loop's thread that its timer has fired.
type Expirer interface {
	Expired(now time.Duration)
}

// Set (re)arms t to fire at the time at on the loop's clock.
func (l *Loop) Set(t *Timer, at time.Duration, f Expirer) {
	if t.next != nil {
		l.wheel.remove(t)
	}
	t.f = f
	t.at = ticks(at)
	l.wheel.insert(t)
}

// Cancel disarms t; a timer not set stays so.
func (l *Loop) Cancel(t *Timer) {
	if t.next != nil {
		l.wheel.remove(t)
	}
}

// ticks rounds up, so that no timer is early; at may be as far as a Duration goes.
func ticks(at time.Duration) int64 {
	n := int64(at / tick)
	if at%tick > 0 {
		n++
	}
	return n
}

// Armed reports whether t is set and has not fired.
func (t *Timer) Armed() bool { return t.next != nil }

// wheel is a hierarchical timing wheel (Varghese and Lauck, 1987, scheme 7).
// Each slot is a ring with a sentinel; used has a bit for each slot not empty.
type wheel struct {
	cur   int64 // the tick up to which all have fired
	used  [levels]uint64
	slots [levels][levelSize]Timer
}

func (w *wheel) init(now time.Duration) {
	w.cur = int64(now / tick)
	for i := range w.slots {
		for j := range w.slots[i] {
			s := &w.slots[i][j]
			s.next, s.prev = s, s
			s.at = int64(i<<levelBits | j)
		}
	}
}

func (w *wheel) insert(t *Timer) {
	at := max(t.at, w.cur+1)
	if at-w.cur > maxTicks {
		at = w.cur + maxTicks
	}
	// The level is that of the highest digit in which at differs from cur.
	lev := (bits.Len64(uint64(at^w.cur)) - 1) / levelBits
	if lev >= levels {
		lev = levels - 1
	}
	pos := at >> (levelBits * lev) & (levelSize - 1)
	s := &w.slots[lev][pos]
	t.prev, t.next = s.prev, s
	s.prev.next = t
	s.prev = t
	w.used[lev] |= 1 << pos
}

func (w *wheel) remove(t *Timer) {
	t.prev.next, t.next.prev = t.next, t.prev
	if s := t.prev; s == t.next { // only the sentinel is left
		w.used[s.at>>levelBits] &^= 1 << (s.at & (levelSize - 1))
	}
	t.next, t.prev = nil, nil
}

// advance fires all that is due at now. A timer set meanwhile fires by the tick
// after the one under way at the earliest, so that one which sets itself for the
// past fires at most once a tick and cannot hold the loop.
func (w *wheel) advance(now time.Duration) {
	end := int64(now / tick)
	for w.cur < end {
		step := w.nextTick()
		if step < 0 || step > end {
			w.cur = end
			return
		}
		w.cur = step
		w.cascade()
		w.fire(now)
	}
}

// nextTick is the first tick after cur at which a slot fires or cascades; -1
// when the wheel is empty. In the highest level slots behind cur are those of
// the next revolution.
func (w *wheel) nextTick() int64 {
	best := int64(-1)
	for lev := range levels {
		if w.used[lev] == 0 {
			continue
		}
		shift := levelBits * lev
		here := w.cur >> shift
		digit := here & (levelSize - 1)
		base := here - digit
		var at int64
		if ahead := w.used[lev] >> digit >> 1; ahead != 0 {
			at = (here + 1 + int64(bits.TrailingZeros64(ahead))) << shift
		} else {
			at = (base + levelSize + int64(bits.TrailingZeros64(w.used[lev]))) << shift
		}
		if best < 0 || at < best {
			best = at
		}
	}
	return best
}

// cascade moves the timers of the higher slots that begin at cur downwards.
func (w *wheel) cascade() {
	for lev := levels - 1; lev > 0; lev-- {
		shift := levelBits * lev
		if w.cur&(1<<shift-1) != 0 {
			continue
		}
		pos := w.cur >> shift & (levelSize - 1)
		if w.used[lev]&(1<<pos) == 0 {
			continue
		}
		s := &w.slots[lev][pos]
		for t := s.next; t != s; {
			next := t.next
			w.remove(t)
			if t.at <= w.cur { // due now: the slot about to fire
				w.put(t, w.cur)
			} else {
				w.insert(t)
			}
			t = next
		}
	}
}

// put places t into the lowest level's slot of tick at.
func (w *wheel) put(t *Timer, at int64) {
	pos := at & (levelSize - 1)
	s := &w.slots[0][pos]
	t.prev, t.next = s.prev, s
	s.prev.next = t
	s.prev = t
	w.used[0] |= 1 << pos
}

// fire calls what the lowest level holds for cur. A parked timer never comes
// here before its time: it cascades from the highest level by its own at.
func (w *wheel) fire(now time.Duration) {
	pos := w.cur & (levelSize - 1)
	s := &w.slots[0][pos]
	for w.used[0]&(1<<pos) != 0 {
		t := s.next
		w.remove(t)
		t.f.Expired(now)
	}
}

// timeout is the time until the next tick with work, in whole milliseconds
// rounded up; -1 when there is none.
func (w *wheel) timeout(now time.Duration) int {
	next := w.nextTick()
	if next < 0 {
		return -1
	}
	d := time.Duration(next)*tick - now
	if d <= 0 {
		return 0
	}
	return int((d + time.Millisecond - 1) / time.Millisecond)
}
