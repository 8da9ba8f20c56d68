package proxy

import (
	"sync/atomic"
	"time"
)

// Counters are totals since the start, summed over all loops.
type Counters struct {
	// Sessions counts ended sessions by listener and outcome.
	Sessions map[string][Outcomes]uint64
	// Active counts the sessions of now by listener, lingering ones included.
	Active map[string]int64
	// Hello, Dial and Handshake are how long what of that came to pass has taken:
	// accept to whole hello, first dial to connected, TLS with the client.
	Hello, Dial, Handshake Durations
	// DroppedRecords counts records that found the log's ring full.
	DroppedRecords uint64
	// Caught is the number of bytes read that wait for a receiver now.
	Caught int64
	// Hellos is the number of unfinished hellos now.
	Hellos int64
	// Paused is the number of loops that accept nothing now, because of
	// MaxConnections.
	Paused int
	// AcceptFailures counts the times that a listener rested because the process or the
	// kernel was short of what a connection needs.
	AcceptFailures uint64
	// ClientHandshakes are those with clients of terminated sessions, BackendHandshakes
	// those with backends of pools that speak TLS.
	ClientHandshakes, BackendHandshakes Handshakes
}

// Handshakes counts TLS handshakes that came about: in full, with a certificate and a
// signature, and resumed from a session before.
type Handshakes struct{ Full, Resumed uint64 }

func (h *Handshakes) add(c *handshakeCounts) {
	h.Full += c.full.Load()
	h.Resumed += c.resumed.Load()
}

// handshakeCounts counts the handshakes of one loop.
type handshakeCounts struct{ full, resumed atomic.Uint64 }

func (c *handshakeCounts) add(resumed bool) {
	if resumed {
		c.resumed.Add(1)
	} else {
		c.full.Add(1)
	}
}

// listenerCounts counts the sessions of one listener on one loop.
type listenerCounts struct {
	begun atomic.Uint64
	ended [Outcomes]atomic.Uint64
}

// Counters reads all counters. Those of different loops are of slightly
// different instants.
func (p *Proxy) Counters() Counters {
	c := Counters{
		Sessions: map[string][Outcomes]uint64{}, Active: map[string]int64{},
		Hellos: p.hellos.Load(), Paused: int(p.waiting.Load()),
	}
	for _, w := range p.workers {
		w.counts.Range(func(key, v any) bool {
			name, counts := key.(string), v.(*listenerCounts)
			sum, ended := c.Sessions[name], uint64(0)
			for i := range sum {
				n := counts.ended[i].Load()
				sum[i] += n
				ended += n
			}
			c.Sessions[name] = sum
			c.Active[name] += int64(counts.begun.Load() - ended) // read later: never below
			return true
		})
		c.Hello.add(&w.hello)
		c.Dial.add(&w.dial)
		c.Handshake.add(&w.handshake)
		c.DroppedRecords += w.records.dropped.Load()
		c.ClientHandshakes.add(&w.clientTLS)
		c.BackendHandshakes.add(&w.backendTLS)
		c.AcceptFailures += w.unaccepted.Load()
		c.Caught += w.env.Caught() + w.tls.Caught()
	}
	return c
}

// countsOf is the counters of one listener.
func (w *worker) countsOf(listener string) *listenerCounts {
	if v, ok := w.counts.Load(listener); ok {
		return v.(*listenerCounts)
	}
	v, _ := w.counts.LoadOrStore(listener, new(listenerCounts))
	return v.(*listenerCounts)
}

// RouteCounts counts the sessions and bytes of one route, of each loop by itself, so
// that loops which serve the same route do not wait for one another.
type RouteCounts struct {
	loops []atomic.Pointer[routeCount] // nil: nothing yet
}

// routeCount is what one loop counts of a route. Bytes count while they pass.
type routeCount struct {
	in, out atomic.Uint64
	ended   [Outcomes]atomic.Uint64
}

// NewRouteCounts returns counts for a Proxy with so many loops. Routes of two States
// that are the same route to the operator share them.
func NewRouteCounts(loops int) *RouteCounts {
	return &RouteCounts{loops: make([]atomic.Pointer[routeCount], loops)}
}

// of is what a loop counts; nil, of a route that is not counted.
func (c *RouteCounts) of(loop int) *routeCount {
	if c == nil {
		return nil
	}
	p := &c.loops[loop]
	if n := p.Load(); n != nil {
		return n
	}
	p.CompareAndSwap(nil, new(routeCount))
	return p.Load()
}

// RouteTotals are the counts of a route over all loops.
type RouteTotals struct {
	In, Out uint64 // bytes, as of Record
	Ended   [Outcomes]uint64
}

// Totals sums the counts. Any goroutine may call it; nil has none.
func (c *RouteCounts) Totals() RouteTotals {
	var t RouteTotals
	if c == nil {
		return t
	}
	for i := range c.loops {
		n := c.loops[i].Load()
		if n == nil {
			continue
		}
		t.In += n.in.Load()
		t.Out += n.out.Load()
		for o := range t.Ended {
			t.Ended[o] += n.ended[o].Load()
		}
	}
	return t
}

// countBytes counts bytes that have passed on a route.
func (w *worker) countBytes(r *Route, in, out int64) {
	c := r.Counts.of(w.index)
	if c == nil {
		return
	}
	if in > 0 {
		c.in.Add(uint64(in))
	}
	if out > 0 {
		c.out.Add(uint64(out))
	}
}

// durationBounds are the upper bounds of a Histogram's buckets.
const durationBuckets = 14

// DurationBounds are the upper bounds of the buckets of all Histograms, ascending.
// What is above the last one counts in the total alone.
func DurationBounds() [durationBuckets]time.Duration {
	const us, ms = time.Microsecond, time.Millisecond
	return [...]time.Duration{
		100 * us, 250 * us, 500 * us, ms, 5 * ms / 2, 5 * ms, 10 * ms, 25 * ms, 50 * ms, 100 * ms, 250 * ms,
		500 * ms, time.Second, 5 * time.Second,
	}
}

// A Histogram counts durations in the buckets of [DurationBounds]. The zero value is
// empty. Its methods may be called from any goroutine.
type Histogram struct {
	buckets [durationBuckets + 1]atomic.Uint64
	sum     atomic.Int64
}

// Observe counts d.
func (h *Histogram) Observe(d time.Duration) {
	i := 0
	for _, bound := range DurationBounds() {
		if d <= bound {
			break
		}
		i++
	}
	h.buckets[i].Add(1)
	h.sum.Add(int64(d))
}

// Durations is what a Histogram has counted.
type Durations struct {
	// Below counts, for each of [DurationBounds], what was no longer.
	Below [durationBuckets]uint64
	Count uint64
	Sum   time.Duration
}

// Durations reads the histogram.
func (h *Histogram) Durations() Durations {
	var d Durations
	d.add(h)
	return d
}

func (d *Durations) add(h *Histogram) {
	n := uint64(0)
	for i := range h.buckets {
		n += h.buckets[i].Load()
		if i < durationBuckets {
			d.Below[i] += n
		}
	}
	d.Count += n
	d.Sum += time.Duration(h.sum.Load())
}
