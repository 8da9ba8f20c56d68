package proxy

import (
	"slices"
	"time"

	"github.com/snicketlb/snicket/pkg/loop"
)

// doubtEvery bounds, with the loop's clock, how long what a sender has left below
// its mark waits: twice as long.
const doubtEvery = 10 * time.Millisecond

// A markedList is the sessions of a loop whose relay has marked a sender, few at any
// time, and the timer that doubts them.
type markedList struct {
	l        *loop.Loop
	sessions []*session
	timer    loop.Timer
}

func (m *markedList) add(s *session) {
	s.watched = true
	m.sessions = append(m.sessions, s)
	if !m.timer.Armed() {
		m.l.Set(&m.timer, m.l.Now()+doubtEvery, m)
	}
}

func (m *markedList) remove(s *session) {
	s.watched = false
	if i := slices.Index(m.sessions, s); i >= 0 {
		m.sessions = slices.Delete(m.sessions, i, i+1)
	}
}

// Expired doubts them all. Pumping may end a session, its own, or mark its other way.
func (m *markedList) Expired(now time.Duration) {
	for _, s := range slices.Backward(m.sessions) { // so that removing skips none
		switch {
		case s.phase != inRelay: // it reads no more
			m.remove(s)
		case s.relay.Doubt():
			m.remove(s)
			s.pump()
		}
	}
	if len(m.sessions) > 0 {
		m.l.Set(&m.timer, now+doubtEvery, m)
	}
}
