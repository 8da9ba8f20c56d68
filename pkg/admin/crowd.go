package admin

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"
)

// crowd is a listener with a bounded number of connections. There is always room for one
// more: it takes the place of another of its own origin, where that has its share, else
// of one of the origin that has the most. So one who opens many is in nobody's way but
// its own, and nobody waits.
type crowd struct {
	net.Listener
	bound
	origin func(*guest) string

	mu     sync.Mutex // guards the field below, and the state of each
	guests []*guest   // in the order in which they came
}

func newCrowd(l net.Listener, b *bounds) *crowd {
	return &crowd{Listener: l, bound: b.conns, origin: b.origin}
}

// guest is one connection.
type guest struct {
	net.Conn
	crowd  *crowd
	origin string
	peer   peer

	asking bool      // a request is under way
	since  time.Time // when asking became so
}

// patience is how long a connection without a request is not the first to go: it may
// be about to make one.
const patience = time.Second

// Accept implements net.Listener.
func (l *crowd) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	g := &guest{Conn: c, crowd: l, since: time.Now()}
	if u, ok := c.(*net.UnixConn); ok {
		g.peer = peerOf(u)
	}
	g.origin = l.origin(g)
	if other := l.enter(g); other != nil {
		if t, ok := other.Conn.(*net.TCPConn); ok {
			_ = t.SetLinger(0) // what it does not take is not kept for it
		}
		_ = other.Close()
	}
	return g, nil
}

// enter takes g in, and returns whom it takes the place of, or nil.
func (l *crowd) enter(g *guest) (other *guest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	number := map[string]int{}
	for _, o := range l.guests {
		number[o.origin]++
	}
	switch {
	case number[g.origin] >= l.share:
		other = l.first(g.since, func(o *guest) bool { return o.origin == g.origin })
	case len(l.guests) >= l.most:
		most := 0
		for _, n := range number {
			most = max(most, n)
		}
		other = l.first(g.since, func(o *guest) bool { return number[o.origin] == most })
	}
	l.leave(other)
	l.guests = append(l.guests, g)
	return other
}

// first is the one of those that has been without a request for the longest time, or if
// all make one, that has come first.
func (l *crowd) first(now time.Time, of func(*guest) bool) (found *guest) {
	idle := func(g *guest) bool { return !g.asking && now.Sub(g.since) > patience }
	for _, g := range l.guests {
		switch {
		case !of(g):
		case found == nil, idle(g) && (!idle(found) || g.since.Before(found.since)):
			found = g
		}
	}
	return found
}

// leave forgets g. The caller holds mu.
func (l *crowd) leave(g *guest) {
	for i, o := range l.guests {
		if o == g {
			l.guests = append(l.guests[:i], l.guests[i+1:]...)
			return
		}
	}
}

// Close implements net.Conn.
func (g *guest) Close() error {
	g.crowd.mu.Lock()
	g.crowd.leave(g)
	g.crowd.mu.Unlock()
	return g.Conn.Close()
}

// connState notes whether a connection has a request under way, as http.Server.ConnState.
func connState(c net.Conn, state http.ConnState) {
	g, ok := c.(*guest)
	if !ok {
		return
	}
	g.crowd.mu.Lock()
	defer g.crowd.mu.Unlock()
	g.asking, g.since = state == http.StateActive, time.Now()
}

// byAddress is where a connection over TCP comes from: its address, or network of 64
// bits under IPv6, all of which one host may have.
func byAddress(g *guest) string {
	a, ok := g.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return ""
	}
	ip := a.AddrPort().Addr().Unmap()
	if ip.Is6() {
		return netip.PrefixFrom(ip.WithZone(""), 64).Masked().String()
	}
	return ip.String()
}

// byUser is whose a connection to a Unix socket is.
func byUser(g *guest) string { return strconv.Itoa(int(g.peer.uid)) }

type guestKey struct{}

// withGuest notes the connection of a request. It is what http.Server.ConnContext is
// for, and the one value that a context of ours carries.
func withGuest(ctx context.Context, c net.Conn) context.Context {
	g, ok := c.(*guest)
	if !ok {
		return ctx
	}
	return context.WithValue(ctx, guestKey{}, g)
}

func originFrom(ctx context.Context) string {
	if g, ok := ctx.Value(guestKey{}).(*guest); ok {
		return g.origin
	}
	return ""
}

func peerFrom(ctx context.Context) peer {
	if g, ok := ctx.Value(guestKey{}).(*guest); ok {
		return g.peer
	}
	return peer{}
}
