package proxy

import (
	"crypto/tls"
	"errors"

	"github.com/snicketlb/snicket/balancer"
)

// unserved ends a session whose search for a backend has ended with the outcome.
func (s *session) unserved(o Outcome) {
	switch {
	case o != NoBackend || !errors.Is(s.choice.err, balancer.ErrNoBackend):
	case s.term == nil:
		s.noneReady()
		return
	case s.term.noneLeft():
		return
	}
	s.refuse(o, s.choice.err.Error())
}

// noneReady ends a session for which no backend is ready and which nobody has greeted:
// by the page that its route has for that, if a certificate covers its name, else by
// an alert.
func (s *session) noneReady() {
	if page := s.page(); page != nil {
		s.secure(page.Site, true)
		return
	}
	s.refuse(NoBackend, balancer.ErrNoBackend.Error())
}

// page is what the route has to say when no backend is ready, if a certificate covers
// the session's name; nil without.
func (s *session) page() *Sorry {
	if p := s.route.Sorry; p != nil && s.sni != "" && p.TLS.Store.Store().Covers(s.sni) {
		return p
	}
	return nil
}

// noneLeft is noneReady for a session whose handshake with us is over. It reports
// whether the page goes out; a client that has agreed on another protocol cannot be
// told.
func (t *terminal) noneLeft() bool {
	s := t.s
	if s.route.Sorry == nil || t.alpn != "" && t.alpn != "http/1.1" && t.alpn != "h2" {
		return false
	}
	t.sorry = true
	s.phase = terminated
	s.handOver(s.route.Sorry.Site, nil)
	return true
}

// config is the TLS that the session is greeted by.
func (t *terminal) config() *tls.Config {
	if t.sorry {
		return t.s.route.Sorry.TLS.Page
	}
	return t.s.route.TLS.config(t.s.pool)
}
