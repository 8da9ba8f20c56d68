package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/snicketlb/snicket/benchmarks/internal/proc"
	"github.com/snicketlb/snicket/benchmarks/internal/wire"
)

// soaking is the result of a soak of 40 samples.
func soaking(memory, files func(i int) int) wire.Result {
	r := wire.Result{Sessions: 1, Trips: 1, Bytes: 1}
	for i := range 40 {
		r.Samples = append(r.Samples, wire.Sample{
			Seconds: float64(5 * i), Memory: proc.Memory{PSS: int64(memory(i))}, Files: files(i), Trip: wire.Latency{N: 1, P99: 900},
		})
	}
	return r
}

func TestSoakFaults(t *testing.T) {
	flat := func(n int) func(int) int { return func(int) int { return n } }
	good := soaking(flat(20<<20), flat(2000))
	failed, idle, few := good, good, good
	failed.Failed, failed.Error = 1, "reading: connection reset by peer"
	idle.Trips = 0
	few.Samples = few.Samples[:soakSamples-1]
	for name, c := range map[string]struct {
		result wire.Result
		want   string // within the only fault; empty: there is none
	}{
		"flat":                     {good, ""},
		"warms up and stays":       {soaking(func(i int) int { return min(i, 10) << 20 }, flat(2000)), ""},
		"one high sample":          {soaking(func(i int) int { return 20<<20 + i/39<<30 }, flat(2000)), ""},
		"memory grows":             {soaking(func(i int) int { return (20 + i) << 20 }, flat(2000)), "memory in KiB grew from 35328 in the second quarter to 55808"},
		"descriptors leak slowly":  {soaking(flat(20<<20), func(i int) int { return 2000 + 4*i }), "descriptors grew from 2058 in the second quarter to 2138"},
		"descriptors come and go":  {soaking(flat(20<<20), func(i int) int { return 2000 + i%2*60 }), ""},
		"a session failed":         {failed, "1 sessions failed: reading: connection reset"},
		"no messages":              {idle, "a part of the load did nothing"},
		"too short to tell growth": {few, "15 samples"},
	} {
		t.Run(name, func(t *testing.T) {
			got := soakFaults(c.result)
			if c.want == "" && len(got) > 0 || c.want != "" && (len(got) != 1 || !strings.Contains(got[0], c.want)) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestSoakPlot(t *testing.T) {
	s := soakReport{Peer: "snicket", Workload: soakWhat, Length: time.Minute}
	s.Result = soaking(func(int) int { return 20 << 20 }, func(int) int { return 2000 })
	path := filepath.Join(t.TempDir(), "soak.svg")
	if err := s.draw(path); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"PSS, MiB", "descriptors", "p99 of a message, ms", "minutes", "8 downloads"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the plot does not say %q", want)
		}
	}
}
