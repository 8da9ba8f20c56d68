package main

import (
	"os"
	"runtime"
)

// heapFloor is how much garbage, in bytes, is at least let stand before it is
// collected. A handshake leaves 20 to 40 KiB and what lives is a few MiB, so that
// the collector's own rule, to let the heap double, would have it run without end
// beside a flood of handshakes, at an eighth of their cost.
const heapFloor = 24 << 20

// keepHeapFloor raises the heap that the collector reckons with by memory that is
// never touched, and so takes none. It does nothing where the user has settings of
// his own. The floor holds until the function returned is called.
func keepHeapFloor() (release func()) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return func() {}
	}
	ballast := make([]byte, heapFloor)
	return func() { runtime.KeepAlive(ballast) }
}
