package registry_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/snicketlb/snicket/health"
	"github.com/snicketlb/snicket/pkg/registry"
)

// A wish outlives its backend for a while, whatever the reason that it is gone; what was
// observed of it does not.
func TestWishOutlivesItsBackend(t *testing.T) {
	begin := time.Unix(1_000_000, 0)
	wish := registry.Wished{State: registry.WishDrain, Since: begin, By: "root", Weighs: true, Weight: 3, WeightSince: begin, WeightBy: "ops"}
	both := []registry.Backend{backend("web", "a"), backend("web", "b")}
	for _, tc := range []struct {
		name string
		away time.Duration
		do   func(r *registry.Registry, at, back time.Time)
		want registry.Wished
	}{
		{"its name resolves to others", time.Minute, func(r *registry.Registry, at, back time.Time) {
			r.SetBackends(both[1:], at)
			r.SetBackends(both, back)
		}, wish},
		{"all are gone, more than once", time.Minute, func(r *registry.Registry, at, back time.Time) {
			r.SetBackends(nil, at)
			r.SetBackends(nil, at)
			r.SetBackends(both, at)
			r.SetBackends(nil, at)
			r.SetBackends(both, back)
		}, wish},
		{"a reload without it", time.Hour, func(r *registry.Registry, at, back time.Time) {
			r.Declare(declared(1, "a.test"), both[1:], at)
			r.Declare(declared(1, "a.test"), both, back)
		}, wish},
		{"a reload without its pool", time.Minute, func(r *registry.Registry, at, back time.Time) {
			c := declared(1, "a.test")
			c.Pools = c.Pools[1:]
			r.Declare(c, nil, at)
			r.Declare(declared(1, "a.test"), both, back)
		}, wish},
		{"away for too long", time.Hour + 1, func(r *registry.Registry, at, back time.Time) {
			r.SetBackends(both[1:], at)
			r.SetBackends(both[1:], back)
			r.SetBackends(both, back)
		}, registry.Wished{}},
		{"taken back before", time.Minute, func(r *registry.Registry, at, back time.Time) {
			r.Wish("web", "a", func(w *registry.Wished) { *w = registry.Wished{} })
			r.SetBackends(nil, at)
			r.SetBackends(both, back)
		}, registry.Wished{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := registry.New()
			r.Declare(declared(1, "a.test"), both, begin)
			r.Observe("web", "a", registry.Probed{State: health.Down, Why: "refused"})
			if !r.Wish("web", "a", func(w *registry.Wished) { *w = wish }) {
				t.Fatal("no backend to wish of")
			}
			at := begin.Add(time.Hour)
			tc.do(r, at, at.Add(tc.away))
			if got, want := r.View().Status("web", "a"), (registry.Status{Pool: "web", ID: "a", Wished: tc.want}); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
			if got := r.View().Kept(); len(got) != 0 {
				t.Errorf("got %d wishes still kept for backends that are there", len(got))
			}
			if got := r.View().Status("web", "b").Wished; got != (registry.Wished{}) {
				t.Errorf("got %+v of the other backend, want no wish", got)
			}
		})
	}
}

// However many leave, no more than a thousand wishes are kept, the last ones.
func TestKeptWishesAreBounded(t *testing.T) {
	const most = 1000
	r := registry.New()
	begin := time.Unix(1_000_000, 0)
	r.Declare(declared(1, "a.test"), nil, begin)
	for i := range most + 5 {
		r.Keep("web", fmt.Sprint(i), registry.Wished{State: registry.WishDown, By: "root"}, begin.Add(time.Duration(i)*time.Millisecond))
	}
	kept := map[string]bool{}
	for _, s := range r.View().Kept() {
		kept[s.ID] = true
	}
	if len(kept) != most || kept["4"] || !kept["5"] || !kept[fmt.Sprint(most+4)] {
		t.Errorf("got %d wishes, the fifth %t, the sixth %t; want the last %d", len(kept), kept["4"], kept["5"], most)
	}
	r.SetBackends([]registry.Backend{backend("web", "4"), backend("web", "5")}, begin.Add(time.Minute))
	if got := r.View().Status("web", "4").Wished.State; got != registry.NoWish {
		t.Errorf("got %q of one too many, want no wish", got)
	}
	if got := r.View().Status("web", "5").Wished.State; got != registry.WishDown {
		t.Errorf("got %q of the one that is back, want down", got)
	}
}
