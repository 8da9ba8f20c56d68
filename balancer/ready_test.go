package balancer_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/snicketlb/snicket/balancer"
)

// Marks come and go by themselves; the state is the one that tells most.
func TestMarks(t *testing.T) {
	p := newPool(t, equal(2)...)
	b := p.Backends()[0]
	steps := []struct {
		mark balancer.State
		on   bool
		want balancer.State
	}{
		{balancer.Ejected, true, balancer.Ejected},
		{balancer.Draining, true, balancer.Draining},
		{balancer.Down, true, balancer.Down},
		{balancer.Down, true, balancer.Down},
		{balancer.Draining, false, balancer.Down},
		{balancer.Down, false, balancer.Ejected},
		{balancer.Ready, true, balancer.Ejected}, // is no mark
		{balancer.State(9), true, balancer.Ejected},
		{balancer.Ejected, false, balancer.Ready},
		{balancer.Ejected, false, balancer.Ready},
	}
	for i, s := range steps {
		if !p.Mark("b0", s.mark, s.on) {
			t.Errorf("step %d: the backend is unknown", i)
		}
		if got := b.State(); got != s.want {
			t.Errorf("step %d: %s %v made it %s, want %s", i, s.mark, s.on, got, s.want)
		}
		want := 2
		if s.want != balancer.Ready {
			want = 1
		}
		if got := p.Ready(); got != want {
			t.Errorf("step %d: %d ready, want %d", i, got, want)
		}
		if got := b.Marked(balancer.Ready); got != (s.want == balancer.Ready) || !b.Marked(s.want) {
			t.Errorf("step %d: without a mark is %v, with %s %v", i, got, s.want, b.Marked(s.want))
		}
	}
	p.Mark("b0", balancer.Ejected, true)
	p.Mark("b0", balancer.Draining, true)
	p.SetState("b0", balancer.Down)
	if !b.Marked(balancer.Down) || b.Marked(balancer.Ejected) || b.Marked(balancer.Draining) {
		t.Error("SetState left another mark")
	}
	if p.Mark("b9", balancer.Down, true) || p.SetWeight("b9", 1) || p.SetShare("b9", 1) {
		t.Error("b9 is known")
	}
	if got := balancer.Ejected.String(); got != "ejected" {
		t.Errorf("Ejected is %q", got)
	}
}

func TestTiers(t *testing.T) {
	specs := []balancer.Spec{
		{ID: "far", Weight: 1, Tier: 7},
		{ID: "a", Weight: 1, Tier: -1},
		{ID: "b", Weight: 1},
		{ID: "backup", Weight: 1, Backup: true},
		{ID: "same", Weight: 1, Tier: 1},
		{ID: "second", Weight: 1, Tier: 2, Backup: true},
	}
	tests := []struct{ down, want string }{
		{"", "a b"},
		{"a", "b"},
		{"a b", "backup same"},
		{"a b same", "backup"},
		{"a b backup same", "second"},
		{"a b backup same second", "far"},
		{"backup", "a b"},
		{"a b second", "backup same"},
	}
	for _, tt := range tests {
		t.Run(tt.down, func(t *testing.T) {
			everyPolicy(t, func(t *testing.T, policy balancer.Policy) {
				p := newPool(t, specs...)
				p.Configure(balancer.Options{Policy: policy, Rand: seeded(1)})
				for id := range strings.FieldsSeq(tt.down) {
					p.SetState(id, balancer.Down)
				}
				seen := map[string]bool{}
				for _, id := range choose(t, p, clients(1, 100)) {
					seen[id] = true
				}
				if got := strings.Join(slices.Sorted(maps.Keys(seen)), " "); policy != balancer.LeastTime && got != tt.want {
					t.Errorf("sessions went to %s, want %s", got, tt.want)
				} else if !strings.Contains(tt.want, got) {
					t.Errorf("sessions went to %s, want some of %s", got, tt.want)
				}
				// Retries go through the tiers in order, to each backend once.
				var pk balancer.Pick
				for len(pk.Tried) < len(specs)-len(strings.Fields(tt.down)) {
					b := acquire(t, p, pk.Tried...)
					if n := len(pk.Tried); n > 0 {
						last, next := pk.Tried[n-1].Spec(), b.Spec()
						if tierOf(last) > tierOf(next) {
							t.Errorf("tried %s after %s", next.ID, last.ID)
						}
					}
					pk.Tried = append(pk.Tried, b)
				}
				if _, err := p.Acquire(pk); !errors.Is(err, balancer.ErrNoBackend) {
					t.Errorf("error %v after all were tried, want %v", err, balancer.ErrNoBackend)
				}
			})
		})
	}
}

