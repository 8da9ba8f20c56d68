package health_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snicketlb/snicket/health"
)

func TestUpdateKeepsWhatStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &scripted{}
		r := newRig(t, every("a", p))
		defer r.stop()
		r.want("a unknown>ready @0s")
		p.answer(errRefused)
		r.after(2500 * time.Millisecond) // two failures
		again := &scripted{err: errRefused}
		r.Update([]health.Target{every("a", again), every("b", &scripted{})})
		r.after(500 * time.Millisecond)
		// The third failure comes when it was due, by the newer prober.
		r.want("b unknown>ready @2.5s", "a ready>down (connect: connection refused) @3s")
		if n := len(p.times()); n != 3 {
			t.Errorf("the former prober made %d probes, want 3", n)
		}
		if n := len(again.times()); n != 1 {
			t.Errorf("the newer prober made %d probes, want 1", n)
		}
	})
}

func TestUpdateWithAnotherKeyProbesAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, every("a", &scripted{}))
		defer r.stop()
		r.want("a unknown>ready @0s")
		r.after(500 * time.Millisecond)
		other := every("a", &scripted{err: errRefused})
		other.Key = "other"
		r.Update([]health.Target{other})
		synctest.Wait()
		if s, _ := r.Status("a"); s.State != health.Up || s.Failures != 1 {
			t.Errorf("%v with %d failures, want ready with 1 of a probe at once", s.State, s.Failures)
		}
		r.after(2 * time.Second)
		r.want("a ready>down (connect: connection refused) @2.5s")
	})
}

func TestUpdateDropsTheProbeUnderWay(t *testing.T) {
	for _, name := range []string{"removed", "another key"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				slow := &scripted{err: errRefused, takes: 400 * time.Millisecond}
				r := newRig(t, every("a", slow))
				defer r.stop()
				r.after(100 * time.Millisecond)
				if name == "removed" {
					r.Update(nil)
					r.after(10 * time.Second)
					r.want()
					if _, ok := r.Status("a"); ok {
						t.Error("a removed target has a status")
					}
					if n := len(slow.times()); n != 1 {
						t.Errorf("%d probes, want only the first", n)
					}
					return
				}
				fast := every("a", &scripted{})
				fast.Key = "fast"
				r.Update([]health.Target{fast})
				r.after(time.Second)
				r.want("a unknown>ready @100ms")
			})
		})
	}
}

func TestUpdateOptionsHoldAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &scripted{}
		rare := every("a", p)
		rare.Options.Interval = time.Hour
		r := newRig(t, rare)
		defer r.stop()
		r.after(time.Minute)
		p.answer(errRefused)
		often := every("a", p)
		often.Options.Fall = 1
		r.Update([]health.Target{often})
		r.after(time.Second)
		r.want("a unknown>ready @0s", "a ready>down (connect: connection refused) @1m1s")
	})
}

func TestTheFirstOfEqualIDsCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := &scripted{}, &scripted{err: errRefused}
		r := newRig(t, every("a", first), every("a", second))
		defer r.stop()
		r.after(5 * time.Second)
		r.want("a unknown>ready @0s")
		if n := len(second.times()); n != 0 {
			t.Errorf("the second target was probed %d times", n)
		}
	})
}

func TestDefaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &scripted{takes: time.Hour}
		r := newRig(t, health.Target{ID: "a", Prober: p})
		defer r.stop()
		r.after(time.Second)
		r.want("a unknown>down (context deadline exceeded after 1s) @1s")
		r.after(time.Minute)
		times := p.times()
		for i := range times[1:] {
			if gap := times[i+1].Sub(times[i]); gap < 1800*time.Millisecond || gap > 2202*time.Millisecond {
				t.Errorf("probe %d came after %v, want 2s and a tenth either way", i+1, gap)
			}
		}
		if n := len(times); n < 27 || n > 34 {
			t.Errorf("%d probes in a minute, want 30", n)
		}
	})
}

// Probes of the same instant drift apart.
func TestJitterSpreads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var targets []health.Target
		var probers []*scripted
		for i := range 20 {
			p := &scripted{}
			probers = append(probers, p)
			targets = append(targets, health.Target{ID: fmt.Sprint(i), Prober: p})
		}
		r := newRig(t, targets...)
		defer r.stop()
		r.after(10 * time.Second)
		moments := make(map[time.Duration]int)
		for _, p := range probers {
			times := p.times()
			moments[times[3].Sub(r.start).Truncate(5*time.Millisecond)]++
		}
		for at, n := range moments {
			if n > 5 {
				t.Errorf("%d of 20 fourth probes at %v", n, at)
			}
		}
	})
}

