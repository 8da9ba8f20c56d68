package discover_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/discover"
)

func TestGroup(t *testing.T) {
	lab.Leaks(t)
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a.json"), filepath.Join(dir, "b.json")
	put(t, a, `["10.0.0.1:443"]`)
	put(t, b, `["10.0.0.2:443"]`)
	reports := make(chan string, 10)
	g := discover.NewGroup(func(pool string, r discover.Report) {
		reports <- pool + " " + filepath.Base(r.Settings.File) + " " + names(r.Backends)
	})
	next := func(want string) {
		t.Helper()
		if got := <-reports; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	g.Update(map[string]discover.Settings{"web": {File: a}})
	if set, st, ok := g.Snapshot("web"); !ok || len(set) != 0 || st.Looks != 0 {
		t.Errorf("got %v, %+v, %t before Run, want an empty set", set, st, ok)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { g.Run(ctx); close(ended) }()
	next("web a.json 10.0.0.1:443")
	// What stays is left alone; what is new starts; what has other settings starts anew.
	g.Update(map[string]discover.Settings{"web": {File: a}, "db": {File: b}})
	next("db b.json 10.0.0.2:443")
	g.Update(map[string]discover.Settings{"web": {File: b}})
	next("web b.json 10.0.0.2:443")
	if _, _, ok := g.Snapshot("db"); ok {
		t.Error("got a snapshot of a pool that is gone")
	}
	put(t, b, `["10.0.0.3:443"]`)
	next("web b.json 10.0.0.3:443")
	if set, st, ok := g.Snapshot("web"); !ok || names(set) != "10.0.0.3:443" || st.Looks < 2 || st.Backends != 1 {
		t.Errorf("got %v, %+v, %t", set, st, ok)
	}
	cancel()
	<-ended
	select {
	case got := <-reports:
		t.Errorf("got the report %q too much", got)
	default:
	}
}

func TestOtherResolversKeepTheSet(t *testing.T) {
	good, bad := startNameServer(t), startNameServer(t)
	good.set("A app.test.", a(10, "10.0.0.1"))
	good.set("AAAA app.test.", noData())
	reports := make(chan discover.Report)
	g := discover.NewGroup(func(_ string, r discover.Report) { reports <- r })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { g.Run(ctx); close(ended) }()
	for _, tt := range []struct {
		settings  discover.Settings
		set, fail string
	}{
		{ask(good), "10.0.0.1:443", ""},
		{ask(bad), "10.0.0.1:443", "no such name or no addresses"},
		{discover.Settings{DNS: "other.test", Port: 443, Resolvers: ask(bad).Resolvers}, "", "no such name or no addresses"},
	} {
		g.Update(map[string]discover.Settings{"web": tt.settings})
		r := <-reports
		for !r.Settings.Equal(tt.settings) { // one of the source before, on its way
			r = <-reports
		}
		if got := names(r.Backends); got != tt.set || tt.fail == "" && r.Status.Err != nil || tt.fail != "" && !strings.Contains(fmt.Sprint(r.Status.Err), tt.fail) {
			t.Errorf("%s: got %q and %v, want %q and %q", tt.settings, got, r.Status.Err, tt.set, tt.fail)
		}
	}
	go func() {
		for range reports { // a source may be about to report
		}
	}()
	cancel()
	<-ended
	close(reports)
}