func tierOf(s balancer.Spec) int {
	if s.Backup && s.Tier < 1 {
		return 1
	}
	return max(s.Tier, 0)
}

func TestWeightsChangeWhileSessionsRun(t *testing.T) {
	tests := []struct {
		name   string
		change func(*balancer.Pool)
		want   map[string]int // of 600 sessions, a of weight 2, b of weight 1
		weight int            // of a
	}{
		{"as declared", func(*balancer.Pool) {}, map[string]int{"a": 400, "b": 200}, 2},
		{"declared anew", func(p *balancer.Pool) {
			p.Update([]balancer.Spec{{ID: "a", Weight: 5}, {ID: "b", Weight: 1}})
		}, map[string]int{"a": 500, "b": 100}, 5},
		{"set", func(p *balancer.Pool) { p.SetWeight("a", 5) }, map[string]int{"a": 500, "b": 100}, 5},
		{"set over an update", func(p *balancer.Pool) {
			p.SetWeight("a", 5)
			p.Update([]balancer.Spec{{ID: "a", Weight: 9}, {ID: "b", Weight: 1}})
		}, map[string]int{"a": 500, "b": 100}, 5},
		{"set and cleared", func(p *balancer.Pool) {
			p.SetWeight("a", 5)
			p.SetWeight("a", -3)
		}, map[string]int{"a": 400, "b": 200}, 2},
		{"set to 0", func(p *balancer.Pool) { p.SetWeight("a", 0) }, map[string]int{"b": 600}, 0},
		{"half", func(p *balancer.Pool) { p.SetShare("a", 50) }, map[string]int{"a": 300, "b": 300}, 2},
		{"half of what is set", func(p *balancer.Pool) {
			p.SetShare("a", 50)
			p.SetWeight("a", 10)
		}, map[string]int{"a": 500, "b": 100}, 10},
		{"more than whole", func(p *balancer.Pool) { p.SetShare("a", 250) }, map[string]int{"a": 500, "b": 100}, 2},
		{"none of it", func(p *balancer.Pool) { p.SetShare("a", -1) }, map[string]int{"b": 600}, 2},
		{"a hundredth of 1", func(p *balancer.Pool) {
			p.SetShare("b", 1)
			p.SetWeight("a", 1)
		}, map[string]int{"a": 594, "b": 6}, 1},
	}
	for _, policy := range []balancer.Policy{balancer.LeastConnections, balancer.RoundRobin} {
		for _, tt := range tests {
			t.Run(policy.String()+"/"+tt.name, func(t *testing.T) {
				p := newPool(t, balancer.Spec{ID: "a", Weight: 2}, balancer.Spec{ID: "b", Weight: 1})
				p.Configure(balancer.Options{Policy: policy})
				held := []*balancer.Backend{acquire(t, p), acquire(t, p), acquire(t, p)}
				for _, b := range held {
					p.Release(b, balancer.Result{})
				}
				tt.change(p)
				got := shares(t, p, 600)
				for id, n := range tt.want {
					if got[id] < n-5 || got[id] > n+5 {
						t.Errorf("sessions went to %v, want %v", got, tt.want)
					}
				}
				if got["a"]+got["b"] != 600 || p.Backends()[0].Weight() != tt.weight {
					t.Errorf("a has weight %d, want %d", p.Backends()[0].Weight(), tt.weight)
				}
				if got := p.Backends()[0].Total() + p.Backends()[1].Total(); got != 603 {
					t.Errorf("%d sessions are counted, want 603", got)
				}
			})
		}
	}
}

// Raised from almost nothing, a weight counts at once: the long way to the next
// turn, which the small weight meant, is forgotten.
func TestRaisedWeightCountsAtOnce(t *testing.T) {
	p := newPool(t, balancer.Spec{ID: "a", Weight: 1000}, balancer.Spec{ID: "b", Weight: 1})
	p.Configure(balancer.Options{Policy: balancer.RoundRobin})
	shares(t, p, 600) // b had its turn
	p.SetWeight("b", 1000)
	if got := shares(t, p, 20); got["b"] < 9 {
		t.Errorf("sessions went to %v, want half to b", got)
	}
}

