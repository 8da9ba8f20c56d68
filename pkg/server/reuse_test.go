package server

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/snicketlb/snicket/pkg/metrics"
	"github.com/snicketlb/snicket/pkg/proxy"
)

// planned builds a plan of text after former.
func planned(t *testing.T, path, text string, former *plan) *plan {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return build(path, former, buildOptions{serving: true, failed: func(string, string, error) {}})
}

// What a change leaves as it was is taken from the former plan, and nothing else is.
func TestBuildReuse(t *testing.T) {
	const (
		first  = "[[routes]]\nhosts = [\"first.test\"]\nmode = \"reject\"\n"
		a      = "[[routes]]\nhosts = [\"a.test\"]\npool = \"p\"\n"
		b      = "[[routes]]\nhosts = [\"b.test\"]\npool = \"q\"\n"
		sorry  = "[[routes]]\nhosts = [\"s.test\"]\npool = \"p\"\nsorry = true\n"
		reject = "[[routes]]\nhosts = [\"r.test\"]\nmode = \"reject\"\n"
		pools  = "[pools.p]\nbackends = [\"10.0.0.1:1\"]\n[pools.q]\nbackends = [\"10.0.0.2:1\"]\nretries = 1\n"
	)
	was := first + a + b + sorry + reject + pools
	for _, test := range []struct {
		name, text    string
		routes, pools []string // those that are reused
	}{
		{"nothing", was, []string{"a.test", "b.test", "r.test"}, []string{"p", "q"}},
		{"a line above", "\n" + was, []string{"a.test", "b.test", "r.test"}, []string{"p", "q"}},
		{"a pool", strings.Replace(was, "retries = 1", "retries = 2", 1), []string{"a.test", "r.test"}, []string{"p"}},
		{"PROXY protocol", strings.Replace(was, "retries = 1", "retries = 1\nproxy_protocol = \"v2\"", 1), []string{"a.test", "r.test"}, []string{"p"}},
		{"backends alone", strings.Replace(was, "10.0.0.2:1", "10.0.0.3:1", 1), []string{"a.test", "b.test", "r.test"}, []string{"p", "q"}},
		{"a route", strings.Replace(was, "a.test\"]", "a.test\"]\nmax_connections = 1", 1), []string{"b.test", "r.test"}, []string{"p", "q"}},
		{"the pool of a route", strings.Replace(was, "pool = \"q\"", "pool = \"p\"", 1) + "[[routes]]\nhosts = [\"c.test\"]\npool = \"q\"\n", []string{"a.test", "r.test"}, []string{"p", "q"}},
		{"timeouts", was + "[timeouts]\nidle = \"5m\"\n", nil, []string{"p", "q"}},
		{"a listener", was + "[listeners.https]\naddress = \":1\"\n[listeners.more]\naddress = \":2\"\n", nil, []string{"p", "q"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "snicket.toml")
			former := planned(t, path, was, nil)
			if err := former.problems.Err(); err != nil {
				t.Fatal(err)
			}
			before := map[string]*proxy.Route{}
			for _, r := range former.state.Routes {
				before[r.Name] = r
			}
			now := planned(t, path, test.text, former)
			if err := now.problems.Err(); err != nil {
				t.Fatal(err)
			}
			var routes, pools []string
			for i, r := range now.state.Routes {
				if r == before[r.Name] {
					routes = append(routes, r.Name)
				}
				if old := before[r.Name]; old != nil && old.Active != r.Active {
					t.Errorf("route %s counts anew", r.Name)
				}
				declared := now.config.Routes[i]
				if r.Name != declared.Name || r.Pool != now.pools[declared.Pool] || !slices.Equal(r.Listeners, declared.Listeners) ||
					r.Idle != declared.Timeouts.Idle || r.MaxConnections != declared.MaxConnections {
					t.Errorf("route %+v of %+v", r, declared)
				}
			}
			for name, p := range now.pools {
				if p == former.pools[name] {
					pools = append(pools, name)
				}
			}
			slices.Sort(routes)
			slices.Sort(pools)
			if !slices.Equal(routes, test.routes) || !slices.Equal(pools, test.pools) {
				t.Errorf("reused routes %q, pools %q; want %q, %q", routes, pools, test.routes, test.pools)
			}
			for _, r := range former.state.Routes { // what is not put into force changes nothing
				if r.Pool != former.pools[former.config.Routes[slices.Index(former.state.Routes, r)].Pool] {
					t.Errorf("route %s of the former plan has another pool", r.Name)
				}
				if shared := former.shared.routes[r.Name]; shared.built != nil && shared.built != r {
					t.Errorf("route %s of the former plan is another", r.Name)
				}
			}
			if now.former != nil {
				t.Error("the plan keeps the former one")
			}
		})
	}
}

// Routes are counted while they are few enough, whatever they were before.
func TestBuildCounts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "snicket.toml")
	text := func(n int) string {
		var b strings.Builder
		b.WriteString("[pools.p]\nbackends = [\"10.0.0.1:1\"]\n")
		for i := range n {
			fmt.Fprintf(&b, "[[routes]]\nhosts = [\"h%d.test\"]\npool = \"p\"\n", i)
		}
		return b.String()
	}
	var pl *plan
	for _, step := range []struct {
		routes  int
		counted bool
	}{{10, true}, {metrics.MostRoutes + 1, false}, {metrics.MostRoutes + 2, false}, {metrics.MostRoutes, true}, {11, true}} {
		former := pl
		pl = planned(t, path, text(step.routes), former)
		if err := pl.problems.Err(); err != nil {
			t.Fatal(err)
		}
		for _, r := range pl.state.Routes {
			if got := r.Counts != nil; got != step.counted || pl.shared.routes[r.Name].counts != r.Counts {
				t.Fatalf("of %d routes %s is counted: %t, want %t", step.routes, r.Name, got, step.counted)
			}
		}
		if former != nil && pl.state.Routes[5].Active != former.state.Routes[5].Active {
			t.Error("a route counts its sessions anew")
		}
	}
}
