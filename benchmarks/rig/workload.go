package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/snicketlb/snicket/benchmarks/internal/wire"
)

// value is one figure taken from a result.
type value struct {
	Name string
	Of   func(wire.Result) float64
}

// workload is one thing that is measured.
type workload struct {
	name    string
	what    string // one line for people
	unit    string // of the main figure
	spec    wire.Spec
	names   int    // host names in the configuration
	key     string // terminated with this certificate: "ecdsa" or "rsa"
	double  bool   // run twice: as spec says, then at twice the rate that was reached
	main    func(wire.Result) float64
	more    []value
	reverse bool // more of the main figure is better
}

// The figures. What a session costs the balancer's processes is the one that counts; the others say how it looked from
// outside, on a machine that the load shares.

func perSession(r wire.Result) float64 { return ratio(float64(r.CPU.Total)/1e3, float64(r.Sessions)) }

func perGiB(r wire.Result) float64  { return ratio(r.CPU.Total.Seconds(), float64(r.Bytes)/(1<<30)) }
func perTrip(r wire.Result) float64 { return ratio(float64(r.CPU.Total)/1e3, float64(r.Trips)) }

func heldKiB(r wire.Result) float64 {
	return ratio(float64(r.After.PSS-r.Before.PSS)/1024, float64(r.Idle))
}

func heldFiles(r wire.Result) float64 {
	return ratio(float64(r.AfterFiles-r.BeforeFiles), float64(r.Idle))
}

func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

func perSecond(of func(wire.Result) float64) func(wire.Result) float64 {
	return func(r wire.Result) float64 { return ratio(of(r), r.Seconds) }
}

var (
	userShare = value{"user %", func(r wire.Result) float64 { return 100 * ratio(float64(r.CPU.User), float64(r.CPU.User+r.CPU.System)) }} //nolint:gochecknoglobals // a constant table
	cores     = value{"cores", func(r wire.Result) float64 { return ratio(r.CPU.Total.Seconds(), r.Seconds) }}                             //nolint:gochecknoglobals // a constant table
)

func trips() []value {
	return []value{
		{"p50 µs", func(r wire.Result) float64 { return r.Trip.P50 }},
		{"p99 µs", func(r wire.Result) float64 { return r.Trip.P99 }},
		{"p99.9 µs", func(r wire.Result) float64 { return r.Trip.P999 }},
	}
}

func sessions() []value {
	return []value{
		{"sessions/s", perSecond(func(r wire.Result) float64 { return float64(r.Sessions) })},
		{"p50 µs", func(r wire.Result) float64 { return r.Session.P50 }},
		{"p99 µs", func(r wire.Result) float64 { return r.Session.P99 }},
		userShare, cores,
	}
}

func bulk() []value {
	return []value{{"GiB/s", perSecond(func(r wire.Result) float64 { return float64(r.Bytes) / (1 << 30) })}, userShare, cores}
}

func workloads() []workload {
	all := []workload{{
		name: "connrate", what: "hello, 1 KiB answer, close; 32 at once", unit: "µs/session",
		spec: wire.Spec{New: 32}, main: perSession, more: sessions(),
	}, {
		name: "connrate-client", what: "the same, but the client closes first", unit: "µs/session",
		spec: wire.Spec{New: 32, First: true}, main: perSession, more: sessions(),
	}}
	for _, n := range []int{1, 8, 64} {
		all = append(all,
			workload{name: fmt.Sprintf("stream-%d", n), what: fmt.Sprintf("%d downloads", n), unit: "CPU-s/GiB", spec: wire.Spec{Pull: n}, main: perGiB, more: bulk()},
			workload{name: fmt.Sprintf("upload-%d", n), what: fmt.Sprintf("%d uploads", n), unit: "CPU-s/GiB", spec: wire.Spec{Push: n}, main: perGiB, more: bulk()})
	}
	for _, n := range []int{1, 64} {
		all = append(all, workload{
			name: fmt.Sprintf("pingpong-%d", n), what: fmt.Sprintf("64 bytes there and back on %d sessions", n), unit: "µs/trip",
			spec: wire.Spec{Ping: n}, main: perTrip, more: append(trips(), userShare),
		})
	}
	all = append(all, workload{
		name: "idle", what: "3,000 sessions held", unit: "KiB/session", spec: wire.Spec{Idle: 3000, Settle: true},
		main: heldKiB, more: []value{{"descriptors", heldFiles}},
	})
	all = append(all, terminated()...)
	return append(all, crowded()...)
}

