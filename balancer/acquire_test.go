package balancer_test

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/snicketlb/snicket/balancer"
)

// equal returns n specs of weight 1, named b0, b1 and so on.
func equal(n int) []balancer.Spec {
	specs := make([]balancer.Spec, n)
	for i := range specs {
		specs[i] = balancer.Spec{ID: fmt.Sprintf("b%d", i), Weight: 1}
	}
	return specs
}

func newPool(t testing.TB, specs ...balancer.Spec) *balancer.Pool {
	t.Helper()
	p := balancer.New("test")
	if added, removed := p.Update(specs); len(added) != len(specs) || removed != nil {
		t.Fatalf("first update added %q, removed %q", added, removed)
	}
	return p
}

func acquire(t testing.TB, p *balancer.Pool, tried ...*balancer.Backend) *balancer.Backend {
	t.Helper()
	b, err := p.Acquire(balancer.Pick{Tried: tried})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// shares picks n sessions one after the other, each released before the next,
// and counts them by backend.
func shares(t testing.TB, p *balancer.Pool, n int) map[string]int {
	t.Helper()
	got := make(map[string]int)
	for range n {
		b := acquire(t, p)
		got[b.ID()]++
		p.Release(b, balancer.Result{})
	}
	return got
}

func TestSequentialSessionsShareByWeight(t *testing.T) {
	tests := []struct {
		name  string
		specs []balancer.Spec
		n     int
		want  map[string]int
	}{
		{"one", equal(1), 5, map[string]int{"b0": 5}},
		{"equals", equal(4), 400, map[string]int{"b0": 100, "b1": 100, "b2": 100, "b3": 100}},
		{"three to one", []balancer.Spec{{ID: "a", Weight: 3}, {ID: "b", Weight: 1}}, 400, map[string]int{"a": 300, "b": 100}},
		{"the light one first", []balancer.Spec{{ID: "a", Weight: 1}, {ID: "b", Weight: 3}}, 400, map[string]int{"a": 100, "b": 300}},
		{"5:2:1", []balancer.Spec{{ID: "a", Weight: 5}, {ID: "b", Weight: 2}, {ID: "c", Weight: 1}}, 800, map[string]int{"a": 500, "b": 200, "c": 100}},
		{"weight 0 gets none", []balancer.Spec{{ID: "a", Weight: 1}, {ID: "b"}}, 10, map[string]int{"a": 10}},
		{"huge weights", []balancer.Spec{{ID: "a", Weight: 1 << 40}, {ID: "b", Weight: 1 << 20}}, 10, map[string]int{"a": 5, "b": 5}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := shares(t, newPool(t, tt.specs...), tt.n)
			if !maps.Equal(got, tt.want) {
				t.Errorf("%d sessions went to %v, want %v", tt.n, got, tt.want)
			}
		})
	}
}

func TestTurnsAreInterleaved(t *testing.T) {
	p := newPool(t, balancer.Spec{ID: "a", Weight: 3}, balancer.Spec{ID: "b", Weight: 1})
	var got strings.Builder
	for range 12 {
		b := acquire(t, p)
		got.WriteString(b.ID())
		p.Release(b, balancer.Result{})
	}
	if want := "abaaabaaabaa"; got.String() != want {
		t.Errorf("order %s, want %s", got.String(), want)
	}
}

func TestLeastConnectionsByWeight(t *testing.T) {
	p := newPool(t, balancer.Spec{ID: "a", Weight: 4}, balancer.Spec{ID: "b", Weight: 2}, balancer.Spec{ID: "c", Weight: 1})
	for range 700 {
		acquire(t, p)
	}
	want := map[string]int{"a": 400, "b": 200, "c": 100}
	for _, b := range p.Backends() {
		if b.Active() != want[b.ID()] {
			t.Errorf("%s has %d sessions, want %d", b.ID(), b.Active(), want[b.ID()])
		}
	}
}

