package metrics_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/snicketlb/snicket/balancer"
	"github.com/snicketlb/snicket/pkg/metrics"
	"github.com/snicketlb/snicket/pkg/proxy"
)

// snapshot is one of so many routes, each with a pool of its own of two backends.
func snapshot(routes int) metrics.Snapshot {
	s := metrics.Snapshot{Generation: 1}
	pool := balancer.New("pool")
	pool.Update([]balancer.Spec{{ID: "one", Weight: 1}})
	ready := pool.Backends()[0].Marked
	for i := range routes {
		r := metrics.Route{Name: fmt.Sprintf("host-%d.example.com", i)}
		r.Totals.Ended[proxy.OK], r.Totals.Ended[proxy.ClientReset] = 5, 2
		s.Routes = append(s.Routes, r)
		p := metrics.Pool{Name: r.Name}
		for j := range 2 {
			p.Backends = append(p.Backends, metrics.Backend{Name: fmt.Sprintf("10.0.%d.%d:443", i, j), State: ready})
		}
		s.Pools = append(s.Pools, p)
	}
	return s
}

func scrape(h http.Handler) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return w
}

// With too many routes none has series; what is left is whole.
func TestManyRoutesHaveNoSeries(t *testing.T) {
	for _, tc := range []struct {
		routes int
		want   int
	}{{metrics.MostRoutes, metrics.MostRoutes}, {metrics.MostRoutes + 1, 0}} {
		s := snapshot(tc.routes)
		s.Pools = s.Pools[:1]
		w := scrape(metrics.New("v1", func() metrics.Snapshot { return s }))
		if w.Code != http.StatusOK {
			t.Fatalf("got %d\n%s", w.Code, w.Body)
		}
		if got := strings.Count(w.Body.String(), `snicket_route_sessions_total{outcome="ok"`); got != tc.want {
			t.Errorf("%d routes: got series of %d, want %d", tc.routes, got, tc.want)
		}
		if !strings.Contains(w.Body.String(), "\nsnicket_config_generation 1\n") {
			t.Errorf("%d routes: the rest is missing", tc.routes)
		}
	}
}

func TestCertificates(t *testing.T) {
	s := metrics.Snapshot{Certificates: []metrics.Certificate{{Name: "a.test", NotAfter: time.Unix(1_800_000_000, 0)}}}
	w := scrape(metrics.New("v1", func() metrics.Snapshot { return s }))
	if want := "\nsnicket_certificate_expiry_timestamp_seconds{name=\"a.test\"} 1.8e+09\n"; !strings.Contains(w.Body.String(), want) {
		t.Errorf("got no %q in\n%s", want, w.Body)
	}
}

// BenchmarkScrape is a scrape of 1,000 routes, each with a pool and two backends, and one
// of a pool of 10,000.
func BenchmarkScrape(b *testing.B) {
	fleet := snapshot(1)
	one := fleet.Pools[0].Backends[0]
	fleet.Pools[0].Backends = nil
	for i := range 10_000 {
		one.Name = fmt.Sprintf("10.1.%d.%d:443", i/250, i%250)
		fleet.Pools[0].Backends = append(fleet.Pools[0].Backends, one)
	}
	for name, s := range map[string]metrics.Snapshot{"routes=1000": snapshot(1000), "backends=10000": fleet} {
		b.Run(name, func(b *testing.B) {
			h := metrics.New("v1", func() metrics.Snapshot { return s })
			b.ReportAllocs()
			size := 0
			for b.Loop() {
				w := scrape(h)
				if w.Code != http.StatusOK {
					b.Fatal(w.Code)
				}
				size = w.Body.Len()
			}
			b.ReportMetric(float64(size), "B/scrape")
		})
	}
}
