package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/snicketlb/snicket/pkg/admin"
	"github.com/snicketlb/snicket/pkg/proxy"
	"github.com/snicketlb/snicket/pkg/registry"
)

// prepared is a plan that only has to be committed.
type prepared struct {
	plan   *plan
	change *proxy.Change
	access accessTarget
	admin  *admin.Change
	acme   *acmeChange
}

// prepare does what can still fail and touches nothing live.
func (s *Server) prepare(pl *plan) (*prepared, error) {
	descriptors, err := raiseDescriptors()
	if err != nil {
		return nil, err
	}
	s.lowerTo(sessionsFor(descriptors), descriptors, &pl.state.Limits)
	access, err := s.access.open(&pl.config.Log)
	if err != nil {
		return nil, err
	}
	if err := pl.secrets.keyLogs.open(s.log); err != nil {
		access.end(time.Now())
		return nil, err
	}
	operators, err := s.prepareAdmin(pl)
	if err != nil {
		pl.secrets.keyLogs.end(time.Now())
		access.end(time.Now())
		return nil, err
	}
	managed, err := s.acme.prepare(&pl.acme)
	if err != nil {
		operators.Abort()
		pl.secrets.keyLogs.end(time.Now())
		access.end(time.Now())
		return nil, err
	}
	change, err := s.proxy.Prepare(pl.state)
	if err != nil {
		managed.abort()
		operators.Abort()
		pl.secrets.keyLogs.end(time.Now())
		access.end(time.Now())
		return nil, listenProblem(pl.config, err)
	}
	return &prepared{plan: pl, change: change, access: access, admin: operators, acme: managed}, nil
}

// lowerTo bounds the sessions by what descriptors allow, and says once how many would
// be enough: it is news to those who asked for more, and a remark to all others.
func (s *Server) lowerTo(room, descriptors int, l *proxy.Limits) {
	if l.MaxConnections <= room {
		return
	}
	configured := l.MaxConnections
	l.MaxConnections = room
	if s.lowered == configured { // not at each reload
		return
	}
	s.lowered = configured
	level := slog.LevelWarn
	if configured == defaultMaxConnections {
		level = slog.LevelInfo
	}
	s.log.LogAttrs(context.Background(), level, "max_connections lowered to what descriptors allow",
		slog.Int("configured", configured), slog.Int("now", room), slog.Int("descriptors", descriptors),
		slog.String("hint", fmt.Sprintf("LimitNOFILE=%d in the unit, or ulimit -n, allows %d", descriptorsFor(configured), configured)))
}

// commit puts a plan into force, with what names and sources say. The
// caller retires the former access log.
func (s *Server) commit(r *prepared, seen gathered) (registry.Changes, accessTarget) {
	r.acme.begin()
	defer r.acme.done()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handler.configure(&r.plan.config.Log)
	former := s.access.redirect(r.access)
	s.plan = r.plan
	s.restoreBackendsLocked(seen)
	s.foundLocked(r.plan.config, seen.found)
	s.learnLocked(hostNames(r.plan.config, s.found), seen.answers)
	changes := s.registry.Declare(r.plan.config, backendRows(r.plan.config, s.names, s.found), time.Now())
	s.restoreRows()
	// What is new is there before the first session can be sent to it, and what
	// is gone stays until none can be.
	view := s.registry.View()
	s.reconcileLocked(view, false)
	s.restoreLocked()
	r.change.Commit()
	s.reconcileLocked(view, true)
	r.plan.shared.closeFormer()
	r.admin.Commit()
	return changes, former
}

// Reload reads the configuration anew and puts it into force, or leaves everything
// as it is and returns why. When it has returned nil, every new session is served
// by the new one. Both are logged. It is for a server that runs.
func (s *Server) Reload(ctx context.Context) error {
	_, err := s.reloadNow(ctx)
	return err
}

// errEnding refuses a reload of a server that was told to end.
var errEnding = errors.New("no reload while ending")

// reloadNow is Reload that says what it has done.
func (s *Server) reloadNow(ctx context.Context) (admin.Reloaded, error) {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	if p := s.phase.get(); p == stopping || p == draining || p == handedOver {
		return admin.Reloaded{}, errEnding
	}
	s.notifyReloading()
	defer s.notify(notifyReady)
	before := s.proxy.Bound()
	done, attrs, err := s.reload(ctx)
	s.reloads.count(err)
	if err != nil {
		s.log.Error("reload failed", slog.String("problems", problemsText(err)), slog.String("so", "the old configuration runs on"))
		return done, err
	}
	for _, b := range s.proxy.Bound() {
		if !slices.Contains(before, b) {
			s.log.Info("listening", slog.String("listener", b.Listener), slog.String("address", b.Address))
		}
	}
	select {
	case s.configDue <- struct{}{}: // it may be watched otherwise
	default:
	}
	s.log.LogAttrs(ctx, slog.LevelInfo, "reload done", attrs...)
	return done, nil
}

// reload returns what has changed, in words, and for the log.
func (s *Server) reload(ctx context.Context) (done admin.Reloaded, attrs []slog.Attr, err error) {
	s.mu.Lock()
	old := s.plan
	s.mu.Unlock()
	pl := s.build(old)
	if pl.problems.Err() != nil {
		return done, nil, &ConfigError{pl.problems}
	}
	seen := s.gather(ctx, pl.config)
	ready, err := s.prepare(pl)
	if err != nil {
		return done, nil, err
	}
	sessions := old.shared.sessionsOf()
	changes, former := s.commit(ready, seen)
	s.access.retire(former)
	if lost := old.secrets.keyLogs.end(time.Now().Add(flushWait)); lost > 0 {
		s.log.Warn("secrets were lost that the former key logs could not take in time", slog.Uint64("lost", lost))
	}
	poke(s.secretsDue)
	poke(s.expiryDue)
	s.warn(pl, old)
	if want := pl.config.Limits.Loops; want != old.config.Limits.Loops && want != 0 && want != s.loops {
		s.log.Warn("loops stay as they are until a restart", slog.Int("loops", s.loops), slog.Int("configured", want))
	}
	done = admin.Reloaded{
		Generation: changes.Generation, Changes: changedWords(old, pl, changes, sessions), Warnings: texts(pl.problems.Warnings()),
	}
	return done, append([]slog.Attr{slog.Uint64("generation", changes.Generation)}, changedAttrs(old, pl, changes)...), nil
}

// reopen opens the access log anew, which is how a file is rotated; if it cannot be had
// the former one stays.
func (s *Server) reopen() {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	s.mu.Lock()
	settings := s.plan.config.Log
	s.mu.Unlock()
	target, err := s.access.open(&settings)
	if err != nil {
		s.log.Error("access log stays where it is", slog.String("problems", problemsText(err)))
		return
	}
	s.access.retire(s.access.redirect(target))
	s.log.Info("access log is opened anew", slog.String("access", settings.Access))
}
