package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/snicketlb/snicket/benchmarks/internal/stat"
)

// print writes the section as a table in Markdown.
func (s *section) print(out io.Writer) {
	fmt.Fprintf(out, "\n### %s\n\n%s; %s", s.Name, s.What, s.Unit)
	if s.More {
		fmt.Fprint(out, ", more is better")
	}
	fmt.Fprint(out, "\n\n")
	more := s.columns()
	head := []string{"", "median", "range", "÷ " + s.Reference, "snicket ÷ it"}
	head = append(head, more...)
	row(out, head)
	rule := slices.Repeat([]string{"---:"}, len(head))
	rule[0] = "---"
	row(out, rule)
	for _, p := range s.Peers {
		cells := []string{
			p.Peer, figure(p.Main.Median), figure(p.Main.Min) + "–" + figure(p.Main.Max), interval(p.Ratio), interval(p.Against),
		}
		for _, name := range more {
			cells = append(cells, figure(p.more(name)))
		}
		row(out, cells)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Failures)) {
		fmt.Fprintf(out, "\n%s failed: %s\n", name, strings.TrimSpace(s.Failures[name]))
	}
}

// columns returns the names of the further figures that any peer has, failures last.
func (s *section) columns() []string {
	set := make(map[string]bool)
	for _, p := range s.Peers {
		for _, sample := range p.Samples {
			for name := range sample.More {
				set[name] = true
			}
		}
	}
	failed := set["failed"]
	delete(set, "failed")
	names := slices.Sorted(maps.Keys(set))
	if failed {
		names = append(names, "failed")
	}
	return names
}

// more returns the median of a further figure; of failures the sum.
func (p *series) more(name string) float64 {
	values := make([]float64, 0, len(p.Samples))
	sum := 0.0
	for _, s := range p.Samples {
		values = append(values, s.More[name])
		sum += s.More[name]
	}
	if name == "failed" {
		return sum
	}
	return stat.Median(values)
}

func row(out io.Writer, cells []string) {
	fmt.Fprintf(out, "| %s |\n", strings.Join(cells, " | "))
}

// figure prints three digits that mean something, without an exponent.
func figure(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v >= 100 || v <= -100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10 || v <= -10:
		return fmt.Sprintf("%.1f", v)
	case v >= 1 || v <= -1:
		return fmt.Sprintf("%.2f", v)
	default:
		return fmt.Sprintf("%.3f", v)
	}
}

// interval prints a ratio and its 95 % interval; what too few rounds gave stands without one.
func interval(r stat.Ratio) string {
	switch {
	case r.N == 0:
		return "–"
	case r.Coverage < 0.95:
		return fmt.Sprintf("%.2f", r.Median)
	default:
		return fmt.Sprintf("%.2f (%.2f–%.2f)", r.Median, r.Low, r.High)
	}
}
