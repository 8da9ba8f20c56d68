package balancer_test

import (
	"errors"
	"maps"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/snicketlb/snicket/balancer"
)

// everyPolicy runs f as a subtest for each policy.
func everyPolicy(t *testing.T, f func(*testing.T, balancer.Policy)) {
	t.Helper()
	for _, name := range balancer.Policies() {
		t.Run(name, func(t *testing.T) { f(t, parse(t, name)) })
	}
}

// seeded is a source for Options.Rand that repeats; for one goroutine.
func seeded(seed uint64) func() uint64 { return rand.New(rand.NewPCG(seed, 0)).Uint64 }

// picks are sessions of as many clients, each with a name of its own.
func clients(seed uint64, n int) []balancer.Pick {
	r := rand.New(rand.NewPCG(seed, 1))
	picks := make([]balancer.Pick, n)
	for i := range picks {
		var a [4]byte
		for j := range a {
			a[j] = byte(r.Uint32())
		}
		picks[i].Client = netip.AddrFrom4(a)
		picks[i].Name = strings.ReplaceAll(picks[i].Client.String(), ".", "-") + ".example.com"
	}
	return picks
}

func TestPolicyNames(t *testing.T) {
	if got, want := strings.Join(balancer.Policies(), " "), "least-connections round-robin random-two source-hash sni-hash least-time"; got != want {
		t.Errorf("policies %s, want %s", got, want)
	}
	for i, name := range balancer.Policies() {
		p, err := balancer.ParsePolicy(name)
		if err != nil || p != balancer.Policy(i) || p.String() != name {
			t.Errorf("%q is policy %d, %s, %v; want %d", name, p, p, err, i)
		}
	}
	_, err := balancer.ParsePolicy("Random")
	if got, want := err.Error(), `policy "Random", want one of ["least-connections" "round-robin" "random-two" "source-hash" "sni-hash" "least-time"]`; got != want {
		t.Errorf("error %s, want %s", got, want)
	}
	if got := balancer.Policy(9).String(); got != "Policy(9)" {
		t.Errorf("unknown policy is %s", got)
	}
	p := balancer.New("p")
	p.Configure(balancer.Options{Policy: 9})
	if got := p.Policy(); got != balancer.LeastConnections {
		t.Errorf("an unknown policy became %s, want least-connections", got)
	}
}

// A backend that was tried is not picked again, and the error tells apart that
// none is left from that the others are full.
func TestTriedIsNotPickedAgain(t *testing.T) {
	everyPolicy(t, func(t *testing.T, policy balancer.Policy) {
		const n = 5
		p := newPool(t, equal(n)...)
		p.Configure(balancer.Options{Policy: policy, Rand: seeded(1)})
		for _, pk := range clients(2, 200) {
			for range n {
				b, err := p.Acquire(pk)
				if err != nil {
					t.Fatal(err)
				}
				for _, other := range pk.Tried {
					if b == other {
						t.Fatalf("%s was picked twice", b.ID())
					}
				}
				pk.Tried = append(pk.Tried, b)
				p.Release(b, balancer.Result{Err: errors.New("refused")})
			}
			if b, err := p.Acquire(pk); !errors.Is(err, balancer.ErrNoBackend) {
				t.Fatalf("picked %v, %v after all were tried, want %v", b, err, balancer.ErrNoBackend)
			}
		}
	})
}

// Limits hold to the last place, whatever the policy would rather pick.
func TestEveryPolicyFillsEveryPlace(t *testing.T) {
	everyPolicy(t, func(t *testing.T, policy balancer.Policy) {
		specs := equal(4)
		want := map[string]int{}
		places := 0
		for i := range specs {
			specs[i].MaxConnections = 1 + 10*i
			want[specs[i].ID] = 1 + 10*i
			places += 1 + 10*i
		}
		p := newPool(t, specs...)
		p.Configure(balancer.Options{Policy: policy, Rand: seeded(1)})
		got := map[string]int{}
		for i, pk := range clients(1, places+1) {
			b, err := p.Acquire(pk)
			if i == places {
				if !errors.Is(err, balancer.ErrFull) {
					t.Errorf("beyond the last place: %v, %v; want %v", b, err, balancer.ErrFull)
				}
				break
			}
			if err != nil {
				t.Fatalf("session %d of %d: %v", i, places, err)
			}
			got[b.ID()]++
		}
		if !maps.Equal(got, want) {
			t.Errorf("sessions went to %v, want %v", got, want)
		}
	})
}

