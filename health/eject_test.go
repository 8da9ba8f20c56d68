package health_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snicketlb/snicket/health"
)

// ejecting is an ejector that runs in a synctest bubble, and what it reported.
type ejecting struct {
	*health.Ejector
	t     *testing.T
	start time.Time
	mu    sync.Mutex
	got   []string
}

// newEjecting returns an ejector with a pool p of backends a, b, and so on.
func newEjecting(t *testing.T, o health.EjectOptions, backends ...string) (r *ejecting, stop func()) {
	t.Helper()
	r = &ejecting{t: t, start: time.Now()}
	r.Ejector = health.NewEjector(r.report)
	r.Update([]health.EjectPool{{Name: "p", Options: o, Backends: backends}})
	ctx, cancel := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() { r.Run(ctx) })
	return r, func() {
		cancel()
		run.Wait()
	}
}

func (r *ejecting) report(e health.Ejection) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := fmt.Sprintf("%s/%s returns @%v", e.Pool, e.ID, e.At.Sub(r.start))
	if e.Ejected {
		s = fmt.Sprintf("%s/%s ejected for %v @%v: %s", e.Pool, e.ID, e.Until.Sub(e.At), e.At.Sub(r.start), e.Reason)
	}
	r.got = append(r.got, s)
}

func (r *ejecting) fails(id string, times int) {
	for range times {
		r.Backend("p", id).Failed(time.Now(), errRefused)
	}
}

func (r *ejecting) passes(id string, times int) {
	for range times {
		r.Backend("p", id).OK(time.Now())
	}
}

// want compares the reports since the last call.
func (r *ejecting) want(want ...string) {
	r.t.Helper()
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Equal(r.got, want) {
		r.t.Errorf("reports\n got %q\nwant %q", r.got, want)
	}
	r.got = nil
}

const refused = ": 3 failures in a row: connect: connection refused"

func TestEjectsAfterFailuresInARow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, stop := newEjecting(t, health.EjectOptions{Failures: 3}, "a", "b")
		defer stop()
		r.fails("a", 2)
		r.passes("a", 1) // ends the row
		r.fails("a", 2)
		r.want()
		if r.Backend("p", "a").Ejected() {
			t.Error("ejected before the third failure in a row")
		}
		r.fails("a", 1)
		if !r.Backend("p", "a").Ejected() {
			t.Error("not ejected by the third failure in a row")
		}
		r.want("p/a ejected for 10s @0s" + refused)
		r.fails("a", 10) // of sessions that began before
		r.passes("a", 1) // neither shortens it
		elapse(9 * time.Second)
		r.want()
		elapse(time.Second)
		r.want("p/a returns @10s")
		if r.Backend("p", "a").Ejected() {
			t.Error("still ejected")
		}
		r.fails("a", 2) // the count began anew
		r.want()
	})
}

func TestEjectionDoublesAndDecays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, stop := newEjecting(t, health.EjectOptions{Failures: 1, For: time.Second, Max: 5 * time.Second}, "a", "b")
		defer stop()
		length := func(want time.Duration) {
			t.Helper()
			at := time.Since(r.start)
			r.fails("a", 1)
			r.want(fmt.Sprintf("p/a ejected for %v @%v: 1 failure in a row: connect: connection refused", want, at))
			elapse(want)
			r.want(fmt.Sprintf("p/a returns @%v", at+want))
		}
		length(time.Second)
		length(2 * time.Second)
		length(4 * time.Second)
		length(5 * time.Second)
		length(5 * time.Second) // the level does not grow beyond what counts
		elapse(4999 * time.Millisecond)
		length(5 * time.Second)
		elapse(5 * time.Second) // as long as it lasted: one step back and one on
		length(5 * time.Second)
		elapse(9 * time.Second) // 5 and 4: two steps back
		length(4 * time.Second)
		elapse(time.Hour)
		length(time.Second)
	})
}

func TestEjectsByRatio(t *testing.T) {
	const o = "p/a ejected for 10s @"
	for _, tt := range []struct {
		name string
		do   func(r *ejecting)
		want []string
	}{
		{"reached", func(r *ejecting) {
			for range 5 {
				r.fails("a", 1)
				r.passes("a", 1)
			}
			r.fails("a", 1)
		}, []string{o + "0s: 6 of 11 failed within 10s: connect: connection refused"}},
		{"too few results", func(r *ejecting) { r.fails("a", 9) }, nil},
		{"not reached", func(r *ejecting) {
			for range 10 {
				r.fails("a", 1)
				r.passes("a", 2)
			}
		}, nil},
		{"spread over two windows", func(r *ejecting) {
			r.fails("a", 9)
			elapse(10 * time.Second)
			r.fails("a", 9)
		}, nil},
		{"passes after a window close it", func(r *ejecting) {
			r.fails("a", 9)
			elapse(10 * time.Second)
			r.passes("a", 100)
			r.fails("a", 10)
		}, []string{o + "10s: 10 of 10 failed within 10s: connect: connection refused"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, stop := newEjecting(t, health.EjectOptions{Ratio: 0.5, MinResults: 10}, "a", "b")
				defer stop()
				tt.do(r)
				r.want(tt.want...)
			})
		})
	}
}

