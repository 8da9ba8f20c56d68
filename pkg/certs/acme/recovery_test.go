//go:build e2e

package acme_test

import (
	"strings"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab/pebble"
)

// TestRecovery has one authority be away and another refuse orders, for a while, and
// holds that both certificates come by themselves. certmagic waits for a minute before
// its second try.
func TestRecovery(t *testing.T) {
	away, busy := pebble.Start(t, pebble.Options{}), pebble.Start(t, pebble.Options{})
	away.Down(true)
	busy.Limited(true)
	tests := []struct {
		ca    *pebble.Authority
		b     *box
		cause string
	}{
		{away, newBox(), `hint="the directory must be reachable from this machine`},
		{busy, newBox(), "rateLimited"},
	}
	for _, tt := range tests {
		m := manager(t, options(tt.ca, t.TempDir(), tt.b))
		tt.ca.ServeTLS(edge(t, m.TLSALPN))
		m.Manage([]string{"a.test"})
	}
	for _, tt := range tests {
		tt.b.logged(t, `msg="certificate not obtained" host=a.test`)
		if !strings.Contains(tt.b.log(), tt.cause) {
			t.Errorf("%q is not told:\n%s", tt.cause, tt.b.log())
		}
	}
	if got := busy.Refused(); got != 1 {
		t.Errorf("asked %d times, want once: no hammering", got)
	}
	away.Down(false)
	busy.Limited(false)
	for _, tt := range tests {
		tt.b.waitFor(t, 5*time.Minute, "the certificate", func() bool { return tt.b.find("a.test") != nil })
		verify(t, tt.ca, tt.b.find("a.test"), "a.test")
	}
}
