package certs_test

import (
	"crypto/tls"
	"sync"
	"testing"

	"github.com/snicketlb/snicket/pkg/certs"
)

// TestManaged: managed certificates come after the route's own and before the shared
// ones, and are seen by stores that were made before them.
func TestManaged(t *testing.T) {
	a := authority(t)
	own := issue(t, a, certs.IssueOptions{Names: []string{"own.test"}})
	shared := issue(t, a, certs.IssueOptions{Names: []string{"own.test", "managed.test", "shared.test"}})
	managed := issue(t, a, certs.IssueOptions{Names: []string{"own.test", "managed.test"}})
	var m certs.Managed
	with := certs.NewStore(certs.NewSet([]*certs.Certificate{own}), certs.NewSet([]*certs.Certificate{shared}), certs.StoreOptions{Managed: &m})
	byDefault := certs.NewStore(nil, certs.NewSet([]*certs.Certificate{shared}), certs.StoreOptions{Managed: &m, Default: true})
	expect := func(what string, s *certs.Store, name string, want *certs.Certificate) {
		t.Helper()
		if got := s.Select(name, modern); got != &want.Certificate {
			t.Errorf("%s, %q: got %p, want %p", what, name, got, want)
		}
	}
	expect("before", with, "managed.test", shared)
	expect("before", byDefault, "", shared)
	m.Swap([]*certs.Certificate{managed})
	expect("after", with, "own.test", own)
	expect("after", with, "managed.test", managed)
	expect("after", with, "shared.test", shared)
	expect("after", byDefault, "", managed)
	expect("after", byDefault, "other.test", managed)
	if !byDefault.Covers("managed.test") {
		t.Error("managed.test is not covered")
	}
	if got := m.Certificates(); len(got) != 1 || got[0] != managed {
		t.Errorf("got %v, want the one that was given", got)
	}
	m.Swap(nil)
	expect("empty again", with, "managed.test", shared)
}

// TestLiveSwap swaps stores while others select: each answer is of one store or the
// other, and the new one's once Swap has returned.
func TestLiveSwap(t *testing.T) {
	a := authority(t)
	options := certs.IssueOptions{Names: []string{"a.test"}}
	both := [2]*certs.Certificate{issue(t, a, options), issue(t, a, options)}
	live := certs.Fixed(both[0])
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if got := live.Select("a.test", modern); got != &both[0].Certificate && got != &both[1].Certificate {
					t.Errorf("got %p", got)
					return
				}
			}
		})
	}
	for i := range 1000 {
		want := both[i%2]
		live.Swap(certs.NewStore(certs.NewSet([]*certs.Certificate{want}), nil, certs.StoreOptions{}))
		if got := live.Select("a.test", modern); got != &want.Certificate {
			t.Fatalf("swap %d: got %p, want %p", i, got, want)
		}
	}
	close(stop)
	readers.Wait()
}

func TestLiveAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	a := authority(t)
	var m certs.Managed
	m.Swap([]*certs.Certificate{issue(t, a, certs.IssueOptions{Names: []string{"m.test"}})})
	shared := certs.NewSet([]*certs.Certificate{issue(t, a, certs.IssueOptions{Names: []string{"a.test", "*.w.test"}})})
	live := certs.NewLive(certs.NewStore(nil, shared, certs.StoreOptions{Managed: &m, Default: true}))
	for _, name := range []string{"a.test", "x.w.test", "m.test", "other.test", ""} {
		var got *tls.Certificate
		if allocs := testing.AllocsPerRun(100, func() { got = live.Select(name, modern) }); allocs != 0 || got == nil {
			t.Errorf("%q: %v allocations for %p, want 0", name, allocs, got)
		}
	}
}
