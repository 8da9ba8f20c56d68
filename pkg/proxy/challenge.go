package proxy

import (
	"crypto/tls"

	"github.com/snicketlb/snicket/sni"
)

// acmeTLS is the one protocol that the hello of an ACME validation offers (RFC 8737
// §3): an authority wants to see that a name is ours.
const acmeTLS = "acme-tls/1"

// An inquiry finds out whether a challenge is open for the name in a hello. That may
// stand in a file, so a goroutine looks, and the session waits as one whose hello is
// not whole: it counts as such, and has no more time. It may end meanwhile, and its
// struct serve another: then s is nil.
type inquiry struct {
	s     *session
	route *Route
	found *tls.Config
}

// challenged is the route that answers ACME challenges for the name in h, whatever its
// conditions: one that has it as an exact host. Nil if there is none, or h is not the
// hello of a validation.
func (s *session) challenged(h *sni.Hello) *Route {
	if len(h.ALPN) != 1 || h.ALPN[0] != acmeTLS {
		return nil
	}
	table, listener := s.table()
	m := table.listeners[listener]
	if m == nil {
		return nil
	}
	pattern, candidates, ok := m.Lookup(s.sni)
	if !ok || pattern != s.sni {
		return nil
	}
	for _, r := range candidates {
		if r.Challenge != nil {
			return r
		}
	}
	return nil
}

// inquire asks r whether a challenge is open for the session's name.
func (s *session) inquire(r *Route) {
	q := &inquiry{s: s, route: r}
	s.phase, s.inquiry = inInquiry, q
	name := s.sni
	s.w.offload(func() { q.found = r.Challenge(name) }, q.answered)
}

// answered is called on the loop once that is known. If no challenge is open, the hello
// is one like any other.
func (q *inquiry) answered() {
	s := q.s
	if s == nil {
		return
	}
	s.phase, s.inquiry = inHello, nil
	if q.found == nil {
		if outcome := s.findRoute(offered{acmeTLS}); outcome != OK {
			s.refuse(outcome, "")
			return
		}
		s.routed()
		return
	}
	s.route = q.route
	s.releaseHello()
	s.enterTLS()
	s.term.validates = true
	s.term.shakeHands(q.found)
}

// validated ends a session whose handshake was all that its client wanted.
func (t *terminal) validated() {
	s := t.s
	s.outcome, s.endedBy = ACME, BySnicket
	_ = t.near.CloseWrite() // a client that is gone already has seen what it came for
	if t.client.Unsent() {
		s.finish()
		return
	}
	s.linger()
}
