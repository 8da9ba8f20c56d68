package server

import (
	"net/netip"
	"time"

	"github.com/snicketlb/snicket/health"
	"github.com/snicketlb/snicket/pkg/config"
	"github.com/snicketlb/snicket/pkg/registry"
	"github.com/snicketlb/snicket/pkg/upgrade"
)

// stateNow is what a new process is to know of backends.
func (s *Server) stateNow() upgrade.State {
	now := time.Now()
	st := upgrade.State{Ejections: s.ejector.States(), Names: map[string][]netip.Addr{}}
	view := s.registry.View()
	for _, row := range append(view.AllStatuses(), view.Kept()...) {
		st.Statuses = append(st.Statuses, *row)
	}
	s.checker.All(func(id string, c health.Status) bool {
		if c.State == health.Unknown {
			return true
		}
		check := upgrade.Check{
			ID: id, State: c.State, Since: c.Since, Passes: c.Passes, Failures: c.Failures,
			ALPN: c.Observation.ALPN, Agent: c.Observation.Agent,
		}
		if c.Why != nil {
			check.Why = c.Why.Error()
		}
		st.Checks = append(st.Checks, check)
		return true
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, pool := range s.plan.shared.pools {
		for id, since := range pool.balancer.Ramps() {
			st.Ramps = append(st.Ramps, upgrade.Ramp{Pool: name, ID: id, Since: now.Add(-since)})
		}
	}
	st.Tickets = s.plan.shared.tickets.drawn()
	for host, known := range s.names {
		if len(known.addresses) > 0 {
			st.Names[host] = known.addresses
		}
	}
	for pool, known := range s.found {
		if len(known.backends) > 0 {
			st.Found = append(st.Found, upgrade.Found{Pool: pool, Asked: known.settings, Backends: known.backends})
		}
	}
	return st
}

// restoreBackendsLocked completes what was seen first by what the process before knew: a
// name that does not resolve just now, and a source that is silent, keep the backends that
// they had, and those their sessions. The caller holds mu.
func (s *Server) restoreBackendsLocked(seen gathered) {
	if s.state == nil {
		return
	}
	for host, addresses := range s.state.Names {
		s.names[host] = answer{addresses: addresses}
	}
	for _, before := range s.state.Found {
		now, asked := seen.found[before.Pool]
		if asked && len(now.backends) == 0 && now.settings.SameQuestion(before.Asked) {
			now.backends = before.Backends
			seen.found[before.Pool] = now
		}
	}
}

// restoreRows writes what the process before knew into the registry: behind the first
// declaration, before anything is made of it.
func (s *Server) restoreRows() {
	if s.state == nil {
		return
	}
	agents := map[string]bool{}
	for i := range s.plan.config.Pools {
		p := &s.plan.config.Pools[i]
		agents[p.Name] = p.Health.Kind == config.ProbeAgent
	}
	for i := range s.state.Checks { // nobody would ever take back what an agent said that is not asked
		if pool, _ := cutTarget(s.state.Checks[i].ID); !agents[pool] {
			s.state.Checks[i].Agent = health.AgentReport{}
		}
	}
	for _, row := range s.state.Statuses {
		if !agents[row.Pool] {
			row.Agent = health.AgentReport{}
		}
		s.registry.Observe(row.Pool, row.ID, row.Probed)
		s.registry.Eject(row.Pool, row.ID, row.Ejected)
		if row.Wished == (registry.Wished{}) {
			continue
		}
		if !s.registry.Wish(row.Pool, row.ID, func(w *registry.Wished) { *w = row.Wished }) {
			s.registry.Keep(row.Pool, row.ID, row.Wished, time.Now())
		}
	}
}

// restoreLocked has those who watch backends go on where the process before stood: once
// they know the backends. The caller holds mu.
func (s *Server) restoreLocked() {
	if s.state == nil {
		return
	}
	for _, c := range s.state.Checks {
		known := health.Status{
			State: c.State, Since: c.Since, Passes: c.Passes, Failures: c.Failures,
			Observation: health.Observation{ALPN: c.ALPN, Agent: c.Agent},
		}
		if c.Why != "" {
			known.Why = errorText(c.Why)
		}
		s.checker.Restore(c.ID, known)
	}
	for _, e := range s.state.Ejections {
		s.ejector.Restore(e)
	}
	for _, r := range s.state.Ramps {
		if pool := s.plan.shared.pools[r.Pool]; pool != nil {
			pool.balancer.Ramp(r.ID, time.Since(r.Since))
		}
	}
	s.plan.shared.tickets.resume(s.state.Tickets, time.Now())
	s.state = nil
}
