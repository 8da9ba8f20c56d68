package proxy

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/snicketlb/snicket/pkg/loop"
	"github.com/snicketlb/snicket/pkg/relay"
	"github.com/snicketlb/snicket/pkg/terminate"
	"github.com/snicketlb/snicket/sni"
)

// keepOpenings is how many openings a loop keeps for reuse.
const keepOpenings = 256

// A worker is what belongs to one loop: its acceptors, its sessions, and what
// they share. Everything but counts and records is touched on its loop alone.
type worker struct {
	p     *Proxy
	index int // among the loops
	l     *loop.Loop
	env   *relay.Env
	tls   *terminate.Env
	first SessionID // that it gave
	id    SessionID // of the next session

	acceptors []*acceptor
	full      bool   // noted in Proxy.stopped
	ending    bool   // nobody is waited for
	frost     *frost // nil: it is not frozen

	sessions store
	openings []*opening
	awaited  map[*session]awaited // of sessions that await their backend's first byte
	lingers  lingerQueue
	shakes   shakeQueue
	marked   markedList

	parser  *sni.Parser // for first reads that hold a whole hello
	parsers []*sni.Parser
	names   sni.Names
	prints  *fingerprints
	header  []byte // scratch for PROXY headers

	turn    sourceTurn
	records *ring
	done    chan struct{} // closed when the loop is out
	counts  sync.Map      // listener name → *listenerCounts; read by any goroutine

	// Handshakes that came about, with clients and with backends.
	clientTLS, backendTLS  handshakeCounts
	hello, dial, handshake Histogram
	unaccepted             atomic.Uint64 // as of Counters.AcceptFailures
}

func newWorker(p *Proxy, index int, l *loop.Loop, id SessionID, pipes int) *worker {
	w := &worker{
		p: p, index: index, l: l, env: relay.NewEnv(pipes), first: id, id: id, records: newRing(), done: make(chan struct{}),
		prints: newFingerprints(p.o.Access != nil), awaited: map[*session]awaited{},
	}
	w.parser = w.newParser()
	w.tls = terminate.NewEnv(w.env, w.offload)
	w.shakes.init(l)
	w.marked.l = l
	return w
}

func (w *worker) newParser() *sni.Parser {
	p := new(sni.Parser)
	p.Remember(&w.names)
	return p
}

// get makes a session, empty but for its opening.
func (w *worker) get() *session {
	s := w.sessions.get()
	s.w = w
	s.id = w.id
	w.id++
	s.opening = w.takeOpening()
	return s
}

func (w *worker) takeOpening() *opening {
	n := len(w.openings)
	if n == 0 {
		return new(opening)
	}
	o := w.openings[n-1]
	w.openings = w.openings[:n-1]
	return o
}

// giveOpening takes the opening off a session, if it has one still, with what is
// kept there.
func (w *worker) giveOpening(s *session) {
	o := s.opening
	if o == nil {
		return
	}
	s.opening = nil
	w.env.Return(o.peek.buf)
	if o.peek.parser != nil {
		w.giveParser(o.peek.parser)
	}
	*o = opening{}
	if len(w.openings) < keepOpenings {
		w.openings = append(w.openings, o)
	}
}

// put takes back a session that has ended.
func (w *worker) put(s *session) {
	w.giveOpening(s)
	w.sessions.put(s)
}

// takeParser exchanges the loop's parser, which has begun a hello, for a fresh
// one.
func (w *worker) takeParser() *sni.Parser {
	begun := w.parser
	if n := len(w.parsers); n > 0 {
		w.parser = w.parsers[n-1]
		w.parsers = w.parsers[:n-1]
	} else {
		w.parser = w.newParser()
	}
	return begun
}

const keepParsers = 64

func (w *worker) giveParser(p *sni.Parser) {
	if len(w.parsers) < keepParsers {
		w.parsers = append(w.parsers, p)
	}
}

// endMatching ends the sessions that match, with an outcome.
func (w *worker) endMatching(match func(*session) bool, o Outcome) {
	for s := range w.sessions.all() {
		if match(s) {
			s.kill(o)
		}
	}
}

// after runs f on the loop once d has passed.
func (w *worker) after(d time.Duration, f func()) {
	t := &timerFunc{f: f}
	w.l.Set(&t.t, w.l.Now()+d, t)
}

// stop ends the loop, when all its sessions have ended.
func (w *worker) stop() {
	w.tls.Close()
	w.env.Close()
	w.l.Stop()
}
