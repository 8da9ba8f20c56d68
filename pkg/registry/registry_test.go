package registry_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snicketlb/snicket/health"
	"github.com/snicketlb/snicket/pkg/config"
	"github.com/snicketlb/snicket/pkg/registry"
)

func declared(line int, hosts ...string) *config.Config {
	at := config.Position{File: "a.toml", Line: line}
	c := &config.Config{
		Listeners: []config.Listener{{Name: "https", Pos: at}},
		Pools: []config.Pool{
			{Name: "web", Pos: at, Health: config.Health{Enabled: true}, TLS: &config.PoolTLS{Pos: at}, Backends: []config.Backend{{Name: "a", Pos: at}}},
			{Name: "web2", Pos: at, Health: config.Health{CA: config.File{Pos: at}}},
		},
	}
	for _, h := range hosts {
		c.Routes = append(c.Routes, &config.Route{
			Name: h, Mode: config.Terminate, Pool: "web", Pos: at, Hosts: []config.Host{{Pattern: h, Pos: at}},
			TLS: &config.RouteTLS{
				Certificates: []config.Certificate{{Cert: "/c.pem", Pos: at}},
				Policy:       config.TLSPolicy{ClientCA: config.File{Pos: at}, CRL: config.File{Pos: at}, Pos: at},
				KeyLog:       config.File{Pos: at},
			},
			HTTP: &config.RouteHTTP{Deny: []config.DenyRule{{Pos: at}}, Redirects: []config.Redirect{{Pos: at}}, Pos: at},
		})
	}
	return c
}

func backend(pool, id string) registry.Backend {
	address := config.Address{Kind: config.AddressIP, AddrPort: netip.MustParseAddrPort("10.0.0.1:443")}
	return registry.Backend{Pool: pool, ID: id, Address: address, Weight: 1}
}

func ids(bs []*registry.Backend) []string {
	var out []string
	for _, b := range bs {
		out = append(out, b.ID)
	}
	return out
}

func TestDeclare(t *testing.T) {
	r := registry.New()
	if got := r.View().Meta(); got.Generation != 0 {
		t.Errorf("got generation %d of an empty registry, want 0", got.Generation)
	}
	at := time.Unix(1, 0)
	backends := []registry.Backend{backend("web", "b"), backend("web", "a"), backend("web2", "c")}
	ch := r.Declare(declared(1, "a.test", "b.test"), backends, at)
	if got, want := ch.Routes.Added, []string{"a.test", "b.test"}; !slices.Equal(got, want) || ch.Generation != 1 {
		t.Errorf("got routes %v, generation %d; want %v, 1", got, ch.Generation, want)
	}
	before := r.View()
	if got, want := ids(before.Backends("web")), []string{"a", "b"}; !slices.Equal(got, want) {
		t.Errorf("got backends %v of web, want %v", got, want)
	}

	// The same some lines further down is no change, and its rows stay.
	ch = r.Declare(declared(9, "a.test", "b.test"), backends, at)
	for table, d := range map[string]registry.Difference{
		"listeners": ch.Listeners, "routes": ch.Routes, "pools": ch.Pools, "backends": ch.Backends,
	} {
		if !d.Empty() {
			t.Errorf("%s: got %+v for a file whose lines moved, want none", table, d)
		}
	}
	after := r.View()
	if got, want := slices.Collect(after.Routes())[0], slices.Collect(before.Routes())[0]; got != want {
		t.Error("an unchanged row was written again")
	}
	if got := after.Meta(); got.Generation != 2 || !got.At.Equal(at) {
		t.Errorf("got %+v, want generation 2 at %v", got, at)
	}

	// What is said of backends alone is no change of their pool, and its row is right all
	// the same.
	c := declared(9, "a.test", "b.test")
	c.Pools[0].Backends = append(c.Pools[0].Backends, config.Backend{Name: "x"})
	ch = r.Declare(c, append(backends, backend("web", "x")), at)
	if !ch.Pools.Empty() || !slices.Equal(ch.Backends.Added, []string{"web/x"}) || len(r.View().Pools()[0].Backends) != 2 {
		t.Errorf("got pools %+v, backends %+v; want the backend alone added", ch.Pools, ch.Backends)
	}
	c = declared(9, "a.test", "b.test")
	c.Pools[0].Retries = 7
	if ch = r.Declare(c, backends, at); !slices.Equal(ch.Pools.Changed, []string{"web"}) {
		t.Errorf("got pools %+v, want web changed", ch.Pools)
	}

	// One route more, one gone; one backend changed, one gone.
	backends = slices.Clone(backends)
	backends[0].Weight = 5
	ch = r.Declare(declared(9, "b.test", "c.test"), backends[:2], at)
	if got := ch.Routes; !slices.Equal(got.Added, []string{"c.test"}) || !slices.Equal(got.Removed, []string{"a.test"}) {
		t.Errorf("got routes %+v, want c.test added, a.test removed", got)
	}
	if got := ch.Backends; !slices.Equal(got.Changed, []string{"web/b"}) || !slices.Equal(got.Removed, []string{"web2/c"}) {
		t.Errorf("got backends %+v, want web/b changed, web2/c removed", got)
	}
	if got := len(slices.Collect(before.Routes())); got != 2 || before.Meta().Generation != 1 {
		t.Errorf("a view changed: %d routes, generation %d", got, before.Meta().Generation)
	}
}

