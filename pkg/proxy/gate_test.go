package proxy

import (
	"container/list"
	"slices"
	"testing"
)

func TestGate(t *testing.T) {
	g := newGate()
	g.resize(2)
	var order []int
	waits := make([]*list.Element, 6)
	for i := range waits {
		if waits[i] = g.enter(func() { order = append(order, i) }); waits[i] == nil {
			order = append(order, i)
		}
	}
	check := func(want ...int) {
		t.Helper()
		if !slices.Equal(order, want) {
			t.Fatalf("let in %v, want %v", order, want)
		}
	}
	check(0, 1)
	if !g.cancel(waits[2]) { // gives up its place in the queue
		t.Error("the one that waits was let in")
	}
	g.leave()
	check(0, 1, 3)
	if g.cancel(waits[3]) {
		t.Error("the one let in gave up its turn")
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
		if g.enter(func() { t.Error("called for one that did not wait") }) != nil {
			t.Error("waits without a bound")
		}
	}
	for range 10 {
		g.leave()
	}
	if g.inside != 0 || g.waiting.Len() != 0 {
		t.Errorf("%d inside, %d waiting at the end", g.inside, g.waiting.Len())
	}
}
