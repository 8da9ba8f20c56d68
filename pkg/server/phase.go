package server

import (
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/snicketlb/snicket/balancer"
	"github.com/snicketlb/snicket/pkg/admin"
	"github.com/snicketlb/snicket/pkg/config"
)

// phase is where on its way the process is.
type phase int32

const (
	starting phase = iota // nothing is served yet
	running
	stopping // within shutdown_delay
	draining
	handedOver // another process serves; what could not move ends here
)

// currentPhase is written by whoever runs the server, and read by those who ask.
type currentPhase struct{ v atomic.Int32 }

func (c *currentPhase) set(p phase) { c.v.Store(int32(p)) }
func (c *currentPhase) get() phase  { return phase(c.v.Load()) }

// enter begins a phase in which nothing is reloaded, once a reload under way is over: one
// that came later would open listeners again.
func (s *Server) enter(p phase) {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	s.phase.set(p)
}

// state is the phase as operators are told.
func (p phase) state() admin.State {
	switch p {
	case stopping:
		return admin.Stopping
	case draining, handedOver:
		return admin.Draining
	case starting, running:
	}
	return admin.Running
}

// notReady says why new sessions had better go to another balancer: this one does not
// listen yet, or is about to end, or a pool that a route uses has no backend that is
// not known to be down. One of which nothing is known counts as ready, as it does for
// sessions, and so does one that drains or is ejected.
func (s *Server) notReady() []string {
	switch s.phase.get() {
	case starting:
		return []string{"starting"}
	case stopping:
		return []string{"stopping: shutdown_delay runs"}
	case draining, handedOver:
		return []string{"draining"}
	case running:
	}
	var why []string
	s.mu.Lock()
	shared := s.plan.shared
	s.mu.Unlock()
	used := map[string]bool{}
	for r := range s.registry.View().Routes() {
		if r.Mode == config.Reject || used[r.Pool] {
			continue
		}
		used[r.Pool] = true
		if p := shared.pools[r.Pool]; p != nil && !usable(p.balancer.Backends()) {
			why = append(why, fmt.Sprintf("pool %s: every backend is down", r.Pool))
		}
	}
	slices.Sort(why)
	return why
}

// usable reports whether any backend is not known to be down.
func usable(backends []*balancer.Backend) bool {
	return slices.ContainsFunc(backends, func(b *balancer.Backend) bool { return !b.Marked(balancer.Down) })
}
