package proxy

import (
	"time"

	"github.com/snicketlb/snicket/pkg/loop"
	"github.com/snicketlb/snicket/pkg/relay"
	"github.com/snicketlb/snicket/sni"
)

// refuse ends a session that gets no backend: by an alert that says why, by a
// reset, or by closing, as the outcome asks.
func (s *session) refuse(o Outcome, why string) {
	s.outcome, s.endedBy = o, BySnicket
	if why != "" {
		s.err = why
	}
	if s.term != nil { // behind a handshake crypto/tls sends no alert of our choice
		s.term.hard = true
		s.finish()
		return
	}
	if alert, ok := alertOf(o); ok && s.c.tok != loop.NoToken {
		s.sendAlert(alert)
		return
	}
	s.finish()
}

// alertOf is the TLS alert that tells a client of an outcome.
func alertOf(o Outcome) (sni.Alert, bool) {
	switch o { //nolint:exhaustive // all others end without an alert
	case NoRoute, NoCertificate:
		return sni.AlertUnrecognizedName, true
	case Rejected, Denied:
		return sni.AlertAccessDenied, true
	case BadHello, HelloTooLarge:
		return sni.AlertDecodeError, true
	case NoBackend, DialFailed, QueueTimeout, Internal:
		return sni.AlertInternalError, true
	}
	return 0, false
}

// resets reports whether both connections end by a reset, not by closing.
func (s *session) resets() bool {
	if s.frozen { // it was another process's, and nobody knows what that has passed on
		return true
	}
	if s.term != nil && s.term.told {
		return false
	}
	return s.phase == inCut || s.outcome.resets() || s.term != nil && s.term.hard
}

// resets reports whether an outcome ends both connections by a reset: what was
// cut must not look like an end.
func (o Outcome) resets() bool {
	switch o { //nolint:exhaustive // all others close
	case RateLimited, OverLimit, ClientReset, BackendReset, IdleTimeout, FinTimeout, Drained, Killed:
		return true
	}
	return false
}

// finish is the end of every session on a loop: it closes both descriptors,
// gives back every count, and leaves the record.
func (s *session) finish() {
	w := s.w
	w.l.Cancel(&s.timer)
	if s.phase == inLinger {
		w.lingers.remove(s)
	}
	if s.watched {
		w.marked.remove(s)
	}
	r := &Record{BytesIn: s.relay.Bytes(relay.Client), BytesOut: s.relay.Bytes(relay.Backend), Handshake: -1, Requests: -1}
	if s.term != nil {
		s.term.finish(r)
	}
	s.relay.Close(w.env)
	s.closeClient()
	s.closeBackend()
	if s.opening != nil && s.ticket != nil {
		s.ticket.cancel() // if it comes too late, served gives the backend back
		s.leaveQueue()
	}
	if s.opening != nil && s.inquiry != nil {
		s.inquiry.s = nil
	}
	s.release()
	s.account(r)
}

func (s *session) closeClient() {
	if s.c.fd < 0 {
		return
	}
	s.w.l.Forget(s.c.tok)
	if s.resets() || s.term != nil && s.term.resets.c {
		loop.Reset(int(s.c.fd))
	} else {
		loop.Close(int(s.c.fd))
	}
	s.c.fd = -1
}

func (s *session) closeBackend() {
	if s.b.fd < 0 {
		return
	}
	s.w.l.Forget(s.b.tok)
	if s.resets() || s.term != nil && s.term.resets.b {
		loop.Reset(int(s.b.fd))
	} else {
		loop.Close(int(s.b.fd))
	}
	s.b = socket{fd: -1}
}

// account is the one place where a session gives back its
// counts and becomes a record. r holds what is not in the session.
func (s *session) account(r *Record) {
	w, p := s.w, s.w.p
	at := time.Now()
	now := at.Sub(p.start)
	if s.opening != nil {
		s.releaseHello()
	}
	if s.addrHeld {
		p.perAddr.leave(addrKey(s.client().Addr()), now)
	}
	if s.routeHeld {
		s.route.Active.Add(-1)
	}
	w.countsOf(s.listener.Name).ended[s.outcome].Add(1)
	if s.route != nil {
		if c := s.route.Counts.of(w.index); c != nil {
			c.ended[s.outcome].Add(1)
		}
	}
	if p.o.Access != nil && s.outcome != Moved { // whoever has it now writes its one record
		s.fill(r, at)
		r.Duration = now - s.accepted
		w.records.put(r)
	}
	w.put(s)
	p.left()
}

// fill completes a record with what every session knows.
func (s *session) fill(r *Record, at time.Time) {
	r.Time = at
	r.ID = s.id
	r.Listener = s.listener.Name
	r.Client, r.Peer = s.client(), s.peer
	r.SNI = s.sni
	if s.print != nil {
		r.JA4 = s.print.ja4
		if r.TLSVersion == 0 { // else it is what was negotiated, perhaps nothing
			r.ALPN = s.print.alpn
		}
	}
	if s.route != nil {
		r.Routed, r.Route, r.Mode = true, s.route.Name, s.route.Mode
	}
	if s.pool != nil { // else perhaps that of a request
		r.Pool = s.pool.Name
	}
	if b := s.backend; b != nil {
		r.Backend = b.Value().(*Target).Name
	}
	r.Retries = int(s.retries)
	r.Outcome, r.Error, r.EndedBy, r.Bytes = s.outcome, s.why(), s.endedBy, s.gotBytes
	r.Hello, r.Dial, r.Queue = s.helloTook.duration(), s.dialTook.duration(), s.queueTook.duration()
}
