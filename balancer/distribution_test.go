package balancer_test

import (
	"math"
	"sync"
	"testing"
	"time"

	"github.com/snicketlb/snicket/balancer"
)

// chiSquare is Pearson's statistic.
func chiSquare(got, want []float64) float64 {
	x := 0.0
	for i := range got {
		x += (got[i] - want[i]) * (got[i] - want[i]) / want[i]
	}
	return x
}

// chiBound is what the statistic of independent picks exceeds with no more than
// the given probability: k + 2√(k·x) + 2x with x = ln(1/p) (Laurent and Massart,
// Annals of Statistics 2000, lemma 1).
func chiBound(freedom int, probability float64) float64 {
	k, x := float64(freedom), math.Log(1/probability)
	return k + 2*math.Sqrt(k*x) + 2*x
}

// The statistic must be able to fail: one backend of ten with a quarter more
// than its due.
func TestChiSquareSeesABias(t *testing.T) {
	got, want := make([]float64, 10), make([]float64, 10)
	for i := range got {
		got[i], want[i] = 1600*(10-1.25)/9, 1600
	}
	got[0] = 1600 * 1.25
	if x, bound := chiSquare(got, want), chiBound(9, 1e-11); x <= bound {
		t.Errorf("chi-square %.1f of a biased sample is within the bound %.1f", x, bound)
	}
}

// Under concurrency each policy shares sessions as the weights say. Eight
// goroutines acquire five sessions each at the same time, and when all have
// theirs, all release: so a goroutine that is not scheduled for a while changes
// nothing. Of least connections, round robin and least time the counts vary
// less than independent picks would; of random-two among equals as well, and the
// hash policies are given clients that are independent.
//
// There are 80 runs, each 1e-11 likely to fail by chance, and 8 sums over ten of
// them: below 1e-9 for the whole test.
func TestDistributionUnderConcurrency(t *testing.T) {
	const runs, goroutines, rounds, burst = 10, 8, 200, 5
	weighted := []int{1, 1, 1, 2, 2, 3}
	tests := []struct {
		policy  balancer.Policy
		weights []int
	}{
		{balancer.LeastConnections, []int{1, 1, 1, 1, 1, 1, 1, 1, 1, 1}},
		{balancer.LeastConnections, weighted},
		{balancer.RoundRobin, []int{1, 1, 1, 1, 1, 1, 1, 1, 1, 1}},
		{balancer.RoundRobin, weighted},
		{balancer.RandomTwo, []int{1, 1, 1, 1, 1, 1, 1, 1, 1, 1}},
		{balancer.SourceHash, weighted},
		{balancer.SNIHash, weighted},
		{balancer.LeastTime, []int{1, 1, 1, 1, 1, 1, 1, 1, 1, 1}},
	}
	for _, tt := range tests {
		name := tt.policy.String()
		if tt.weights[len(tt.weights)-1] > 1 {
			name += ", by weight"
		}
		t.Run(name, func(t *testing.T) {
			sums := make([]float64, len(tt.weights))
			expect := func(sessions int) []float64 {
				want := make([]float64, len(tt.weights))
				total := 0
				for _, w := range tt.weights {
					total += w
				}
				for i, w := range tt.weights {
					want[i] = float64(sessions) * float64(w) / float64(total)
				}
				return want
			}
			bound := chiBound(len(tt.weights)-1, 1e-11)
			for run := range runs {
				got := bursts(t, tt.policy, tt.weights, uint64(run), goroutines, rounds, burst)
				if x := chiSquare(got, expect(goroutines*rounds*burst)); x > bound {
					t.Errorf("run %d: %v: chi-square %.1f, bound %.1f", run, got, x, bound)
				}
				for i := range got {
					sums[i] += got[i]
				}
			}
			x := chiSquare(sums, expect(runs*goroutines*rounds*burst))
			if x > bound {
				t.Errorf("all runs: %v: chi-square %.1f, bound %.1f", sums, x, bound)
			}
			t.Logf("all runs: chi-square %.2f, bound %.1f", x, bound)
		})
	}
}

// bursts returns how many sessions each backend was given.
func bursts(t *testing.T, policy balancer.Policy, weights []int, seed uint64, goroutines, rounds, burst int) []float64 {
	specs := equal(len(weights))
	for i, w := range weights {
		specs[i].Weight = w
	}
	p := newPool(t, specs...)
	start := time.Now()
	p.Configure(balancer.Options{Policy: policy, Now: func() time.Time { return start }})
	picks := clients(seed, goroutines*rounds*burst)
	for round := range rounds {
		var acquired, released sync.WaitGroup
		acquired.Add(goroutines)
		for g := range goroutines {
			mine := picks[(round*goroutines+g)*burst:][:burst]
			released.Go(func() {
				var held []*balancer.Backend
				for _, pk := range mine {
					b, err := p.Acquire(pk)
					if err != nil {
						t.Error(err)
						break
					}
					held = append(held, b)
				}
				acquired.Done()
				acquired.Wait()
				for _, b := range held {
					p.Release(b, balancer.Result{Dial: time.Millisecond})
				}
			})
		}
		released.Wait()
	}
	got := make([]float64, len(weights))
	for i, b := range p.Backends() {
		got[i] = float64(b.Total())
		if b.Active() != 0 {
			t.Errorf("%s is left with %d sessions", b.ID(), b.Active())
		}
	}
	return got
}

// Round robin is exact also when many goroutines pick at once: whoever moves a
// turn has it.
func TestRoundRobinIsExactUnderConcurrency(t *testing.T) {
	const goroutines, each, backends = 8, 20_000, 64
	p := newPool(t, equal(backends)...)
	p.Configure(balancer.Options{Policy: balancer.RoundRobin})
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for range each {
				b, err := p.Acquire(balancer.Pick{})
				if err != nil {
					t.Error(err)
					return
				}
				p.Release(b, balancer.Result{})
			}
		})
	}
	wg.Wait()
	for _, b := range p.Backends() {
		if got := b.Total(); got != goroutines*each/backends {
			t.Errorf("%s had %d sessions, want %d", b.ID(), got, goroutines*each/backends)
		}
	}
}
