package proxy

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"time"

	"github.com/snicketlb/snicket/pkg/loop"
	"github.com/snicketlb/snicket/pkg/relay"
	"github.com/snicketlb/snicket/pkg/terminate"
	"github.com/snicketlb/snicket/pkg/web"
)

// stage is where on its way a terminated session is, apart from its dial, which
// is that of every session.
type stage uint8

const (
	atGate       stage = iota // waiting for a place among the handshakes
	inClientTLS               // handshake with the client
	inBackendTLS              // handshake with the backend
	inStream                  // both sides stand
	inSite                    // goroutines serve its requests
)

// terminal is what a session needs more to be terminated: handshake before pick,
// so that a flood of handshakes holds no backend.
type terminal struct {
	s     *session
	stage stage

	wait   *list.Element        // its turn at the gate
	gated  bool                 // it has a place among the handshakes
	shake  *terminate.Handshake // under way
	next   *terminal            // in the queue of handshakes that can go on
	queued bool                 // in that queue
	looked bool                 // at the hello that is served
	offers offered              // of that one's ALPN, if it lay within another; nil: none, or none was
	inner  Outcome              // why that is refused
	at     time.Duration        // what the timer is set to
	hard   bool                 // both sides are to be reset
	told   bool                 // by close_notify, that no more comes
	armAt  time.Duration        // when the backend's keepalive is to be armed
	err    string               // of the relay
	resets struct{ c, b bool }  // which sides are to be, after a relay
	client terminate.Conn
	server terminate.Conn // to the backend
	near   *tls.Conn      // with the client; nil on an http listener
	far    *tls.Conn      // with the backend; nil: plain
	relay  terminate.Relay
	site   *web.Site // who serves it after the handshake; nil: a relay
	sorry  bool      // to be told that no backend is ready
	guest  *guest    // once it is served

	counted struct{ in, out uint64 } // for the route

	begun   time.Duration
	took    time.Duration // the handshake with the client; negative: not done
	version uint16
	cipher  uint16
	resumed bool
	alpn    string
	cn      string // of the client's certificate
	verdict string // on it, as the log has it
	who     terminate.Verdict
	shown   terminate.Shown

	validates bool // an ACME challenge is all that its client asks about
}

// terminate goes on with a hello whose route ends TLS here.
func (s *session) terminate() {
	// What ECH hides says who serves the session; otherwise an alert can say now that
	// nobody does, not after the handshake.
	if s.route.Site == nil && !s.route.TLS.ECH && s.pool.Balancer.Ready() == 0 {
		s.noneReady()
		return
	}
	s.secure(s.route.Site, false)
}

// secure has the session take its turn for a handshake; site serves it behind that, nil
// for nobody but the route's pool.
func (s *session) secure(site *web.Site, sorry bool) {
	w := s.w
	s.enterTLS()
	t := s.term
	t.site, t.sorry = site, sorry
	t.wait = w.p.gate.enter(func() { w.l.Post(func() { w.admitted(t) }) })
	if t.wait == nil {
		t.greet()
		return
	}
	t.clientAtGate(s.events)
}

// enterTLS makes the session one that is to shake hands with its client.
func (s *session) enterTLS() {
	w := s.w
	s.phase = terminated
	t := &terminal{s: s, begun: w.l.Now(), took: -1}
	s.term = t
	t.client.Init(w.tls, int(s.c.fd), s.peek.buf)
	if s.events&^loop.Writable == 0 {
		t.client.Drained()
	}
	w.l.Set(&s.timer, t.begun+s.route.Handshake, s)
}

// Wake queues a handshake that can go on.
func (t *terminal) Wake() { t.s.w.shakes.push(t) }

// clientReady takes the events of the client's descriptor.
func (t *terminal) clientReady(ev loop.Events) {
	s := t.s
	switch t.stage {
	case atGate:
		t.clientAtGate(ev)
	case inClientTLS:
		t.handshakeReady(&t.client, ev)
	case inBackendTLS:
		s.clientWhileDialing(ev)
	case inStream:
		if ev == 0 {
			s.queued = false
		}
		t.relay.Note(relay.Client, ev, s.w.l.Now())
		t.pump()
	case inSite: // the loop is told no more of it
	}
}

// backendReady takes the events of the backend's descriptor.
func (t *terminal) backendReady(ev loop.Events) {
	if t.stage == inBackendTLS {
		t.handshakeReady(&t.server, ev)
		return
	}
	t.relay.Note(relay.Backend, ev, t.s.w.l.Now())
	t.pump()
}

// connected goes on behind the dial: it tells the backend who the client is, and
// speaks TLS to it if its pool does. ev is what epoll said of the backend.
func (t *terminal) connected(ev loop.Events) {
	s := t.s
	w := s.w
	s.phase = terminated
	t.server.Init(w.tls, int(s.b.fd), nil)
	if ev&^loop.Writable == 0 {
		t.server.Drained()
	}
	via := s.choice.via
	if via.ProxyProtocol != 0 {
		c := s.caller()
		c.alpn = t.alpn
		if via.TLVs.SSL {
			state := t.near.ConnectionState()
			c.tls = t.secured(&state)
		}
		header, err := w.p.appendHeader(w.header[:0], via.header(&c))
		if err != nil {
			t.fail(Internal, BySnicket, err)
			return
		}
		w.header = header
		t.server.Hold(header)
	}
	if via.TLS == nil {
		t.stream()
		return
	}
	t.stage = inBackendTLS
	w.l.Set(&s.timer, w.l.Now()+s.route.Handshake, s)
	address := s.backend.Value().(*Target).Address.String()
	shake, err := via.TLS.Connect(w.tls, &t.server, terminate.Peer{Address: address, ClientSNI: s.sni, ALPN: t.alpn}, t)
	if err != nil {
		t.fail(BackendTLSFailed, ByBackend, err)
		return
	}
	t.shake = shake
	w.shakes.push(t)
}

