package server

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/snicketlb/snicket/pkg/config"
	"github.com/snicketlb/snicket/pkg/discover"
	"github.com/snicketlb/snicket/pkg/registry"
)

// discovered is what is known from the source of one pool.
type discovered struct {
	settings discover.Settings
	backends []discover.Backend // the last good set
	err      string             // of the latest look
	note     string
}

// sourceOf is what a pool's source asks.
func sourceOf(d *config.Discover) discover.Settings {
	s := discover.Settings{Resolvers: d.Resolvers}
	switch d.Kind {
	case config.DiscoverDNS:
		s.DNS, s.Port = d.Name, d.Port
	case config.DiscoverSRV:
		s.SRV = d.Name
	case config.DiscoverFile:
		s.File = d.File
	}
	return s
}

// sourcesOf are the sources of c, by pool.
func sourcesOf(c *config.Config) map[string]discover.Settings {
	sources := map[string]discover.Settings{}
	for _, p := range c.Pools {
		if p.Discover != nil {
			sources[p.Name] = sourceOf(p.Discover)
		}
	}
	return sources
}

// errNoAnswer is the error of a source that has not answered yet.
var errNoAnswer = errors.New("no answer in time")

// look asks each source once, all at the same time, and waits for them no longer than
// wait.
func look(ctx context.Context, sources map[string]discover.Settings, wait time.Duration) map[string]discovered {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	var (
		mu   sync.Mutex
		seen = map[string]discovered{}
		wg   sync.WaitGroup
	)
	for pool, settings := range sources {
		seen[pool] = discovered{settings: settings, err: errNoAnswer.Error()}
	}
	for pool, settings := range sources {
		wg.Go(func() {
			once, done := context.WithCancel(ctx)
			defer done()
			discover.New(settings).Run(once, func(r discover.Report) {
				mu.Lock()
				defer mu.Unlock()
				seen[pool] = discovered{settings: settings, backends: r.Backends, err: errorOf(r.Status.Err), note: r.Status.Note}
				done()
			})
		})
	}
	wg.Wait()
	return seen
}

func errorOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// gathered is what the names and the sources of a configuration say before it is in
// force.
type gathered struct {
	found   map[string]discovered
	answers map[string]answer
}

// gather asks the sources of c that are not known yet, and then all its names.
func (s *Server) gather(ctx context.Context, c *config.Config) gathered {
	sources := sourcesOf(c)
	known := map[string]discovered{}
	s.mu.Lock()
	for pool, settings := range sources {
		if d, ok := s.found[pool]; ok && settings.Equal(d.settings) {
			known[pool] = d
			delete(sources, pool)
		}
	}
	s.mu.Unlock()
	g := gathered{found: look(ctx, sources, namesStart)}
	maps.Copy(known, g.found)
	g.answers = resolve(ctx, s.o.Lookup, hostNames(c, known), namesStart)
	return g
}

// foundLocked makes what is known of sources that of c, with what was seen of those that
// are new in it. One that only asks other servers keeps its backends if they are silent. The caller holds mu.
func (s *Server) foundLocked(c *config.Config, seen map[string]discovered) {
	sources := sourcesOf(c)
	found := map[string]discovered{}
	for pool, settings := range sources {
		now, ok := seen[pool]
		if known := s.found[pool]; !ok || known.settings.Equal(settings) {
			found[pool] = known
			continue
		}
		var was discovered
		if known := s.found[pool]; known.settings.SameQuestion(settings) {
			// Other servers are asked: until they answer, what is known holds.
			if was.backends = known.backends; len(now.backends) == 0 {
				now.backends = known.backends
			}
		}
		found[pool] = now
		s.sayDiscovered(pool, was, now)
	}
	s.found = found
	s.sources.Update(sources)
}

// discovered is told by the sources.
func (s *Server) discovered(pool string, r discover.Report) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was, ok := s.found[pool]
	if !ok || !was.settings.Equal(r.Settings) { // replaced by a reload
		return
	}
	now := discovered{settings: r.Settings, backends: r.Backends, err: errorOf(r.Status.Err), note: r.Status.Note}
	if len(now.backends) == 0 { // a source begins without the set that was seen before it
		now.backends = was.backends
	}
	s.found[pool] = now
	s.sayDiscovered(pool, was, now)
	s.registry.SetBackends(backendRows(s.plan.config, s.names, s.found), time.Now())
	for _, host := range hostNames(s.plan.config, s.found) {
		if _, known := s.names[host]; !known {
			select {
			case s.unnamed <- struct{}{}:
			default: // it will look anyway
			}
			return
		}
	}
}

// sayDiscovered logs what of a pool's source is news.
func (s *Server) sayDiscovered(pool string, was, now discovered) {
	log := s.log.With(slog.String("pool", pool), slog.String("from", now.settings.String()))
	switch {
	case now.err != "" && now.err != was.err:
		log.Warn("discovery failed", slog.String("why", now.err), slog.Int("backends_kept", len(now.backends)))
	case now.err == "" && was.err != "":
		log.Info("discovery works", slog.Int("backends", len(now.backends)))
	}
	if now.note != "" && now.note != was.note {
		log.Warn("discovery is not at its best", slog.String("why", now.note))
	}
	if d := differenceOf(was.backends, now.backends); !d.Empty() {
		log.Info("backends discovered", slog.Int("backends", len(now.backends)), slog.String("changes", differenceText(d, "changed")))
	}
}

// differenceOf compares two sets of a source.
func differenceOf(was, now []discover.Backend) registry.Difference {
	var d registry.Difference
	before := map[string]discover.Backend{}
	for _, b := range was {
		before[b.Name] = b
	}
	for _, b := range now {
		old, ok := before[b.Name]
		delete(before, b.Name)
		switch {
		case !ok:
			d.Added = append(d.Added, b.Name)
		case old != b:
			d.Changed = append(d.Changed, b.Name)
		}
	}
	for name := range before {
		d.Removed = append(d.Removed, name)
	}
	slices.Sort(d.Added)
	slices.Sort(d.Changed)
	slices.Sort(d.Removed)
	return d
}

// runSources runs the sources until ctx is done.
func (s *Server) runSources(ctx context.Context) error {
	s.sources.Run(ctx)
	return nil
}
