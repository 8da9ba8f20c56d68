package proxy

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/snicketlb/snicket/balancer"
)

// Inherit goes on where another process leaves: with its sequence of session ids, and
// with what its clients are still to wait for. It is for before the first Commit.
func (p *Proxy) Inherit(h *Heritage) {
	now := time.Since(p.start)
	for _, r := range h.Rates {
		if due := p.at(r.Due); due > now {
			p.perAddr.setRate(r.Addr, due, now)
		}
	}
	if len(h.Next) == 0 {
		return
	}
	const sequence = 1<<40 - 1
	highest := slices.MaxFunc(h.Next, func(a, b SessionID) int { return int(a&sequence) - int(b&sequence) })
	for i, w := range p.workers {
		// A loop that was not there before begins above all others.
		id := highest&^(0xff<<40) | SessionID(i)<<40
		if i < len(h.Next) {
			id = h.Next[i]
		}
		w.l.Post(func() { w.id = id })
	}
}

// Adopt lets the sessions of another process go on here, where that has Left them: their
// descriptors are the proxy's now. They are spread over the loops, and counted beyond
// every limit. It is for behind the first Commit, whose State routes are of.
//
// A session keeps the route of its name. One whose pool or backend is no more goes on
// until the drain timeout, as behind a reload.
func (p *Proxy) Adopt(sessions []Transfer, routes []*Route) {
	a := &adopter{p: p, routes: make(map[string]*Route, len(routes)), strays: map[string]*stray{}, gone: map[string]*sockets{}}
	for _, r := range routes {
		a.routes[r.Name] = r
	}
	shares := make([][]adoption, len(p.workers))
	for i := range sessions {
		m := &sessions[i]
		p.active.Add(1)
		n := i % len(shares)
		shares[n] = append(shares[n], a.adoption(m))
	}
	for i, w := range p.workers {
		w.l.Post(func() {
			for j := range shares[i] {
				w.take(&shares[i][j])
			}
		})
	}
	if len(a.strays) > 0 {
		drain := p.live.Load().timeouts.Drain
		for _, w := range p.workers {
			w.l.Post(func() {
				w.after(drain, func() { w.endMatching(func(s *session) bool { return s.pool != nil && a.isStray(s.pool) }, Drained) })
			})
		}
	}
	p.barrier()
}

// adoption is a session with what it belongs to here.
type adoption struct {
	m        *Transfer
	socks    *sockets
	listener *Listener
	route    *Route
	pool     *Pool
	backend  *balancer.Backend // counted
}

// adopter finds what sessions belong to.
type adopter struct {
	p      *Proxy
	routes map[string]*Route
	strays map[string]*stray   // by the pool's name
	gone   map[string]*sockets // listeners that are no more, by Text
}

// A stray stands for a pool that has lost a backend, or is lost itself, but for the
// sessions that are left.
type stray struct {
	pool  *Pool
	specs []balancer.Spec
}

func (a *adopter) isStray(p *Pool) bool {
	s := a.strays[p.Name]
	return s != nil && s.pool == p
}

func (a *adopter) adoption(m *Transfer) adoption {
	out := adoption{m: m}
	out.socks, out.listener = a.listener(m)
	if m.Relay == nil {
		return out
	}
	r := m.Relay
	out.route = a.routes[r.Route]
	if out.route == nil {
		out.route = &Route{Name: r.Route, Idle: r.Idle, Fin: r.Fin, Active: new(atomic.Int64)}
		a.routes[r.Route] = out.route
	}
	if pool := out.route.Pool; pool != nil && pool.Name == r.Pool {
		if b, ok := pool.Balancer.Adopt(r.Backend); ok {
			out.pool, out.backend = pool, b
			return out
		}
	}
	out.pool, out.backend = a.stray(r)
	return out
}

// listener finds where the session was accepted.
func (a *adopter) listener(m *Transfer) (*sockets, *Listener) {
	a.p.mu.Lock()
	s := a.p.sockets[m.Address]
	a.p.mu.Unlock()
	if s == nil {
		s = a.gone[m.Address]
	}
	if s == nil {
		s = &sockets{address: m.Address}
		s.listener.Store(&Listener{Name: m.Listener, Text: m.Address})
		s.last.Store(a.p.live.Load().table)
		a.gone[m.Address] = s
	}
	return s, s.listener.Load()
}

