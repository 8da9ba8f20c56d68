// Policies compares the balancing policies by simulation: the real package
// balancer, in virtual time, is given a million sessions of uneven length for ten
// backends, by each policy and in several situations. Every policy meets the
// same sessions. From the same seed the result is the same to the last digit.
//
//	go run ./benchmarks/policies
//
// It prints the tables of docs/balancing.md, and writes policies.json and the
// plots into benchmarks/results.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/snicketlb/snicket/balancer"
)

func main() {
	sessions := flag.Int("sessions", 1_000_000, "sessions in each run")
	seed := flag.Uint64("seed", 1, "seed of the sessions")
	out := flag.String("out", "benchmarks/results", "directory for policies.json and the plots")
	flag.Parse()
	if err := run(os.Stdout, *sessions, *seed, *out); err != nil {
		fmt.Fprintln(os.Stderr, "policies:", err)
		os.Exit(1)
	}
}

// report is what policies.json holds.
type report struct {
	Sessions int
	Seed     uint64
	Results  []result // by situation, then by policy
}

func run(w io.Writer, sessions int, seed uint64, out string) error {
	r := report{Sessions: sessions, Seed: seed, Results: compare(sessions, seed)}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(out, "policies.json"), append(text, '\n'), 0o644); err != nil {
		return err
	}
	r.print(w)
	return r.draw(out)
}

// compare runs every policy in every situation, as many at once as there are
// processors.
func compare(sessions int, seed uint64) []result {
	type job struct {
		situation
		balancer.Policy
	}
	var jobs []job
	for _, s := range situations() {
		for i := range balancer.Policies() {
			jobs = append(jobs, job{s, balancer.Policy(i)})
		}
	}
	results := make([]result, len(jobs))
	next := make(chan int)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := range next {
				results[i] = simulate(jobs[i].situation, jobs[i].Policy, sessions, seed)
			}
		})
	}
	for i := range jobs {
		next <- i
	}
	close(next)
	wg.Wait()
	return results
}

// print writes one table for each situation.
func (r *report) print(w io.Writer) {
	last := ""
	for _, v := range r.Results {
		if v.Situation != last {
			last = v.Situation
			fmt.Fprintf(w, "\n%s: %s\n\n| policy | highest load | imbalance | had to wait | p99 waiting | p99.9 waiting |\n| --- | ---: | ---: | ---: | ---: | ---: |\n", v.Situation, v.What)
		}
		fmt.Fprintf(w, "| %s | %.2f | %.2f | %.2f %% | %s | %s |\n", v.Policy, v.HighestLoad, v.Imbalance, 100*v.Waited, seconds(v.P99), seconds(v.P999))
	}
}

func seconds(s float64) string {
	switch {
	case s == 0:
		return "0"
	case s < 1:
		return fmt.Sprintf("%.0f ms", s*1000)
	case s < 10:
		return fmt.Sprintf("%.1f s", s)
	}
	return fmt.Sprintf("%.0f s", s)
}
