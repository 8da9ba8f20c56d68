package main

import (
	"runtime"
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
			release := keepHeapFloor()
			grown := live() - before
			release()
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
