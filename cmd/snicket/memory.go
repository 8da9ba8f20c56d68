package main

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// heapFloor is how much garbage, in bytes, is at least let stand before it is
// collected. A handshake leaves 20 to 40 KiB and what lives is a few MiB, so that
// the collector's own rule, to let the heap double, would have it run without end
// beside a flood of handshakes, at an eighth of their cost.
const heapFloor = 24 << 20

// Behind a rush, of handshakes or of sessions, nothing allocates any more: the
// collector has no reason to run, and garbage and empty pages would stay, at more
// memory than the sessions that are left.
const (
	// lookEvery is how often it is looked whether a rush is over.
	lookEvery = 250 * time.Millisecond
	// quietly is how much, in bytes, may be allocated from one look to the next in
	// a process that is called quiet.
	quietly = 64 << 10
	// busyLooks is after how many looks memory is given back though the process is
	// busy: every half minute.
	busyLooks = 120
	// pauseLooks is for how many looks memory is not given back again: each time the
	// collector has all that lives to look at, and loops may have to wait for it.
	pauseLooks = 20
	// worth is how much must be to gain, in bytes; of a large heap a quarter.
	worth = 4 << 20
)

// keepMemory has the heap grow by heapFloor before it is collected, and gives
// memory back to the system when a rush is over, until the function returned is
// called. It does nothing where the user has settings of his own.
func keepMemory() (stop func()) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return func() {}
	}
	// Memory that is never touched, and so takes none.
	ballast := make([]byte, heapFloor)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go giveBack(ctx, done)
	return func() {
		cancel()
		<-done
		runtime.KeepAlive(ballast)
	}
}

// giveBack looks until ctx is done; then it closes done.
func giveBack(ctx context.Context, done chan<- struct{}) {
	defer close(done)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	r := newReclaimer()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if r.due() {
				debug.FreeOSMemory()
			}
		}
	}
}

// A reclaimer decides when memory is given back.
type reclaimer struct {
	samples   [4]metrics.Sample
	allocated uint64 // at the last look
	busy      int    // looks since memory was given back or the process was quiet
	pause     int    // looks for which it is not given back
}

func newReclaimer() *reclaimer {
	r := &reclaimer{}
	for i, name := range [...]string{
		"/gc/heap/allocs:bytes", "/gc/heap/live:bytes", "/memory/classes/heap/objects:bytes", "/memory/classes/heap/free:bytes",
	} {
		r.samples[i].Name = name
	}
	metrics.Read(r.samples[:])
	r.allocated = r.samples[0].Value.Uint64()
	return r
}

// due looks at the heap.
func (r *reclaimer) due() bool {
	metrics.Read(r.samples[:])
	allocated := r.samples[0].Value.Uint64()
	quiet := allocated-r.allocated < quietly
	r.allocated = allocated
	return r.decide(quiet, r.samples[1].Value.Uint64(), r.samples[2].Value.Uint64(), r.samples[3].Value.Uint64())
}

// decide takes what the last collection left alive, what is allocated now, and what
// is held empty, all in bytes.
func (r *reclaimer) decide(quiet bool, live, objects, free uint64) bool {
	r.busy++
	r.pause = max(0, r.pause-1)
	if !quiet && r.busy < busyLooks || r.pause > 0 {
		return false
	}
	r.busy = 0
	gain := free
	if objects > live {
		gain += objects - live
	}
	if gain < max(worth, (live-min(live, heapFloor))/4) {
		return false
	}
	r.pause = pauseLooks
	return true
}
