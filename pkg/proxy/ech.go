package proxy

import (
	"crypto/tls"
	"errors"
	"strings"

	"github.com/snicketlb/snicket/balancer"
	"github.com/snicketlb/snicket/sni"
)

// errInner ends the handshake of a session whose hello is refused once it is known.
var errInner = errors.New("refused by the hello within the hello")

// Inner serves the hello that lay encrypted within the one by which the route was found
// (RFC 9849). Its name and its protocols find a route in the same table, under the same
// conditions, and all goes on as if they had come in the clear: with that route's
// certificates and policy, its limits, its pool, its record. So nobody gets past the
// conditions of a host by naming it inside, nor to the backends of the outer name.
// Only routes that terminate will do: there is no hello to pass on that a backend could
// read.
func (t *terminal) Inner(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	s := t.s
	if t.looked || t.validates {
		return nil, nil
	}
	t.looked = true
	name := strings.ToLower(hello.ServerName)
	// Where it is not the outer hello nothing that a route depends on may differ.
	moved := name != s.sni || joinALPN(hello.SupportedProtos) != s.print.alpn
	if moved {
		s.leaveRoute()
		s.sni, t.offers = name, append(offered{}, hello.SupportedProtos...)
		t.inner = s.findInner(hello.SupportedProtos)
	}
	if t.inner == OK {
		t.inner = t.serve()
	}
	switch {
	case t.inner != OK:
		return nil, errInner
	case moved:
		s.w.l.Set(&s.timer, t.begun+s.route.Handshake, s)
	case !t.sorry:
		return nil, nil
	}
	return t.config(), nil
}

// findInner finds the route of an inner hello. Another outcome than OK says why there
// is none.
func (s *session) findInner(alpn []string) Outcome {
	if s.sni != "" {
		if err := sni.CheckName(s.sni); err != nil {
			s.err = "within ECH: " + err.Error()
			return BadHello
		}
	}
	outcome := s.findRoute(offered(alpn))
	if outcome == OK && s.route.Mode != Terminate {
		s.err = "within ECH: a host that is passed through"
		return NoRoute
	}
	return outcome
}

// serve decides who serves the session once its handshake is over, and whether anybody
// does.
func (t *terminal) serve() Outcome {
	s := t.s
	if t.site = s.route.Site; t.site != nil || s.pool.Balancer.Ready() > 0 {
		return OK
	}
	page := s.page()
	if page == nil {
		s.err = balancer.ErrNoBackend.Error()
		return NoBackend
	}
	t.site, t.sorry = page.Site, true
	return OK
}

// leaveRoute takes the session off its route.
func (s *session) leaveRoute() {
	if s.routeHeld {
		s.routeHeld = false
		s.route.Active.Add(-1)
	}
	s.route, s.pool = nil, nil
}

// refusedInner ends a session whose hello was refused once it was known, as one whose
// hello came in the clear: nothing has been said to the client yet.
func (t *terminal) refusedInner() {
	s := t.s
	s.w.l.Cancel(&s.timer)
	if alert, ok := alertOf(t.inner); ok {
		s.sendAlert(alert)
		return
	}
	s.finish()
}
