package proxy

import (
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/pkg/loop"
	"github.com/snicketlb/snicket/pkg/relay"
)

// A Transfer is a live session on its way to another process: one that relays, or one that
// has no backend yet, with the bytes of its hello. Times are those of CLOCK_MONOTONIC in
// nanoseconds, which all processes of a machine share. The zero value is none.
type Transfer struct {
	ID       SessionID
	Address  string // Listener.Text of its sockets
	Listener string
	Peer     netip.AddrPort
	Proxied  bool // Client and Local hold, of its PROXY header
	Client   netip.AddrPort
	Local    netip.AddrPort

	Print bool // ALPN and JA4 hold
	ALPN  string
	JA4   [36]byte
	SNI   string

	Accepted, LastByte int64
	Hello, Dial, Queue uint32 // spans
	Retries            uint16
	Sent               bool // a byte came from the client
	Counted            bool // for its address

	Opening *OpeningTransfer // nil: it relays
	Relay   *RelayTransfer   // nil: it does not yet

	// Descriptors of its connections, the proxy's that sends it until it leaves.
	ClientFD, BackendFD int // -1: none
}

// A RelayTransfer is a session with its backend.
type RelayTransfer struct {
	Route, Pool, Backend string        // by name, the backend by its ID
	Idle, Fin            time.Duration // of the route, for the case that it is gone
	Half, Armed          bool
	Stand                relay.Stand
}

// An OpeningTransfer is a session without a backend.
type OpeningTransfer struct {
	Bytes      []byte // of the client, its PROXY header included unless Whole
	Header     int
	WantHeader bool
	Whole      bool // Bytes are a whole hello, and what came behind it
	Until      int64
	Waits      bool  // for a backend with room
	Since      int64 // when it began to
	Limited    Outcome
	Addr       netip.Addr
	AddrHello  bool
}

// Descriptors calls f with each descriptor that travels with m, by its place, in an order
// that m alone decides.
func (m *Transfer) Descriptors(f func(fd *int)) {
	f(&m.ClientFD)
	if m.Relay == nil {
		return
	}
	f(&m.BackendFD)
	for i := range m.Relay.Stand.Ways {
		if w := &m.Relay.Stand.Ways[i]; w.Read >= 0 {
			f(&w.Read)
			f(&w.Write)
		}
	}
}

// Close closes the descriptors of a session that nobody adopts. Its connections stand, if
// somebody else has them.
func (m *Transfer) Close() {
	m.Descriptors(func(fd *int) {
		loop.Close(*fd)
		*fd = -1
	})
}

// A Heritage is what a proxy passes on beside its sessions.
type Heritage struct {
	Next  []SessionID // of each loop's next session
	Rates []AddrRate
}

// AddrRate is an address that is not yet allowed what per_ip_rate allows at most.
type AddrRate struct {
	Addr netip.Addr
	Due  int64 // by CLOCK_MONOTONIC
}

// Frozen is a proxy that stands still as far as it can be moved: it accepts nothing, and
// no byte passes of the sessions that are listed, nor does any of them end. It has to be
// ended by Thaw, Leave or Reclaim.
type Frozen struct {
	// Sessions are those that can move. What they point to is the proxy's, to be read
	// until that end.
	Sessions []Transfer
	Heritage Heritage
	// Stay is the number of sessions that cannot move: those in TLS or HTTP, asking for an
	// ACME challenge, and those that are at their end.
	Stay int

	p *Proxy
}

// frost is what a loop that is frozen keeps for later.
type frost struct {
	sessions []*session
	later    []func() // what was to be done with them meanwhile; also told of those that are gone by then
}

