package health

import (
	"container/heap"
	"time"
)

// New targets of an update beyond the first atOnce are spread over their interval,
// or over spread if that is less.
const (
	atOnce = 64
	spread = 5 * time.Second
)

// Update makes targets the ones that are probed, by difference: a target that
// stays keeps its state and its rhythm (see [Target.Key]), the probe of one that
// is gone is ended and its result dropped. It may be called before and during
// Run, and from report. Of several targets with the same ID the first counts.
//
// New targets are probed at once if they are no more than 64; of a larger
// number, those beyond are spread evenly over their interval or over five
// seconds, whichever is less. None has to be waited for: an unknown target is used.
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
			t = &target{Target: u, index: notQueued, status: Status{Since: now}, direct: directTo(u.Prober)}
			fresh = append(fresh, t)
		case t.Key != u.Key:
			c.dropLocked(t)
			t.Target, t.direct = u, directTo(u.Prober)
			t.status.Passes, t.status.Failures = 0, 0
			t.agentDown, t.status.Observation.Agent = nil, AgentReport{}
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
			within := float64(min(t.Options.Interval, spread))
			t.due = now.Add(time.Duration(within * float64(i-atOnce) / float64(len(fresh)-atOnce)))
		}
		heap.Push(&c.queue, t)
	}
	signal(c.wake)
}

// keepLocked gives a target that goes on its new options.
func (c *Checker) keepLocked(t *target, u Target, now time.Time) {
	t.Target, t.direct = u, directTo(u.Prober)
	c.hastenLocked(t, now)
}

// hastenLocked makes an interval that got shorter hold from now on, not from the
// next probe on.
func (c *Checker) hastenLocked(t *target, now time.Time) {
	interval, _ := t.Options.interval(t.status.State)
	if latest := now.Add(interval); t.index != notQueued && latest.Before(t.due) {
		t.due = latest
		heap.Fix(&c.queue, t.index)
		signal(c.wake)
	}
}

// dropLocked takes a target out of the queue or ends its probe.
func (c *Checker) dropLocked(t *target) {
	if t.index != notQueued {
		heap.Remove(&c.queue, t.index)
	}
	switch {
	case t.cancel != nil:
		t.cancel()
		t.cancel = nil
	case c.connector != nil:
		c.connector.abandon(t.probe)
	}
	t.probe = 0 // no probe's number
}