// A listener more or less is no change of the routes that are on all of them, and
// their rows are right all the same.
func TestDeclareListeners(t *testing.T) {
	r := registry.New()
	with := func(onA []string, listeners ...string) *config.Config {
		c := declared(1, "a.test", "b.test")
		c.Listeners = nil
		for _, name := range listeners {
			c.Listeners = append(c.Listeners, config.Listener{Name: name})
		}
		c.Routes[0].Listeners, c.Routes[1].Listeners = onA, listeners
		return c
	}
	r.Declare(with([]string{"one"}, "one", "two"), nil, time.Time{})
	for _, tc := range []struct {
		name    string
		c       *config.Config
		changed []string
		onB     []string
	}{
		{"one more", with([]string{"one"}, "one", "three", "two"), nil, []string{"one", "three", "two"}},
		{"one less", with([]string{"one"}, "one", "two"), nil, []string{"one", "two"}},
		{"a route that moves", with([]string{"two"}, "one", "two"), []string{"a.test"}, []string{"one", "two"}},
	} {
		ch := r.Declare(tc.c, nil, time.Time{})
		if got := ch.Routes.Changed; !slices.Equal(got, tc.changed) {
			t.Errorf("%s: got routes %v changed, want %v", tc.name, got, tc.changed)
		}
		if got := slices.Collect(r.View().Routes())[1].Listeners; !slices.Equal(got, tc.onB) {
			t.Errorf("%s: got b.test on %v, want %v", tc.name, got, tc.onB)
		}
	}
}

func TestObserve(t *testing.T) {
	r := registry.New()
	seen := registry.Probed{State: health.Down, Since: time.Unix(5, 0), Why: "refused"}
	down := registry.Status{Pool: "web", ID: "a", Probed: seen}
	r.Observe("web", "a", seen)
	if got := r.View().Status("web", "a"); got.State != health.Unknown {
		t.Errorf("got %+v of an undeclared backend, want unknown", got)
	}
	backends := []registry.Backend{backend("web", "a")}
	c := declared(1, "a.test")
	r.Declare(c, backends, time.Time{})
	r.Observe("web", "a", seen)
	if got := r.View().Status("web", "a"); got != down {
		t.Errorf("got %+v, want %+v", got, down)
	}
	r.Declare(declared(1, "b.test"), backends, time.Time{})
	if got := r.View().Status("web", "a"); got != down {
		t.Errorf("after a reload: got %+v, want %+v", got, down)
	}
	unprobed := declared(1, "b.test")
	unprobed.Pools[0].Health.Enabled = false
	r.Declare(unprobed, backends, time.Time{})
	r.Observe("web", "a", seen)
	r.Declare(c, backends, time.Time{})
	if got := r.View().Status("web", "a"); got.State != health.Unknown {
		t.Errorf("got %+v after a time without probes, want unknown", got)
	}
	r.Observe("web", "a", seen)
	r.SetBackends(nil, time.Time{})
	r.SetBackends(backends, time.Time{})
	if got := r.View().Status("web", "a"); got.State != health.Unknown {
		t.Errorf("got %+v of a backend that came back, want unknown", got)
	}
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := registry.New()
		backends := []registry.Backend{backend("web", "a")}
		r.Declare(declared(1, "a.test"), backends, time.Time{})
		up := registry.Probed{State: health.Up}
		for _, tc := range []struct {
			name  string
			write func()
			wakes bool
		}{
			{"a status", func() { r.Observe("web", "a", up) }, true},
			{"the same status", func() { r.Observe("web", "a", up) }, false},
			{"the same backends", func() { r.SetBackends(backends, time.Time{}) }, false},
			{"no backends", func() { r.SetBackends(nil, time.Time{}) }, true},
			{"a generation", func() { r.Declare(declared(1, "a.test"), nil, time.Time{}) }, true},
		} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			done := make(chan error, 1)
			v := r.View()
			go func() { done <- v.Wait(ctx) }()
			synctest.Wait()
			tc.write()
			err := <-done
			if tc.wakes && err != nil || !tc.wakes && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: got %v, wakes want %v", tc.name, err, tc.wakes)
			}
			if tc.wakes {
				if err := v.Wait(ctx); err != nil { // level-triggered: the view is still old
					t.Errorf("%s: got %v from an old view, want nil at once", tc.name, err)
				}
			}
			cancel()
		}
	})
}