// Freeze stops all loops for a moment, and returns when no byte of the sessions that can
// move is on its way. All other sessions go on. One at a time, and no Commit meanwhile.
func (p *Proxy) Freeze() *Frozen {
	f := &Frozen{p: p, Heritage: Heritage{Next: make([]SessionID, len(p.workers))}}
	parts := make([][]Transfer, len(p.workers))
	for i, w := range p.workers {
		w.l.Post(func() { parts[i], f.Heritage.Next[i] = w.freeze(), w.id })
	}
	p.barrier()
	f.Sessions = slices.Concat(parts...)
	f.Stay = int(p.active.Load()) - len(f.Sessions)
	f.Heritage.Next = append(f.Heritage.Next, p.spare...)
	f.Heritage.Rates = p.perAddr.rates(time.Since(p.start), p.monotonic)
	return f
}

func (w *worker) freeze() []Transfer {
	w.frost = &frost{}
	for _, a := range w.acceptors {
		a.pause()
		w.l.Cancel(&a.rest)
	}
	var all []Transfer
	for s := range w.sessions.all() {
		if s.movable() {
			all = append(all, s.freeze())
			w.frost.sessions = append(w.frost.sessions, s)
		}
	}
	return all
}

// movable reports whether another process can take the session over. One that dials, or
// waits for a backend, does so anew there, as nothing has been said to one yet.
func (s *session) movable() bool {
	switch s.phase {
	case inHello, inRelay:
		return true
	case inDial, inQueue:
		return s.term == nil
	case inInquiry, inCut, inLinger, terminated:
	}
	return false
}

// freeze takes the session out of its loop and tells how it stands.
func (s *session) freeze() Transfer {
	w, p := s.w, s.w.p
	w.l.Cancel(&s.timer)
	w.l.Remove(s.c.tok, int(s.c.fd))
	w.l.Remove(s.b.tok, int(s.b.fd))
	s.frozen, s.queued = true, false
	m := Transfer{
		ID: s.id, Address: s.socks.address, Listener: s.listener.Name, Peer: s.peer, SNI: s.sni,
		Accepted: p.monotonic(s.accepted), LastByte: p.monotonic(s.stamp),
		Hello: uint32(s.helloTook), Dial: uint32(s.dialTook), Queue: uint32(s.queueTook), Retries: s.retries,
		Sent: s.gotBytes, Counted: s.addrHeld, ClientFD: int(s.c.fd), BackendFD: -1,
	}
	if s.proxied != nil {
		m.Proxied, m.Client, m.Local = true, s.proxied.client, s.proxied.local
	}
	if s.print != nil {
		m.Print, m.ALPN, m.JA4 = true, s.print.alpn, s.print.ja4
	}
	if s.phase != inRelay {
		m.Opening = &OpeningTransfer{
			Bytes: s.peek.buf, WantHeader: s.wantHeader, Until: p.monotonic(s.helloUntil),
			Limited: s.limited, Addr: s.addr, AddrHello: s.addrHello, Whole: s.phase != inHello,
		}
		switch s.phase { //nolint:exhaustive // it has been told nothing yet
		case inHello:
			m.Opening.Header = s.header
		case inQueue:
			m.Opening.Waits, m.Opening.Since = true, p.monotonic(s.ticket.since)
		}
		return m
	}
	if s.watched {
		w.marked.remove(s)
	}
	m.BackendFD = int(s.b.fd)
	m.Relay = &RelayTransfer{
		Route: s.route.Name, Pool: s.pool.Name, Backend: s.backend.ID(), Idle: s.route.Idle, Fin: s.route.Fin,
		Half: s.half, Armed: s.armed, Stand: s.relay.Stand(),
	}
	return m
}

// monotonic is a time of the proxy's clock by CLOCK_MONOTONIC.
func (p *Proxy) monotonic(at time.Duration) int64 { return p.epoch + int64(at) }

// at is the other way round.
func (p *Proxy) at(monotonic int64) time.Duration { return time.Duration(monotonic - p.epoch) }

// epochOf is by CLOCK_MONOTONIC when start was.
func epochOf(start time.Time) int64 {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // fails for no clock that there is
	return now.Nano() - int64(time.Since(start))
}
