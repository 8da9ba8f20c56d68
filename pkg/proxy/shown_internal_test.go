package proxy

import (
	"crypto/tls"
	"runtime"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
)

// TestShownNamesHoldNothing: what is remembered of a certificate is found again, and
// holds neither it nor its key.
func TestShownNamesHoldNothing(t *testing.T) {
	var names shownNames
	issue := func() *tls.Certificate {
		c := lab.NewAuthority(t, "ca").Issue(t, lab.Certificate{Names: []string{"a.test"}})
		return &tls.Certificate{Certificate: c.Certificate, PrivateKey: c.PrivateKey}
	}
	kept := issue()
	first := names.of(kept)
	if first.key == "" || first.signature == "" {
		t.Fatalf("got %+v of a certificate", first)
	}
	gone := make(chan struct{})
	func() {
		c := issue()
		names.of(c)
		runtime.AddCleanup(c, func(gone chan struct{}) { close(gone) }, gone)
	}()
	late := time.After(lab.Patience)
	for collected := false; !collected; {
		runtime.GC()
		select {
		case <-gone:
			collected = true
		case <-late:
			t.Fatal("a certificate that nobody serves is held")
		default:
		}
	}
	if got := names.of(kept); got != first || len(names.names) != 2 {
		t.Errorf("got %+v of %d certificates, want %+v of 2", got, len(names.names), first)
	}
}
