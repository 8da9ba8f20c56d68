package loop

import (
	"math"
	"slices"
	"testing"
	"time"
)

type expire func(time.Duration)

func (e expire) Expired(now time.Duration) { e(now) }

// wheelAt is a loop of which only the wheel and the clock are used.
func wheelAt(tickNow int64) *Loop {
	l := &Loop{now: time.Duration(tickNow) * tick}
	l.wheel.init(l.now)
	return l
}

// Timers on both sides of every boundary between two levels fire at their tick
// and not one sooner, wherever the wheel stands.
func TestWheelCascadeBoundaries(t *testing.T) {
	starts := []int64{0, 1, 62, 63, 64, 4095, 4096, 1<<18 - 1, 1 << 18, 1<<24 - 1, 1 << 24, 1<<24 + 77}
	deltas := []int64{
		1, 2, 62, 63, 64, 65, 127, 128, 4031, 4095, 4096, 4097, 1<<18 - 1, 1 << 18, 1<<18 + 1,
		1<<24 - 1<<18 - 1, 1<<24 - 1<<18, maxTicks - 1, maxTicks, maxTicks + 1, 1 << 24, 3<<24 + 5,
	}
	for _, start := range starts {
		for _, delta := range deltas {
			l := wheelAt(start)
			var timer Timer
			fired := 0
			at := time.Duration(start+delta) * tick
			l.Set(&timer, at, expire(func(now time.Duration) {
				if fired++; now != at {
					t.Errorf("start %d, delta %d: fired at %v, want %v", start, delta, now, at)
				}
			}))
			l.wheel.advance(at - 1)
			if fired != 0 || !timer.Armed() {
				t.Fatalf("start %d, delta %d: fired early", start, delta)
			}
			l.wheel.advance(at)
			if fired != 1 || timer.Armed() {
				t.Fatalf("start %d, delta %d: fired %d times, armed %t; want once", start, delta, fired, timer.Armed())
			}
		}
	}
}

func TestWheelSleepsNoLongerThanTheNextTimer(t *testing.T) {
	l := wheelAt(100)
	if got := l.wheel.timeout(l.now); got != -1 {
		t.Errorf("timeout of an empty wheel %d, want -1", got)
	}
	var timer Timer
	for _, d := range []time.Duration{1, tick, 7 * tick, time.Second, time.Minute, time.Hour, 100 * time.Hour, math.MaxInt64} {
		// Each sleep leads to the timer or to a place nearer to it.
		l := wheelAt(100)
		now, fired, sleeps := l.now, false, 0
		l.Set(&timer, max(now+d, d), expire(func(time.Duration) { fired = true }))
		for !fired && sleeps < 100 {
			got := l.wheel.timeout(now)
			if got <= 0 || got > 1<<31-1 {
				t.Fatalf("%v: timeout %d ms with a timer armed", d, got)
			}
			now += time.Duration(got) * time.Millisecond
			sleeps++
			l.wheel.advance(now)
		}
		switch {
		case d == math.MaxInt64:
			if fired {
				t.Error("a timer set for ever has fired")
			}
		case !fired:
			t.Errorf("%v: not fired after %d sleeps", d, sleeps)
		case now < 100*tick+d || now > 100*tick+d+tick:
			t.Errorf("%v: fired at %v", d, now)
		case sleeps > levels+int(d/(maxTicks*tick)):
			t.Errorf("%v: %d sleeps", d, sleeps)
		}
	}
}

func TestWheelPastTimersFireAtTheNextTick(t *testing.T) {
	l := wheelAt(63)
	for _, at := range []time.Duration{math.MinInt64, -1, 0, 63 * tick} {
		fired := 0
		var timer Timer
		l.Set(&timer, at, expire(func(time.Duration) { fired++ }))
		l.wheel.advance(l.now)
		if fired != 0 {
			t.Errorf("at %v: fired within the tick it was set in", at)
		}
		l.now += tick
		l.wheel.advance(l.now)
		if fired != 1 {
			t.Errorf("at %v: fired %d times, want 1", at, fired)
		}
	}
}

// An Expirer that sets itself for the past cannot hold the loop.
func TestWheelTimerSetAgainWhenExpired(t *testing.T) {
	l := wheelAt(0)
	var timer Timer
	fired := 0
	var again expire
	again = func(time.Duration) {
		fired++
		l.Set(&timer, 0, again)
	}
	l.Set(&timer, 0, again)
	l.wheel.advance(5 * tick)
	if fired != 5 || !timer.Armed() {
		t.Errorf("fired %d times in 5 ticks, armed %t; want 5 and true", fired, timer.Armed())
	}
}

