package discover_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/snicketlb/snicket/pkg/discover"
)

// TestGroupFollowsAFile goes the whole way of a file once: first report, a change by
// rename, a broken file, and the end.
func TestGroupFollowsAFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "backends.json")
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	put(`["10.0.0.2:443", "10.0.0.1:443"]`)
	reports := make(chan discover.Report, 10)
	g := discover.NewGroup(func(_ string, r discover.Report) { reports <- r })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { g.Run(ctx); close(ended) }()
	g.Update(map[string]discover.Settings{"web": {File: path}})
	if r := <-reports; len(r.Backends) != 2 || r.Backends[0].Name != "10.0.0.1:443" || r.Status.Err != nil {
		t.Fatalf("got %+v, want two backends, sorted", r)
	}
	put(`["10.0.0.3:443"]`)
	if r := <-reports; len(r.Backends) != 1 || r.Backends[0].Name != "10.0.0.3:443" {
		t.Fatalf("got %+v, want the new backend", r)
	}
	put(`["10.0.0.3:443",`)
	if r := <-reports; len(r.Backends) != 1 || r.Changed || r.Status.Err == nil {
		t.Fatalf("got %+v, want the old set and an error", r)
	}
	cancel()
	<-ended
}
