package health

import (
	"context"
	"time"
)

// notQueued is the index of a target that is not in the queue.
const notQueued = -1

// target is a Target and what became of it. The checker's mu guards it.
type target struct {
	Target
	status Status

	due    time.Time          // when the next probe starts; while one runs, when it started
	index  int                // in the queue, or notQueued
	cancel context.CancelFunc // ends the probe that is running; nil if none
	probe  uint64             // number of that probe; others' results are stale
}

// passed takes in a passed probe and returns the transition it makes, if any.
func (t *target) passed(now time.Time, o Observation) (Transition, bool) {
	s := &t.status
	changed := s.Observation.ALPN != o.ALPN
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
	return Transition{}, false
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
		return Transition{}, false
	}
	tr := t.turn(Down, now)
	tr.Err = err
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
		s.State = to
		s.Since = now
	}
	return tr
}
