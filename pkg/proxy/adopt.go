package proxy

import (
	"cmp"
	"math"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/snicketlb/snicket/balancer"
)

// An Arrival is what a proxy takes over from another process, that has Left it.
type Arrival struct {
	Heritage
	Sessions []Transfer // with their descriptors
	// Pools are all there are now, by name, also those that no route leads to: a session
	// that is there already stays in its own, as behind a reload.
	Pools map[string]*Pool
}

// Inherit has the first Commit go on where another process has left off: with its
// sequence of session ids, with what its clients are still to wait for, and with its
// sessions, which are spread over the loops and counted beyond every limit before anything
// is accepted. What is in a is the proxy's.
//
// A session keeps the route of its name. One whose listener, pool or backend is no more
// goes on until the drain timeout, as behind a reload.
func (p *Proxy) Inherit(a *Arrival) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.arrival = a
}

// arrive takes over what was inherited, now that a State is in force, whose routes are
// given, and that nothing is accepted yet.
func (p *Proxy) arrive(routes []*Route) {
	p.mu.Lock()
	from := p.arrival
	p.arrival = nil
	p.mu.Unlock()
	if from == nil {
		return
	}
	p.inheritRates(from.Rates)
	p.inheritIDs(from.Next)
	a := newAdopter(p, routes, from.Pools)
	shares := make([][]adoption, len(p.workers))
	for i, m := range inOrder(from.Sessions) {
		p.active.Add(1)
		if m.Counted {
			p.perAddr.rejoin(addrKey(m.client().Addr()), 1, 0)
		}
		n := i % len(shares)
		shares[n] = append(shares[n], a.adoption(m))
	}
	drain := p.live.Load().timeouts.Drain
	for i, w := range p.workers {
		w.l.Post(func() {
			for j := range shares[i] {
				w.take(&shares[i][j])
			}
			if a.anyGone() {
				w.after(drain, func() { w.endMatching(a.gone, Drained) })
			}
		})
	}
	p.barrier() // whoever comes now finds all counted, and queues behind those that wait
}

// inheritRates has clients wait as long as another process would have them.
func (p *Proxy) inheritRates(rates []AddrRate) {
	now := time.Since(p.start)
	for _, r := range rates {
		if due := p.at(r.Due); due > now {
			p.perAddr.setRate(r.Addr, due, now)
		}
	}
}

// inheritIDs goes on with the sequences of another process's loops. Those of loops that
// are not here are kept for the process that may have them again.
func (p *Proxy) inheritIDs(next []SessionID) {
	if len(next) == 0 {
		return
	}
	const sequence = 1<<40 - 1
	highest := slices.MaxFunc(next, func(a, b SessionID) int { return cmp.Compare(a&sequence, b&sequence) })
	for i, w := range p.workers {
		// A loop that was not there before begins above all others.
		id := highest&^(0xff<<40) | SessionID(i)<<40
		if i < len(next) {
			id = next[i]
		}
		w.l.Post(func() { w.id = id })
	}
	p.spare = slices.Clone(next[min(len(p.workers), len(next)):])
}

// inOrder is the sessions, those that wait for a backend behind all others and in the
// order in which they came.
func inOrder(sessions []Transfer) []*Transfer {
	all := make([]*Transfer, len(sessions))
	for i := range sessions {
		all[i] = &sessions[i]
	}
	since := func(m *Transfer) int64 {
		if m.Opening != nil && m.Opening.Waits {
			return m.Opening.Since
		}
		return math.MinInt64
	}
	slices.SortStableFunc(all, func(a, b *Transfer) int { return cmp.Compare(since(a), since(b)) })
	return all
}

// client is as of a session.
func (m *Transfer) client() netip.AddrPort {
	if m.Proxied {
		return m.Client
	}
	return m.Peer
}

// adoption is a session with what it belongs to here.
type adoption struct {
	m        *Transfer
	socks    *sockets
	listener *Listener
	route    *Route
	pool     *Pool
	backend  *balancer.Backend
}

// adopter finds what sessions belong to.
type adopter struct {
	p         *Proxy
	routes    map[string]*Route
	pools     map[string]*Pool
	strays    map[string]*stray   // by the pool's name
	listeners map[string]*sockets // that are no more, by Text
}

// A stray stands for a pool that has lost a backend, or is lost itself, but for the
// sessions that are left.
type stray struct {
	pool  *Pool
	specs []balancer.Spec
}

func newAdopter(p *Proxy, routes []*Route, pools map[string]*Pool) *adopter {
	a := &adopter{p: p, routes: make(map[string]*Route, len(routes)), pools: pools, strays: map[string]*stray{}, listeners: map[string]*sockets{}}
	for _, r := range routes {
		a.routes[r.Name] = r
	}
	return a
}

// anyGone reports whether there may be sessions that are gone.
func (a *adopter) anyGone() bool { return len(a.strays)+len(a.listeners) > 0 }

// gone reports whether the listener, the pool or the backend of a session is no more.
func (a *adopter) gone(s *session) bool {
	if l := a.listeners[s.socks.address]; l != nil && l == s.socks {
		return true
	}
	if s.pool == nil {
		return false
	}
	stray := a.strays[s.pool.Name]
	return stray != nil && stray.pool == s.pool
}

// adoption counts the session for its route and its backend.
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
	out.route.Active.Add(1)
	if pool := a.pools[r.Pool]; pool != nil {
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
		s = a.listeners[m.Address]
	}
	if s == nil {
		s = &sockets{address: m.Address}
		s.listener.Store(&Listener{Name: m.Listener, Text: m.Address})
		s.last.Store(a.p.live.Load().table)
		a.listeners[m.Address] = s
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
	s.addrHeld = m.Counted
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
	s.waits, s.since = o.Waits, p.at(o.Since)
	s.helloUntil = p.at(o.Until)
	if !s.register() {
		return
	}
	if !o.Whole {
		p.hellos.Add(1)
		s.helloHeld = true
		w.l.Set(&s.timer, w.l.Now()+lookTime, s)
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
		s.waited()
	}
}

// waited notes how long a session has waited elsewhere that need not wait here.
func (s *session) waited() {
	if s.w != nil && s.opening != nil && s.waits {
		s.waits = false
		s.queueTook = spanOf(max(s.queueTook.duration(), 0) + s.w.l.Now() - s.since)
	}
}

// CloseAll closes the descriptors of sessions that nobody adopts.
func CloseAll(sessions []Transfer) {
	for i := range sessions {
		sessions[i].Close()
	}
}
