package admin

import (
	"context"
	"sync"
)

// keptEvents is how many events are kept for those who ask later.
const keptEvents = 1024

// Events keeps the latest events and has any number of readers follow them. Whoever
// adds waits for nobody: a reader that is more than keptEvents behind misses some,
// which the gap in Seq tells it.
type Events struct {
	mu      sync.Mutex // guards the fields below
	ring    [keptEvents]Event
	last    uint64        // Seq of the newest
	changed chan struct{} // closed when there is another
}

// NewEvents returns Events without any.
func NewEvents() *Events { return &Events{changed: make(chan struct{})} }

// Add keeps e, whose Seq it sets.
func (s *Events) Add(e Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last++
	e.Seq = s.last
	s.ring[e.Seq%keptEvents] = e
	close(s.changed)
	s.changed = make(chan struct{})
}

// After returns the kept events with a Seq above seq, in order, and a channel that is
// closed once there are more.
func (s *Events) After(seq uint64) ([]Event, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last > keptEvents {
		seq = max(seq, s.last-keptEvents)
	}
	events := []Event{}
	for i := seq + 1; i <= s.last; i++ {
		events = append(events, s.ring[i%keptEvents])
	}
	return events, s.changed
}

// Follow calls f with the events above seq, and with those to come, until ctx is done
// or f returns an error, which it returns.
func (s *Events) Follow(ctx context.Context, seq uint64, f func(Event) error) error {
	for {
		events, changed := s.After(seq)
		for _, e := range events {
			if err := f(e); err != nil {
				return err
			}
			seq = e.Seq
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}