// fail ends a session that cannot go on though its client has done its part. An
// alert of our choice cannot be sent any more: both sides are reset.
func (t *terminal) fail(o Outcome, by Party, err error) {
	s := t.s
	t.hard = true
	s.outcome, s.endedBy, s.err = o, by, err.Error()
	s.finish()
}

// stream begins the relay.
func (t *terminal) stream() {
	s := t.s
	now := s.w.l.Now()
	t.stage, t.at, t.armAt = inStream, 0, now+armAfter
	t.who, t.shown = terminate.Verdict{}, terminate.Shown{} // who they are is told
	s.w.l.Cancel(&s.timer)
	s.w.giveOpening(s)
	t.relay.Start(s.w.tls, terminate.Side{TLS: t.near, Conn: &t.client}, terminate.Side{TLS: t.far, Conn: &t.server},
		terminate.RelayOptions{Idle: s.route.Idle, Fin: s.route.Fin}, now)
	t.pump()
}

func (t *terminal) pump() {
	s := t.s
	now := s.w.l.Now()
	state := t.relay.Pump(now)
	t.countBytes()
	if s.awaits && t.relay.Bytes(relay.Backend) > 0 {
		s.answered()
	}
	switch state {
	case terminate.Over:
		t.over()
		return
	case terminate.More:
		if !s.queued {
			s.queued = true
			s.w.l.Again(s.c.tok)
		}
	case terminate.Waiting:
	}
	t.rearm(now)
}

// countBytes counts for the route what has passed since it last did.
func (t *terminal) countBytes() {
	in, out := t.relay.Bytes(relay.Client), t.relay.Bytes(relay.Backend)
	t.s.w.countBytes(t.s.route, int64(in-t.counted.in), int64(out-t.counted.out))
	t.counted.in, t.counted.out = in, out
}

// rearm sets the timer if it would fire too late. Bytes do not set it back: it
// looks when it fires.
func (t *terminal) rearm(now time.Duration) {
	s := t.s
	due := t.relay.Due(now)
	if !s.armed {
		due = min(due, t.armAt)
	}
	if !s.timer.Armed() || due < t.at {
		t.at = due
		s.w.l.Set(&s.timer, due, s)
	}
}

// expired is the session's timer.
func (t *terminal) expired(now time.Duration) {
	s := t.s
	switch t.stage {
	case atGate:
		t.fail(HandshakeTimeout, BySnicket, errNoTurn)
	case inClientTLS, inBackendTLS:
		t.shake.Abort(context.DeadlineExceeded)
		t.shaken(true)
	case inStream:
		if !s.armed && now >= t.armAt {
			s.armed = true
			setKeepalive(int(s.b.fd), &s.w.p.live.Load().timeouts)
		}
		if t.relay.Expired(now) == terminate.Over {
			t.over()
			return
		}
		t.rearm(now)
	case inSite:
		t.siteExpired(now)
	}
}

var (
	errNoTurn   = errors.New("max_handshakes: no turn in time")
	errLeftGate = errors.New("left while waiting for its handshake")
	errEnded    = errors.New("ended from outside")
)

// over ends a session whose relay is.
func (t *terminal) over() {
	t.decided()
	t.s.finish()
}

// decided takes the outcome of a relay that has one; false: it has none.
func (t *terminal) decided() bool {
	if t.stage != inStream || !t.relay.Closing() {
		return false
	}
	res := t.relay.Result()
	s := t.s
	s.outcome = outcomeOf(res.Reason)
	switch res.EndedBy {
	case terminate.ByClient:
		s.endedBy = ByClient
	case terminate.ByBackend:
		s.endedBy = ByBackend
	case terminate.ByBalancer:
		s.endedBy = BySnicket
	}
	if res.Err != nil {
		t.err = res.Err.Error()
	}
	return true
}

func outcomeOf(r terminate.Reason) Outcome {
	switch r {
	case terminate.Clean:
		return OK
	case terminate.ClientReset, terminate.ClientTruncated:
		return ClientReset
	case terminate.BackendReset, terminate.BackendTruncated:
		return BackendReset
	case terminate.IdleTimeout:
		return IdleTimeout
	case terminate.FinTimeout:
		return FinTimeout
	case terminate.Canceled:
		return Drained
	}
	return Internal
}

// finish gives back what the session holds as a terminated one, and fills in its
// part of the record.
func (t *terminal) finish(r *Record) {
	if t.shake != nil {
		t.shake.Abort(errEnded)
		t.shake = nil
	}
	t.leaveGate()
	if t.wait != nil {
		t.s.w.p.gate.cancel(t.wait) // if it comes too late, admitted leaves
		t.wait = nil
	}
	if t.stage == inStream {
		t.countBytes()
		t.resets.c, t.resets.b = t.relay.Resets()
		r.BytesIn, r.BytesOut = int64(t.relay.Bytes(relay.Client)), int64(t.relay.Bytes(relay.Backend))
	}
	if t.guest != nil {
		t.guest.finish(r)
	}
	t.client.Release()
	t.server.Release()
	r.Handshake = t.took
	r.TLSVersion, r.Cipher, r.Resumed = t.version, t.cipher, t.resumed
	r.ALPN, r.ClientCN, r.ClientVerify = t.alpn, t.cn, t.verdict
}