// Members are what Pools, Backends and AllStatuses say of each pool, whatever the order of
// names and of those that have nothing.
func TestMembers(t *testing.T) {
	r := registry.New()
	c := &config.Config{}
	for _, name := range []string{"a", "a-b", "a.b", "aa", "b", "c", "d"} {
		c.Pools = append(c.Pools, config.Pool{Name: name, Health: config.Health{Enabled: true}})
	}
	r.Declare(c, []registry.Backend{
		backend("a", "2"), backend("a", "1"), backend("a.b", "1"), backend("a-b", "3"), backend("aa", "1"), backend("c", "1"), backend("c", "2"),
	}, time.Time{})
	for _, b := range []string{"a/2", "a.b/1", "c/1", "c/2"} {
		pool, id, _ := strings.Cut(b, "/")
		r.Observe(pool, id, registry.Probed{State: health.Up})
	}
	v := r.View()
	var pools, statuses []string
	for m := range v.Members() {
		pools = append(pools, m.Pool.Name)
		if got, want := ids(m.Backends), ids(v.Backends(m.Pool.Name)); !slices.Equal(got, want) {
			t.Errorf("backends %q of %s, want %q", got, m.Pool.Name, want)
		}
		for _, s := range m.Statuses {
			if s.Pool != m.Pool.Name {
				t.Errorf("status of %s/%s at %s", s.Pool, s.ID, m.Pool.Name)
			}
			statuses = append(statuses, s.Pool+"/"+s.ID)
		}
	}
	if want := []string{"a", "a-b", "a.b", "aa", "b", "c", "d"}; !slices.Equal(pools, want) {
		t.Errorf("pools %q, want %q", pools, want)
	}
	if want := []string{"a/2", "a.b/1", "c/1", "c/2"}; !slices.Equal(statuses, want) {
		t.Errorf("statuses %q, want %q", statuses, want)
	}
	for m := range v.Members() {
		if m.Pool.Name == "a" {
			break // without harm
		}
	}
}

// A registry keeps nothing of former declarations but the rows that hold.
func TestDeclareKeeps(t *testing.T) {
	const pools, loads = 3000, 60
	r := registry.New()
	declare := func(n int) {
		c := &config.Config{Pools: make([]config.Pool, n), Listeners: make([]config.Listener, n)}
		backends := make([]registry.Backend, n)
		for i := range n {
			c.Pools[i].Name, c.Listeners[i].Name = fmt.Sprint("p", i), fmt.Sprint("l", i)
			backends[i] = registry.Backend{Pool: c.Pools[i].Name, ID: "10.0.0.1:1"}
		}
		r.Declare(c, backends, time.Time{})
	}
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	declare(pools)
	before := heap()
	for i := range loads {
		declare(pools + i + 1)
	}
	if grown := heap() - before; grown > 4<<20 {
		t.Errorf("%d declarations of %d pools left %d bytes", loads, pools, grown)
	}
	if got := len(r.View().Pools()); got != pools+loads {
		t.Errorf("got %d pools", got)
	}
}
