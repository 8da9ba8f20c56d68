package server

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/snicketlb/snicket/pkg/proxy"
	"github.com/snicketlb/snicket/pkg/registry"
)

// prepared is a plan that only has to be committed.
type prepared struct {
	plan   *plan
	change *proxy.Change
	access accessTarget
}

// prepare does what can still fail and touches nothing live.
func (s *Server) prepare(pl *plan) (*prepared, error) {
	descriptors, err := raiseDescriptors()
	if err != nil {
		return nil, err
	}
	if room, l := sessionsFor(descriptors), &pl.state.Limits; l.MaxConnections > room {
		if s.lowered != l.MaxConnections { // once, not at each reload
			s.log.Warn("max_connections lowered to what descriptors allow",
				slog.Int("configured", l.MaxConnections), slog.Int("now", room), slog.Int("descriptors", descriptors))
		}
		s.lowered, l.MaxConnections = l.MaxConnections, room
	}
	access, err := openAccess(&pl.config.Log, s.o.Stdout)
	if err != nil {
		return nil, err
	}
	change, err := s.proxy.Prepare(pl.state)
	if err != nil {
		access.close()
		return nil, listenProblem(pl.config, err)
	}
	return &prepared{plan: pl, change: change, access: access}, nil
}

// commit puts a plan into force, with the answers for the host names in it.
func (s *Server) commit(r *prepared, hosts []string, answers map[string]answer) registry.Changes {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handler.configure(&r.plan.config.Log)
	s.access.redirect(r.access)
	s.learnLocked(hosts, answers)
	s.plan = r.plan
	changes := s.registry.Declare(r.plan.config, backendRows(r.plan.config, s.names), time.Now())
	s.reconcileLocked(s.registry.View())
	r.change.Commit()
	return changes
}

// Reload reads the configuration anew and puts it into force, or leaves everything
// as it is and returns why. When it has returned nil, every new session is served
// by the new one. Both are logged. It is for a server that runs.
func (s *Server) Reload(ctx context.Context) error {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	before := s.proxy.Bound()
	changes, err := s.reload(ctx)
	if err != nil {
		s.log.Error("reload failed", slog.String("problems", problemsText(err)), slog.String("so", "the old configuration runs on"))
		return err
	}
	for _, b := range s.proxy.Bound() {
		if !slices.Contains(before, b) {
			s.log.Info("listening", slog.String("listener", b.Listener), slog.String("address", b.Address))
		}
	}
	attrs := []slog.Attr{slog.Uint64("generation", changes.Generation)}
	for _, d := range []struct {
		table string
		registry.Difference
	}{
		{"listeners", changes.Listeners},
		{"routes", changes.Routes},
		{"pools", changes.Pools},
		{"backends", changes.Backends},
	} {
		if !d.Empty() {
			attrs = append(attrs, slog.String(d.table, differenceText(d.Difference)))
		}
	}
	s.log.LogAttrs(ctx, slog.LevelInfo, "reload done", attrs...)
	return nil
}

func (s *Server) reload(ctx context.Context) (registry.Changes, error) {
	s.mu.Lock()
	old := s.plan
	s.mu.Unlock()
	pl := s.build(old.shared)
	if pl.problems.Err() != nil {
		return registry.Changes{}, &ConfigError{pl.problems}
	}
	hosts := hostNames(pl.config)
	answers := resolve(ctx, s.o.Lookup, hosts, namesStart)
	ready, err := s.prepare(pl)
	if err != nil {
		return registry.Changes{}, err
	}
	changes := s.commit(ready, hosts, answers)
	for _, w := range pl.problems.Warnings() {
		s.log.Warn("configuration", slog.String("warning", w.String()))
	}
	if old.config.Limits.Loops != pl.config.Limits.Loops {
		s.log.Warn("loops stay as they are until a restart", slog.Int("loops", s.loops))
	}
	return changes, nil
}

// differenceText is a difference as "+added ~changed -removed", of at most ten rows.
func differenceText(d registry.Difference) string {
	var words []string
	for _, part := range []struct {
		sign string
		rows []string
	}{{"+", d.Added}, {"~", d.Changed}, {"-", d.Removed}} {
		for _, row := range part.rows {
			words = append(words, part.sign+row)
		}
	}
	if len(words) > 10 {
		words = append(words[:10], "…")
	}
	return strings.Join(words, " ")
}
