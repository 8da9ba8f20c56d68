package proxy

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		g.resize(2)
		var order []int
		cancels := make([]context.CancelFunc, 6)
		errs := make([]error, 6)
		for i := range 6 {
			var ctx context.Context
			ctx, cancels[i] = context.WithCancel(t.Context())
			go func() {
				if errs[i] = g.enter(ctx); errs[i] == nil {
					order = append(order, i)
				}
			}()
			synctest.Wait() // so that they come in this order
		}
		check := func(want ...int) {
			t.Helper()
			synctest.Wait()
			if len(order) != len(want) {
				t.Fatalf("let in %v, want %v", order, want)
			}
			for i := range want {
				if order[i] != want[i] {
					t.Fatalf("let in %v, want %v", order, want)
				}
			}
		}
		check(0, 1)
		cancels[2]() // gives up its place in the queue
		g.leave()
		check(0, 1, 3)
		if !errors.Is(errs[2], context.Canceled) {
			t.Errorf("the one that gave up: %v", errs[2])
		}
		g.resize(3)
		check(0, 1, 3, 4)
		g.resize(1) // those inside stay; the next comes when all but none have left
		g.leave()
		g.leave()
		check(0, 1, 3, 4)
		g.leave()
		check(0, 1, 3, 4, 5)
		g.leave()
		g.resize(0)
		for range 10 {
			if err := g.enter(t.Context()); err != nil {
				t.Error(err)
			}
		}
		for range 10 {
			g.leave()
		}
		if g.inside != 0 || g.waiting.Len() != 0 {
			t.Errorf("%d inside, %d waiting at the end", g.inside, g.waiting.Len())
		}
		for _, cancel := range cancels {
			cancel()
		}
	})
}
