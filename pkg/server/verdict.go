package server

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/snicketlb/snicket/health"
	"github.com/snicketlb/snicket/pkg/config"
	"github.com/snicketlb/snicket/pkg/registry"
)

// Verdict is what one attempt of its probe says of a backend, or of the source of a
// pool's backends that it failed.
type Verdict struct {
	Pool, Backend string
	Source        string // empty: it is about a backend
	Address       string // resolved; empty where a name has none
	Probed        bool   // false: the pool's probes are off
	// Err is why the backend is down, in the probe's own words; nil if it is ready or
	// was not probed.
	Err  error
	Took time.Duration
	// Draining says that its agent wishes no new session for it, and Agent is all that
	// its agent wishes: "drain", "50%", "maint 0%"; empty for nothing.
	Draining bool
	Agent    string
	// Warnings are what is wrong with its certificate, which takes nothing down.
	Warnings []string
}

// probesAtOnce bounds the probes of one Probe.
const probesAtOnce = 64

// Probe makes the probe of every backend of the configuration in path once, and
// returns the verdicts: the sources that failed first, then by pool and backend. The
// error is a *[ConfigError]. lookup resolves host names; nil is the system's resolver.
func Probe(ctx context.Context, path string, lookup Lookup) ([]Verdict, error) {
	pl := build(path, nil, buildOptions{serving: true})
	if pl.problems.Err() != nil {
		return nil, &ConfigError{pl.problems}
	}
	if lookup == nil {
		lookup = systemLookup
	}
	found := look(ctx, sourcesOf(pl.config), namesWait)
	answers := resolve(ctx, lookup, hostNames(pl.config, found), namesWait)
	r := registry.New()
	r.Declare(pl.config, backendRows(pl.config, answers, found), time.Now())
	v := r.View()
	type probed struct {
		pool    *config.Pool
		backend *registry.Backend
	}
	var all []probed
	var verdicts []Verdict
	for _, pool := range v.Pools() {
		if d := found[pool.Name]; d.err != "" {
			verdicts = append(verdicts, Verdict{Pool: pool.Name, Source: d.settings.String(), Err: errorText(d.err)})
		}
		for _, b := range v.Backends(pool.Name) {
			all = append(all, probed{pool, b})
		}
	}
	sources := len(verdicts)
	verdicts = slices.Grow(verdicts, len(all))[:sources+len(all)]
	turn := make(chan struct{}, probesAtOnce)
	var wg sync.WaitGroup
	for i, p := range all {
		wg.Go(func() {
			turn <- struct{}{}
			defer func() { <-turn }()
			verdicts[sources+i] = verdict(ctx, p.pool, p.backend, pl.probes[p.pool.Name])
		})
	}
	wg.Wait()
	return verdicts, nil
}

func verdict(ctx context.Context, pool *config.Pool, b *registry.Backend, own probeSecrets) Verdict {
	out := Verdict{Pool: pool.Name, Backend: b.ID, Probed: pool.Health.Enabled}
	if b.Unresolved != "" {
		out.Err = errorText(b.Unresolved)
		return out
	}
	out.Address = b.Address.String()
	if _, out.Err = dialAddress(b.Address); out.Err == nil && out.Probed {
		begun := time.Now()
		var seen health.Observation
		seen, out.Err = health.Try(ctx, prober(pool, b, own), pool.Health.Timeout)
		out.Took = time.Since(begun)
		out.Draining, out.Agent = drains(seen.Agent), wishes(seen.Agent)
		if c, ok := seen.Certificate(); ok && out.Err == nil {
			out.Warnings = c.Warnings(time.Now(), certificateNotice, askedFor(pool))
		}
	}
	return out
}

// wishes are what an agent wishes beside the usual, in its words.
func wishes(r health.AgentReport) string {
	var words []string
	if drains(r) {
		words = append(words, r.Wish.String())
	}
	if share(r) != 100 {
		words = append(words, fmt.Sprintf("%d%%", r.Weight))
	}
	return strings.Join(words, " ")
}