func TestLeastLoadedIsPicked(t *testing.T) {
	p := newPool(t, equal(3)...)
	var sessions []*balancer.Backend
	for range 9 {
		sessions = append(sessions, acquire(t, p))
	}
	// One backend serves faster: its sessions end, and it alone gets new ones
	// until it has as many as the others.
	var fast *balancer.Backend
	for _, b := range sessions {
		if b.ID() == "b1" {
			fast = b
			p.Release(b, balancer.Result{})
		}
	}
	for i := range 3 {
		if b := acquire(t, p); b != fast {
			t.Errorf("pick %d: %s, want the idle b1", i, b.ID())
		}
	}
}

// The share of a backend that is busy goes to all others, not to its neighbour.
func TestTiesBesideABusyBackendShareEvenly(t *testing.T) {
	p := newPool(t, equal(4)...)
	busy := acquire(t, p)
	got := shares(t, p, 300)
	if want := map[string]int{"b1": 100, "b2": 100, "b3": 100}; busy.ID() != "b0" || !maps.Equal(got, want) {
		t.Errorf("beside %s sessions went to %v, want %v", busy.ID(), got, want)
	}
	// And when it is idle again it makes up for a few turns, not for all 100.
	p.Release(busy, balancer.Result{})
	for id, n := range shares(t, p, 400) {
		if n < 97 || n > 107 {
			t.Errorf("afterwards %s had %d sessions of 400, want 97 to 107", id, n)
		}
	}
}

func TestBackendThatComesBackIsNotFlooded(t *testing.T) {
	p := newPool(t, equal(2)...)
	p.SetState("b1", balancer.Down)
	shares(t, p, 10_000)
	p.SetState("b1", balancer.Ready)
	if got, want := shares(t, p, 100), (map[string]int{"b0": 50, "b1": 50}); !maps.Equal(got, want) {
		t.Errorf("sessions went to %v, want %v", got, want)
	}
}

func TestNewBackendIsNotFlooded(t *testing.T) {
	p := newPool(t, equal(2)...)
	shares(t, p, 10_000)
	p.Update(equal(3))
	if got, want := shares(t, p, 300), (map[string]int{"b0": 100, "b1": 100, "b2": 100}); !maps.Equal(got, want) {
		t.Errorf("sessions went to %v, want %v", got, want)
	}
}

func TestAcquireErrors(t *testing.T) {
	capped := func(id string, n int) balancer.Spec { return balancer.Spec{ID: id, Weight: 1, MaxConnections: n} }
	backup := balancer.Spec{ID: "spare", Weight: 1, Backup: true}
	tests := []struct {
		name    string
		specs   []balancer.Spec
		prepare func(*balancer.Pool)
		take    int // sessions held before
		tried   []string
		want    error
		wantID  string
	}{
		{name: "empty pool", want: balancer.ErrNoBackend},
		{name: "all down", specs: equal(2), prepare: set(balancer.Down, "b0", "b1"), want: balancer.ErrNoBackend},
		{name: "all draining", specs: equal(2), prepare: set(balancer.Draining, "b0", "b1"), want: balancer.ErrNoBackend},
		{name: "one left", specs: equal(3), prepare: set(balancer.Down, "b0", "b2"), wantID: "b1"},
		{name: "all of weight 0", specs: []balancer.Spec{{ID: "a"}, {ID: "b", Weight: -1}}, want: balancer.ErrNoBackend},
		{name: "all full", specs: []balancer.Spec{capped("a", 2), capped("b", 1)}, take: 3, want: balancer.ErrFull},
		{name: "one place left", specs: []balancer.Spec{capped("a", 1), capped("b", 3)}, take: 3, wantID: "b"},
		{name: "full and down", specs: []balancer.Spec{capped("a", 1), capped("b", 1)}, prepare: set(balancer.Down, "b"), take: 1, want: balancer.ErrFull},
		{name: "tried is not picked", specs: equal(2), tried: []string{"b0"}, wantID: "b1"},
		{name: "all tried", specs: equal(2), tried: []string{"b0", "b1"}, want: balancer.ErrNoBackend},
		{name: "tried, the other full", specs: []balancer.Spec{{ID: "a", Weight: 1}, capped("b", 1)}, take: 2, tried: []string{"a"}, want: balancer.ErrFull},
		{name: "tried and full", specs: []balancer.Spec{capped("a", 1)}, take: 1, tried: []string{"a"}, want: balancer.ErrNoBackend},
		{name: "backup rests", specs: append(equal(1), backup), take: 5, wantID: "b0"},
		{name: "backup when all others are down", specs: append(equal(2), backup), prepare: set(balancer.Down, "b0", "b1"), wantID: "spare"},
		{name: "backup when all others drain", specs: append(equal(1), backup), prepare: set(balancer.Draining, "b0"), wantID: "spare"},
		{name: "backup when all others were tried", specs: append(equal(2), backup), tried: []string{"b0", "b1"}, wantID: "spare"},
		{name: "no backup for full ones", specs: []balancer.Spec{capped("a", 1), backup}, take: 1, want: balancer.ErrFull},
		{name: "no backup for tried and full ones", specs: []balancer.Spec{{ID: "a", Weight: 1}, capped("b", 1), backup}, take: 2, tried: []string{"a"}, want: balancer.ErrFull},
		{name: "backup down too", specs: append(equal(1), backup), prepare: set(balancer.Down, "b0", "spare"), want: balancer.ErrNoBackend},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPool(t, tt.specs...)
			if tt.prepare != nil {
				tt.prepare(p)
			}
			for range tt.take {
				acquire(t, p)
			}
			var pick balancer.Pick
			for _, b := range p.Backends() {
				for _, id := range tt.tried {
					if b.ID() == id {
						pick.Tried = append(pick.Tried, b)
					}
				}
			}
			b, err := p.Acquire(pick)
			if !errors.Is(err, tt.want) {
				t.Fatalf("error %v, want %v", err, tt.want)
			}
			if err == nil && b.ID() != tt.wantID {
				t.Errorf("picked %s, want %s", b.ID(), tt.wantID)
			}
			if err != nil && b != nil {
				t.Errorf("picked %s beside an error", b.ID())
			}
		})
	}
}

