// Package metrics tells Prometheus how a balancer does.
//
// Start at [New]: it is given a function that takes a [Snapshot], and is the handler
// of /metrics. Nothing is counted here. What the data plane, the balancers and the
// probes count anyway is read when somebody asks, so that a balancer which nobody
// scrapes pays nothing, and a scrape holds no lock that a session could want.
//
// Labels come from the configuration: names of listeners, routes, pools and backends.
// What a client sent never becomes one.
package metrics

import (
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/snicketlb/snicket/balancer"
	"github.com/snicketlb/snicket/pkg/proxy"
)

// MostRoutes is how many routes have series of their own. With more none has: the
// series of 2,000 are what a scrape, and who stores it, can bear.
const MostRoutes = 2000

// Snapshot is all that a scrape tells.
type Snapshot struct {
	Counters proxy.Counters
	// Routes are told of up to MostRoutes.
	Routes []Route
	Pools  []Pool
	// Generation is that of the configuration in force; Reloads and FailedReloads count
	// since the start, and LastReloadFailed tells of the latest.
	Generation             uint64
	Reloads, FailedReloads uint64
	LastReloadFailed       bool
	Certificates           []Certificate
	LogDropped             uint64 // lines and records that found no room or no reader
}

// Route is one route.
type Route struct {
	Name   string
	Totals proxy.RouteTotals
}

// Pool is one pool.
type Pool struct {
	Name           string
	Queue          int    // sessions that wait
	Retries        uint64 // further backends tried
	ProbeDurations proxy.Durations
	Backends       []Backend
}

// Backend is one backend.
type Backend struct {
	Name                       string
	State                      func(balancer.State) bool // whether it bears a mark; Ready: none
	Sessions                   int
	Total                      uint64
	DialFailures, Failures     uint64
	ProbesPassed, ProbesFailed uint64
}

// Certificate is one certificate that clients are shown.
type Certificate struct {
	Name     string
	NotAfter time.Time
}

// New returns the handler of /metrics. take is called once a scrape, from any
// goroutine; how many scrapes there may be at a time is for whoever serves them to say.
func New(version string, take func() Snapshot) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		&collector{take: take, build: buildInfo(version)},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
}

func buildInfo(version string) prometheus.Metric {
	return prometheus.MustNewConstMetric(
		desc("build_info", "What runs: always 1.", "version", "goversion"),
		prometheus.GaugeValue, 1, version, runtime.Version(),
	)
}

// desc describes a metric of ours.
func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("snicket_"+name, help, labels, nil)
}

// collector makes metrics of snapshots.
type collector struct {
	take  func() Snapshot
	build prometheus.Metric
}

// Describe sends nothing: what there is depends on the configuration.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	s := c.take()
	out <- c.build
	s.sessions(out)
	s.routes(out)
	s.pools(out)
	s.durations(out)
	s.handshakes(out)
	s.process(out)
}
