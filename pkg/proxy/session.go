package proxy

import (
	"math"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/balancer"
	"github.com/snicketlb/snicket/pkg/loop"
	"github.com/snicketlb/snicket/pkg/relay"
	"github.com/snicketlb/snicket/sni"
)

// phase is where on its way a session is.
type phase uint8

const (
	inHello    phase = iota // reading the PROXY header and the hello
	inInquiry               // whole, and perhaps that of an ACME validation
	inQueue                 // waiting for a backend with room
	inDial                  // connecting to a backend
	inRelay                 // both connected
	inCut                   // one side was reset; the other still takes what it had sent
	inLinger                // an alert was sent; reading the rest away so that it arrives
	terminated              // in TLS, or relaying it, or with goroutines
)

// cutPoll is how often a side that is to be reset is asked whether all it was
// sent has arrived.
const cutPoll = 10 * time.Millisecond

// socket is a descriptor of ours and its registration.
type socket struct {
	fd  int32
	tok loop.Token
}

// A session is one client connection and its backend connection. It lives on one
// loop and is touched there alone.
//
// It is what an idle connection costs, so it holds what lasts to its end; what
// is needed only on the way to the relay is its opening.
type session struct {
	relay    relay.Relay
	timer    loop.Timer
	stamp    time.Duration // when a byte last passed
	w        *worker       // nil: nobody's session
	*opening               // nil from the relay on
	c, b     socket

	phase     phase
	half      bool // one way has ended: fin counts, not idle
	queued    bool // on the loop's ready list
	armed     bool // the backend's keepalive is
	watched   bool // among the loop's marked
	frozen    bool // out of its loop, in the loop's frost
	gotBytes  bool
	addrHeld  bool // counted for its address
	routeHeld bool // counted for its route
	awaits    bool // the backend's first byte, whose time counts
	outcome   Outcome
	endedBy   Party
	retries   uint16
	errno     uint16 // by which one side's connection broke, in the relay
	place     uint32 // in the loop's store
	helloTook span   // accept to whole hello
	queueTook span   // in the queue
	dialTook  span   // first dial to connected

	socks    *sockets
	listener *Listener
	route    *Route
	pool     *Pool
	backend  *balancer.Backend // counted for it, until the end
	term     *terminal         // what a terminated session has more

	id       SessionID
	accepted time.Duration
	peer     netip.AddrPort
	proxied  *proxied // nil without a PROXY header of the client's
	sni      string
	print    *fingerprint // nil without a whole hello
}

// opening is the part of a session that ends when it relays, or with it.
type opening struct {
	peek       peek
	choice     choice
	limits     *Limits
	helloUntil time.Duration // when the hello must be whole
	dialed     time.Duration // first dial; 0: none
	dialUntil  time.Duration // while a Unix socket's backlog is full
	ticket     *ticket       // in the queue
	since      time.Duration // when it began to wait there, in another process, if it waits
	inquiry    *inquiry      // in the inquiry
	addr       netip.Addr    // the key by which its address is counted
	err        string
	limited    Outcome     // by a per-IP limit, which spares ACME validations
	header     int         // bytes of the client's PROXY header in the peeked ones
	events     loop.Events // of the client, since a read that drained it
	wantHeader bool        // a PROXY header must come first
	helloHeld  bool        // counted among the unfinished hellos
	addrHello  bool        // counted among the unfinished hellos of its address
	begun      bool        // a parser has seen a part of the hello
	waits      bool        // since counts
	alertLevel [7]byte     // an alert record that the client accepts

	discarded    int      // read away while lingering
	older, newer *session // in the queue of lingering sessions
}

// peek holds the bytes of a session until its backend can take them.
type peek struct {
	buf    []byte      // nil: nothing kept
	parser *sni.Parser // nil unless it has begun the hello
}

// proxied is what an accepted PROXY header says.
type proxied struct{ client, local netip.AddrPort }

// client is the address from an accepted PROXY header, else the peer.
func (s *session) client() netip.AddrPort {
	if s.proxied != nil {
		return s.proxied.client
	}
	return s.peer
}

// span is a duration in microseconds plus one, 0 for what never came to pass,
// and 71 minutes at most.
type span uint32

func spanOf(d time.Duration) span {
	return span(min(max(d.Microseconds(), 0), math.MaxUint32-1) + 1)
}

