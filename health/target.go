package health

import (
	"context"
	"crypto/x509"
	"slices"
	"time"
)

// sameChain reports whether two chains are byte for byte the same.
func sameChain(a, b []*x509.Certificate) bool {
	return slices.EqualFunc(a, b, (*x509.Certificate).Equal)
}

// notQueued is the index of a target that is not in the queue.
const notQueued = -1

// target is a Target and what became of it. The checker's mu guards it.
type target struct {
	Target
	status Status

	due    time.Time          // when the next probe starts; while one runs, when it started
	index  int                // in the queue, or notQueued
	cancel context.CancelFunc // ends the probe that is running; nil if none, or if that is direct
	probe  uint64             // number of that probe, unlike any other, 0 if none runs; others' results are stale
	direct *direct            // how a connector probes it; nil if Prober does

	agentDown error       // the agent's last word, if that was down
	reported  AgentReport // what the latest transition said of the agent
}

// attempt is a probe under way.
type attempt struct {
	target  *target
	number  uint64
	direct  *direct
	timeout time.Duration
	begun   time.Time
	err     error // of one that has ended
}

// hear takes in what an agent said and returns the error of a probe whose agent
// kept silent about the state: that of its last word.
func (t *target) hear(o *Observation, err error) error {
	said := o.Agent.Said
	o.Agent = o.Agent.over(t.status.Observation.Agent)
	t.status.Observation.Agent = o.Agent
	switch {
	case err == nil && said == Unknown:
		return t.agentDown
	case said != Unknown:
		t.agentDown = err
	}
	return err
}

// passed takes in a passed probe and returns the transition it makes, if any.
func (t *target) passed(now time.Time, o Observation) (Transition, bool) {
	s := &t.status
	changed := s.Observation.ALPN != o.ALPN || !sameChain(s.Observation.Certificates, o.Certificates)
	s.Observation = o
	s.LastErr = nil
	s.Failures = 0
	s.Passes++
	switch {
	case s.State == Unknown, s.State == Down && s.Passes >= t.Options.Rise:
		return t.turn(Up, now), true
	case s.State == Up && changed:
		return t.turn(Up, now), true
	}
	return t.wishes(now)
}

// wishes returns the transition that an agent's new wish makes, if it has one.
func (t *target) wishes(now time.Time) (Transition, bool) {
	if t.status.Observation.Agent == t.reported {
		return Transition{}, false
	}
	return t.turn(t.status.State, now), true
}

// failed takes in a failed probe, or a failed session if passive, and returns
// the transition it makes, if any.
func (t *target) failed(now time.Time, o Observation, err error, passive bool) (Transition, bool) {
	s := &t.status
	s.LastErr = err
	s.Passes = 0
	s.Failures++
	decides := s.State == Up && s.Failures >= t.Options.Fall || s.State == Unknown && !passive
	if !decides {
		return t.wishes(now)
	}
	tr := t.turn(Down, now)
	tr.Passive = passive
	if !passive {
		tr.Observation = o
	}
	return tr, true
}

// turn brings the target into a state, which may be the one it is in.
func (t *target) turn(to State, now time.Time) Transition {
	s := &t.status
	tr := Transition{ID: t.ID, From: s.State, To: to, At: now, Observation: s.Observation}
	if s.State != to {
		s.State, s.Since, s.Why = to, now, nil
		if to == Down {
			s.Why = s.LastErr
		}
	}
	tr.Since, tr.Err = s.Since, s.Why
	t.reported = s.Observation.Agent
	return tr
}
