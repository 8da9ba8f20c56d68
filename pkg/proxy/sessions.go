package proxy

import (
	"cmp"
	"context"
	"net/netip"
	"time"

	"github.com/snicketlb/snicket/pkg/relay"
)

// A SessionView is one session as it stands. Strings are immutable; empty and zero
// values are what has not come to pass.
type SessionView struct {
	ID         SessionID
	Listener   string
	Client     netip.AddrPort // from an accepted PROXY header, else Peer; invalid: a Unix socket
	Peer       netip.AddrPort
	SNI        string
	ALPN       string // negotiated where terminated, else what the client offered, joined by ","
	JA4        [36]byte
	Route      string
	Mode       Mode
	Routed     bool // Route and Mode hold
	Pool       string
	Backend    string
	Phase      Phase
	Age        time.Duration // since accept
	Idle       time.Duration // since a byte last passed, or since accept
	BytesIn    int64         // as of Record
	BytesOut   int64
	TLSVersion uint16
	Resumed    bool
	Retries    int
}

// Phase is where on its way a session is, as the operator is told.
type Phase uint8

// The phases, in the order in which a session meets them.
const (
	PhaseHello     Phase = iota // reading the PROXY header and the hello
	PhaseHandshake              // TLS with the client, its wait for a turn included
	PhaseQueue                  // waiting for a backend with room
	PhaseDial                   // connecting to a backend, TLS with it included
	PhaseRelay                  // both sides stand, or requests are served
	PhaseEnd                    // it is over; the last bytes are on their way
)

// String is the phase's word.
func (p Phase) String() string {
	switch p {
	case PhaseHello:
		return "hello"
	case PhaseHandshake:
		return "handshake"
	case PhaseQueue:
		return "queue"
	case PhaseDial:
		return "dial"
	case PhaseRelay:
		return "relay"
	case PhaseEnd:
		return "end"
	}
	return "unknown"
}

// SessionFilter says which sessions are meant; a zero field asks for nothing.
type SessionFilter struct {
	Route, Pool, Backend string
	Client               netip.Prefix // that holds the client's address
	IdleOver             time.Duration
}

// holds reports whether a session is meant.
func (f *SessionFilter) holds(v *SessionView) bool {
	switch {
	case f.Route != "" && (!v.Routed || v.Route != f.Route),
		f.Pool != "" && v.Pool != f.Pool,
		f.Backend != "" && v.Backend != f.Backend,
		f.IdleOver > 0 && v.Idle <= f.IdleOver:
		return false
	}
	return !f.Client.IsValid() || v.Client.IsValid() && f.Client.Contains(v.Client.Addr())
}

// sliceSlabs is how many slabs a loop looks through at a time for what is no session
// of its own: 256 sessions, some 0.1 ms.
const sliceSlabs = 4

// Sessions returns the sessions of now that the filter means, those of one loop after
// those of another. Each is as it stood at a moment of its own: loops are asked for
// slices of 256, and serve between them. The error is that of ctx, and comes with what
// was seen by then.
func (p *Proxy) Sessions(ctx context.Context, f SessionFilter) ([]SessionView, error) {
	var all []SessionView
	part := make([]SessionView, 0, sliceSlabs*slabSessions) // a loop copies no more than this
	for _, w := range p.workers {
		err := w.bySlices(ctx, func(s *session) bool {
			if v := s.view(); f.holds(&v) {
				part = append(part, v)
			}
			return true
		}, func() {
			all = append(all, part...)
			part = part[:0]
		})
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

// bySlices has look called on the loop with each session until it returns false, and
// between between two slices, by the caller's goroutine, while the loop serves.
func (w *worker) bySlices(ctx context.Context, look func(*session) (more bool), between func()) error {
	for from := 0; ctx.Err() == nil; from += sliceSlabs {
		looked := make(chan bool, 1)
		w.l.Post(func() { looked <- w.lookAt(from, look) })
		select {
		case more := <-looked:
			between()
			if !more {
				return nil
			}
		case <-w.done:
			return nil
		}
	}
	return ctx.Err()
}

// lookAt calls look with the sessions of one slice, and reports whether there may be
// any behind it that look wants.
func (w *worker) lookAt(from int, look func(*session) (more bool)) bool {
	for i := range sliceSlabs {
		wanted := true
		more := w.sessions.slab(from+i, func(s *session) { wanted = wanted && look(s) })
		if !wanted || !more {
			return false
		}
	}
	return true
}

// view is the session as it stands.
func (s *session) view() SessionView {
	now := s.w.l.Now()
	v := SessionView{
		ID: s.id, Listener: s.listener.Name, Client: s.client(), Peer: s.peer, SNI: s.sni,
		Phase: s.phaseWord(), Age: now - s.accepted, Idle: now - s.stamp, Retries: int(s.retries),
		BytesIn: s.relay.Bytes(relay.Client), BytesOut: s.relay.Bytes(relay.Backend),
	}
	if s.print != nil {
		v.JA4, v.ALPN = s.print.ja4, s.print.alpn
	}
	if s.route != nil {
		v.Routed, v.Route, v.Mode = true, s.route.Name, s.route.Mode
	}
	if s.pool != nil {
		v.Pool = s.pool.Name
	}
	if b := s.backend; b != nil {
		v.Backend = b.Value().(*Target).Name
	}
	t := s.term
	if t == nil {
		return v
	}
	if t.version != 0 {
		v.ALPN = t.alpn
	}
	v.TLSVersion, v.Resumed = t.version, t.resumed
	switch {
	case t.guest != nil:
		t.guest.show(&v, now)
	case t.stage == inStream:
		v.BytesIn, v.BytesOut = int64(t.relay.Bytes(relay.Client)), int64(t.relay.Bytes(relay.Backend))
		v.Idle = now - t.relay.LastByte()
	}
	return v
}

// show fills in what goroutines know of a session that they serve: the backend is that
// of its latest request.
func (g *guest) show(v *SessionView, now time.Duration) {
	v.BytesIn, v.BytesOut = g.conn.in.Load(), g.conn.out.Load()
	v.Idle = max(now-g.conn.lastByte(), 0)
	if pool, backend := g.last(); backend != "" {
		v.Pool, v.Backend = cmp.Or(pool, v.Pool), backend
	}
}

func (s *session) phaseWord() Phase {
	switch s.phase {
	case inHello, inInquiry:
		return PhaseHello
	case inQueue:
		return PhaseQueue
	case inDial:
		return PhaseDial
	case inRelay:
		return PhaseRelay
	case terminated:
		switch s.term.stage {
		case atGate, inClientTLS:
			return PhaseHandshake
		case inBackendTLS:
			return PhaseDial
		case inStream, inSite:
			return PhaseRelay
		}
	case inCut, inLinger:
	}
	return PhaseEnd
}

// Kill ends a session at once, as killed; both sides are reset. It reports whether
// there was such a session. The error is that of ctx.
func (p *Proxy) Kill(ctx context.Context, id SessionID) (bool, error) {
	killed := false
	for _, w := range p.workers {
		if killed {
			break
		}
		err := w.bySlices(ctx, func(s *session) bool {
			if s.id == id {
				killed = true
				s.kill(Killed)
			}
			return !killed
		}, func() {})
		if err != nil {
			return killed, err
		}
	}
	return killed, nil
}

// Table is the route table in force.
func (p *Proxy) Table() *Table { return p.live.Load().table }
