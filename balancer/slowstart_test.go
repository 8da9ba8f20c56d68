package balancer_test

import (
	"testing"
	"time"

	"github.com/snicketlb/snicket/balancer"
)

// TestRamp goes on with a slow start in another pool.
func TestRamp(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	pool := func() *balancer.Pool {
		p := balancer.New("p")
		p.Configure(balancer.Options{SlowStart: 10 * time.Second, Now: func() time.Time { return now }})
		p.Update([]balancer.Spec{{ID: "a", Weight: 1}, {ID: "b", Weight: 1}})
		return p
	}
	p := pool()
	p.SetState("a", balancer.Down)
	p.SetState("a", balancer.Ready)
	now = now.Add(4 * time.Second)
	got := p.Ramps()
	if len(got) != 1 || got["a"] != 4*time.Second {
		t.Fatalf("got %v, want a for 4s", got)
	}
	next := pool()
	for id, since := range got {
		if !next.Ramp(id, since) {
			t.Errorf("no backend %s", id)
		}
	}
	if next.Ramp("c", 0) {
		t.Error("there is a backend c")
	}
	now = now.Add(2 * time.Second)
	if got := next.Ramps(); len(got) != 1 || got["a"] != 6*time.Second {
		t.Errorf("got %v, want a for 6s", got)
	}
	now = now.Add(5 * time.Second)
	if got := next.Ramps(); len(got) != 0 {
		t.Errorf("got %v, want none: it is over", got)
	}
}
