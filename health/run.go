package health

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// Run probes and reports until ctx is done, then ends the probes that are
// running, reports the transitions made so far and returns nil. All goroutines
// of the checker are its own and are gone when it returns. It may be called
// once; a second call returns an error.
func (c *Checker) Run(ctx context.Context) error {
	c.mu.Lock()
	twice := c.started
	c.started = true
	c.mu.Unlock()
	if twice {
		return errRunTwice
	}
	var probes, reporter sync.WaitGroup
	settled := make(chan struct{})
	reporter.Go(func() { c.deliver(settled) })
	c.schedule(ctx, &probes)
	probes.Wait()
	close(settled)
	reporter.Wait()
	return nil
}

// schedule starts probes when they are due.
func (c *Checker) schedule(ctx context.Context, probes *sync.WaitGroup) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-c.wake:
		case f := <-c.passive:
			c.takeFailure(f)
			continue
		}
		if wait, ok := c.startDue(ctx, probes); ok {
			timer.Reset(wait)
		} else {
			timer.Stop()
		}
	}
}

// batch is the least time the scheduler sleeps: with very many targets, those
// due within it are started together, for the price of one wake-up.
const batch = 2 * time.Millisecond

// startDue starts the probes that are due and returns how long it is until the
// next one; false if only another call can change anything.
func (c *Checker) startDue(ctx context.Context, probes *sync.WaitGroup) (time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for len(c.queue) > 0 && c.inFlight < c.maxInFlight && !c.queue[0].due.After(now) {
		t := heap.Pop(&c.queue).(*target)
		t.due = now
		t.probe++
		number, prober, timeout := t.probe, t.Prober, t.Options.Timeout
		probeCtx, cancel := context.WithTimeout(ctx, timeout)
		t.cancel = cancel
		c.inFlight++
		probes.Go(func() {
			defer cancel()
			o, err := try(probeCtx, prober, timeout)
			c.settle(ctx, t, number, o, err)
		})
	}
	c.sleepUntil = time.Time{}
	if len(c.queue) == 0 || c.inFlight >= c.maxInFlight {
		return 0, false
	}
	wait := max(c.queue[0].due.Sub(now), batch)
	c.sleepUntil = now.Add(wait)
	return wait, true
}

// settle takes in the result of a probe and queues the target's next one.
func (c *Checker) settle(ctx context.Context, t *target, number uint64, o Observation, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	full := c.inFlight >= c.maxInFlight
	c.inFlight--
	if t.probe == number && ctx.Err() == nil {
		now := time.Now()
		t.cancel = nil
		t.status.LastProbe = now
		c.judgeLocked(t, now, o, err, false)
		t.due = later(t.due.Add(c.intervalLocked(t)), now)
		heap.Push(&c.queue, t)
	}
	if full || t.index == 0 && (c.sleepUntil.IsZero() || t.due.Before(c.sleepUntil)) {
		signal(c.wake)
	}
}

// takeFailure takes in the failure of a session.
func (c *Checker) takeFailure(f passiveFailure) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.targets[f.id]; t != nil && !ours(f.err) {
		now := time.Now()
		c.judgeLocked(t, now, Observation{}, f.err, true)
		c.hastenLocked(t, now)
	}
}

func (c *Checker) judgeLocked(t *target, now time.Time, o Observation, err error, passive bool) {
	var tr Transition
	var changed bool
	if !passive && !ours(err) {
		err = t.hear(&o, err)
	}
	switch {
	case err == nil && !passive:
		tr, changed = t.passed(now, o)
	case ours(err):
		t.status.LastErr = err
	default:
		tr, changed = t.failed(now, o, err, passive)
	}
	if changed {
		c.pending = append(c.pending, tr)
		signal(c.reportable)
	}
}

// deliver reports transitions until settled is closed and none is left.
func (c *Checker) deliver(settled <-chan struct{}) {
	for last := false; ; {
		c.mu.Lock()
		pending := c.pending
		c.pending = nil
		c.mu.Unlock()
		for _, tr := range pending {
			c.report(tr)
		}
		if last {
			return
		}
		select {
		case <-c.reportable:
		case <-settled:
			last = true
		}
	}
}

// intervalLocked returns the time to a target's next probe, jitter included.
func (c *Checker) intervalLocked(t *target) time.Duration {
	interval, jitter := t.Options.interval(t.status.State)
	return interval - jitter + time.Duration(c.rand.Int64N(2*int64(jitter)+1))
}

// signal wakes the receiver of a channel that is 1 deep.
func signal(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
