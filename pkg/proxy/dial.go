package proxy

import (
	"errors"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/pkg/loop"
	"github.com/snicketlb/snicket/pkg/proxyheader"
)

// backlogPause is how long a dial waits for room in a Unix socket's backlog, of
// which no event tells.
const backlogPause = 10 * time.Millisecond

var errDialTimeout = errors.New("connect: no answer within dial_timeout")

// pick chooses a backend and dials it.
func (s *session) pick() {
	s.phase = inDial
	s.choice.start(s)
	s.dialNext()
}

// dialNext dials backends until one is on its way or the session is refused.
func (s *session) dialNext() {
	for {
		target, outcome := s.choice.next()
		switch outcome {
		case OK:
		case QueueTimeout:
			s.enqueue()
			return
		default:
			s.unserved(outcome)
			return
		}
		if err := s.dial(target); err == nil || !s.tryNext(err) {
			return
		}
	}
}

// tryNext reports whether another backend may be tried after a failed dial; if
// not, the session has been refused.
func (s *session) tryNext(err error) bool {
	s.closeBackend()
	again, outcome := s.choice.failed(err, s.w.l.Now()-s.choice.begun)
	if !again {
		s.refuse(outcome, err.Error())
	}
	return again
}

// redial goes on to the next backend after a dial that failed later than at once.
func (s *session) redial(err error) {
	if s.tryNext(err) {
		s.dialNext()
	}
}

// dial begins to connect; nil says that it goes on, or is done.
func (s *session) dial(t *Target) error {
	w := s.w
	now := w.l.Now()
	if s.dialed == 0 {
		s.dialed = now
	}
	s.choice.begun = now
	if t.Address == nil {
		return t.unreachable()
	}
	fd, errno := t.Address.Socket()
	if errno != 0 {
		return &dialError{"socket", errno}
	}
	s.b.fd = int32(fd)
	if s.armed = t.Address.Unix(); !s.armed {
		loop.SetInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		if err := w.turn.bind(s.choice.via, t.Address, fd); err != nil {
			return err
		}
	}
	w.l.Set(&s.timer, now+s.choice.via.DialTimeout, s)
	switch errno := t.Address.Connect(fd); errno {
	case 0, unix.EINPROGRESS:
		tok, err := w.l.Add(fd, (*backendEnd)(s))
		if err != nil {
			return err
		}
		s.b.tok = tok
		return nil // the event that it is writable comes in either case
	case unix.EAGAIN:
		if t.Address.Unix() {
			s.waitBacklog(now)
			return nil
		}
		return &dialError{"connect", errno}
	default:
		return &dialError{"connect", errno}
	}
}

// dialError is a failed system call of a dial.
type dialError struct {
	call  string
	errno unix.Errno
}

func (e *dialError) Error() string { return e.call + ": " + e.errno.Error() }

// Unwrap is the system's error.
func (e *dialError) Unwrap() error { return e.errno }

// waitBacklog tries a Unix socket again a little later, until the dial times
// out.
func (s *session) waitBacklog(now time.Duration) {
	if s.dialUntil == 0 {
		s.dialUntil = now + s.choice.via.DialTimeout
	}
	s.w.l.Set(&s.timer, min(now+backlogPause, s.dialUntil), s)
}

func (s *session) dialExpired(now time.Duration) {
	if s.dialUntil == 0 {
		s.redial(errDialTimeout)
		return
	}
	t := s.backend.Value().(*Target)
	switch errno := t.Address.Connect(int(s.b.fd)); errno {
	case unix.EAGAIN:
		if now < s.dialUntil {
			s.waitBacklog(now)
			return
		}
		s.dialUntil = 0
		s.redial(errDialTimeout)
	case 0, unix.EISCONN:
		s.dialUntil = 0
		tok, err := s.w.l.Add(int(s.b.fd), (*backendEnd)(s))
		if err != nil {
			s.redial(err)
			return
		}
		s.b.tok = tok
		s.w.l.Set(&s.timer, now+s.choice.via.DialTimeout, s)
	default:
		s.dialUntil = 0
		s.redial(&dialError{"connect", errno})
	}
}

// dialReady learns how a connect has gone. A backend that resets before a byte
// was written to it counts as not reached: the client has lost nothing.
func (s *session) dialReady(ev loop.Events) {
	if ev&(loop.Error|loop.Hangup) != 0 {
		errno := loop.PendingError(int(s.b.fd))
		if errno == 0 {
			errno = unix.ECONNRESET
		}
		s.redial(&dialError{"connect", errno})
		return
	}
	if ev&loop.Writable == 0 {
		return
	}
	s.connected(ev)
}

// connected writes the PROXY header and the hello in one go, and relays.
func (s *session) connected(ev loop.Events) {
	w := s.w
	now := w.l.Clock()
	s.dialTook = spanOf(now - s.dialed)
	w.dial.Observe(now - s.dialed)
	s.timeFirstByte(now)
	if s.term == nil || s.choice.via.TLS == nil {
		reached(s.backend, nil)
	}
	if s.term != nil {
		s.term.connected(ev)
		return
	}
	first, size := s.peek.buf, 0
	if s.choice.via.ProxyProtocol != 0 {
		c := s.caller()
		if !strings.Contains(s.print.alpn, ",") {
			c.alpn = s.print.alpn
		}
		header, err := proxyheader.Append(w.header[:0], s.choice.via.header(&c))
		if err != nil {
			s.refuse(Internal, err.Error())
			return
		}
		w.header, size = header, len(header)
		joined := append(append(w.env.Borrow(size+len(first)), header...), first...)
		w.env.Return(first)
		first = joined
	}
	s.peek.buf = nil
	s.relayed(first, size, ev)
}

// clientWhileDialing notes a client that goes away before its backend is there.
// Its FIN is not the end: it may wait for an answer to what it has sent.
func (s *session) clientWhileDialing(ev loop.Events) {
	if s.term != nil {
		s.term.client.Note(ev)
	}
	if ev&loop.Error == 0 {
		return
	}
	if errno := loop.PendingError(int(s.c.fd)); errno != 0 {
		s.outcome, s.endedBy, s.err = ClientReset, ByClient, errno.Error()
		s.finish()
	}
}
