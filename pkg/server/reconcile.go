package server

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/snicketlb/snicket/balancer"
	"github.com/snicketlb/snicket/health"
	"github.com/snicketlb/snicket/pkg/config"
	"github.com/snicketlb/snicket/pkg/proxy"
	"github.com/snicketlb/snicket/pkg/registry"
)

// applied is what was last made of one pool's rows. Rows that did not change are
// the same pointers, so comparing is cheap. How a backend is reached hangs on more than
// rows (what ejects it, the index of an interface), so that each generation makes that anew.
type applied struct {
	generation uint64
	pool       *config.Pool
	backends   []*registry.Backend
	via        *proxy.Pool // how the backends are reached
	balancer   *balancer.Pool
	// specs are the balancer's members: those of backends, and, until dismissed,
	// former ones.
	specs     []balancer.Spec
	dismissed bool
	// broken tells of backends that cannot be dialled, and why, by ID.
	broken map[string]string
	// statuses are the rows that were applied, and chosen the protocols in them.
	statuses []*registry.Status
	chosen   []string
	// said is what was last said of each backend, by ID.
	said map[string]said
	// exposed are the backends of which it was said that plain text reaches them.
	exposed map[string]bool
}

// follow makes the balancers and the checker what the registry says, until ctx is
// done.
func (s *Server) follow(ctx context.Context) error {
	for {
		s.mu.Lock()
		v := s.registry.View()
		s.reconcileLocked(v, true)
		s.mu.Unlock()
		pause, cancel := context.WithTimeout(ctx, certificatesEvery)
		_ = v.Wait(pause) // for a change, or the time to look at certificates again
		cancel()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// reconcileLocked makes the balancers and the checker what v says. It is level-
// triggered: it may be called at any time, and does again what it finds undone.
// Without dismiss it adds and changes, and lets nothing go yet: a session may still
// come by the former table. The caller holds mu.
func (s *Server) reconcileLocked(v *registry.View, dismiss bool) {
	generation := v.Meta().Generation
	probesChanged := generation != s.probed
	s.ejector.Update(ejectPools(v))
	present := map[string]bool{}
	for m := range v.Members() {
		present[m.Pool.Name] = true
		if s.reconcilePool(&m, generation, dismiss) {
			probesChanged = true
		}
	}
	for name, a := range s.applied {
		if dismiss && !present[name] {
			// Sessions that hold the pool, such as one in its handshake, still
			// get a backend of it until they have had their time.
			s.endLater(name, idsOf(a.specs), a.balancer.Backends(), a.balancer)
			delete(s.applied, name)
			probesChanged = true
		}
	}
	if probesChanged {
		s.checker.Update(s.targets(v))
		s.probed = generation
	}
	if dismiss {
		s.watchCertificates(v, time.Now())
	}
}

// reconcilePool brings one pool up to date and reports whether its probes may have
// to change.
func (s *Server) reconcilePool(m *registry.Members, generation uint64, dismiss bool) (changed bool) {
	pool := m.Pool
	a := s.applied[pool.Name]
	common := s.plan.shared.pools[pool.Name]
	if a == nil || a.balancer != common.balancer {
		a = &applied{balancer: common.balancer, said: map[string]said{}}
		s.applied[pool.Name] = a
		changed = true
	}
	if pool != a.pool {
		a.balancer.Configure(s.balancerOptions(pool))
	}
	backends, via := m.Backends, s.plan.pools[pool.Name]
	if generation != a.generation || via != a.via || !slices.Equal(backends, a.backends) || dismiss && !a.dismissed {
		a.generation, changed = generation, true
		specs, broken := s.specsOf(backends, via)
		if !dismiss {
			specs = append(specs, without(a.specs, specs)...)
		}
		a.backends, a.via, a.broken, a.specs, a.dismissed = slices.Clone(backends), via, broken, specs, dismiss
		before := a.balancer.Backends()
		_, removed := a.balancer.Update(specs)
		s.endLater(pool.Name, removed, before, nil)
		for _, b := range backends {
			s.endNever(targetID(pool.Name, b.ID))
		}
		s.warnOfPlainText(a, pool)
	}
	changed = changed || pool != a.pool
	a.pool = pool

	s.applyStatuses(a, m.Statuses, changed)
	common.offer.Store(int32(offerOf(a.chosen)))
	return changed
}

// applyStatuses makes the backends of a pool what their statuses, which are sorted by
// ID as they are, say. But with all, those whose status is the same row as before are
// passed over: of thousands, few change at a time.
func (s *Server) applyStatuses(a *applied, statuses []*registry.Status, all bool) {
	if !all && slices.Equal(statuses, a.statuses) {
		return
	}
	before, rest := a.statuses, statuses
	a.statuses, a.chosen = slices.Clone(statuses), nil
	now := make(map[string]said, len(a.backends))
	var news []registry.Status
	for _, b := range a.backends {
		var row, old *registry.Status
		row, rest = statusOf(rest, b.ID)
		old, before = statusOf(before, b.ID)
		if row != nil && row.State == health.Up && a.broken[b.ID] == "" {
			a.chosen = append(a.chosen, row.ALPN)
		}
		if was, known := a.said[b.ID]; !all && known && row == old {
			now[b.ID] = was
			continue
		}
		status := registry.Status{Pool: a.pool.Name, ID: b.ID}
		if row != nil {
			status = *row
		}
		if why := a.broken[b.ID]; why != "" {
			status.Probed = registry.Probed{State: health.Down, Why: why}
		}
		news = append(news, status)
	}
	conditions := make([]balancer.Condition, len(news))
	for i := range news {
		conditions[i] = conditionOf(&news[i])
	}
	a.balancer.SetConditions(conditions)
	for i := range news {
		status := &news[i]
		a.balancer.SetWeight(status.ID, weightWished(status))
		s.ejector.Backend(a.pool.Name, status.ID).SetReady(available(status))
		now[status.ID] = s.tell(a.pool, status, a.said[status.ID])
	}
	a.said = now
}

// statusOf returns the row of a backend, or nil, and those behind it. Rows are sorted by
// ID, and IDs asked for in that order.
func statusOf(rows []*registry.Status, id string) (row *registry.Status, rest []*registry.Status) {
	for len(rows) > 0 && rows[0].ID < id {
		rows = rows[1:]
	}
	if len(rows) > 0 && rows[0].ID == id {
		return rows[0], rows[1:]
	}
	return nil, rows
}

// without returns those of specs whose ID is not among others.
func without(specs, others []balancer.Spec) []balancer.Spec {
	ids := map[string]bool{}
	for _, o := range others {
		ids[o.ID] = true
	}
	return slices.DeleteFunc(slices.Clone(specs), func(s balancer.Spec) bool { return ids[s.ID] })
}

func idsOf(specs []balancer.Spec) []string {
	ids := make([]string, len(specs))
	for i, s := range specs {
		ids[i] = s.ID
	}
	return ids
}

// specsOf turns rows into the balancer's form, each with the way to reach it, and
// says which cannot be dialled.
func (s *Server) specsOf(backends []*registry.Backend, via *proxy.Pool) (specs []balancer.Spec, broken map[string]string) {
	broken = map[string]string{}
	for _, b := range backends {
		target := &proxy.Target{Name: b.ID, Pool: via}
		if e := s.ejector.Backend(b.Pool, b.ID); e != nil {
			target.Reached = func(err error) { reached(e, err) }
		}
		switch {
		case b.Unresolved != "":
			target.Unreachable = errorText(b.Unresolved)
		default:
			target.Address, target.Unreachable = dialAddress(b.Address)
		}
		if target.Unreachable != nil {
			broken[b.ID] = target.Unreachable.Error()
		}
		specs = append(specs, balancer.Spec{
			ID: b.ID, Weight: b.Weight, MaxConnections: b.MaxConnections, Tier: b.Tier, Value: target,
		})
	}
	return specs, broken
}

// errorText is an error that says no more than its text.
type errorText string

func (e errorText) Error() string { return string(e) }

// targets are the backends to probe.
func (s *Server) targets(v *registry.View) []health.Target {
	var out []health.Target
	for _, pool := range v.Pools() {
		if !pool.Health.Enabled {
			continue
		}
		a := s.applied[pool.Name]
		for _, b := range a.backends {
			if a.broken[b.ID] == "" {
				out = append(out, probeTarget(pool, b, s.plan.probes[pool.Name]))
			}
		}
	}
	return out
}

// endLater ends the sessions of removed backends, which are among before, when they have
// had their time to drain, and empties whole, the balancer of a pool that is gone
// altogether.
func (s *Server) endLater(pool string, ids []string, before []*balancer.Backend, whole *balancer.Pool) {
	if len(ids) == 0 {
		return
	}
	sessions := make(map[string]int, len(before))
	for _, b := range before {
		sessions[b.ID()] = b.Active()
	}
	for _, id := range ids {
		key := targetID(pool, id)
		s.endNever(key)
		s.log.Info("backend removed", slog.String("pool", pool), slog.String("backend", id), slog.Int("sessions", sessions[id]))
		var t *time.Timer
		t = time.AfterFunc(s.plan.config.Timeouts.Drain, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.ending[key] == t { // neither back, nor the server at its end
				delete(s.ending, key)
				if whole != nil {
					whole.Update(nil)
				}
				s.proxy.EndBackend(pool, id, proxy.Drained)
			}
		})
		s.ending[key] = t
	}
}

// endNever takes back what endLater has in mind for a backend that returned.
func (s *Server) endNever(key string) {
	if t := s.ending[key]; t != nil {
		t.Stop()
		delete(s.ending, key)
	}
}
