package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/snicketlb/snicket/benchmarks/internal/proc"
	"github.com/snicketlb/snicket/benchmarks/internal/stat"
	"github.com/snicketlb/snicket/benchmarks/internal/wire"
)

func TestParse(t *testing.T) {
	o, err := parse([]string{"-workloads", "connrate", "-rounds", "3", "-window", "1s", "-user", "nobody"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if o.workloads != "connrate" || o.rounds != 3 || o.window != time.Second || o.account != "nobody" || o.peers != "all" {
		t.Errorf("got %+v", o)
	}
	for _, args := range [][]string{{"-rounds", "0"}, {"-window", "0s"}, {"-warm", "-1s"}, {"connrate"}, {"-nonsense"}} {
		if _, err := parse(args, io.Discard); err == nil {
			t.Errorf("%q: got no error", args)
		}
	}
}

func TestChoose(t *testing.T) {
	all := workloads()
	for pattern, want := range map[string]string{
		"connrate":        "connrate",
		"idle,connrate":   "idle connrate",
		"stream-*":        "stream-1 stream-8 stream-64",
		"pingpong-*,idle": "pingpong-1 pingpong-64 idle",
	} {
		chosen, err := choose(all, pattern)
		if err != nil {
			t.Errorf("%s: %v", pattern, err)
		}
		var got []string
		for _, w := range chosen {
			got = append(got, w.name)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: got %q, want %q", pattern, got, want)
		}
	}
	if chosen, err := choose(all, "all"); err != nil || len(chosen) != len(all) {
		t.Errorf("all: got %d, %v, want %d", len(chosen), err, len(all))
	}
	if _, err := choose(all, "nonsense"); err == nil {
		t.Error("nonsense: got no error")
	}
}

func TestWorkloadsAreComplete(t *testing.T) {
	seen := make(map[string]bool)
	for _, w := range workloads() {
		if seen[w.name] {
			t.Errorf("%s stands twice", w.name)
		}
		seen[w.name] = true
		if w.what == "" || w.unit == "" || w.main == nil && !w.double || w.spec.TLS != (w.key != "") {
			t.Errorf("%s: got %+v", w.name, w)
		}
	}
}

func TestFigures(t *testing.T) {
	r := wire.Result{
		Seconds: 2, CPU: proc.Usage{Total: time.Second, User: 250 * time.Millisecond, System: 750 * time.Millisecond},
		Sessions: 20_000, Bytes: 4 << 30, Trips: 100_000, Idle: 100,
		Before: proc.Memory{PSS: 1 << 20}, After: proc.Memory{PSS: 2 << 20}, BeforeFiles: 10, AfterFiles: 210,
	}
	for name, c := range map[string]struct{ got, want float64 }{
		"µs a session": {perSession(r), 50},
		"s a GiB":      {perGiB(r), 0.25},
		"µs a trip":    {perTrip(r), 10},
		"KiB held":     {heldKiB(r), 10.24},
		"descriptors":  {heldFiles(r), 2},
		"user %":       {userShare.Of(r), 25},
		"cores":        {cores.Of(r), 0.5},
		"of nothing":   {perSession(wire.Result{CPU: r.CPU}), 0},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %v, want %v", name, c.got, c.want)
		}
	}
}

func TestFigure(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.0834: "0.083", 1.256: "1.26", 43.71: "43.7", 4321.4: "4321", -0.5: "-0.500"} {
		if got := figure(v); got != want {
			t.Errorf("%v: got %q, want %q", v, got, want)
		}
	}
}

// TestReport goes the way of a run: rounds in which the machine drifts, a peer that misses one, a peer that fails.
func TestReport(t *testing.T) {
	w := workload{name: "connrate", what: "short ones", unit: "µs/session", main: perSession, more: []value{cores}}
	r := &report{Account: "root", Versions: map[string]string{}}
	for round := range 6 {
		drift := float64(1 + round)
		r.add(w, "limit", round, wire.Result{}, 10*drift, nil)
		r.add(w, "snicket", round, wire.Result{Failed: 1}, 12*drift, nil)
		if round != 2 {
			r.add(w, "nginx", round, wire.Result{}, 15*drift, nil)
		}
	}
	r.add(w, "hitch", 0, wire.Result{}, 0, errors.New("ended before it served"))
	r.add(w, "sniproxy", 0, wire.Result{Error: "connection reset"}, 0, nil)

	o := options{reference: "absent,limit", out: t.TempDir(), name: "run"}
	var out bytes.Buffer
	if err := r.publish(o, w, &out); err != nil {
		t.Fatal(err)
	}
	if err := r.finish(o, &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| limit | 35.0 | 10.0–60.0 | 1.00 (1.00–1.00) | 1.20 (1.20–1.20) |",
		"| snicket | 42.0 | 12.0–72.0 | 1.20 (1.20–1.20) | 1.00 (1.00–1.00) | 0 | 6.00 |",
		"| nginx | 60.0 | 15.0–90.0 | 1.50 | 0.80 |", // five pairs have no interval
		"hitch failed: ended before it served",
		"sniproxy failed: nothing came through: connection reset",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	for _, name := range []string{"run.json", "connrate.svg", "ratios.svg"} {
		if info, err := os.Stat(filepath.Join(o.out, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: got %v, want it written", name, err)
		}
	}
	again := options{redraw: filepath.Join(o.out, "run.json"), reference: "limit", out: t.TempDir()}
	var second bytes.Buffer
	if err := redraw(again, &second); err != nil {
		t.Fatal(err)
	}
	if first, _, _ := strings.Cut(out.String(), "\nraw figures"); second.String() != first {
		t.Errorf("redrawn:\n%s\nwant:\n%s", second.String(), first)
	}
}

func TestInterval(t *testing.T) {
	if got, want := interval(stat.Ratio{}), "–"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