// A policy may change at any time: counts stay and go on to mean what they did.
func TestPolicyChangeKeepsCounts(t *testing.T) {
	p := newPool(t, equal(3)...)
	var held []*balancer.Backend
	for _, name := range balancer.Policies() {
		p.Configure(balancer.Options{Policy: parse(t, name), Rand: seeded(3)})
		if got := p.Policy().String(); got != name {
			t.Fatalf("policy %s, want %s", got, name)
		}
		for _, pk := range clients(4, 10) {
			b, err := p.Acquire(pk)
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, b)
		}
		sum := 0
		for _, b := range p.Backends() {
			sum += b.Active()
		}
		if sum != len(held) {
			t.Errorf("%s: %d sessions, want %d", name, sum, len(held))
		}
	}
	// Least connections levels what the others left.
	p.Configure(balancer.Options{})
	for range 300 {
		acquire(t, p)
	}
	for _, b := range p.Backends() {
		if got := b.Active(); got != (len(held)+300)/3 {
			t.Errorf("%s has %d sessions, want %d", b.ID(), got, (len(held)+300)/3)
		}
	}
}

func TestRoundRobinOrder(t *testing.T) {
	weights := func(w ...int) []balancer.Spec {
		var specs []balancer.Spec
		for i, n := range w {
			specs = append(specs, balancer.Spec{ID: string(rune('a' + i)), Weight: n})
		}
		return specs
	}
	tests := []struct {
		name  string
		specs []balancer.Spec
		want  string
	}{
		{"equals", weights(1, 1, 1), "abcabcabcabc"},
		{"3:1", weights(3, 1), "aabaaabaaaba"},
		{"5:1:1", weights(5, 1, 1), "aaabcaaaaabcaa"},
		{"weight 0", weights(1, 0, 1), "acacac"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPool(t, tt.specs...)
			p.Configure(balancer.Options{Policy: balancer.RoundRobin})
			var got strings.Builder
			for i := range len(tt.want) {
				b := acquire(t, p)
				got.WriteString(b.ID())
				if i%2 == 0 { // the others stay: round robin does not count them
					p.Release(b, balancer.Result{})
				}
			}
			if got.String() != tt.want {
				t.Errorf("order %s, want %s", got.String(), tt.want)
			}
		})
	}
}

// An idle pool must share by random-two as its weights say.
func TestRandomTwoDrawsByWeight(t *testing.T) {
	specs := []balancer.Spec{{ID: "a", Weight: 1}, {ID: "b", Weight: 2}, {ID: "c", Weight: 7}}
	for seed := range uint64(10) {
		p := newPool(t, specs...)
		p.Configure(balancer.Options{Policy: balancer.RandomTwo, Rand: seeded(seed)})
		got := shares(t, p, 20_000)
		x := chiSquare([]float64{float64(got["a"]), float64(got["b"]), float64(got["c"])}, []float64{2000, 4000, 14000})
		if bound := chiBound(2, 1e-10); x > bound {
			t.Errorf("seed %d: sessions went to %v: chi-square %.1f, bound %.1f", seed, got, x, bound)
		}
	}
}

// Two choices keep the highest count near the mean, where one choice lets it run
// away: by Mitzenmacher log log n / log 2 above it, with n = 100 about 2 to 3,
// against about 30 for one choice at a mean of 100.
func TestRandomTwoKeepsTheHighestLow(t *testing.T) {
	const backends, mean = 100, 100
	for seed := range uint64(10) {
		p := newPool(t, equal(backends)...)
		p.Configure(balancer.Options{Policy: balancer.RandomTwo, Rand: seeded(seed)})
		for range backends * mean {
			acquire(t, p)
		}
		highest := 0
		for _, b := range p.Backends() {
			highest = max(highest, b.Active())
		}
		if highest > mean+6 {
			t.Errorf("seed %d: the highest of %d backends has %d sessions, want at most %d", seed, backends, highest, mean+6)
		}
	}
}