// duration is negative for what never came to pass.
func (s span) duration() time.Duration {
	if s == 0 {
		return -1
	}
	return time.Duration(s-1) * time.Microsecond
}

// clientEnd and backendEnd are the session as the handler of each descriptor.
type (
	clientEnd  session
	backendEnd session
)

// Ready takes the events of the client's descriptor.
func (e *clientEnd) Ready(ev loop.Events) {
	s := (*session)(e)
	switch s.phase {
	case inHello:
		s.events |= ev
		s.readHello()
	case inInquiry:
		s.events |= ev
	case inQueue:
		s.events |= ev
		s.clientInQueue(ev)
	case inDial:
		s.events |= ev
		s.clientWhileDialing(ev)
	case inRelay:
		if ev == 0 {
			s.queued = false
		}
		s.relay.Note(relay.Client, ev)
		s.pump()
	case inCut:
		s.cutReady(relay.Client, ev)
	case inLinger:
		s.lingerReady()
	case terminated:
		s.term.clientReady(ev)
	}
}

// Ready takes the events of the backend's descriptor.
func (e *backendEnd) Ready(ev loop.Events) {
	s := (*session)(e)
	switch s.phase {
	case inDial:
		s.dialReady(ev)
	case inRelay:
		s.relay.Note(relay.Backend, ev)
		s.pump()
	case inCut:
		s.cutReady(relay.Backend, ev)
	case terminated:
		s.term.backendReady(ev)
	case inHello, inInquiry, inQueue, inLinger:
	}
}

// Expired is the session's one timer; what it means depends on the phase.
func (s *session) Expired(now time.Duration) {
	switch s.phase {
	case inHello, inInquiry:
		s.helloExpired(now)
	case inQueue:
		s.queueExpired()
	case inDial:
		s.dialExpired(now)
	case inRelay:
		s.relayExpired(now)
	case inCut:
		s.cutExpired(now)
	case inLinger:
		s.finish()
	case terminated:
		s.term.expired(now)
	}
}

// armAfter is how long a session lives before its backend's keepalive is armed.
// That takes four system calls, and most sessions end before it could matter.
const armAfter = time.Second

// relayed begins the relay: both sides are connected, ev is what epoll said of
// the backend, and first holds the PROXY header for it, of the size given, and
// the client's bytes so far.
func (s *session) relayed(first []byte, header int, ev loop.Events) {
	s.phase = inRelay
	s.stamp = s.w.l.Now()
	s.relay.Start(s.w.env, int(s.c.fd), int(s.b.fd), first, header)
	s.begin(relay.Client, s.events)
	s.begin(relay.Backend, ev)
	s.w.giveOpening(s)
	s.rearm(s.route.Idle)
	s.pump()
}

// begin tells the relay what is known of a side so far.
func (s *session) begin(side relay.Side, ev loop.Events) {
	if ev&^loop.Writable == 0 {
		s.relay.Drained(side)
		return
	}
	s.relay.Note(side, ev)
}

// rearm sets the timer for limit after the last byte.
func (s *session) rearm(limit time.Duration) {
	at := s.stamp + limit
	if !s.armed {
		at = min(at, s.w.l.Now()+armAfter)
	}
	s.w.l.Set(&s.timer, at, s)
}

func (s *session) pump() {
	in, out := s.relay.Bytes(relay.Client), s.relay.Bytes(relay.Backend)
	status := s.relay.Pump(s.w.env)
	if s.relay.Moved() {
		s.stamp = s.w.l.Now()
		s.w.countBytes(s.route, s.relay.Bytes(relay.Client)-in, s.relay.Bytes(relay.Backend)-out)
		if s.awaits && s.relay.Bytes(relay.Backend) > 0 {
			s.answered()
		}
	}
	switch status {
	case relay.More:
		if !s.queued {
			s.queued = true
			s.w.l.Again(s.c.tok)
		}
	case relay.Ended:
		s.outcome = OK
		if side, ok := s.relay.FirstEnd(); ok {
			s.endedBy = party(side)
		}
		s.finish()
		return
	case relay.Cut:
		s.cut()
		return
	case relay.Waiting:
		if !s.watched && s.relay.Marked() {
			s.w.marked.add(s)
		}
	}
	if !s.half && s.relay.HalfEnded() {
		s.half = true
		s.stamp = s.w.l.Now()
		s.rearm(s.route.Fin)
	}
}

