package server

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/snicketlb/snicket/pkg/metrics"
	"github.com/snicketlb/snicket/pkg/proxy"
	"github.com/snicketlb/snicket/pkg/registry"
)

// probeCounts counts the probes of all backends.
type probeCounts struct {
	mu       sync.Mutex // guards the fields below
	backends map[string]*probeCount
	pools    map[string]*proxy.Histogram
}

type probeCount struct{ passed, failed uint64 }

func newProbeCounts() *probeCounts {
	return &probeCounts{backends: map[string]*probeCount{}, pools: map[string]*proxy.Histogram{}}
}

// probed is told of every probe by the checker.
func (c *probeCounts) probed(id string, took time.Duration, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.backends[id]
	if b == nil {
		b = &probeCount{}
		c.backends[id] = b
	}
	if err == nil {
		b.passed++
	} else {
		b.failed++
	}
	pool, _ := cutTarget(id)
	h := c.pools[pool]
	if h == nil {
		h = &proxy.Histogram{}
		c.pools[pool] = h
	}
	h.Observe(took)
}

// of is what is counted of one backend.
func (c *probeCounts) of(pool, id string) probeCount {
	c.mu.Lock()
	defer c.mu.Unlock()
	if b := c.backends[targetID(pool, id)]; b != nil {
		return *b
	}
	return probeCount{}
}

// durations is how long the probes of a pool took.
func (c *probeCounts) durations(pool string) proxy.Durations {
	c.mu.Lock()
	h := c.pools[pool]
	c.mu.Unlock()
	if h == nil {
		return proxy.Durations{}
	}
	return h.Durations()
}

// keep forgets what is not in v: names come and go with the sources of backends.
func (c *probeCounts) keep(v *registry.View) {
	known, pools := map[string]bool{}, map[string]bool{}
	for _, pool := range v.Pools() {
		pools[pool.Name] = true
		for _, b := range v.Backends(pool.Name) {
			known[targetID(pool.Name, b.ID)] = true
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for id := range c.backends {
		if !known[id] {
			delete(c.backends, id)
		}
	}
	for pool := range c.pools {
		if !pools[pool] {
			delete(c.pools, pool)
		}
	}
}

// reloads counts them.
type reloads struct {
	done, failed atomic.Uint64
	failure      atomic.Pointer[string] // of the latest; nil: it did not fail
}

func (r *reloads) count(err error) {
	if err == nil {
		r.done.Add(1)
		r.failure.Store(nil)
		return
	}
	text := problemsText(err)
	r.failed.Add(1)
	r.failure.Store(&text)
}

// expiryMetrics are the certificates that clients may be shown, by their first names; of
// several of one name, such as with RSA and with ECDSA, the one that expires first.
func expiryMetrics(all []CertificateView) []metrics.Certificate {
	byName := map[string]time.Time{}
	for i := range all {
		v := &all[i]
		if v.Superseded || len(v.Names) == 0 {
			continue
		}
		if first, ok := byName[v.Names[0]]; !ok || v.NotAfter.Before(first) {
			byName[v.Names[0]] = v.NotAfter
		}
	}
	out := make([]metrics.Certificate, 0, len(byName))
	for name, expires := range byName {
		out = append(out, metrics.Certificate{Name: name, NotAfter: expires})
	}
	return out
}

// snapshot is what a scrape tells.
func (s *Server) snapshot() metrics.Snapshot {
	view := s.registry.View()
	s.probeCounts.keep(view)
	snap := metrics.Snapshot{
		Counters: s.proxy.Counters(), Generation: view.Meta().Generation,
		Reloads: s.reloads.done.Load(), FailedReloads: s.reloads.failed.Load(), LastReloadFailed: s.reloads.failure.Load() != nil,
	}
	snap.Certificates = expiryMetrics(s.Certificates())
	snap.LogDropped = snap.Counters.DroppedRecords + s.access.dropped() + s.stderr.dropped()
	s.mu.Lock()
	shared := s.plan.shared
	s.mu.Unlock()
	if view.Meta().Routes <= metrics.MostRoutes {
		for r := range view.Routes() {
			if c := shared.routes[r.Name]; c != nil {
				snap.Routes = append(snap.Routes, metrics.Route{Name: r.Name, Totals: c.counts.Totals()})
			}
		}
	}
	for _, declared := range view.Pools() {
		if p := shared.pools[declared.Name]; p != nil {
			snap.Pools = append(snap.Pools, s.poolMetrics(declared.Name, p))
		}
	}
	return snap
}

func (s *Server) poolMetrics(name string, p *sharedPool) metrics.Pool {
	out := metrics.Pool{Name: name, Queue: p.balancer.QueueLength(), Retries: p.retried.Load()}
	backends := p.balancer.Backends()
	out.Backends = slices.Grow(out.Backends, len(backends))
	for _, b := range backends {
		probes := s.probeCounts.of(name, b.ID())
		out.Backends = append(out.Backends, metrics.Backend{
			Name: b.ID(), State: b.Marked, Sessions: b.Active(), Total: b.Total(), DialFailures: b.DialFailures(), Failures: b.Failures(),
			ProbesPassed: probes.passed, ProbesFailed: probes.failed,
		})
	}
	out.ProbeDurations = s.probeCounts.durations(name) // read later: not fewer than probes
	return out
}
