package health

import (
	"container/heap"
	"time"
)

// atOnce is how many new targets of an update are probed immediately.
const atOnce = 64

// Update makes targets the ones that are probed, by difference: a target that
// stays keeps its state and its rhythm (see [Target.Key]), the probe of one that
// is gone is ended and its result dropped. It may be called before and during
// Run, and from report. Of several targets with the same ID the first counts.
//
// New targets are probed at once if they are no more than 64; of a larger
// number, those beyond are spread evenly over their interval.
func (c *Checker) Update(targets []Target) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	next := make(map[string]*target, len(targets))
	var fresh []*target
	for _, u := range targets {
		if next[u.ID] != nil {
			continue
		}
		u.Options = u.Options.withDefaults()
		t := c.targets[u.ID]
		switch {
		case t == nil:
			t = &target{Target: u, index: notQueued, status: Status{Since: now}}
			fresh = append(fresh, t)
		case t.Key != u.Key:
			c.dropLocked(t)
			t.Target = u
			t.status.Passes, t.status.Failures = 0, 0
			fresh = append(fresh, t)
		default:
			c.keepLocked(t, u, now)
		}
		next[u.ID] = t
	}
	for id, t := range c.targets {
		if next[id] != t {
			c.dropLocked(t)
		}
	}
	c.targets = next
	for i, t := range fresh {
		t.due = now
		if i >= atOnce {
			t.due = now.Add(time.Duration(float64(t.Options.Interval) * float64(i-atOnce) / float64(len(fresh)-atOnce)))
		}
		heap.Push(&c.queue, t)
	}
	signal(c.wake)
}

// keepLocked gives a target that goes on its new options. An interval that got
// shorter holds from now on, not from the next probe on.
func (c *Checker) keepLocked(t *target, u Target, now time.Time) {
	t.Target = u
	if soonest := now.Add(u.Options.Interval); t.index != notQueued && soonest.Before(t.due) {
		t.due = soonest
		heap.Fix(&c.queue, t.index)
	}
}

// dropLocked takes a target out of the queue or ends its probe.
func (c *Checker) dropLocked(t *target) {
	if t.index != notQueued {
		heap.Remove(&c.queue, t.index)
	}
	if t.cancel != nil {
		t.cancel()
		t.cancel = nil
	}
	t.probe++
}
