package balancer_test

import (
	"testing"

	"github.com/snicketlb/snicket/balancer"
)

func TestSetConditions(t *testing.T) {
	p := balancer.New("p")
	var panics []balancer.Panic
	p.Configure(balancer.Options{PanicBelow: 0.5, OnPanic: func(now balancer.Panic) { panics = append(panics, now) }})
	p.Update([]balancer.Spec{{ID: "a", Weight: 1}, {ID: "b", Weight: 1}, {ID: "c", Weight: 1}, {ID: "d", Weight: 1}})
	p.Mark("c", balancer.Ejected, true)
	p.SetConditions([]balancer.Condition{
		{ID: "a", Down: true, Draining: true, Share: 100},
		{ID: "b", Share: 50},
		{ID: "c", Ejected: true, Share: 20_000},
		{ID: "nobody", Down: true, Share: 100},
		{ID: "d", Share: -1},
	})
	for i, want := range []struct {
		down, draining, ejected bool
		share                   int
	}{{true, true, false, 100}, {false, false, false, 50}, {false, false, true, 10_000}, {false, false, false, 0}} {
		b := p.Backends()[i]
		if b.Marked(balancer.Down) != want.down || b.Marked(balancer.Draining) != want.draining ||
			b.Marked(balancer.Ejected) != want.ejected || b.Share() != want.share {
			t.Errorf("%s: got %v with share %d, want %+v", b.ID(), b.State(), b.Share(), want)
		}
	}
	// One of the two that count is ready: no panic, whatever came in between.
	if len(panics) != 0 {
		t.Errorf("got panics %+v, want none", panics)
	}
	for range 4 {
		b, err := p.Acquire(balancer.Pick{})
		if err != nil || b.ID() != "b" {
			t.Errorf("got %v, %v; want b, the one that is ready and has a share", b, err)
		}
	}
	p.SetConditions([]balancer.Condition{{ID: "a", Share: 100}, {ID: "b", Down: true, Share: 100}, {ID: "c", Down: true, Share: 100}, {ID: "d", Down: true, Share: 100}})
	if len(panics) != 1 || !panics[0].On || panics[0].Ready != 1 || panics[0].Total != 4 {
		t.Errorf("got panics %+v, want one with 1 of 4 ready", panics)
	}
}

// A session that waits is given a place that a condition makes.
func TestSetConditionsServesTheQueue(t *testing.T) {
	p := balancer.New("p")
	p.Configure(balancer.Options{QueueSize: 1})
	p.Update([]balancer.Spec{{ID: "a", Weight: 1, MaxConnections: 1}, {ID: "b", Weight: 1}})
	p.Mark("b", balancer.Down, true)
	if _, err := p.Acquire(balancer.Pick{}); err != nil {
		t.Fatal(err)
	}
	var given *balancer.Backend
	if _, err := p.Wait(balancer.Pick{}, func(b *balancer.Backend) { given = b }); err != nil {
		t.Fatal(err)
	}
	p.SetConditions([]balancer.Condition{{ID: "b", Share: 100}})
	if given == nil || given.ID() != "b" {
		t.Errorf("got %v, want b", given)
	}
}