func set(s balancer.State, ids ...string) func(*balancer.Pool) {
	return func(p *balancer.Pool) {
		for _, id := range ids {
			p.SetState(id, s)
		}
	}
}

func TestReleaseWithoutAcquirePanics(t *testing.T) {
	p := newPool(t, equal(1)...)
	b := acquire(t, p)
	p.Release(b, balancer.Result{})
	defer func() {
		want := "balancer: backend b0 released more often than acquired"
		if got := recover(); got != want {
			t.Errorf("recovered %v, want %q", got, want)
		}
	}()
	p.Release(b, balancer.Result{})
}

func TestAcquireAndReleaseDoNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	p := newPool(t, append(equal(16), balancer.Spec{ID: "capped", Weight: 2, MaxConnections: 10})...)
	tried := p.Backends()[:2]
	allocs := testing.AllocsPerRun(1000, func() {
		b, err := p.Acquire(balancer.Pick{Name: "a.test", Tried: tried})
		if err != nil {
			t.Fatal(err)
		}
		p.Release(b, balancer.Result{Err: err})
	})
	if allocs != 0 {
		t.Errorf("%v allocations a session, want 0", allocs)
	}
}

func parse(t testing.TB, policy string) balancer.Policy {
	t.Helper()
	p, err := balancer.ParsePolicy(policy)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestAdopt counts sessions that are there already, beyond every limit.
func TestAdopt(t *testing.T) {
	p := balancer.New("p")
	p.Update([]balancer.Spec{{ID: "a", Weight: 1, MaxConnections: 1}})
	p.SetState("a", balancer.Down)
	for want := 1; want <= 2; want++ {
		b, ok := p.Adopt("a")
		if !ok || b.ID() != "a" || b.Active() != want {
			t.Fatalf("got %v, %t, want a with %d sessions", b, ok, want)
		}
	}
	if b, ok := p.Adopt("b"); ok {
		t.Errorf("adopted %v, which the pool does not have", b)
	}
	p.SetState("a", balancer.Ready)
	if _, err := p.Acquire(balancer.Pick{}); !errors.Is(err, balancer.ErrFull) {
		t.Errorf("got %v, want %v", err, balancer.ErrFull)
	}
}
