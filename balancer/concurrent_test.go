package balancer_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/snicketlb/snicket/balancer"
)

func TestLimitsHoldUnderContention(t *testing.T) {
	const goroutines, rounds, limit = 16, 2000, 3
	specs := equal(3)
	for i := range specs {
		specs[i].MaxConnections = limit
	}
	p := newPool(t, specs...)
	var held [3]atomic.Int64
	index := make(map[string]int)
	for i, s := range specs {
		index[s.ID] = i
	}
	var served, refused atomic.Uint64
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for range rounds {
				b, err := p.Acquire(balancer.Pick{})
				if errors.Is(err, balancer.ErrFull) {
					refused.Add(1)
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				n := &held[index[b.ID()]]
				if got := n.Add(1); got > limit {
					t.Errorf("%s has %d sessions, limit %d", b.ID(), got, limit)
				}
				if got := b.Active(); got < 1 || got > limit {
					t.Errorf("%s counts %d sessions, want 1 to %d", b.ID(), got, limit)
				}
				served.Add(1)
				n.Add(-1)
				p.Release(b, balancer.Result{})
			}
		})
	}
	wg.Wait()
	var total uint64
	for _, b := range p.Backends() {
		if b.Active() != 0 {
			t.Errorf("%s is left with %d sessions", b.ID(), b.Active())
		}
		total += b.Total()
	}
	if total != served.Load() || total+refused.Load() != goroutines*rounds {
		t.Errorf("backends count %d sessions, served %d, refused %d of %d", total, served.Load(), refused.Load(), goroutines*rounds)
	}
}

// As many goroutines as there are places: since a limit is never overshot, not
// even for a moment, none of them may be refused.
func TestNoPlaceIsRefusedUnderContention(t *testing.T) {
	const places, rounds = 8, 5000
	specs := equal(4)
	for i := range specs {
		specs[i].MaxConnections = places / len(specs)
	}
	p := newPool(t, specs...)
	// The scan is not one instant: a place may move from a backend that was
	// looked at late to one that was looked at early. One backend has no such
	// gap.
	one := newPool(t, balancer.Spec{ID: "one", Weight: 1, MaxConnections: places})
	var wg sync.WaitGroup
	for range places {
		wg.Go(func() {
			for range rounds {
				b, err := one.Acquire(balancer.Pick{})
				if err != nil {
					t.Error(err)
					return
				}
				one.Release(b, balancer.Result{})
				if b, err := p.Acquire(balancer.Pick{}); err == nil {
					p.Release(b, balancer.Result{})
				}
			}
		})
	}
	wg.Wait()
	for range places {
		acquire(t, p)
	}
}

// Bursts of sessions that arrive at the same instant and end together: what one
// burst has too much of a backend, the next ones level out.
func TestEqualsShareBurstsEvenly(t *testing.T) {
	const backends, goroutines, rounds = 16, 8, 2000
	p := newPool(t, equal(backends)...)
	for range rounds {
		var acquired, released sync.WaitGroup
		acquired.Add(goroutines)
		for range goroutines {
			released.Go(func() {
				b, err := p.Acquire(balancer.Pick{})
				acquired.Done()
				acquired.Wait()
				if err != nil {
					t.Error(err)
					return
				}
				p.Release(b, balancer.Result{})
			})
		}
		released.Wait()
	}
	const want = goroutines * rounds / backends
	for _, b := range p.Backends() {
		if got := int(b.Total()); got < want*95/100 || got > want*105/100 {
			t.Errorf("%s had %d sessions, want %d within 5 %%", b.ID(), got, want)
		}
	}
}

// Sessions come and go while backends are added, removed and change state: every
// count is given back, whichever set it was picked from.
func TestUpdatesUnderLoad(t *testing.T) {
	const goroutines, rounds, changes = 4, 5000, 300
	p := newPool(t, equal(4)...)
	var mu sync.Mutex
	seen := make(map[*balancer.Backend]uint64)
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			mine := make(map[*balancer.Backend]uint64)
			var held []*balancer.Backend
			for range rounds {
				b, err := p.Acquire(balancer.Pick{Tried: held})
				if err == nil {
					mine[b]++
					held = append(held, b)
				}
				if err != nil || len(held) > 2 {
					for _, b := range held {
						p.Release(b, balancer.Result{})
					}
					held = held[:0]
				}
			}
			for _, b := range held {
				p.Release(b, balancer.Result{})
			}
			mu.Lock()
			defer mu.Unlock()
			for b, n := range mine {
				seen[b] += n
			}
		})
	}
	wg.Go(func() {
		for i := range changes {
			p.Update(equal(2 + i%4))
			p.SetState(fmt.Sprintf("b%d", i%3), balancer.State(i%2))
		}
	})
	wg.Wait()
	for b, n := range seen {
		if b.Active() != 0 || b.Total() != n {
			t.Errorf("%s has %d sessions, %d in all, want 0 and %d", b.ID(), b.Active(), b.Total(), n)
		}
	}
}