func TestLeastTime(t *testing.T) {
	// took is what a session with each backend takes.
	run := func(t *testing.T, took map[string]time.Duration, n int) (p *balancer.Pool, now *time.Time) {
		p = newPool(t, equal(len(took))...)
		now = new(time.Now())
		p.Configure(balancer.Options{Policy: balancer.LeastTime, Now: func() time.Time { return *now }})
		var held []*balancer.Backend
		for range n {
			b := acquire(t, p)
			p.Observe(b, balancer.Result{Dial: took[b.ID()] / 2, FirstByte: took[b.ID()] / 2})
			held = append(held, b)
			*now = now.Add(time.Millisecond)
		}
		for _, b := range held {
			p.Release(b, balancer.Result{})
		}
		return p, now
	}
	totals := func(p *balancer.Pool) map[string]int {
		got := map[string]int{}
		for _, b := range p.Backends() {
			got[b.ID()] = int(b.Total())
		}
		return got
	}
	t.Run("sessions by speed", func(t *testing.T) {
		p, _ := run(t, map[string]time.Duration{"b0": 10 * time.Millisecond, "b1": 30 * time.Millisecond}, 400)
		if got := totals(p); got["b0"] < 295 || got["b0"] > 305 {
			t.Errorf("sessions went to %v, want 3 to 1", got)
		}
		if got := p.Backends()[1].Latency(); got != 30*time.Millisecond {
			t.Errorf("b1 takes %v, want 30ms", got)
		}
	})
	t.Run("equals", func(t *testing.T) {
		p, _ := run(t, map[string]time.Duration{"b0": time.Millisecond, "b1": time.Millisecond, "b2": time.Millisecond}, 300)
		if got := totals(p); got["b0"] != 100 || got["b1"] != 100 || got["b2"] != 100 {
			t.Errorf("sessions went to %v, want 100 each", got)
		}
	})
	t.Run("no sample is as good as the fastest, until it has sessions", func(t *testing.T) {
		p, _ := run(t, map[string]time.Duration{"b0": time.Second}, 1)
		p.Update(equal(3))
		got := map[string]int{}
		for range 30 {
			got[acquire(t, p).ID()]++
		}
		if want := (map[string]int{"b0": 10, "b1": 10, "b2": 10}); !maps.Equal(got, want) {
			t.Errorf("sessions went to %v, want %v", got, want)
		}
	})
	t.Run("a slow backend is tried again", func(t *testing.T) {
		p, now := run(t, map[string]time.Duration{"b0": 10 * time.Millisecond, "b1": 640 * time.Millisecond}, 10)
		b0, b1 := p.Backends()[0], p.Backends()[1]
		if b1.Total() != 1 {
			t.Fatalf("b1 had %d sessions at first, want 1", b1.Total())
		}
		var waited time.Duration
		for b1.Total() == 1 && waited < time.Hour {
			*now = now.Add(time.Second)
			waited += time.Second
			p.Release(acquire(t, p), balancer.Result{Dial: 10 * time.Millisecond})
		}
		// Six half-lives of 8.6 s bring 640 ms to 10 ms.
		if waited < 50*time.Second || waited > 54*time.Second {
			t.Errorf("tried again after %v, want about 52s", waited)
		}
		if b0.Latency() != 10*time.Millisecond {
			t.Errorf("b0 takes %v, want 10ms", b0.Latency())
		}
	})
	t.Run("a refusal is not fast", func(t *testing.T) {
		p, _ := run(t, map[string]time.Duration{"b0": 10 * time.Millisecond, "b1": 10 * time.Millisecond}, 10)
		b := acquire(t, p)
		p.Release(b, balancer.Result{Dial: time.Microsecond, Err: errors.New("refused")})
		for range 20 {
			if next := acquire(t, p); next == b && next.Active() > 3 {
				t.Fatalf("%s refused a session and has %d", b.ID(), next.Active())
			} else if next != b {
				continue
			}
		}
		if got, want := b.Latency(), 60*time.Millisecond; got < want {
			t.Errorf("%s takes %v after a refusal, want at least %v", b.ID(), got, want)
		}
	})
	t.Run("other policies take no samples", func(t *testing.T) {
		p := newPool(t, equal(1)...)
		b := acquire(t, p)
		p.Release(b, balancer.Result{Dial: time.Second})
		if got := b.Latency(); got != 0 {
			t.Errorf("latency %v, want 0", got)
		}
	})
}

func TestNoPolicyAllocates(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	everyPolicy(t, func(t *testing.T, policy balancer.Policy) {
		p := newPool(t, append(equal(16), balancer.Spec{ID: "capped", Weight: 2, MaxConnections: 10})...)
		p.Configure(balancer.Options{Policy: policy, SlowStart: time.Hour, QueueSize: 10})
		tried := p.Backends()[:2]
		pk := balancer.Pick{Name: "a.test", Client: netip.MustParseAddr("2001:db8::1"), Tried: tried}
		session := func() {
			b, err := p.Acquire(pk)
			if err != nil {
				t.Fatal(err)
			}
			p.Release(b, balancer.Result{Dial: time.Second, FirstByte: time.Second})
		}
		for _, state := range []string{"all ready", "down", "in slow start"} {
			switch state {
			case "down":
				for _, b := range p.Backends()[2:10] {
					p.Mark(b.ID(), balancer.Down, true)
				}
			case "in slow start":
				for _, b := range p.Backends()[2:10] {
					p.Mark(b.ID(), balancer.Down, false)
				}
			}
			if allocs := testing.AllocsPerRun(1000, session); allocs != 0 {
				t.Errorf("%s: %v allocations a session, want 0", state, allocs)
			}
		}
	})
}