func party(s relay.Side) Party {
	if s == relay.Client {
		return ByClient
	}
	return ByBackend
}

// relayExpired ends a session in which no byte has passed for too long, by a
// reset of both sides: a cut is never sold as an end.
func (s *session) relayExpired(now time.Duration) {
	if !s.armed {
		s.armed = true
		setKeepalive(int(s.b.fd), &s.w.p.live.Load().timeouts)
	}
	limit, outcome := s.route.Idle, IdleTimeout
	if s.half {
		limit, outcome = s.route.Fin, FinTimeout
	}
	if side, errno, broken := s.relay.Broken(); broken && now-s.stamp >= limit {
		s.brokenBy(side, errno) // what it had sent could not be delivered
		s.finish()
		return
	}
	if now-s.stamp < limit {
		s.rearm(limit)
		return
	}
	s.outcome, s.endedBy = outcome, BySnicket
	s.finish()
}

// goodbye is the most that a backend sends in answer to a client's end: alerts
// of close_notify take 24 to 53 bytes each, by version and cipher.
const goodbye = 64

// brokenBy notes whose connection broke, and how. Under TLS the side that closes
// first is gone when the other's close_notify arrives, and answers it with a
// reset: a backend that had ended its answer in good order, and a client that had
// ended and was sent no more than a goodbye since, have done nothing wrong. The
// reset travels, and the outcome stays ok.
func (s *session) brokenBy(side relay.Side, errno unix.Errno) {
	s.phase = inCut
	s.endedBy = party(side)
	s.errno = uint16(errno)
	switch {
	case side == relay.Backend && s.relay.Whole(relay.Backend),
		side == relay.Client && s.relay.Late() > 0 && s.relay.Late() <= goodbye:
		s.outcome = OK
	case side == relay.Client:
		s.outcome = ClientReset
	default:
		s.outcome = BackendReset
	}
}

// cut passes a reset on. The survivor takes what it was sent first.
func (s *session) cut() {
	side, errno, _ := s.relay.Broken()
	s.brokenBy(side, errno)
	s.stamp = s.w.l.Now()
	s.cutExpired(s.stamp)
}

// survivor is the descriptor of the side that was not reset.
func (s *session) survivor() int {
	if s.endedBy == ByClient {
		return int(s.b.fd)
	}
	return int(s.c.fd)
}

func (s *session) cutReady(side relay.Side, ev loop.Events) {
	if ev&loop.Error != 0 && party(side) != s.endedBy { // nobody is left
		s.finish()
	}
}

func (s *session) cutExpired(now time.Duration) {
	if loop.Unsent(s.survivor()) == 0 || now-s.stamp >= s.route.Fin {
		s.finish()
		return
	}
	s.w.l.Set(&s.timer, now+cutPoll, s)
}

// kill ends the session at once, with an outcome of the operator's making.
func (s *session) kill(o Outcome) {
	if s.frozen {
		s.w.frost.later = append(s.w.frost.later, func() {
			if s.w != nil { // it has not ended by itself just now
				s.kill(o)
			}
		})
		return
	}
	if s.away() {
		s.term.expelled(o, "")
		return
	}
	if o == Drained && s.phase == terminated && !s.w.ending && s.term.dismiss() {
		return
	}
	decided := s.phase == inCut || s.phase == inLinger || s.phase == terminated && s.term.decided()
	if !decided {
		s.outcome, s.endedBy = o, BySnicket
		if s.opening != nil {
			s.err = ""
		}
	}
	s.finish()
}

// why is the error of the session's record, if it has one.
func (s *session) why() string {
	switch {
	case s.frozen:
		return errLost.Error()
	case s.errno != 0:
		return unix.Errno(s.errno).Error()
	case s.opening != nil:
		return s.err
	case s.term != nil:
		return s.term.err
	}
	return ""
}

// release gives the backend back at the session's end.
func (s *session) release() {
	switch {
	case !s.awaits:
	case s.outcome == BackendReset, s.outcome == IdleTimeout:
		s.answered() // it never did, which must not look quick
	default:
		s.forgetAnswer()
	}
	if b := s.backend; b != nil {
		s.pool.Balancer.Release(b, balancer.Result{})
	}
}

// backendID is the id of the backend that the session counts for; empty: none.
func (s *session) backendID() string {
	if b := s.backend; b != nil {
		return b.ID()
	}
	return ""
}