func TestPanic(t *testing.T) {
	primaries := func(n int, more ...balancer.Spec) []balancer.Spec { return append(equal(n), more...) }
	spare := balancer.Spec{ID: "spare", Weight: 1, Backup: true}
	tests := []struct {
		name    string
		specs   []balancer.Spec
		below   float64
		marks   string // MARK:ID
		want    string // who is tried
		panics  bool
		reports string
		members int // if it is not as many as are tried first
	}{
		{name: "never", specs: primaries(2), marks: "down:b0 down:b1"},
		{name: "all down", specs: primaries(2), below: 0.01, marks: "down:b0 down:b1", want: "b0 b1", panics: true, reports: "on -1 0/2"},
		{name: "one is left", specs: primaries(3), below: 0.01, marks: "down:b0 down:b1", want: "b2"},
		{name: "half is enough", specs: primaries(4), below: 0.5, marks: "down:b0 ejected:b1", want: "b2 b3"},
		{name: "less than half", specs: primaries(4), below: 0.5, marks: "down:b0 ejected:b1 down:b2", want: "b0 b1 b2 b3", panics: true, reports: "on 0 1/4"},
		{name: "draining ones do not count and are not tried", specs: primaries(4), below: 0.5, marks: "drain:b0 drain:b1 down:b2", want: "b3"},
		{name: "nor when all others are down", specs: primaries(3), below: 0.5, marks: "drain:b0 drain:b2 down:b2 down:b1", want: "b1", panics: true, reports: "on -1 0/1"},
		{name: "all drain", specs: primaries(2), below: 1, marks: "drain:b0 drain:b1"},
		{name: "weight 0 is not tried", specs: []balancer.Spec{{ID: "a", Weight: 1}, {ID: "z"}}, below: 0.5, marks: "down:a down:z", want: "a", panics: true, reports: "on -1 0/1"},
		{name: "a backup is ready", specs: primaries(2, spare), below: 0.5, marks: "down:b0 down:b1", want: "spare"},
		{name: "the backup is down too", specs: primaries(2, spare), below: 0.5, marks: "down:b0 down:b1 down:spare", want: "b0 b1", panics: true, reports: "on -1 0/3", members: 3},
		{name: "a tier in panic opens no other", specs: primaries(3, spare), below: 0.5, marks: "down:spare down:b0 down:b1", want: "b0 b1 b2", panics: true, reports: "on 0 1/3", members: 3},
		{name: "a backup that is down does not count", specs: primaries(2, spare), below: 0.6, marks: "down:spare", want: "b0 b1"},
		{name: "over", specs: primaries(2), below: 0.5, marks: "down:b0 down:b1 ready:b0", want: "b0", reports: "on -1 0/2, off 0 1/2"},
		{name: "empty pool", below: 1},
	}
	marks := map[string]balancer.State{"down": balancer.Down, "ejected": balancer.Ejected, "drain": balancer.Draining}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			everyPolicy(t, func(t *testing.T, policy balancer.Policy) {
				var reports []string
				p := newPool(t, tt.specs...)
				p.Configure(balancer.Options{Policy: policy, PanicBelow: tt.below, Rand: seeded(1), OnPanic: func(c balancer.Panic) {
					word := "off"
					if c.On {
						word = "on"
					}
					if c.On != p.Panicking() {
						t.Errorf("told %v, the pool says %v", c.On, p.Panicking())
					}
					reports = append(reports, fmt.Sprintf("%s %d %d/%d", word, c.Tier, c.Ready, c.Total))
				}})
				for m := range strings.FieldsSeq(tt.marks) {
					word, id, _ := strings.Cut(m, ":")
					if word == "ready" {
						p.SetState(id, balancer.Ready)
					} else {
						p.Mark(id, marks[word], true)
					}
				}
				seen := map[string]bool{}
				for _, pk := range clients(2, 60) {
					b, err := p.Acquire(pk)
					if err != nil {
						if tt.want != "" || !errors.Is(err, balancer.ErrNoBackend) {
							t.Fatal(err)
						}
						break
					}
					seen[b.ID()] = true
				}
				if got := strings.Join(slices.Sorted(maps.Keys(seen)), " "); got != tt.want {
					t.Errorf("sessions went to %q, want %q", got, tt.want)
				}
				if got := p.Ready(); tt.members > 0 && got != tt.members {
					t.Errorf("%d may be picked, want %d", got, tt.members)
				}
				if got := strings.Join(reports, ", "); got != tt.reports {
					t.Errorf("reported %q, want %q", got, tt.reports)
				}
				if got, want := p.Panics(), uint64(strings.Count(tt.reports, "on ")); got != want || p.Panicking() != tt.panics {
					t.Errorf("%d panics, now %v; want %d, %v", got, p.Panicking(), want, tt.panics)
				}
			})
		})
	}
}
