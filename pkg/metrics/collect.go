package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/snicketlb/snicket/balancer"
	"github.com/snicketlb/snicket/pkg/proxy"
)

// sink sends metrics of one description.
type sink struct {
	out  chan<- prometheus.Metric
	desc *prometheus.Desc
	kind prometheus.ValueType
}

func counter(out chan<- prometheus.Metric, name, help string, labels ...string) sink {
	return sink{out, desc(name, help, labels...), prometheus.CounterValue}
}

func gauge(out chan<- prometheus.Metric, name, help string, labels ...string) sink {
	return sink{out, desc(name, help, labels...), prometheus.GaugeValue}
}

// send sends one value. Names that are no UTF-8 cannot come here: the configuration
// refuses them.
func (s sink) send(v float64, labels ...string) {
	s.out <- prometheus.MustNewConstMetric(s.desc, s.kind, v, labels...)
}

func (s *Snapshot) sessions(out chan<- prometheus.Metric) {
	total := counter(out, "sessions_total", "Sessions that have ended, by how.", "listener", "outcome")
	active := gauge(out, "sessions_active", "Sessions now.", "listener")
	for name, outcomes := range s.Counters.Sessions {
		for o, n := range outcomes {
			total.send(float64(n), name, proxy.Outcome(o).String())
		}
	}
	for name, n := range s.Counters.Active {
		active.send(float64(n), name)
	}
}

func (s *Snapshot) routes(out chan<- prometheus.Metric) {
	if len(s.Routes) > MostRoutes {
		return
	}
	total := counter(out, "route_sessions_total", "Sessions of a route that have ended, by how; outcomes beside ok once there was one.", "route", "outcome")
	bytes := counter(out, "route_bytes_total", "Bytes relayed, while they pass: in is client to backend. Plain text where TLS is terminated.", "route", "direction")
	for i := range s.Routes {
		r := &s.Routes[i]
		for o, n := range r.Totals.Ended {
			if n > 0 || proxy.Outcome(o) == proxy.OK {
				total.send(float64(n), r.Name, proxy.Outcome(o).String())
			}
		}
		bytes.send(float64(r.Totals.In), r.Name, "in")
		bytes.send(float64(r.Totals.Out), r.Name, "out")
	}
}

func (s *Snapshot) pools(out chan<- prometheus.Metric) {
	queue := gauge(out, "queue_length", "Sessions that wait for a backend with room.", "pool")
	retries := counter(out, "retries_total", "Further backends tried after a failed dial.", "pool")
	probing := desc("probe_duration_seconds", "How long probes took, whatever they found.", "pool")
	for i := range s.Pools {
		p := &s.Pools[i]
		queue.send(float64(p.Queue), p.Name)
		retries.send(float64(p.Retries), p.Name)
		out <- histogram(probing, p.ProbeDurations, p.Name)
	}
	s.backends(out)
}

func (s *Snapshot) backends(out chan<- prometheus.Metric) {
	state := gauge(out, "backend_state", "1 for what holds of a backend. It is ready if none of the others does.", "pool", "backend", "state")
	sessions := gauge(out, "backend_sessions", "Sessions of a backend now.", "pool", "backend")
	total := counter(out, "backend_sessions_total", "Sessions that a backend was picked for.", "pool", "backend")
	undialled := counter(out, "backend_dial_failures_total", "Dials that failed by the backend's fault.", "pool", "backend")
	failures := counter(out, "backend_failures_total", "Sessions, and requests of HTTP, that failed by the backend's fault: it was not reached, or gave no whole answer in time.", "pool", "backend")
	probes := counter(out, "probes_total", "Probes that have ended.", "pool", "backend", "result")
	for i := range s.Pools {
		p := &s.Pools[i]
		for j := range p.Backends {
			b := &p.Backends[j]
			for _, mark := range [...]balancer.State{balancer.Ready, balancer.Down, balancer.Draining, balancer.Ejected} {
				on := 0.0
				if b.State(mark) {
					on = 1
				}
				state.send(on, p.Name, b.Name, mark.String())
			}
			sessions.send(float64(b.Sessions), p.Name, b.Name)
			total.send(float64(b.Total), p.Name, b.Name)
			undialled.send(float64(b.DialFailures), p.Name, b.Name)
			failures.send(float64(b.Failures), p.Name, b.Name)
			probes.send(float64(b.ProbesPassed), p.Name, b.Name, "pass")
			probes.send(float64(b.ProbesFailed), p.Name, b.Name, "fail")
		}
	}
}

func (s *Snapshot) durations(out chan<- prometheus.Metric) {
	out <- histogram(desc("hello_duration_seconds", "From accept to the whole ClientHello."), s.Counters.Hello)
	out <- histogram(desc("dial_duration_seconds", "From the first dial of a session to connected, retries included."), s.Counters.Dial)
	out <- histogram(desc("handshake_duration_seconds", "TLS with clients of terminated routes, the wait for a turn included."), s.Counters.Handshake)
}

func (s *Snapshot) handshakes(out chan<- prometheus.Metric) {
	total := counter(out, "handshakes_total", "TLS handshakes that came about, with clients and with backends.", "side", "kind")
	for _, h := range []struct {
		side string
		n    proxy.Handshakes
	}{{"client", s.Counters.ClientHandshakes}, {"backend", s.Counters.BackendHandshakes}} {
		total.send(float64(h.n.Full), h.side, "full")
		total.send(float64(h.n.Resumed), h.side, "resumed")
	}
}

func histogram(d *prometheus.Desc, v proxy.Durations, labels ...string) prometheus.Metric {
	buckets := make(map[float64]uint64, len(v.Below))
	for i, bound := range proxy.DurationBounds() {
		buckets[bound.Seconds()] = v.Below[i]
	}
	return prometheus.MustNewConstHistogram(d, v.Count, v.Sum.Seconds(), buckets, labels...)
}

func (s *Snapshot) process(out chan<- prometheus.Metric) {
	reloads := counter(out, "config_reloads_total", "Reloads since the start.", "result")
	reloads.send(float64(s.Reloads), "success")
	reloads.send(float64(s.FailedReloads), "failure")
	last := 1.0
	if s.LastReloadFailed {
		last = 0
	}
	gauge(out, "config_last_reload_success", "1 unless the latest reload failed.").send(last)
	gauge(out, "config_generation", "Counts the configurations that were in force; 1 is that of the start.").send(float64(s.Generation))
	gauge(out, "accept_paused", "Event loops that accept nothing, because max_connections is reached.").send(float64(s.Counters.Paused))
	counter(out, "accept_failures_total", "Times that a listener rested for 100 ms, because there were no descriptors or no memory for a connection.").send(float64(s.Counters.AcceptFailures))
	counter(out, "log_dropped_total", "Log lines and access records that were lost.").send(float64(s.LogDropped))
	expiry := gauge(out, "certificate_expiry_timestamp_seconds", "When a certificate that clients are shown expires.", "name")
	for _, c := range s.Certificates {
		expiry.send(float64(c.NotAfter.Unix()), c.Name)
	}
}
