package proxy

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/pkg/loop"
	"github.com/snicketlb/snicket/pkg/proxyheader"
	"github.com/snicketlb/snicket/sni"
)

// peekRoom is the least room for a further read of an unfinished hello.
const peekRoom = 1 << 10

// signature is the length of a version 2 PROXY signature, within which a header
// that must not come has shown itself; version 1's is shorter.
const signature = 12

// readHello reads until the hello is whole, is refused, or more must come.
func (s *session) readHello() {
	for {
		b, n, room, errno := s.readMore()
		if n == 0 {
			if errno != unix.EAGAIN {
				s.leftEarly(errno)
			}
			return
		}
		s.gotBytes = true
		said, out, err := s.settleHeader(b)
		var hello *sni.Hello
		if said && s.listener.Plain == nil {
			hello, out, err = s.examine(b)
		}
		if err != nil {
			s.refuse(out, err.Error())
			return
		}
		drained := n < room && s.events&^(loop.Readable|loop.Writable) == 0
		if drained {
			s.events = 0
		}
		switch {
		case hello != nil:
			s.took(hello, b)
			return
		case said && s.listener.Plain != nil:
			s.tookPlain(b)
			return
		}
		s.keep(b)
		if !s.holdHello() || drained {
			return
		}
	}
}

// readMore reads once: the first time into the loop's buffer, later behind what
// was kept. It returns all bytes so far, and how many of how much room came.
func (s *session) readMore() (b []byte, n, room int, errno unix.Errno) {
	if s.peek.buf == nil {
		b = s.w.env.Scratch()
		n, errno = loop.Read(int(s.c.fd), b)
		return b[:n], n, len(b), errno
	}
	p := &s.peek
	if room = cap(p.buf) - len(p.buf); room < peekRoom {
		grown := append(s.w.env.Borrow(2*cap(p.buf)), p.buf...)
		s.w.env.Return(p.buf)
		p.buf = grown
		room = cap(p.buf) - len(p.buf)
	}
	n, errno = loop.Read(int(s.c.fd), p.buf[len(p.buf):cap(p.buf)])
	p.buf = p.buf[:len(p.buf)+n]
	return p.buf, n, room, errno
}

// settleHeader looks for the PROXY header, which must come or must not, in all bytes
// so far. It reports whether there is something behind it; an error comes with its
// outcome.
func (s *session) settleHeader(b []byte) (said bool, o Outcome, err error) {
	if s.wantHeader {
		h, n, err := proxyheader.Parse(b)
		if errors.Is(err, proxyheader.ErrMore) {
			return false, OK, nil
		}
		if err != nil {
			return false, BadProxyHeader, err
		}
		s.wantHeader = false
		s.header = n
		if !h.Local {
			s.proxied = &proxied{client: h.Source, local: h.Destination}
		}
		if out := s.admit(); out != OK {
			return false, out, errPerIP
		}
	}
	if len(b) == s.header {
		return false, OK, nil
	}
	if s.header == 0 && proxyheader.Maybe(b) {
		if len(b) < signature && b[0] != 'P' || len(b) < len("PROXY ") {
			return false, OK, nil
		}
		return false, BadProxyHeader, errUnwantedHeader
	}
	return true, OK, nil
}

// examine looks for the hello behind the PROXY header. No hello and no error say that
// more must come; an error comes with its outcome.
func (s *session) examine(b []byte) (*sni.Hello, Outcome, error) {
	hello, err := s.parser().Parse(b[s.header:])
	switch {
	case err == nil:
		return hello, OK, nil
	case errors.Is(err, sni.ErrMore):
		s.begun = true
		return nil, OK, nil
	case errors.Is(err, sni.ErrNotTLS), errors.Is(err, sni.ErrSSLv2), errors.Is(err, sni.ErrDTLS):
		return nil, NotTLS, err
	case errors.Is(err, sni.ErrTooLarge):
		return nil, HelloTooLarge, err
	}
	return nil, BadHello, err
}

var (
	errUnwantedHeader = errors.New("PROXY header from a peer that is not in accept_proxy_from")
	errPerIP          = errors.New("per-IP limit")
)

// parser is the session's own once it has begun a hello, else the loop's.
func (s *session) parser() *sni.Parser {
	if s.peek.parser != nil {
		return s.peek.parser
	}
	s.w.parser.Reset(s.limits.MaxHello)
	return s.w.parser
}

// keep holds on to the first bytes of a hello that is not whole, and to the
// parser that has begun it.
func (s *session) keep(b []byte) {
	if s.peek.buf == nil {
		s.peek.buf = append(s.w.env.Borrow(len(b)+peekRoom), b...)
	}
	if s.begun && s.peek.parser == nil {
		s.peek.parser = s.w.takeParser()
	}
}

