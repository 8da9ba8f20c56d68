package balancer_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/snicketlb/snicket/balancer"
)

func ids(backends []*balancer.Backend) []string {
	var ids []string
	for _, b := range backends {
		ids = append(ids, b.ID())
	}
	return ids
}

func TestUpdateByDifference(t *testing.T) {
	spec := func(id string) balancer.Spec { return balancer.Spec{ID: id, Weight: 1} }
	p := balancer.New("web")
	steps := []struct {
		name                 string
		specs                []balancer.Spec
		added, removed, want []string
	}{
		{"fill", []balancer.Spec{spec("a"), spec("b")}, []string{"a", "b"}, nil, []string{"a", "b"}},
		{"same", []balancer.Spec{spec("a"), spec("b")}, nil, nil, []string{"a", "b"}},
		{"order", []balancer.Spec{spec("b"), spec("a")}, nil, nil, []string{"b", "a"}},
		{"replace", []balancer.Spec{spec("c"), spec("a")}, []string{"c"}, []string{"b"}, []string{"c", "a"}},
		{"twice the same ID", []balancer.Spec{spec("c"), {ID: "c", Weight: 9}}, nil, []string{"a"}, []string{"c"}},
		{"empty", nil, nil, []string{"c"}, nil},
	}
	for _, tt := range steps {
		added, removed := p.Update(tt.specs)
		if !slices.Equal(added, tt.added) || !slices.Equal(removed, tt.removed) {
			t.Errorf("%s: added %q and removed %q, want %q and %q", tt.name, added, removed, tt.added, tt.removed)
		}
		if got := ids(p.Backends()); !slices.Equal(got, tt.want) {
			t.Errorf("%s: backends %q, want %q", tt.name, got, tt.want)
		}
		if tt.name == "twice the same ID" {
			if got := p.Backends()[0].Spec().Weight; got != 1 {
				t.Errorf("weight %d, want that of the first spec, 1", got)
			}
		}
	}
	if got := p.Name(); got != "web" {
		t.Errorf("name %q, want web", got)
	}
}

func TestUpdateKeepsCountsAndState(t *testing.T) {
	p := newPool(t, balancer.Spec{ID: "a", Weight: 1, Value: "old"}, balancer.Spec{ID: "b", Weight: 1})
	a := acquire(t, p)
	if a.ID() != "a" || a.Value() != "old" {
		t.Fatalf("picked %s with %v, want a with old", a.ID(), a.Value())
	}
	p.SetState("b", balancer.Down)
	spec := balancer.Spec{ID: "a", Weight: 7, MaxConnections: 1, Value: "new"}
	p.Update([]balancer.Spec{{ID: "b", Weight: 2}, spec})
	got := p.Backends()
	if got[1] != a {
		t.Error("the handle of a changed")
	}
	if a.Active() != 1 || a.Total() != 1 || a.Spec() != spec || a.Value() != "new" {
		t.Errorf("a has %d of %d sessions and spec %v, want 1 of 1 and %v", a.Active(), a.Total(), a.Spec(), spec)
	}
	if got[0].State() != balancer.Down {
		t.Errorf("b is %s, want down", got[0].State())
	}
	if _, err := p.Acquire(balancer.Pick{}); !errors.Is(err, balancer.ErrFull) {
		t.Errorf("error %v, want %v: the new limit holds for the session that was there", err, balancer.ErrFull)
	}
}

func TestRemovedBackendDrains(t *testing.T) {
	p := newPool(t, equal(2)...)
	b0 := acquire(t, p)
	p.Update(equal(2)[1:])
	if b0.State() != balancer.Draining || b0.Active() != 1 {
		t.Errorf("removed backend is %s with %d sessions, want draining with 1", b0.State(), b0.Active())
	}
	for range 10 {
		if b := acquire(t, p); b == b0 {
			t.Fatal("picked a removed backend")
		}
	}
	if p.SetState("b0", balancer.Ready) {
		t.Error("SetState found a removed backend")
	}
	p.Release(b0, balancer.Result{})
	if b0.Active() != 0 || b0.Total() != 1 {
		t.Errorf("removed backend has %d of %d sessions, want 0 of 1", b0.Active(), b0.Total())
	}
}

func TestRemovedBackendReturns(t *testing.T) {
	only := []balancer.Spec{{ID: "a", Weight: 1, MaxConnections: 1}}
	t.Run("with sessions", func(t *testing.T) {
		p := newPool(t, only...)
		a := acquire(t, p)
		p.Update(nil)
		p.Update(equal(1)) // one more update between must not forget it
		if added, _ := p.Update(only); !slices.Equal(added, []string{"a"}) {
			t.Errorf("added %q, want a", added)
		}
		if got := p.Backends()[0]; got != a || got.State() != balancer.Ready {
			t.Errorf("backend is another one or %s, want the former one, ready", got.State())
		}
		if _, err := p.Acquire(balancer.Pick{}); !errors.Is(err, balancer.ErrFull) {
			t.Errorf("error %v, want %v: the limit holds for both lives together", err, balancer.ErrFull)
		}
	})
	t.Run("without sessions", func(t *testing.T) {
		p := newPool(t, only...)
		a := acquire(t, p)
		p.Release(a, balancer.Result{})
		p.Update(nil)
		p.Update(only)
		if got := p.Backends()[0]; got == a || got.Total() != 0 {
			t.Errorf("the former backend with %d sessions in all is back, want a new one", got.Total())
		}
	})
}

func TestStates(t *testing.T) {
	p := newPool(t, append(equal(3), balancer.Spec{ID: "spare", Weight: 1, Backup: true}, balancer.Spec{ID: "zero"})...)
	if p.Ready() != 4 {
		t.Errorf("%d ready, want 4", p.Ready())
	}
	if !p.SetState("b0", balancer.Down) || !p.SetState("b1", balancer.Draining) || !p.SetState("b1", balancer.Draining) {
		t.Error("SetState does not know a backend of the pool")
	}
	if p.SetState("b9", balancer.Down) {
		t.Error("SetState knows b9")
	}
	if p.Ready() != 2 {
		t.Errorf("%d ready, want b2 and spare", p.Ready())
	}
	var got []string
	for _, b := range p.Backends() {
		got = append(got, b.State().String())
	}
	if want := []string{"down", "draining", "ready", "ready", "ready"}; !slices.Equal(got, want) {
		t.Errorf("states %q, want %q", got, want)
	}
	if got := balancer.State(9).String(); got != "State(9)" {
		t.Errorf("unknown state is %q", got)
	}
}

func TestBackendsIsTheCallers(t *testing.T) {
	p := newPool(t, equal(2)...)
	p.Backends()[0] = nil
	if p.Backends()[0] == nil {
		t.Error("writing to the slice changed the pool")
	}
}
