package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/snicketlb/snicket/balancer"
)

// One machine with two workers, by hand.
func TestSessionsWaitForAWorker(t *testing.T) {
	w := newWorld(situation{backends: []machine{{workers: 2, speed: 0.5, weight: 1}}}, balancer.LeastConnections)
	for _, s := range []struct{ at, length time.Duration }{
		{0, 2 * time.Second},               // ends at 4 s
		{time.Second, time.Second},         // ends at 3 s
		{2 * time.Second, 3 * time.Second}, // waits 1 s, ends at 9 s
		{2 * time.Second, time.Second},     // waits 2 s, ends at 6 s
		{5 * time.Second, time.Second},     // waits 1 s, ends at 8 s
		{20 * time.Second, time.Second},
	} {
		w.advance(s.at)
		w.now = s.at
		w.arrive(session{length: s.length})
	}
	want := []time.Duration{0, 0, time.Second, 2 * time.Second, time.Second, 0}
	if !slices.Equal(w.waits, want) {
		t.Errorf("sessions waited %v, want %v", w.waits, want)
	}
	if w.highest != 2 {
		t.Errorf("highest load %v, want 2: four sessions for two workers", w.highest)
	}
	w.advance(time.Hour)
	if got := w.servers[0].backend; got.Active() != 0 || got.Total() != 6 {
		t.Errorf("%d of %d sessions, want 0 of 6", got.Active(), got.Total())
	}
}

func TestArrivalsAreAsSaid(t *testing.T) {
	const n = 200_000
	a := newArrivals(10, 1)
	var span, length time.Duration
	names := map[string]int{}
	for range n {
		s := a.next()
		span += s.after
		length += s.length
		names[s.name]++
	}
	if got := span.Seconds() / n; got < 0.099 || got > 0.101 {
		t.Errorf("a session every %.4f s, want 0.1", got)
	}
	if got := length.Seconds() / n; got < 0.95 || got > 1.05 {
		t.Errorf("sessions last %.3f s in the mean, want 1", got)
	}
	if len(names) < 1900 || len(names) > 2000 {
		t.Errorf("%d names, want nearly 2000", len(names))
	}
}

// What docs/balancing.md advises must hold, and be the same each time.
func TestWhatIsAdvisedHolds(t *testing.T) {
	if raceEnabled {
		t.Skip("one goroutine, of which the race detector makes minutes")
	}
	const sessions = 60_000
	results := compare(sessions, 7)
	p99 := map[string]float64{}
	for _, r := range results {
		p99[r.Situation+"/"+r.Policy] = r.P99
	}
	for _, less := range []struct{ this, that string }{
		{"equal/least-connections", "equal/random-two"},
		{"equal/random-two", "equal/round-robin"},
		{"equal/least-time", "equal/round-robin"},
		{"equal/round-robin", "equal/sni-hash"},
		{"untold/least-time", "untold/least-connections"},
		{"untold/least-connections", "untold/round-robin"},
		{"one slow/least-connections", "one slow/round-robin"},
		{"one slow/least-time", "one slow/round-robin"},
	} {
		if p99[less.this] >= p99[less.that] {
			t.Errorf("p99 waiting: %s %.3f s, %s %.3f s, want less", less.this, p99[less.this], less.that, p99[less.that])
		}
	}
	if again := compare(sessions, 7); !slices.Equal(results, again) {
		t.Error("the same seed gave another result")
	}
}

func TestRunWritesWhatItPrints(t *testing.T) {
	dir := t.TempDir()
	var text strings.Builder
	if err := run(&text, 2000, 1, dir); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "policies.json"))
	if err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(raw, &r); err != nil {
		t.Fatal(err)
	}
	if got, want := len(r.Results), 4*len(balancer.Policies()); got != want || strings.Count(text.String(), " % |") != want {
		t.Errorf("%d results and %d lines, want %d", got, strings.Count(text.String(), " % |"), want)
	}
	for _, name := range []string{"policies-waiting.svg", "policies-imbalance.svg"} {
		svg, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !strings.Contains(string(svg), "least-connections") {
			t.Errorf("%s: %v, or without its labels", name, err)
		}
	}
}

// The documentation shows the committed result.
func TestDocumentedTablesAreTheCommittedOnes(t *testing.T) {
	raw, err := os.ReadFile("../results/policies.json")
	if err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(raw, &r); err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("../../docs/balancing.md")
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	r.print(&text)
	for line := range strings.Lines(text.String()) {
		if strings.HasPrefix(line, "|") && !strings.Contains(string(doc), line) {
			t.Errorf("docs/balancing.md lacks %s", line)
		}
	}
}
