package proxy

import (
	"container/list"
	"context"
	"sync"
)

// A gate lets a bounded number through at a time; further ones wait in order.
type gate struct {
	mu      sync.Mutex // guards the fields below
	size    int
	inside  int
	waiting list.List // of chan struct{}, closed on entry
}

func newGate() *gate { return &gate{size: 1} }

// resize changes the bound; 0 lets all through. Those inside stay.
func (g *gate) resize(size int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.size = size
	g.admitLocked()
}

// enter waits for a place until ctx ends; nil means that leave must follow.
func (g *gate) enter(ctx context.Context) error {
	g.mu.Lock()
	if g.waiting.Len() == 0 && (g.size == 0 || g.inside < g.size) {
		g.inside++
		g.mu.Unlock()
		return nil
	}
	in := make(chan struct{})
	e := g.waiting.PushBack(in)
	g.mu.Unlock()
	select {
	case <-in:
		return nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-in: // let in at the same instant: pass the place on
		g.inside--
		g.admitLocked()
	default:
		g.waiting.Remove(e)
	}
	return ctx.Err()
}

// leave gives the place back.
func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	g.admitLocked()
}

func (g *gate) admitLocked() {
	for e := g.waiting.Front(); e != nil && (g.size == 0 || g.inside < g.size); e = g.waiting.Front() {
		g.waiting.Remove(e)
		g.inside++
		close(e.Value.(chan struct{}))
	}
}
