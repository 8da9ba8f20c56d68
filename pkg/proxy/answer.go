package proxy

import (
	"time"

	"github.com/snicketlb/snicket/balancer"
)

// awaited is the first byte of a backend whose time counts. Few pools ask for it, so it
// lies beside the session, for which no idle one should pay.
type awaited struct {
	connected time.Duration // when
	dial      time.Duration // what that took
}

// timeFirstByte begins to measure how long the backend, connected at now, takes to its
// first byte, if the pool's policy asks for that.
func (s *session) timeFirstByte(now time.Duration) {
	if s.pool.Balancer.Policy() == balancer.LeastTime {
		s.awaits = true
		s.w.awaited[s] = awaited{connected: now, dial: now - s.choice.begun}
	}
}

// answered tells the balancer how long the backend took to connect and to its first
// byte, which has come just now.
func (s *session) answered() {
	a := s.forgetAnswer()
	s.pool.Balancer.Observe(s.backend, balancer.Result{Dial: a.dial, FirstByte: s.w.l.Clock() - a.connected})
}

func (s *session) forgetAnswer() awaited {
	a := s.w.awaited[s]
	delete(s.w.awaited, s)
	s.awaits = false
	return a
}
