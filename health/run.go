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
	if c.connector != nil {
		c.connector.close()
	}
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
	if direct := c.takeDue(ctx, probes); len(direct) > 0 {
		c.connect(ctx, direct, probes)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sleepUntil = time.Time{}
	if len(c.queue) == 0 || c.inFlight >= c.maxInFlight {
		return 0, false
	}
	now := time.Now()
	wait := max(c.queue[0].due.Sub(now), batch)
	c.sleepUntil = now.Add(wait)
	return wait, true
}

// takeDue takes the targets that are due out of the queue. Those for the connector
// it returns, the others it gives a goroutine each.
func (c *Checker) takeDue(ctx context.Context, probes *sync.WaitGroup) []attempt {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	c.direct = c.direct[:0]
	for len(c.queue) > 0 && c.inFlight < c.maxInFlight && !c.queue[0].due.After(now) {
		t := heap.Pop(&c.queue).(*target)
		t.due = now
		c.probes++
		t.probe = c.probes
		c.inFlight++
		a := attempt{target: t, number: t.probe, direct: t.direct, timeout: t.Options.Timeout, begun: now}
		if a.direct != nil {
			c.direct = append(c.direct, a)
		} else {
			c.goLocked(ctx, a, probes)
		}
	}
	return c.direct
}

// goLocked makes an attempt in a goroutine.
func (c *Checker) goLocked(ctx context.Context, a attempt, probes *sync.WaitGroup) {
	prober := a.target.Prober
	probeCtx, cancel := context.WithTimeout(ctx, a.timeout)
	if a.target.probe == a.number {
		a.target.cancel = cancel
	} else {
		cancel() // the target was dropped meanwhile
	}
	probes.Go(func() {
		defer cancel()
		o, err := try(probeCtx, prober, a.timeout)
		c.settle(ctx, a, o, err)
	})
}

// connect makes attempts by the connector, or in goroutines if there is none.
func (c *Checker) connect(ctx context.Context, attempts []attempt, probes *sync.WaitGroup) {
	if !c.canConnect(ctx) {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, a := range attempts {
			c.goLocked(ctx, a, probes)
		}
		return
	}
	ended := attempts[:0]
	for _, a := range attempts {
		done, err := c.connector.start(a)
		if done {
			a.err = err
			ended = append(ended, a)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range ended {
		c.settleLocked(ctx, a, Observation{}, a.err)
	}
}

// canConnect reports whether there is a connector, which it makes at first use.
func (c *Checker) canConnect(ctx context.Context) bool {
	if c.connector != nil {
		return true
	}
	connector, err := newConnector(func(a attempt, err error) {
		c.settle(ctx, a, Observation{}, timed(err, a.timeout))
	})
	if err != nil {
		return false // descriptors may be there the next time
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.connector = connector
	return true
}

// settle takes in the result of a probe and queues the target's next one.
func (c *Checker) settle(ctx context.Context, a attempt, o Observation, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.settleLocked(ctx, a, o, err) {
		signal(c.wake)
	}
}

// settleLocked reports whether the scheduler sleeps longer than it now should.
func (c *Checker) settleLocked(ctx context.Context, a attempt, o Observation, err error) bool {
	full := c.inFlight >= c.maxInFlight
	c.inFlight--
	t := a.target
	if t.probe == a.number && ctx.Err() == nil {
		now := time.Now()
		t.cancel = nil
		t.probe = 0
		t.status.LastProbe = now
		if c.probed != nil && !ours(err) {
			c.probed(t.ID, now.Sub(a.begun), err)
		}
		c.judgeLocked(t, now, o, err, false)
		t.due = later(t.due.Add(c.intervalLocked(t)), now)
		heap.Push(&c.queue, t)
	}
	return full || t.index == 0 && (c.sleepUntil.IsZero() || t.due.Before(c.sleepUntil))
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