// Timers of one tick that cancel and set each other while they fire.
func TestWheelTimersCancelledByOneAnother(t *testing.T) {
	for _, at := range []int64{1, 64, 4096, 1 << 18} {
		l := wheelAt(0)
		var timers [4]Timer
		var order []int
		note := func(i int, then func()) expire {
			return func(time.Duration) {
				order = append(order, i)
				then()
			}
		}
		due := time.Duration(at) * tick
		l.Set(&timers[0], due, note(0, func() {
			l.Cancel(&timers[1])
			l.Set(&timers[2], due+tick, note(2, func() {}))
		}))
		l.Set(&timers[1], due, note(1, func() {}))
		l.Set(&timers[2], due, note(2, func() {}))
		l.Set(&timers[3], due, note(3, func() {}))
		l.wheel.advance(due)
		if want := []int{0, 3}; !slices.Equal(order, want) {
			t.Errorf("tick %d: fired %v, want %v", at, order, want)
		}
		l.wheel.advance(due + tick)
		if want := []int{0, 3, 2}; !slices.Equal(order, want) {
			t.Errorf("tick %d: fired %v, want %v", at, order, want)
		}
	}
}

// model is a wheel told by a list: due has the tick at which each armed timer
// has to fire.
type model struct {
	t      *testing.T
	l      *Loop
	timers []Timer
	due    map[int]int64
	script []byte
}

func (m *model) next() int64 {
	if len(m.script) == 0 {
		return 0
	}
	b := m.script[0]
	m.script = m.script[1:]
	return int64(b)
}

// span is a number of ticks, of all sizes up to several turns of the wheel.
func (m *model) span() int64 {
	shift := m.next() % 27
	return m.next() << shift >> (m.next() % 8)
}

func (m *model) set(i int) {
	at := m.l.wheel.cur - 3 + m.span()
	m.due[i] = max(at, m.l.wheel.cur+1)
	m.l.Set(&m.timers[i], time.Duration(at)*tick-time.Duration(m.next()), expire(func(now time.Duration) {
		m.fired(i, now)
	}))
}

func (m *model) fired(i int, now time.Duration) {
	due, armed := m.due[i]
	if cur := m.l.wheel.cur; !armed || due != cur || now < time.Duration(due)*tick {
		m.t.Fatalf("timer %d fired at tick %d (now %v), due %d, armed %t", i, cur, now, due, armed)
	}
	delete(m.due, i)
	if len(m.script) == 0 {
		return // else one that sets itself at each tick goes on for days of them
	}
	j := int(m.next()) % len(m.timers)
	switch m.next() % 4 {
	case 0:
		m.set(i)
	case 1:
		m.set(j)
	case 2:
		m.cancel(j)
	}
}

func (m *model) cancel(i int) {
	m.l.Cancel(&m.timers[i])
	delete(m.due, i)
}

// check compares what the wheel holds with what it should.
func (m *model) check() {
	first := int64(-1)
	for i := range m.timers {
		due, armed := m.due[i]
		if m.timers[i].Armed() != armed {
			m.t.Fatalf("timer %d: armed %t, want %t", i, m.timers[i].Armed(), armed)
		}
		if armed && due <= m.l.wheel.cur {
			m.t.Fatalf("timer %d of tick %d has not fired by tick %d", i, due, m.l.wheel.cur)
		}
		if armed && (first < 0 || due < first) {
			first = due
		}
	}
	next := m.l.wheel.nextTick()
	if (next < 0) != (first < 0) || next > first || next >= 0 && next <= m.l.wheel.cur {
		m.t.Fatalf("next tick %d at tick %d, the first timer is due at %d", next, m.l.wheel.cur, first)
	}
}

// Each timer fires once, at its tick; the wheel never sleeps past one.
func FuzzWheel(f *testing.F) {
	f.Add([]byte{0, 0, 0, 10, 0, 0, 2, 5, 10, 0})
	f.Add([]byte("set and advance, set and advance, far and near and cancelled again"))
	f.Add([]byte{0, 1, 26, 255, 0, 0, 0, 2, 18, 1, 0, 0, 2, 26, 200, 0, 2, 24, 255, 0, 2, 6, 64, 0})
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 512 {
			return
		}
		m := &model{t: t, timers: make([]Timer, 16), due: map[int]int64{}, script: script}
		m.l = wheelAt(m.span())
		now := m.l.now
		for len(m.script) > 0 {
			switch op := m.next(); op % 4 {
			case 0:
				m.set(int(m.next()) % len(m.timers))
			case 1:
				m.cancel(int(m.next()) % len(m.timers))
			default:
				now += time.Duration(m.span()) * tick
				m.l.wheel.advance(now)
				if got := m.l.wheel.cur; got != int64(now/tick) {
					t.Fatalf("wheel at tick %d, want %d", got, now/tick)
				}
			}
			m.check()
		}
	})
}