func terminated() []workload {
	resumed := value{"resumed %", func(r wire.Result) float64 { return 100 * ratio(float64(r.Resumed), float64(r.Sessions)) }}
	return []workload{
		{
			name: "tls-full-ecdsa", what: "full TLS 1.3 handshakes, P-256, X25519; 1 KiB answer; 32 at once", unit: "µs/session",
			spec: wire.Spec{TLS: true, New: 32}, key: "ecdsa", main: perSession, more: sessions(),
		}, {
			name: "tls-full-rsa", what: "the same with RSA-2048", unit: "µs/session",
			spec: wire.Spec{TLS: true, New: 32}, key: "rsa", main: perSession, more: sessions(),
		}, {
			name: "tls-full-hybrid", what: "P-256 and X25519MLKEM768: the post-quantum cost", unit: "µs/session",
			spec: wire.Spec{TLS: true, New: 32, Hybrid: true}, key: "ecdsa", main: perSession, more: sessions(),
		}, {
			name: "tls-resumed", what: "resumed TLS 1.3 handshakes, X25519; 32 at once", unit: "µs/session",
			spec: wire.Spec{TLS: true, New: 32, Resume: true}, key: "ecdsa", main: perSession, more: append(sessions(), resumed),
		}, {
			name: "tls-stream-8", what: "8 downloads, AES-128-GCM", unit: "CPU-s/GiB",
			spec: wire.Spec{TLS: true, Pull: 8}, key: "ecdsa", main: perGiB, more: bulk(),
		}, {
			name: "tls-idle", what: "2,000 terminated sessions held", unit: "KiB/session",
			spec: wire.Spec{TLS: true, Idle: 2000}, key: "ecdsa", main: heldKiB, more: []value{{"descriptors", heldFiles}},
		},
	}
}

// crowded are the workloads in which one thing may hurt another.
func crowded() []workload {
	mixed := wire.Spec{Idle: 1000, Rate: 500, Ping: 16, Pings: 2000}
	beside := mixed
	beside.Pull = 8
	latencies := append(trips(), value{"new p99 µs", func(r wire.Result) float64 { return r.Session.P99 }})
	p99 := func(r wire.Result) float64 { return r.Trip.P99 }
	all := []workload{
		{
			name: "mixed-quiet", what: "1,000 idle, 500 new a second, 2,000 messages a second on 16 sessions", unit: "p99 µs of a message",
			spec: mixed, main: p99, more: append(latencies, cores),
		}, {
			name: "mixed", what: "the same beside 8 downloads at full speed", unit: "p99 µs of a message",
			spec: beside, main: p99, more: slices.Concat(latencies, bulk()),
		}, {
			name: "overload", what: "new sessions at twice the rate that fits: what share of that rate ends well within 0.5 s", unit: "%",
			spec: wire.Spec{New: 32}, double: true, reverse: true, main: nil, more: sessions(),
		},
	}
	for _, n := range []int{10, 10_000, 1_000_000} {
		all = append(all, workload{
			name: fmt.Sprintf("tables-%d", n), what: fmt.Sprintf("connrate over %d host names", n), unit: "µs/session",
			spec: wire.Spec{New: 32}, names: n, main: perSession, more: sessions(),
		})
	}
	for _, n := range []int{1, 1000, 9000} {
		all = append(all, workload{
			name: fmt.Sprintf("sessions-%d", n), what: fmt.Sprintf("connrate beside %d idle sessions", n), unit: "µs/session",
			spec: wire.Spec{New: 32, Idle: n}, main: perSession, more: sessions(),
		})
	}
	return all
}

// choose returns the workloads that pattern names: names separated by commas, "all", or a beginning followed by "*".
func choose(all []workload, pattern string) ([]workload, error) {
	if pattern == "all" {
		return all, nil
	}
	var chosen []workload
	for word := range strings.SplitSeq(pattern, ",") {
		begin, open := strings.CutSuffix(word, "*")
		found := false
		for _, w := range all {
			if w.name == word || open && strings.HasPrefix(w.name, begin) {
				found, chosen = true, append(chosen, w)
			}
		}
		if !found {
			return nil, fmt.Errorf("no workload %q; -list shows them", word)
		}
	}
	return chosen, nil
}