// stray counts a session for a backend that is no more.
func (a *adopter) stray(r *RelayTransfer) (*Pool, *balancer.Backend) {
	s := a.strays[r.Pool]
	if s == nil {
		s = &stray{pool: &Pool{Name: r.Pool, Balancer: balancer.New(r.Pool)}}
		a.strays[r.Pool] = s
	}
	b, ok := s.pool.Balancer.Adopt(r.Backend)
	if !ok {
		s.specs = append(s.specs, balancer.Spec{ID: r.Backend, Weight: 1, Value: &Target{Name: r.Backend}})
		s.pool.Balancer.Update(s.specs)
		b, _ = s.pool.Balancer.Adopt(r.Backend)
	}
	return s.pool, b
}

// take makes a session of what another process has sent.
func (w *worker) take(a *adoption) {
	p, m := w.p, a.m
	own := w.id
	s := w.get()
	w.id = own
	s.id = m.ID
	s.socks, s.listener = a.socks, a.listener
	w.countsOf(s.listener.Name).begun.Add(1)
	s.accepted, s.stamp = p.at(m.Accepted), p.at(m.LastByte)
	s.peer, s.sni = m.Peer, m.SNI
	if m.Proxied {
		s.proxied = &proxied{client: m.Client, local: m.Local}
	}
	if m.Print {
		s.print = w.prints.shared(fingerprint{m.ALPN, m.JA4})
	}
	s.helloTook, s.dialTook, s.queueTook = span(m.Hello), span(m.Dial), span(m.Queue)
	s.retries, s.gotBytes = m.Retries, m.Sent
	s.c.fd, s.b.fd = int32(m.ClientFD), -1
	if s.addrHeld = m.Counted; s.addrHeld {
		p.perAddr.rejoin(addrKey(s.client().Addr()), 1, 0)
	}
	if m.Relay != nil {
		s.takeRelay(a)
		return
	}
	s.takeOpening(m.Opening)
}

// takeRelay goes on with a session that has its backend.
func (s *session) takeRelay(a *adoption) {
	r := a.m.Relay
	s.w.giveOpening(s)
	s.route, s.pool, s.backend = a.route, a.pool, a.backend
	s.route.Active.Add(1)
	s.routeHeld = true
	s.b.fd = int32(a.m.BackendFD)
	s.half, s.armed = r.Half, r.Armed
	s.phase = inRelay
	s.relay.Resume(s.w.env, int(s.c.fd), int(s.b.fd), &r.Stand)
	if s.register() {
		s.goOn()
	}
}

// takeOpening goes on with a session that has none yet.
func (s *session) takeOpening(o *OpeningTransfer) {
	w, p := s.w, s.w.p
	live := p.live.Load()
	s.limits = live.limits
	s.limited, s.addr = o.Limited, o.Addr
	if s.addrHello = o.AddrHello; s.addrHello {
		p.perAddr.rejoin(s.addr, 0, 1)
	}
	if len(o.Bytes) > 0 {
		s.peek.buf = append(w.env.Borrow(len(o.Bytes)), o.Bytes...)
	}
	s.header, s.wantHeader = o.Header, o.WantHeader
	s.helloUntil = p.at(o.Until)
	if !s.register() {
		return
	}
	if !o.Whole {
		p.hellos.Add(1)
		s.helloHeld = true
		w.l.Set(&s.timer, min(s.helloUntil, w.l.Now()+helloGrace), s)
		return
	}
	hello, outcome, err := s.examine(s.peek.buf)
	switch {
	case err != nil:
		s.refuse(outcome, err.Error())
	case hello == nil: // a lower max_hello cannot make it less than whole
		s.refuse(Internal, "a whole hello is not whole any more")
	default:
		s.took(hello, s.peek.buf)
	}
}

// CloseAll closes the descriptors of sessions that nobody adopts.
func CloseAll(sessions []Transfer) {
	for i := range sessions {
		sessions[i].Close()
	}
}
