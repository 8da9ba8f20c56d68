package proxy

import (
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestTidy holds that memory is given back once, after a rush of handshakes.
func TestTidy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		forced := func() uint32 {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return m.NumForcedGC
		}
		before := forced()
		var n atomic.Uint64
		stop, done := make(chan struct{}), make(chan struct{})
		go tidy(&n, stop, done)
		for _, step := range []struct {
			handshakes uint64
			want       uint32
		}{{tidyAfter - 1, 0}, {0, 0}, {1, 0}, {0, 1}, {0, 1}, {tidyAfter - 1, 1}, {0, 1}, {tidyAfter, 1}, {tidyAfter, 1}, {0, 2}} {
			n.Add(step.handshakes)
			<-time.After(tidyEvery)
			synctest.Wait()
			if got := forced() - before; got != step.want {
				t.Fatalf("after %d handshakes: %d collections, want %d", n.Load(), got, step.want)
			}
		}
		close(stop)
		<-done
	})
}