// took goes on with a whole hello: b holds it, and what came behind it.
func (s *session) took(h *sni.Hello, b []byte) {
	if s.helloTook == 0 { // else it has been whole before, in another process
		took := s.w.l.Now() - s.accepted
		s.helloTook = spanOf(took)
		s.w.hello.Observe(took)
	}
	s.sni = h.ServerName
	s.print = s.w.prints.of(h)
	sni.AppendAlert(s.alertLevel[:0], h, sni.AlertInternalError)
	outcome, validation := OK, s.challenged(h)
	if validation == nil {
		outcome = s.findRoute(h)
	}
	// From here on h is no more: its parser serves the next session.
	if s.peek.parser != nil {
		s.w.giveParser(s.peek.parser)
		s.peek.parser = nil
	}
	if outcome != OK {
		s.refuse(outcome, "")
		return
	}
	if s.peek.buf == nil {
		s.peek.buf = append(s.w.env.Borrow(len(b)), b...)
	}
	if s.header > 0 { // the client's own PROXY header ends here
		p := &s.peek
		p.buf = p.buf[:copy(p.buf, p.buf[s.header:])]
	}
	if validation != nil {
		s.inquire(validation)
		return
	}
	s.routed()
}

// routed goes on with a hello that has its route.
func (s *session) routed() {
	s.releaseHello()
	s.w.l.Cancel(&s.timer)
	if s.route.Mode == Terminate {
		s.terminate()
		return
	}
	s.pick()
}

// tookPlain goes on with a client of an http listener that has begun to speak: b
// holds what it has said. The listener is that of now, as a hello meets the table of
// now.
func (s *session) tookPlain(b []byte) {
	if s.limited != OK { // by no hello could it turn out to be spared
		s.refuse(s.limited, errPerIP.Error())
		return
	}
	if l := s.w.p.live.Load().listeners[s.socks.address]; l != nil && l.Plain != nil {
		s.listener = l
	}
	said := append([]byte(nil), b[s.header:]...)
	s.releaseHello()
	s.phase = terminated
	s.term = &terminal{s: s, took: -1}
	s.handOver(s.listener.Plain, said)
}

// leftEarly ends a session whose client went away before its hello was whole.
func (s *session) leftEarly(errno unix.Errno) {
	s.outcome, s.endedBy = NoHello, ByClient
	if errno != 0 {
		s.err = errno.Error()
	}
	s.finish()
}

// helloGrace is how long a client may take to send its first byte before its
// hello counts as an unfinished one of its address.
const helloGrace = 100 * time.Millisecond

func (s *session) helloExpired(now time.Duration) {
	if now < s.helloUntil {
		if s.holdHello() {
			s.w.l.Set(&s.timer, s.helloUntil, s)
		}
		return
	}
	if s.wantHeader {
		s.refuse(HelloTimeout, "no whole PROXY header in time")
		return
	}
	s.refuse(HelloTimeout, "")
}

// helloSlot counts the session among the unfinished hellos of the process. When
// there are too many, the loop's oldest lingering session gives way.
func (s *session) helloSlot() bool {
	p, limit := s.w.p, int64(s.limits.MaxHellos)
	if p.hellos.Add(1) > limit && limit > 0 && !s.w.lingers.endOldest() {
		p.hellos.Add(-1)
		return false
	}
	s.helloHeld = true
	return true
}

// admit counts the session for its client's address, where a limit asks for it;
// another outcome than OK says which limit forbids it.
func (s *session) admit() Outcome {
	l := s.limits
	client := s.client().Addr()
	if !client.IsValid() {
		return OK
	}
	if len(l.Except) > 0 {
		if _, spared := prefixFor(l.Except, client); spared {
			return OK
		}
	}
	s.addr = addrKey(client)
	if l.PerIPConnections == 0 && l.PerIPRate.N == 0 {
		return OK
	}
	if out := s.w.p.perAddr.admit(s.addr, l, s.w.l.Now()); out != OK {
		if open := s.w.p.live.Load().challengeOpen; open == nil || !open() {
			return out
		}
		s.limited = out // unless its hello turns out to be that of a validation
		return OK
	}
	s.addrHeld = true
	return OK
}

// holdHello counts the hello as unfinished for its client's address, or refuses
// the session. That is not done at accept: a backlog that has built up while the
// machine was busy holds many connections of one address whose hellos are all
// there, and most sessions need the count never.
func (s *session) holdHello() bool {
	if s.addrHello || !s.addr.IsValid() || s.limits.MaxHellosPerIP == 0 {
		return true
	}
	if !s.w.p.perAddr.hello(s.addr, s.limits.MaxHellosPerIP, s.w.l.Now()) {
		s.refuse(OverLimit, "max_hellos_per_ip")
		return false
	}
	s.addrHello = true
	return true
}

// releaseHello takes the session off the counts of unfinished hellos.
func (s *session) releaseHello() {
	if s.helloHeld {
		s.helloHeld = false
		s.w.p.hellos.Add(-1)
	}
	if s.addrHello {
		s.addrHello = false
		s.w.p.perAddr.helloDone(s.addr, s.w.l.Now())
	}
}