func TestEjectionSparesThePool(t *testing.T) {
	all := func(n int) (ids []string) {
		for i := range n {
			ids = append(ids, string(rune('a'+i)))
		}
		return ids
	}
	for _, tt := range []struct {
		name     string
		backends int
		most     float64
		unready  []string
		want     int
	}{
		{"half by default", 4, 0, nil, 2},
		{"half of an odd number", 5, 0, nil, 2},
		{"the only one", 1, 1, nil, 0},
		{"all but the last", 3, 1, nil, 2},
		{"the last that is ready", 4, 1, []string{"b", "c", "d"}, 0},
		{"one of two that are ready", 4, 1, []string{"c", "d"}, 1},
		{"less than one", 4, 0.2, nil, 0},
		{"29 of 100", 25, 0.28, nil, 7},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ids := all(tt.backends)
				r, stop := newEjecting(t, health.EjectOptions{Failures: 1, MaxEjected: tt.most}, ids...)
				defer stop()
				for _, id := range tt.unready {
					r.Backend("p", id).SetReady(false)
				}
				ejected, ready := 0, 0
				for _, id := range ids {
					r.fails(id, 3)
				}
				for _, id := range ids {
					switch {
					case r.Backend("p", id).Ejected():
						ejected++
					case !slices.Contains(tt.unready, id):
						ready++
					}
				}
				if ejected != tt.want || ready == 0 {
					t.Errorf("%d ejected, %d ready; want %d and at least one", ejected, ready, tt.want)
				}
			})
		})
	}
}

// A backend that was spared is ejected at its next failure once another is back.
func TestSparedBackendIsEjectedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, stop := newEjecting(t, health.EjectOptions{Failures: 3}, "a", "b")
		defer stop()
		r.Backend("p", "b").SetReady(false)
		r.fails("a", 5)
		r.want()
		r.Backend("p", "b").SetReady(true)
		r.fails("a", 1)
		r.want("p/a ejected for 10s @0s: 6 failures in a row: connect: connection refused")
		r.fails("b", 5) // now the last one
		r.want()
	})
}

func TestOperatorReturnsAnEjectedBackend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, stop := newEjecting(t, health.EjectOptions{Failures: 3}, "a", "b")
		defer stop()
		r.fails("a", 3)
		elapse(10 * time.Second)
		r.want("p/a ejected for 10s @0s"+refused, "p/a returns @10s")
		r.fails("a", 3)
		elapse(time.Second)
		if !r.Backend("p", "a").Return(time.Now()) || r.Backend("p", "b").Return(time.Now()) {
			t.Error("Return of an ejected backend is false, or of another true")
		}
		r.want("p/a ejected for 20s @10s"+refused, "p/a returns @11s")
		r.fails("a", 3)
		r.want("p/a ejected for 10s @11s" + refused) // as if for the first time
	})
}

func TestEjectorUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, stop := newEjecting(t, health.EjectOptions{Failures: 3}, "a", "b", "c", "d")
		defer stop()
		kept := r.Backend("p", "a")
		gone := r.Backend("p", "c")
		r.fails("a", 2)
		r.fails("c", 3)
		r.fails("d", 3)
		r.want("p/c ejected for 10s @0s"+refused, "p/d ejected for 10s @0s"+refused)
		r.Update([]health.EjectPool{{Name: "p", Options: health.EjectOptions{Failures: 3, For: time.Minute}, Backends: []string{"a", "b", "d", "e"}}})
		if r.Backend("p", "a") != kept || r.Backend("p", "c") != nil {
			t.Error("a backend that stays has another Ejectable, or one that is gone has one")
		}
		r.fails("a", 1)
		gone.Failed(time.Now(), errRefused)
		r.want("p/a ejected for 1m0s @0s" + refused)
		elapse(10 * time.Second)
		r.want("p/d returns @10s") // as it was to; c no more
		r.Update(nil)
		if kept.Failed(time.Now(), errRefused); r.Backend("p", "a") != nil {
			t.Error("a backend of a pool that is gone has an Ejectable")
		}
		elapse(time.Hour)
		r.want()
	})
}

