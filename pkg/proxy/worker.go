package proxy

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/snicketlb/snicket/pkg/loop"
	"github.com/snicketlb/snicket/pkg/relay"
	"github.com/snicketlb/snicket/sni"
)

// keepSessions is how many ended sessions a loop keeps for reuse.
const keepSessions = 1024

// A worker is what belongs to one loop: its acceptors, its sessions, and what
// they share. Everything but counts and records is touched on its loop alone.
type worker struct {
	p   *Proxy
	l   *loop.Loop
	env *relay.Env
	id  SessionID // of the next session

	acceptors []*acceptor
	full      bool // noted in Proxy.stopped

	sessions session // sentinel of the ring of all sessions
	spare    []*session
	lingers  lingerQueue

	parser  *sni.Parser // for first reads that hold a whole hello
	parsers []*sni.Parser
	header  []byte // scratch for PROXY headers

	turn    sourceTurn
	records *ring
	done    chan struct{} // closed when the loop is out
	counts  sync.Map      // listener name → *outcomeCounts; read by any goroutine
}

// outcomeCounts counts the ended sessions of one listener on one loop.
type outcomeCounts [Outcomes]atomic.Uint64

func newWorker(p *Proxy, l *loop.Loop, id SessionID, pipes int) *worker {
	w := &worker{p: p, l: l, env: relay.NewEnv(pipes), id: id, parser: new(sni.Parser), records: newRing(), done: make(chan struct{})}
	w.sessions.next, w.sessions.prev = &w.sessions, &w.sessions
	return w
}

// get makes a session, empty, and puts it on the list.
func (w *worker) get() *session {
	var s *session
	if n := len(w.spare); n > 0 {
		s = w.spare[n-1]
		w.spare = w.spare[:n-1]
	} else {
		s = new(session)
	}
	s.w = w
	s.id = w.id
	w.id++
	s.prev, s.next = w.sessions.prev, &w.sessions
	s.prev.next, w.sessions.prev = s, s
	return s
}

// put takes a session that has ended off the list.
func (w *worker) put(s *session) {
	s.prev.next, s.next.prev = s.next, s.prev
	*s = session{}
	if len(w.spare) < keepSessions {
		w.spare = append(w.spare, s)
	}
}

// takeParser exchanges the loop's parser, which has begun a hello, for a fresh
// one.
func (w *worker) takeParser() *sni.Parser {
	begun := w.parser
	if n := len(w.parsers); n > 0 {
		w.parser = w.parsers[n-1]
		w.parsers = w.parsers[:n-1]
	} else {
		w.parser = new(sni.Parser)
	}
	return begun
}

const keepParsers = 64

func (w *worker) giveParser(p *sni.Parser) {
	if len(w.parsers) < keepParsers {
		w.parsers = append(w.parsers, p)
	}
}

// countsOf is the counters of one listener.
func (w *worker) countsOf(listener string) *outcomeCounts {
	if v, ok := w.counts.Load(listener); ok {
		return v.(*outcomeCounts)
	}
	v, _ := w.counts.LoadOrStore(listener, new(outcomeCounts))
	return v.(*outcomeCounts)
}

// endMatching ends the sessions that match as drained.
func (w *worker) endMatching(match func(*session) bool) {
	for s := w.sessions.next; s != &w.sessions; {
		next := s.next
		if match(s) {
			s.kill(Drained)
		}
		s = next
	}
}

// after runs f on the loop once d has passed.
func (w *worker) after(d time.Duration, f func()) {
	t := &timerFunc{f: f}
	w.l.Set(&t.t, w.l.Now()+d, t)
}

// stop ends the loop, when all its sessions have ended.
func (w *worker) stop() {
	w.env.Close()
	w.l.Stop()
}
