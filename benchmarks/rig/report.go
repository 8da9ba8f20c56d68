package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/benchmarks/internal/peer"
	"github.com/snicketlb/snicket/benchmarks/internal/stat"
	"github.com/snicketlb/snicket/benchmarks/internal/wire"
)

// report is a run: what the JSON file holds, enough to print and plot it again.
type report struct {
	Began      time.Time         `json:"began"`
	Ended      time.Time         `json:"ended"`
	Machine    string            `json:"machine"`
	Kernel     string            `json:"kernel"`
	Cores      int               `json:"cores"`
	Account    string            `json:"account"`
	Congestion string            `json:"congestion"`
	Window     time.Duration     `json:"window_ns"`
	Warm       time.Duration     `json:"warm_ns"`
	Versions   map[string]string `json:"versions"`
	Sections   []*section        `json:"workloads"`
}

// section is one workload.
type section struct {
	Name      string            `json:"name"`
	What      string            `json:"what"`
	Unit      string            `json:"unit"`
	More      bool              `json:"more_is_better"`
	Reference string            `json:"reference"`
	Peers     []*series         `json:"peers"` // in the order of the tables
	Failures  map[string]string `json:"failures"`
}

// series is one peer at one workload, a sample a round.
type series struct {
	Peer    string       `json:"peer"`
	Main    stat.Summary `json:"main"`
	Ratio   stat.Ratio   `json:"ratio"`   // to the reference, of the same rounds
	Against stat.Ratio   `json:"against"` // snicket's figure to this one's, of the same rounds
	Samples []sample     `json:"samples"`
}

type sample struct {
	Round  int                `json:"round"`
	Main   float64            `json:"main"`
	More   map[string]float64 `json:"more"`
	Result wire.Result        `json:"result"`
}

func newReport(o options, peers []peer.Peer) *report {
	r := &report{
		Began: time.Now().UTC(), Machine: processor(), Kernel: kernel(), Cores: cpus(), Account: o.account,
		Congestion: o.congestion, Window: o.window, Warm: o.warm, Versions: make(map[string]string),
	}
	for _, p := range peers {
		if p.Version != nil {
			r.Versions[p.Name] = version(p)
		}
	}
	return r
}

// version is the first line of what a peer says of itself; empty if it says nothing.
func version(p peer.Peer) string {
	if p.Version == nil {
		return ""
	}
	// Not every program's version ends with exit code 0; what it printed is the version.
	out, _ := exec.Command(p.Program, p.Version...).CombinedOutput()
	first, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return first
}

// section returns that of w, which it makes the first time.
func (r *report) section(w workload) *section {
	for _, s := range r.Sections {
		if s.Name == w.name {
			return s
		}
	}
	s := &section{Name: w.name, What: w.what, Unit: w.unit, More: w.reverse, Failures: make(map[string]string)}
	r.Sections = append(r.Sections, s)
	return s
}

func (r *report) failure(w workload, name string) string { return r.section(w).Failures[name] }

func (r *report) add(w workload, name string, round int, result wire.Result, figure float64, err error) {
	s := r.section(w)
	switch {
	case err != nil:
		s.Failures[name] = err.Error()
		return
	case figure == 0:
		s.Failures[name] = "nothing came through: " + result.Error
		return
	}
	more := make(map[string]float64)
	for _, v := range w.more {
		more[v.Name] = v.Of(result)
	}
	if result.Failed > 0 {
		more["failed"] = float64(result.Failed)
	}
	at := slices.IndexFunc(s.Peers, func(p *series) bool { return p.Peer == name })
	if at < 0 {
		at = len(s.Peers)
		s.Peers = append(s.Peers, &series{Peer: name})
	}
	s.Peers[at].Samples = append(s.Peers[at].Samples, sample{Round: round, Main: figure, More: more, Result: result})
}

// summarize computes what the samples say, with ratios to the first of references that took part.
func (s *section) summarize(references []string) {
	find := func(name string) *series {
		for _, p := range s.Peers {
			if p.Peer == name {
				return p
			}
		}
		return nil
	}
	var reference *series
	for _, name := range references {
		if reference = find(name); reference != nil {
			s.Reference = name
			break
		}
	}
	snicket := find("snicket")
	for _, p := range s.Peers {
		p.Main = stat.Summarize(p.figures())
		if reference != nil {
			p.Ratio = stat.Paired(paired(p, reference))
		}
		if snicket != nil {
			p.Against = stat.Paired(paired(snicket, p))
		}
	}
}

func (p *series) figures() []float64 {
	figures := make([]float64, len(p.Samples))
	for i, s := range p.Samples {
		figures[i] = s.Main
	}
	return figures
}

// paired returns the figures of the rounds in which both were measured.
func paired(a, b *series) (as, bs []float64) {
	for _, x := range a.Samples {
		for _, y := range b.Samples {
			if x.Round == y.Round {
				as, bs = append(as, x.Main), append(bs, y.Main)
			}
		}
	}
	return as, bs
}

// publish prints the table of w and keeps what is there on disk, so that an interrupted run loses one workload.
func (r *report) publish(o options, w workload, out io.Writer) error {
	s := r.section(w)
	s.summarize(strings.Split(o.reference, ","))
	s.print(out)
	return r.write(o)
}

func (r *report) path(o options) string {
	name := o.name
	if name == "" {
		name = r.Began.Format("20060102-150405")
		if r.Account != "root" {
			name += "-" + r.Account
		}
	}
	return filepath.Join(o.out, name+".json")
}

func (r *report) write(o options) error {
	if o.beside != "" {
		return nil // figures taken under an observer are no results
	}
	r.Ended = time.Now().UTC()
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	return os.WriteFile(r.path(o), append(text, '\n'), 0o644)
}

func (r *report) finish(o options, out io.Writer) error {
	if o.beside != "" {
		return nil
	}
	if err := errors.Join(r.write(o), r.draw(o.out)); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\nraw figures: %s\n", r.path(o))
	return err
}

// redraw prints and plots an earlier run.
func redraw(o options, out io.Writer) error {
	text, err := os.ReadFile(o.redraw)
	if err != nil {
		return err
	}
	var r report
	if err := json.Unmarshal(text, &r); err != nil {
		return fmt.Errorf("%s: %w", o.redraw, err)
	}
	for _, s := range r.Sections {
		s.summarize(strings.Split(o.reference, ","))
		s.print(out)
	}
	return r.draw(o.out)
}

func kernel() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

func processor() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func cpus() int {
	var set unix.CPUSet
	if unix.SchedGetaffinity(0, &set) != nil {
		return 0
	}
	return set.Count()
}
