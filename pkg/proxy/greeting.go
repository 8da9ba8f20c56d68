package proxy

import (
	"crypto/tls"
	"errors"
	"net"

	"github.com/snicketlb/snicket/pkg/loop"
	"github.com/snicketlb/snicket/pkg/terminate"
)

// admitted is called once the gate has let in a session that waited for it.
func (w *worker) admitted(t *terminal) {
	if t.wait == nil { // it has ended meanwhile, and its session may be another's
		w.p.gate.leave()
		return
	}
	t.wait = nil
	t.greet()
}

// greet begins the handshake with the client.
func (t *terminal) greet() {
	t.gated = true
	t.shakeHands(t.config())
}

// shakeHands begins it by cfg.
func (t *terminal) shakeHands(cfg *tls.Config) {
	t.stage = inClientTLS
	t.shake = t.s.w.tls.Accept(&t.client, cfg, t.s.sni, t)
	t.s.w.shakes.push(t)
}

// handshakeReady takes the events of a descriptor on which a handshake is under
// way. An error of writing is met by the handshake's next read.
func (t *terminal) handshakeReady(c *terminate.Conn, ev loop.Events) {
	c.Note(ev)
	if ev&loop.Writable != 0 && c.Unsent() {
		_ = c.Flush()
	}
	if ev&^loop.Writable != 0 && !t.shake.Waits() {
		t.s.w.shakes.push(t)
	}
}

// step takes the handshake one step further, and the session on when it is over.
func (t *terminal) step() {
	if t.shake.Step() {
		t.shaken(false)
	}
}

// shaken goes on behind a handshake that is over.
func (t *terminal) shaken(timedOut bool) {
	shake := t.shake
	conn, err := shake.Result()
	t.shake = nil
	switch {
	case t.stage == inBackendTLS && err != nil:
		reached(t.s.backend, err)
		t.fail(BackendTLSFailed, ByBackend, err)
	case t.stage == inBackendTLS:
		t.far = conn
		t.s.w.backendTLS.add(conn.ConnectionState().DidResume)
		reached(t.s.backend, nil)
		t.stream()
	default:
		t.leaveGate()
		if err != nil {
			t.refused(err, timedOut)
			return
		}
		t.greeted(conn, shake)
	}
}

func (t *terminal) leaveGate() {
	if t.gated {
		t.gated = false
		t.s.w.p.gate.leave()
	}
}

// refused ends a session whose handshake with the client has failed. An alert may
// be on its way.
func (t *terminal) refused(err error, timedOut bool) {
	s := t.s
	if t.inner != OK {
		s.outcome, s.endedBy = t.inner, BySnicket
		t.refusedInner()
		return
	}
	s.outcome, s.endedBy, s.err = ClientTLSFailed, BySnicket, shorten(err.Error(), 512)
	if byClient(err) || t.client.Ended() != terminate.EndNone {
		s.endedBy = ByClient
	}
	switch {
	case timedOut:
		s.outcome = HandshakeTimeout
	case errors.Is(err, terminate.ErrNoCertificate):
		s.outcome = NoCertificate
	case t.client.Ended() == terminate.EndReset:
		s.outcome = ClientReset
	}
	if bad, ok := errors.AsType[*terminate.ClientCertificateError](err); ok {
		t.judge(terminate.Verdict{Certificate: bad.Certificate, Err: bad})
	}
	if timedOut || s.outcome == ClientReset || t.client.Unsent() {
		s.finish()
		return
	}
	s.w.l.Cancel(&s.timer)
	s.linger()
}

// byClient reports whether it was by an alert of the client's that a handshake
// failed.
func byClient(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

// greeted goes on behind the handshake with the client: it picks a backend.
func (t *terminal) greeted(conn *tls.Conn, shake *terminate.Handshake) {
	s := t.s
	t.near = conn
	t.took = s.w.l.Clock() - t.begun
	s.w.handshake.Observe(t.took)
	state := conn.ConnectionState()
	t.version, t.cipher, t.resumed = state.Version, state.CipherSuite, state.DidResume
	t.alpn = state.NegotiatedProtocol
	t.shown = shake.Shown()
	t.judge(shake.Verdict())
	s.w.clientTLS.add(t.resumed)
	if len(t.client.Prefix()) > 0 {
		t.client.KeepPrefix()
	}
	s.w.env.Return(s.peek.buf)
	s.peek.buf = nil
	s.w.l.Cancel(&s.timer)
	switch {
	case t.validates:
		t.validated()
	case t.site != nil:
		s.handOver(t.site, nil)
	default:
		s.pick()
	}
}

// judge notes what is thought of the client's certificate.
func (t *terminal) judge(v terminate.Verdict) {
	if t.who = v; v.Certificate == nil {
		return
	}
	t.cn, t.verdict = shorten(v.Certificate.Subject.CommonName, 64), "ok"
	if v.Err != nil {
		t.verdict = shorten(v.Err.Error(), 256)
	}
}
