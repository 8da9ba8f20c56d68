package proxy

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/pkg/loop"
	"github.com/snicketlb/snicket/sni"
)

// What is read away after an alert: closing with bytes unread resets the
// connection, and the alert is lost with it.
const (
	lingerTime  = time.Second
	lingerBytes = 64 << 10
)

// sendAlert tells the client why, ends our side, and waits a little for its.
// The session keeps its place among the unfinished hellos meanwhile, or takes one
// again; where there is none it does not wait.
func (s *session) sendAlert(a sni.Alert) {
	if s.alertLevel[0] == 0 { // no hello: TLS 1.2 is read by all
		sni.AppendAlert(s.alertLevel[:0], nil, a)
	}
	s.alertLevel[len(s.alertLevel)-1] = byte(a)
	fd := int(s.c.fd)
	if n, errno := loop.Write(fd, s.alertLevel[:]); errno != 0 || n < len(s.alertLevel) {
		s.finish()
		return
	}
	s.linger()
}

// linger ends our side behind an alert, and waits a little for the client's.
func (s *session) linger() {
	if loop.Shut(int(s.c.fd)) != 0 || !s.helloHeld && !s.helloSlot() {
		s.finish()
		return
	}
	s.phase = inLinger
	s.discarded = 0
	s.w.lingers.push(s)
	s.w.l.Set(&s.timer, s.w.l.Now()+lingerTime, s)
	s.lingerReady()
}

// lingerReady reads away what comes.
func (s *session) lingerReady() {
	for s.discarded < lingerBytes {
		n, errno := loop.Read(int(s.c.fd), s.w.env.Scratch())
		if errno == unix.EAGAIN {
			return
		}
		if n == 0 {
			break
		}
		s.discarded += n
	}
	s.finish()
}

// lingerQueue holds the lingering sessions of one loop, oldest first.
type lingerQueue struct{ oldest, newest *session }

func (q *lingerQueue) push(s *session) {
	s.older = q.newest
	if q.newest != nil {
		q.newest.newer = s
	} else {
		q.oldest = s
	}
	q.newest = s
}

func (q *lingerQueue) remove(s *session) {
	if s.older != nil {
		s.older.newer = s.newer
	} else {
		q.oldest = s.newer
	}
	if s.newer != nil {
		s.newer.older = s.older
	} else {
		q.newest = s.older
	}
	s.older, s.newer = nil, nil
}

// endOldest ends the session that has lingered longest, to make room; false:
// none lingers.
func (q *lingerQueue) endOldest() bool {
	if q.oldest == nil {
		return false
	}
	q.oldest.finish()
	return true
}
