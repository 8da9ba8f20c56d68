package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/snicketlb/snicket/benchmarks/internal/chart"
	"github.com/snicketlb/snicket/benchmarks/internal/peer"
	"github.com/snicketlb/snicket/benchmarks/internal/stat"
	"github.com/snicketlb/snicket/benchmarks/internal/wire"
)

// soakWorkload has new, idle, talking and bulk sessions together, and takes all the processor time there is.
const (
	soakWorkload = "mixed"
	soakWhat     = "1,000 idle, 500 new a second, 2,000 messages a second, 8 downloads"
)

// What may be more at the end than before: the last quarter of the samples is held against the second, as the first is
// warming up. Both are medians, so that a collection under way or a burst of new sessions is not taken for a leak.
const (
	soakMemoryShare = 0.10
	soakMemoryBytes = 1 << 20
	soakDescriptors = 64 // beside those of the short sessions under way
	soakSamples     = 16 // fewer say nothing
)

// soakReport is a soak: what its JSON file holds.
type soakReport struct {
	Began    time.Time     `json:"began"`
	Ended    time.Time     `json:"ended"`
	Machine  string        `json:"machine"`
	Kernel   string        `json:"kernel"`
	Cores    int           `json:"cores"`
	Account  string        `json:"account"`
	Version  string        `json:"version"`
	Peer     string        `json:"peer"`
	Workload string        `json:"workload"`
	Length   time.Duration `json:"length_ns"`
	Every    time.Duration `json:"every_ns"`
	Faults   []string      `json:"faults"` // why it has failed; none: it has not
	Result   wire.Result   `json:"result"`
}

// soak runs one balancer under the mixed load for o.soak, writes what it looked like, and fails if a session did or if
// memory or descriptors grew.
func soak(ctx context.Context, o options, b *bench, p peer.Peer, out io.Writer) error {
	chosen, err := choose(workloads(), soakWorkload)
	if err != nil {
		return err
	}
	w := chosen[0]
	w.spec.Every = min(max(o.soak/120, time.Second), 5*time.Second)
	b.window = o.soak
	s := soakReport{
		Began: time.Now().UTC(), Machine: processor(), Kernel: kernel(), Cores: cpus(), Account: o.account,
		Version: version(p), Peer: p.Name, Workload: soakWhat, Length: o.soak, Every: w.spec.Every,
	}
	if s.Result, _, err = b.measure(ctx, w, p); err != nil {
		return err
	}
	s.Ended = time.Now().UTC()
	s.Faults = soakFaults(s.Result)
	if err := s.publish(o, out); err != nil {
		return err
	}
	if len(s.Faults) > 0 {
		return fmt.Errorf("the soak has failed: %s", strings.Join(s.Faults, "; "))
	}
	return nil
}

// soakFaults says what is wrong with a soak.
func soakFaults(r wire.Result) (faults []string) {
	if r.Failed > 0 {
		faults = append(faults, fmt.Sprintf("%d sessions failed: %s", r.Failed, r.Error))
	}
	if r.Sessions == 0 || r.Trips == 0 || r.Bytes == 0 {
		faults = append(faults, fmt.Sprintf("%d sessions, %d messages and %d bytes: a part of the load did nothing", r.Sessions, r.Trips, r.Bytes))
	}
	if len(r.Samples) < soakSamples {
		return append(faults, fmt.Sprintf("%d samples, which is too few to tell growth; %d at least", len(r.Samples), soakSamples))
	}
	grown := func(what string, of func(wire.Sample) float64, room func(before float64) float64) {
		n := len(r.Samples) / 4
		before, after := medianOf(r.Samples[n:2*n], of), medianOf(r.Samples[len(r.Samples)-n:], of)
		if after > before+room(before) {
			faults = append(faults, fmt.Sprintf("%s grew from %.0f in the second quarter to %.0f in the last", what, before, after))
		}
	}
	grown("memory in KiB", func(s wire.Sample) float64 { return float64(s.Memory.PSS) / 1024 },
		func(before float64) float64 { return before*soakMemoryShare + soakMemoryBytes/1024 })
	grown("descriptors", func(s wire.Sample) float64 { return float64(s.Files) }, func(float64) float64 { return soakDescriptors })
	return faults
}

