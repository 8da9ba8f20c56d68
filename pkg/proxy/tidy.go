package proxy

import (
	"runtime/debug"
	"sync/atomic"
	"time"
)

// A handshake leaves 20 to 40 KiB for the collector, which runs when the heap has
// doubled. After a rush of them nothing allocates any more, so that the garbage
// would stay, and cost an idle session as much memory again as it holds.
const (
	// tidyEvery is how often it is looked whether a rush is over: when no
	// handshake has been made since the last look.
	tidyEvery = 250 * time.Millisecond
	// tidyAfter is how many handshakes are worth a collection.
	tidyAfter = 512
)

// tidy gives memory back to the system when a rush of handshakes is over, until
// stop.
func tidy(handshakes *atomic.Uint64, stop <-chan struct{}, done chan<- struct{}) {
	defer close(done)
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	var seen, tidied uint64
	for {
		select {
		case <-tick.C:
		case <-stop:
			return
		}
		n := handshakes.Load()
		if n == seen && n-tidied >= tidyAfter {
			tidied = n
			debug.FreeOSMemory()
		}
		seen = n
	}
}