func TestEjectableIgnores(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, stop := newEjecting(t, health.EjectOptions{Failures: 1}, "a", "b")
		defer stop()
		r.Backend("p", "a").Failed(time.Now(), fmt.Errorf("dial: %w", syscall.EMFILE))
		nobody := r.Backend("p", "z")
		nobody.Failed(time.Now(), errRefused)
		nobody.OK(time.Now())
		nobody.SetReady(false)
		if nobody.Ejected() || nobody.Return(time.Now()) {
			t.Error("nobody is ejected")
		}
		r.want()
		r.Update([]health.EjectPool{{Name: "p", Backends: []string{"a", "b"}}}) // neither failures nor ratio
		r.fails("a", 100)
		r.want()
	})
}

// From many goroutines at once: never too many ejected, never the last ready one,
// and every backend comes back.
func TestEjectorUnderLoad(t *testing.T) {
	ids := []string{"a", "b", "c", "d", "e"}
	var out, most atomic.Int64
	e := health.NewEjector(func(j health.Ejection) {
		if !j.Ejected {
			out.Add(-1)
			return
		}
		most.Store(max(most.Load(), out.Add(1)))
	})
	o := health.EjectOptions{Failures: 2, Ratio: 0.5, MinResults: 3, For: time.Millisecond, Max: time.Millisecond}
	pools := []health.EjectPool{{Name: "p", Options: o, Backends: ids}}
	e.Update(pools)
	ctx, cancel := context.WithCancel(t.Context())
	var run, users sync.WaitGroup
	run.Go(func() { e.Run(ctx) })
	for g := range 4 {
		users.Go(func() {
			for i := range 3000 {
				b := e.Backend("p", ids[(i+g)%len(ids)])
				if i%3 == 0 {
					b.OK(time.Now())
				} else {
					b.Failed(time.Now(), errRefused)
				}
				if i%100 == 0 {
					b.SetReady(i%200 == 0)
					e.Update(pools)
				}
			}
		})
	}
	users.Wait()
	for _, id := range ids {
		e.Backend("p", id).Return(time.Now())
		if e.Backend("p", id).Ejected() {
			t.Errorf("%s is still ejected", id)
		}
	}
	cancel()
	run.Wait()
	if most.Load() < 1 || most.Load() > 2 || out.Load() != 0 {
		t.Errorf("at most %d of 5 ejected at a time, %d in the end; want 1 or 2, and none", most.Load(), out.Load())
	}
}

func TestEjectableAllocations(t *testing.T) {
	e := health.NewEjector(func(health.Ejection) {})
	e.Update([]health.EjectPool{{Name: "p", Options: health.EjectOptions{Failures: 1000, Ratio: 1}, Backends: []string{"a", "b"}}})
	b, now := e.Backend("p", "a"), time.Now()
	if n := testing.AllocsPerRun(100, func() { b.OK(now) }); n != 0 {
		t.Errorf("OK: %v allocations, want 0", n)
	}
	if n := testing.AllocsPerRun(10, func() { b.Failed(now, errors.ErrUnsupported); b.OK(now) }); n != 0 {
		t.Errorf("Failed and OK: %v allocations, want 0", n)
	}
}

// BenchmarkEjectableOK is what a session that went well costs.
func BenchmarkEjectableOK(b *testing.B) {
	e := health.NewEjector(func(health.Ejection) {})
	e.Update([]health.EjectPool{{Name: "p", Options: health.EjectOptions{Failures: 5, Ratio: 0.5}, Backends: []string{"a", "b"}}})
	backend, now := e.Backend("p", "a"), time.Now()
	b.Run("without failures", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			backend.OK(now)
		}
	})
	b.Run("in a window", func(b *testing.B) {
		b.ReportAllocs()
		backend.Failed(now, errRefused)
		for b.Loop() {
			backend.OK(now)
		}
	})
}

// TestEjectorRestore goes on with an ejection of another ejector's: it lasts as long as it
// would have, and the next one twice as long.
func TestEjectorRestore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, stop := newEjecting(t, health.EjectOptions{Failures: 3, For: 10 * time.Second, Max: time.Hour, MaxEjected: 1}, "a", "b")
		defer stop()
		now := time.Now()
		state := health.EjectionState{Pool: "p", ID: "a", Ejected: true, Level: 1, Until: now.Add(4 * time.Second)}
		if !r.Restore(state) || r.Restore(state) {
			t.Error("restored never, or twice")
		}
		if states := r.States(); len(states) != 1 || states[0] != state {
			t.Errorf("got %+v, want %+v", states, state)
		}
		if !r.Backend("p", "a").Ejected() {
			t.Error("it is not ejected")
		}
		elapse(4 * time.Second)
		r.want("p/a returns @4s")
		if r.Backend("p", "a").Ejected() {
			t.Error("its time is over, and it is ejected still")
		}
		r.fails("a", 3)
		r.want("p/a ejected for 20s @4s" + refused)
	})
}
