package server

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/snicketlb/snicket/balancer"
	"github.com/snicketlb/snicket/health"
	"github.com/snicketlb/snicket/pkg/config"
	"github.com/snicketlb/snicket/pkg/proxy"
	"github.com/snicketlb/snicket/pkg/registry"
)

// balancerOptions is how the balancer of a pool chooses.
func (s *Server) balancerOptions(pool *config.Pool) balancer.Options {
	policy, err := balancer.ParsePolicy(string(pool.Balance))
	if err != nil { // the configuration's words are the balancer's
		panic(err)
	}
	return balancer.Options{
		Policy: policy, SlowStart: pool.SlowStart, PanicBelow: pool.PanicBelow, QueueSize: pool.Queue.Size,
		OnPanic: func(p balancer.Panic) {
			ready := fmt.Sprintf("%d of %d", p.Ready, p.Total)
			if p.On {
				s.log.Warn("pool in panic, all its backends are tried", slog.String("pool", pool.Name),
					slog.String("ready", ready), slog.Float64("panic_below", pool.PanicBelow))
				return
			}
			s.log.Info("pool out of panic", slog.String("pool", pool.Name), slog.String("ready", ready))
		},
	}
}

// conditionOf is what a backend's status makes of it. Each mark has a reason of its own,
// so that none takes another's back.
func conditionOf(status *registry.Status) balancer.Condition {
	return balancer.Condition{
		ID: status.ID, Down: stateOf(status) == health.Down,
		// What an operator has down is not tried in a panic either.
		Draining: drained(status) || status.Wished.State == registry.WishDown,
		Ejected:  status.Ejected.On(), Share: share(status.Agent),
	}
}

// available reports whether a backend would be used if it were not ejected.
func available(status *registry.Status) bool {
	return stateOf(status) != health.Down && !drained(status) && share(status.Agent) > 0 && weightWished(status) != 0
}

// stateOf is what probes say of a backend, or an operator over their heads.
func stateOf(status *registry.Status) health.State {
	if status.Wished.State == registry.WishDown {
		return health.Down
	}
	return status.State
}

// whyDown says why stateOf is Down.
func whyDown(status *registry.Status) string {
	if status.Wished.State == registry.WishDown {
		return wishedBy(status.Wished.By)
	}
	return status.Why
}

// drained reports whether an operator or an agent wishes that no new session comes.
func drained(status *registry.Status) bool {
	return status.Wished.State == registry.WishDrain || drains(status.Agent)
}

// whyDrained says who it is.
func whyDrained(status *registry.Status) string {
	if status.Wished.State == registry.WishDrain {
		return wishedBy(status.Wished.By)
	}
	return "agent says " + status.Agent.Wish.String()
}

func wishedBy(who string) string { return "operator " + who + " wishes it" }

// weightWished is the weight that an operator wishes; negative: the declared one.
func weightWished(status *registry.Status) int {
	if status.Wished.Weighs {
		return status.Wished.Weight
	}
	return -1
}

// drains reports whether an agent wishes that no new session comes.
func drains(r health.AgentReport) bool {
	return r.Wish == health.WishDrain || r.Wish == health.WishMaint
}

// share is the percentage of its weight that an agent wishes for its backend.
func share(r health.AgentReport) int {
	if r.Weighs {
		return r.Weight
	}
	return 100
}

// said is what was last said of a backend.
type said struct {
	any     bool // anything yet
	state   health.State
	drains  bool
	share   int
	weight  int // an operator's; negative: none
	ejected bool
}

// tell logs how a backend's status differs from what was last said of it, ends its
// sessions if it went down and that is wished, and returns what is said now.
func (s *Server) tell(pool *config.Pool, status *registry.Status, was said) said {
	now := said{
		any: true, state: stateOf(status), drains: drained(status), share: share(status.Agent),
		weight: weightWished(status), ejected: status.Ejected.On(),
	}
	if !was.any {
		was.any, was.share, was.weight = true, 100, -1
	}
	if now == was {
		return now
	}
	log := s.log.With(slog.String("pool", status.Pool), slog.String("backend", status.ID))
	if now.state != was.state {
		switch now.state {
		case health.Down:
			log.Warn("backend down", slog.String("why", whyDown(status)))
			if pool.OnDown == config.CloseSessions {
				s.proxy.EndBackend(status.Pool, status.ID, proxy.BackendReset)
			}
		case health.Up:
			log.Info("backend ready")
		case health.Unknown: // an operator had it down, and no probe speaks against it
			if was.state == health.Down {
				log.Info("backend ready")
			}
		}
	}
	switch {
	case now.drains && !was.drains:
		log.Info("backend drains", slog.String("why", whyDrained(status)))
	case was.drains && !now.drains:
		log.Info("backend drains no more")
	}
	if now.share != was.share {
		log.Info("backend weight", slog.String("share", fmt.Sprintf("%d%%", now.share)), slog.String("why", "agent says so"))
	}
	switch {
	case now.weight == was.weight:
	case now.weight < 0:
		log.Info("backend weight", slog.String("weight", "default"), slog.String("why", "no operator wishes another"))
	default:
		log.Info("backend weight", slog.Int("weight", now.weight), slog.String("why", wishedBy(status.Wished.WeightBy)))
	}
	switch {
	case now.ejected && !was.ejected:
		log.Warn("backend ejected", slog.String("why", status.Ejected.Reason),
			slog.String("until", status.Ejected.Until.UTC().Format(time.RFC3339)))
	case was.ejected && !now.ejected:
		log.Info("backend no longer ejected")
	}
	return now
}

// ejectPools are the pools that eject, for the ejector.
func ejectPools(v *registry.View) []health.EjectPool {
	var out []health.EjectPool
	for _, pool := range v.Pools() {
		e := pool.Eject
		if e == nil {
			continue
		}
		p := health.EjectPool{Name: pool.Name, Options: health.EjectOptions{
			Failures: e.Failures, Ratio: e.Ratio, Window: e.Window, MinResults: e.Minimum,
			For: e.For, Max: e.Max, MaxEjected: e.MaxEjected,
		}}
		for _, b := range v.Backends(pool.Name) {
			p.Backends = append(p.Backends, b.ID)
		}
		out = append(out, p)
	}
	return out
}

// reached tells an ejectable of a session that reached its backend, or failed to.
func reached(e *health.Ejectable, err error) {
	if err == nil {
		e.OK(time.Now())
		return
	}
	e.Failed(time.Now(), err)
}

// ejected is told of ejections and of their ends.
func (s *Server) ejected(e health.Ejection) {
	s.registry.Eject(e.Pool, e.ID, registry.Ejected{Until: e.Until, Reason: e.Reason})
	if e.Ejected && !s.ejector.Backend(e.Pool, e.ID).Ejected() {
		// It is over already, and of that the report follows; or the backend has left
		// and come back since, and of one that is not ejected nobody would report it.
		s.registry.Eject(e.Pool, e.ID, registry.Ejected{})
	}
}
