package proxy

import (
	"container/list"
	"sync"
)

// A gate lets a bounded number through at a time; further ones wait in order.
// Loops share one, and hold its lock for as long as a list takes to change.
type gate struct {
	mu      sync.Mutex // guards the fields below
	size    int
	inside  int
	waiting list.List // of func()
}

func newGate() *gate { return &gate{size: 1} }

// resize changes the bound; 0 lets all through. Those inside stay.
func (g *gate) resize(size int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.size = size
	g.admitLocked()
}

// enter takes a place, or a turn to wait for one: then admit is called once there
// is a place, which it must not block on, unless cancel comes first.
func (g *gate) enter(admit func()) (wait *list.Element) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.waiting.Len() == 0 && (g.size == 0 || g.inside < g.size) {
		g.inside++
		return nil
	}
	return g.waiting.PushBack(admit)
}

// cancel gives up a turn; false: admit has been called, and leave must follow.
func (g *gate) cancel(wait *list.Element) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if wait.Value == nil {
		return false
	}
	g.waiting.Remove(wait)
	return true
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
		admit := g.waiting.Remove(e).(func())
		e.Value = nil
		g.inside++
		admit()
	}
}