func medianOf(samples []wire.Sample, of func(wire.Sample) float64) float64 {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = of(s)
	}
	return stat.Summarize(values).Median
}

func (s *soakReport) publish(o options, out io.Writer) error {
	r := s.Result
	first, last := wire.Sample{}, wire.Sample{}
	if n := len(r.Samples); n > 0 {
		first, last = r.Samples[0], r.Samples[n-1]
	}
	fmt.Fprintf(out, "\n### soak, %s: %s, %v\n\n", s.Peer, s.Workload, s.Length)
	fmt.Fprintf(out, "| | at first | at the end |\n| --- | ---: | ---: |\n| memory, KiB | %d | %d |\n| descriptors | %d | %d |\n| p99 of a message, µs | %.0f | %.0f |\n",
		first.Memory.PSS>>10, last.Memory.PSS>>10, first.Files, last.Files, first.Trip.P99, last.Trip.P99)
	fmt.Fprintf(out, "\n%d sessions done, %d failed; %d messages, %.1f GiB; %.2f cores\n",
		r.Sessions, r.Failed, r.Trips, float64(r.Bytes)/(1<<30), ratio(r.CPU.Total.Seconds(), r.Seconds))
	if o.beside != "" {
		return nil // figures taken under an observer are no results
	}
	text, err := json.MarshalIndent(s, "", "\t")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	name := o.name
	if name == "" {
		name = "soak"
		if s.Account != "root" {
			name += "-" + s.Account
		}
	}
	path := filepath.Join(o.out, name+".json")
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
		return err
	}
	if len(r.Samples) > 0 {
		if err := s.draw(filepath.Join(o.out, name+".svg")); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(out, "\nraw figures: %s\n", path)
	return err
}

// soaked is the balancer that a soak runs: snicket, unless another is asked for.
func soaked(o options, peers []peer.Peer) (peer.Peer, error) {
	name := o.peers
	if name == "all" {
		name = "snicket"
	}
	at := slices.IndexFunc(peers, func(p peer.Peer) bool { return p.Name == name })
	if at < 0 {
		return peer.Peer{}, fmt.Errorf("-soak runs one peer, not %q", o.peers)
	}
	return peers[at], nil
}

// plots shows memory, descriptors and latency over time, to stand one above the other.
func (s *soakReport) plots() ([][]*plot.Plot, error) {
	var rows [][]*plot.Plot
	for _, row := range []struct {
		title, unit string
		of          func(wire.Sample) float64
	}{
		{s.Peer + ": " + s.Workload, "PSS, MiB", func(x wire.Sample) float64 { return float64(x.Memory.PSS) / (1 << 20) }},
		{"", "descriptors", func(x wire.Sample) float64 { return float64(x.Files) }},
		{"", "p99 of a message, ms", func(x wire.Sample) float64 { return x.Trip.P99 / 1e3 }},
	} {
		points := make(plotter.XYs, len(s.Result.Samples))
		for i, x := range s.Result.Samples {
			points[i] = plotter.XY{X: x.Seconds / 60, Y: row.of(x)}
		}
		line, err := plotter.NewLine(points)
		if err != nil {
			return nil, err
		}
		line.Color = chart.Dark()
		p := chart.New(row.title, row.unit)
		p.Add(plotter.NewGrid(), line)
		p.X.Min, p.Y.Min, p.Y.Max = 0, 0, 1.1*p.Y.Max
		rows = append(rows, []*plot.Plot{p})
	}
	last := rows[len(rows)-1][0]
	last.X.Label.Text, last.X.Label.TextStyle.Font.Variant = "minutes", "Sans"
	return rows, nil
}

func (s *soakReport) draw(path string) error {
	rows, err := s.plots()
	if err != nil {
		return err
	}
	c := vgsvg.New(chart.Width, 2*chart.Height)
	tiles := draw.Tiles{Rows: len(rows), Cols: 1, PadY: vg.Points(8)}
	for i, row := range plot.Align(rows, tiles, draw.New(c)) {
		rows[i][0].Draw(row[0])
	}
	return chart.Write(c, path)
}
