package relay_test

import (
	"testing"
	"unsafe"

	"github.com/snicketlb/snicket/pkg/relay"
)

// An idle session pays for its relay; the pin is there so that it does not grow
// unseen.
func TestRelaySize(t *testing.T) {
	if got := unsafe.Sizeof(relay.Relay{}); got > 80 {
		t.Errorf("a Relay of %d bytes, want at most 80", got)
	}
}