func TestManyTargetsStartSpread(t *testing.T) {
	tests := []struct {
		name         string
		n, wantFirst int
	}{
		{"a small pool at once", 64, 64},
		{"a large one over the interval", 2064, 64},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var targets []health.Target
				var mu sync.Mutex
				perTenth := make(map[int]int)
				start := time.Now()
				for i := range tt.n {
					targets = append(targets, every(fmt.Sprint(i), proberFunc(func(context.Context) (health.Observation, error) {
						mu.Lock()
						defer mu.Unlock()
						perTenth[int(time.Since(start)/(100*time.Millisecond))]++
						return health.Observation{}, nil
					})))
				}
				r := newRig(t, targets...)
				mu.Lock()
				if got := perTenth[0]; got < tt.wantFirst || got > tt.wantFirst+1 {
					t.Errorf("%d probes at the start, want %d", got, tt.wantFirst)
				}
				mu.Unlock()
				r.after(999 * time.Millisecond)
				r.stop()
				for tenth := 1; tenth < 10; tenth++ {
					if got, want := perTenth[tenth], (tt.n-64)/10; got < want*9/10 || got > want*11/10 {
						t.Errorf("%d probes in tenth %d, want %d", got, tenth, want)
					}
				}
			})
		})
	}
}

type proberFunc func(context.Context) (health.Observation, error)

func (f proberFunc) Probe(ctx context.Context) (health.Observation, error) { return f(ctx) }

func TestMaxInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit, n = 4, 40
		var running, most, probed atomic.Int64
		var targets []health.Target
		for i := range n {
			targets = append(targets, every(fmt.Sprint(i), proberFunc(func(context.Context) (health.Observation, error) {
				most.Store(max(most.Load(), running.Add(1)))
				elapse(10 * time.Millisecond)
				running.Add(-1)
				probed.Add(1)
				return health.Observation{}, nil
			})))
		}
		ctx, cancel := context.WithCancel(t.Context())
		var reported []string
		c := health.NewChecker(func(tr health.Transition) { reported = append(reported, tr.ID) },
			health.CheckerOptions{MaxInFlight: limit})
		c.Update(targets)
		done := make(chan error)
		go func() { done <- c.Run(ctx) }()
		elapse(500 * time.Millisecond) // 40 probes, 4 at a time, 10 ms each
		if probed.Load() != n || most.Load() != limit {
			t.Errorf("%d probes, at most %d at a time; want %d and %d", probed.Load(), most.Load(), n, limit)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if len(reported) != n {
			t.Errorf("%d transitions, want %d", len(reported), n)
		}
	})
}

// Run ends with probes under way and with transitions not yet reported.
func TestRunEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := every("stuck", &scripted{takes: time.Hour})
		stuck.Options.Timeout = time.Hour
		r := newRig(t, stuck, every("a", &scripted{}))
		start := time.Now()
		r.stop()
		if d := time.Since(start); d != 0 {
			t.Errorf("Run took %v to end", d)
		}
		r.want("a unknown>ready @0s")
	})
}

func TestUpdatesBesideEverything(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	last := make(map[string]health.State)
	c := health.NewChecker(func(tr health.Transition) {
		if tr.From != last[tr.ID] && tr.From != health.Unknown {
			t.Errorf("%s goes from %v, but was %v", tr.ID, tr.From, last[tr.ID])
		}
		last[tr.ID] = tr.To
	}, health.CheckerOptions{MaxInFlight: 8})
	var flip atomic.Uint64
	p := proberFunc(func(context.Context) (health.Observation, error) {
		if flip.Add(1)%7 < 4 {
			return health.Observation{}, errRefused
		}
		return health.Observation{}, nil
	})
	var run, users sync.WaitGroup
	run.Go(func() { c.Run(ctx) })
	for g := range 3 {
		users.Go(func() {
			for i := range 300 {
				var targets []health.Target
				for id := range (i+g)%20 + 1 {
					targets = append(targets, health.Target{
						ID: fmt.Sprint(id), Prober: p, Key: fmt.Sprint(i % 3),
						Options: health.Options{Interval: time.Microsecond, Rise: 1, Fall: 1},
					})
				}
				c.Update(targets)
				c.Failed(fmt.Sprint(i%20), errRefused)
				c.Status(fmt.Sprint(i % 20))
			}
		})
	}
	users.Wait()
	cancel()
	run.Wait()
	if flip.Load() == 0 {
		t.Error("nothing was probed")
	}
}
