package balancer_test

import (
	"testing"
	"time"

	"github.com/snicketlb/snicket/balancer"
)

// returned runs f with a pool of n backends that hold level
// sessions each, but b0, which was down for an hour and is ready since now.
func returned(t *testing.T, n, level int, slowStart time.Duration, f func(*balancer.Pool, *balancer.Backend, *time.Time)) {
	t.Helper()
	p := newPool(t, equal(n)...)
	now := time.Now()
	p.Configure(balancer.Options{SlowStart: slowStart, Now: func() time.Time { return now }})
	p.Mark("b0", balancer.Down, true)
	for range (n - 1) * level {
		acquire(t, p)
	}
	now = now.Add(time.Hour)
	p.Mark("b0", balancer.Down, false)
	f(p, p.Backends()[0], &now)
}

// What least connections means to a backend that comes back without sessions:
// all new ones, until it has as many as the others, and none beyond.
func TestReturnWithoutSlowStart(t *testing.T) {
	const n, level = 10, 50
	returned(t, n, level, 0, func(p *balancer.Pool, b *balancer.Backend, _ *time.Time) {
		for i := range level {
			if got := acquire(t, p); got != b {
				t.Fatalf("session %d went to %s, want %s", i, got.ID(), b.ID())
			}
		}
		for range n {
			acquire(t, p)
		}
		if got := b.Active(); got != level+1 {
			t.Errorf("%s has %d sessions, want %d as all", b.ID(), got, level+1)
		}
	})
}

// With it, its sessions are at most its share of what the others have, and one.
func TestSlowStart(t *testing.T) {
	const n, level, start = 10, 50, 100 * time.Second
	returned(t, n, level, start, func(p *balancer.Pool, b *balancer.Backend, now *time.Time) {
		for second := range 120 {
			for range 3 {
				acquire(t, p)
			}
			most := 0
			for _, other := range p.Backends()[1:] {
				most = max(most, other.Active())
			}
			share := min(0.05+0.95*float64(second)/100, 1)
			if got, want := float64(b.Active()), share*float64(most)+1; got > want {
				t.Fatalf("after %d s it has %v sessions, want at most %v of the others' %d", second, got, want, most)
			}
			*now = now.Add(time.Second)
		}
		for range n * level { // it has caught up by now
			acquire(t, p)
		}
		for _, other := range p.Backends() {
			if got := other.Active() - b.Active(); got < -1 || got > 1 {
				t.Errorf("%s has %d sessions, %s %d", other.ID(), other.Active(), b.ID(), b.Active())
			}
		}
	})
}

// Who begins small, and who does not.
func TestSlowStartIsForThoseWhoComeBack(t *testing.T) {
	tests := []struct {
		name  string
		make  func(*balancer.Pool)
		slow  bool
		after time.Duration
	}{
		{name: "the first update", make: func(*balancer.Pool) {}},
		{name: "down", make: func(p *balancer.Pool) {
			p.Mark("b0", balancer.Down, true)
			p.Mark("b0", balancer.Down, false)
		}, slow: true},
		{name: "ejected", make: func(p *balancer.Pool) {
			p.SetState("b0", balancer.Ejected)
			p.SetState("b0", balancer.Ready)
		}, slow: true},
		{name: "drained", make: func(p *balancer.Pool) {
			p.Mark("b0", balancer.Draining, true)
			p.Mark("b0", balancer.Draining, false)
		}},
		{name: "down while drained", make: func(p *balancer.Pool) {
			p.Mark("b0", balancer.Draining, true)
			p.Mark("b0", balancer.Down, true)
			p.Mark("b0", balancer.Down, false)
			p.Mark("b0", balancer.Draining, false)
		}, slow: true},
		{name: "still ejected", make: func(p *balancer.Pool) {
			p.Mark("b0", balancer.Down, true)
			p.Mark("b0", balancer.Ejected, true)
			p.Mark("b0", balancer.Down, false)
			p.Mark("b0", balancer.Ejected, false)
		}, slow: true},
		{name: "added later", make: func(p *balancer.Pool) {
			p.Update(equal(2)[1:])
			p.Update(equal(2))
		}, slow: true},
		{name: "added to none", make: func(p *balancer.Pool) {
			p.Update(nil)
			p.Update(equal(2))
		}},
		{name: "over", make: func(p *balancer.Pool) {
			p.Mark("b0", balancer.Down, true)
			p.Mark("b0", balancer.Down, false)
		}, after: time.Minute},
		{name: "switched off", make: func(p *balancer.Pool) {
			p.Mark("b0", balancer.Down, true)
			p.Mark("b0", balancer.Down, false)
			p.Configure(balancer.Options{})
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, policy := range []balancer.Policy{balancer.LeastConnections, balancer.RoundRobin, balancer.RandomTwo, balancer.SourceHash, balancer.LeastTime} {
				t.Run(policy.String(), func(t *testing.T) {
					now := time.Now()
					p := balancer.New("slow")
					p.Configure(balancer.Options{Policy: policy, SlowStart: time.Minute, Now: func() time.Time { return now }, Rand: seeded(5)})
					p.Update(equal(2))
					tt.make(p)
					if tt.name == "switched off" {
						p.Configure(balancer.Options{Policy: policy, Rand: seeded(5)})
					}
					now = now.Add(tt.after)
					got := 0
					for _, pk := range clients(1, 400) {
						b, err := p.Acquire(pk)
						if err != nil {
							t.Fatal(err)
						}
						if b.ID() == "b0" {
							got++
						}
					}
					low, high := 160, 240
					if tt.slow { // 1 of 21
						low, high = 1, 40
					}
					if got < low || got > high {
						t.Errorf("b0 has %d sessions of 400, want %d to %d", got, low, high)
					}
				})
			}
		})
	}
}

// No policy sends more than its due to a backend because it was away: idle
// sessions, so that counts play no role.
func TestNobodyFloodsABackendThatComesBack(t *testing.T) {
	everyPolicy(t, func(t *testing.T, policy balancer.Policy) {
		const n = 10
		p := newPool(t, equal(n)...)
		p.Configure(balancer.Options{Policy: policy, Rand: seeded(9)})
		choose(t, p, clients(1, 1000))
		p.Mark("b4", balancer.Down, true)
		choose(t, p, clients(2, 10_000))
		p.Mark("b4", balancer.Down, false)
		counts := map[string]float64{}
		for _, id := range choose(t, p, clients(3, 2000)) {
			counts[id]++
		}
		var got, want []float64
		for _, b := range p.Backends() {
			got, want = append(got, counts[b.ID()]), append(want, 200)
		}
		if x, bound := chiSquare(got, want), chiBound(n-1, 1e-11); x > bound {
			t.Errorf("sessions went to %v: chi-square %.1f, bound %.1f", counts, x, bound)
		}
	})
}
