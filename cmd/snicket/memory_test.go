package main

import (
	"runtime"
	"runtime/debug"
	"testing"
)

// TestHeapFloor holds that the collector lets at least heapFloor stand, unless the
// user has settings of his own.
func TestHeapFloor(t *testing.T) {
	for _, tc := range []struct {
		name, variable, value string
		want                  bool
	}{
		{name: "no settings", want: true},
		{name: "a percentage", variable: "GOGC", value: "100"},
		{name: "a limit", variable: "GOMEMLIMIT", value: "1GiB"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Setenv("GOGC", "")
			t.Setenv("GOMEMLIMIT", "")
			if tc.variable != "" {
				t.Setenv(tc.variable, tc.value)
			}
			before := live()
			stop := keepMemory()
			grown := live() - before
			stop()
			if got := grown > heapFloor/2; got != tc.want {
				t.Errorf("the heap grew by %d bytes, floor %v; want %v", grown, got, tc.want)
			}
		})
	}
}

// live is the heap that is reachable, in bytes.
func live() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestReclaimer holds when memory is given back: at once where it is quiet, then every
// five seconds, every half minute where it is not, and only where enough is to gain.
func TestReclaimer(t *testing.T) {
	const mib = 1 << 20
	for _, tc := range []struct {
		name                string
		quiet               bool
		live, objects, free uint64
		want                int // of busyLooks looks
	}{
		{name: "nothing to gain", quiet: true, live: 30 * mib, objects: 30 * mib},
		{name: "little to gain", quiet: true, live: 30 * mib, objects: 32 * mib, free: mib},
		{name: "garbage, quiet", quiet: true, live: 30 * mib, objects: 35 * mib, want: busyLooks / pauseLooks},
		{name: "empty pages, quiet", quiet: true, live: 30 * mib, objects: 30 * mib, free: 5 * mib, want: busyLooks / pauseLooks},
		{name: "garbage, busy", live: 30 * mib, objects: 35 * mib, want: 1},
		{name: "little of a large heap", quiet: true, live: 424 * mib, objects: 500 * mib, free: 20 * mib},
		{name: "much of a large heap", quiet: true, live: 424 * mib, objects: 500 * mib, free: 30 * mib, want: busyLooks / pauseLooks},
		{name: "a heap below the floor", quiet: true, live: 2 * mib, objects: mib, free: 4 * mib, want: busyLooks / pauseLooks},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, got := newReclaimer(), 0
			for range busyLooks {
				if r.decide(tc.quiet, tc.live, tc.objects, tc.free) {
					got++
				}
			}
			if got != tc.want {
				t.Errorf("due %d times, want %d", got, tc.want)
			}
		})
	}
}

// TestReclaimerSeesTheHeap: what is measured is what the runtime has, and giving back
// leaves nothing to gain.
func TestReclaimerSeesTheHeap(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	runtime.GC()
	r := newReclaimer()
	var sink []byte
	for range 64 {
		sink = make([]byte, 1<<20)
	}
	runtime.KeepAlive(sink)
	r.due() // 64 MiB since the last look: a busy one
	if !r.due() {
		t.Error("64 MiB of garbage and nobody allocates: not due")
	}
	debug.FreeOSMemory()
	if r.due() {
		t.Error("due again behind giving back")
	}
}
