package web

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/snicketlb/snicket/balancer"
)

const (
	// keepIdle is how long a connection to a backend waits for its next request.
	// It is below the 60 s of nginx and Apache's Tomcat, so that it is seldom the
	// backend that closes one which is about to be used; a backend that is less
	// patient and says so (Keep-Alive: timeout=5) is taken at its word.
	keepIdle = 50 * time.Second

	// maxIdle bounds what one backend is kept idle connections of.
	maxIdle = 256

	// sweepEvery is how often idle connections are looked at.
	sweepEvery = 5 * time.Second
)

// shelf holds the connections to backends that one client, or all clients of a
// shared [Pool], can use.
type shelf struct {
	pool *Pool

	mu     sync.Mutex // guards the fields below
	lanes  map[laneKey]*lane
	sweep  *time.Timer // set while something may be idle
	closed bool
}

func newShelf(p *Pool) *shelf { return &shelf{pool: p, lanes: make(map[laneKey]*lane)} }

// laneKey says what two requests must have in common to go over one connection.
type laneKey struct {
	backend *balancer.Backend
	name    string // the server name, where it counts
}

// lane returns the connections to b that may serve c. The caller leaves the lane when
// its request is over.
func (s *shelf) lane(b *balancer.Backend, c *Client) *lane {
	key := laneKey{backend: b}
	if s.pool.o.PerName {
		key.name = c.SNI
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lanes[key]
	if l == nil {
		l = &lane{shelf: s, backend: b, closed: s.closed}
		if !s.closed {
			s.lanes[key] = l
		}
	}
	l.mu.Lock()
	l.users++
	l.mu.Unlock()
	return l
}

// close closes what is idle now, and the rest as it becomes idle.
func (s *shelf) close() {
	s.mu.Lock()
	lanes := s.lanes
	s.lanes, s.closed = nil, true
	if s.sweep != nil {
		s.sweep.Stop()
	}
	s.mu.Unlock()
	for _, l := range lanes {
		closeAll(l.prune(time.Time{}))
	}
}

// arm sees to it that idle connections are looked at.
func (s *shelf) arm() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sweep == nil && !s.closed {
		s.sweep = time.AfterFunc(sweepEvery, s.swept)
	}
}

// swept closes what has been idle for too long and forgets lanes that are empty.
func (s *shelf) swept() {
	now := time.Now()
	s.mu.Lock()
	s.sweep = nil
	var gone []*link
	rest := false
	for key, l := range s.lanes {
		gone = append(gone, l.prune(now)...)
		if l.empty() {
			delete(s.lanes, key)
		} else {
			rest = true
		}
	}
	s.mu.Unlock()
	closeAll(gone)
	if rest {
		s.arm()
	}
}

func closeAll(links []*link) {
	for _, k := range links {
		_ = k.cc.Close()
	}
}

// lane is one way to a backend: the connections that can take a request.
type lane struct {
	shelf   *shelf
	backend *balancer.Backend

	mu     sync.Mutex // guards the fields below
	closed bool
	plain  bool    // the backend has spoken HTTP/1.1: dials need not wait for each other
	idle   []*link // HTTP/1.1, the one used last at the end
	multi  []*link // HTTP/2
	users  int     // requests on their way, which may add a connection
	dial   *dial   // under way, and of use to others if it becomes HTTP/2
}

// leave says that a request for which the lane was given out is over.
func (l *lane) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.users--
}

// dial is one that others wait for.
type dial struct {
	done chan struct{} // closed once it is over
	err  error
}

// link is one connection to a backend.
type link struct {
	lane   *lane
	cc     *http.ClientConn
	meter  *meter
	h2     bool
	single bool // for one request alone

	keep time.Duration // how long it may be idle; of HTTP/1.1: whose request it has sets it

	// Guarded by the lane's mu. until is when an idle one is to be closed, uses how
	// many requests are under way.
	until time.Time
	uses  int
}

// meter counts what passes through a connection, so that a request that failed can
// be told from one of which nothing was sent.
type meter struct {
	net.Conn
	read, written atomic.Int64
}

// Read reads and counts.
func (m *meter) Read(b []byte) (int, error) {
	n, err := m.Conn.Read(b)
	m.read.Add(int64(n))
	return n, err
}

// Write writes and counts.
func (m *meter) Write(b []byte) (int, error) {
	n, err := m.Conn.Write(b)
	m.written.Add(int64(n))
	return n, err
}

// CloseWrite ends the direction to the backend of an upgraded connection.
func (m *meter) CloseWrite() error { return closeWrite(m.Conn) }

// take returns a connection with a place reserved for one request; fresh says that
// it was made for it. With anew no kept one is taken.
func (l *lane) take(ctx context.Context, c *Client, anew bool) (k *link, fresh bool, err error) {
	for {
		if !anew {
			if k = l.kept(); k != nil {
				l.use(k)
				return k, false, nil
			}
		}
		d, mine := l.lead()
		if mine {
			k, err = l.connect(ctx, c)
			if f := l.shelf.pool.o.Failed; err != nil && f != nil && ctx.Err() == nil && !errors.Is(err, ErrLocal) {
				f(l.backend, err)
			}
			l.led(d, err)
			return k, true, err
		}
		select {
		case <-d.done:
		case <-ctx.Done():
			return nil, false, context.Cause(ctx)
		}
		if d.err != nil && ctx.Err() == nil && !isCanceled(d.err) {
			return nil, true, d.err // what failed for the other just now need not be tried at once
		}
		anew = false
	}
}

func (l *lane) use(k *link) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k.uses++
}

// kept returns a kept connection with a place reserved, or nil.
func (l *lane) kept() *link {
	for {
		l.mu.Lock()
		var k *link
		if n := len(l.idle); n > 0 {
			k = l.idle[n-1]
			l.idle = slices.Delete(l.idle, n-1, n)
		}
		multi := l.multi
		l.mu.Unlock()
		if k != nil {
			if k.cc.Reserve() == nil {
				return k
			}
			_ = k.cc.Close() // the backend has closed it
			continue
		}
		for _, k := range multi {
			if k.cc.Reserve() == nil {
				return k
			}
		}
		return nil
	}
}

// lead reports whether the caller may dial; if not, it waits for the other that
// does. While a backend may speak HTTP/2, one connection is made at a time: it is
// likely to do for all.
func (l *lane) lead() (d *dial, mine bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.plain || !slices.Contains(l.shelf.pool.o.ALPN, "h2") {
		return nil, true
	}
	if l.dial != nil {
		return l.dial, false
	}
	l.dial = &dial{done: make(chan struct{})}
	return l.dial, true
}

func (l *lane) led(d *dial, err error) {
	if d == nil {
		return
	}
	l.mu.Lock()
	l.dial = nil
	l.mu.Unlock()
	d.err = err
	close(d.done)
}

// connect makes a connection, with a place reserved on it.
func (l *lane) connect(ctx context.Context, c *Client) (*link, error) {
	p := l.shelf.pool
	raw, proto, err := p.o.Dial(ctx, l.backend, c, p.o.ALPN)
	if err != nil {
		return nil, err
	}
	single, once := raw.(Single)
	if once {
		raw = single.Conn
	}
	k := &link{lane: l, meter: &meter{Conn: raw}, h2: proto == "h2", single: once, keep: keepIdle}
	t := p.http1
	if k.h2 {
		t = p.http2
	}
	// The connection is handed to net/http by its dialer, for which a context is
	// the only way in.
	k.cc, err = t.NewClientConn(context.WithValue(ctx, dialed{}, net.Conn(k.meter)), "http", anyHost+":80")
	if err == nil {
		err = k.cc.Reserve()
	}
	if err != nil {
		raw.Close()
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.plain = !k.h2
	k.uses = 1
	if k.h2 && !l.closed && !k.single {
		l.multi = append(l.multi, k)
	}
	return k, nil
}

// without returns links without k, in memory of its own: kept looks at the former
// one without the lock.
func without(links []*link, k *link) []*link {
	if !slices.Contains(links, k) {
		return links
	}
	return slices.DeleteFunc(slices.Clone(links), func(x *link) bool { return x == k })
}

// put takes back a connection whose request is over. One that has failed is not
// used again.
func (l *lane) put(k *link, failed bool) {
	usable := !failed && !k.single && k.cc.Err() == nil && (k.h2 || k.cc.Available() > 0)
	l.mu.Lock()
	k.uses--
	k.until = time.Now().Add(k.keep)
	usable = usable && !l.closed
	switch {
	case k.h2 && !usable:
		l.multi = without(l.multi, k)
	case k.h2:
	case usable && len(l.idle) < maxIdle && k.keep > 0 && !l.backend.Marked(balancer.Draining):
		l.idle = append(l.idle, k)
	default:
		usable = false
	}
	over := !usable && k.uses == 0
	l.mu.Unlock()
	switch {
	case over:
		_ = k.cc.Close()
	case usable:
		l.shelf.arm()
	}
}

// prune takes out of the lane what has been idle for too long, for the caller to
// close. The zero time closes the lane for good.
func (l *lane) prune(now time.Time) (gone []*link) {
	l.mu.Lock()
	defer l.mu.Unlock()
	// A request that takes one of them at this instant sends it again.
	l.closed = l.closed || now.IsZero()
	all := l.closed || l.backend.Marked(balancer.Draining)
	over := func(k *link) bool {
		if k.cc.Err() == nil && (k.uses > 0 || k.cc.InFlight() > 0 || !all && now.Before(k.until)) {
			return false
		}
		gone = append(gone, k)
		return true
	}
	l.idle = slices.DeleteFunc(l.idle, over)
	l.multi = slices.DeleteFunc(slices.Clone(l.multi), over)
	return gone
}

func (l *lane) empty() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.idle)+len(l.multi)+l.users == 0 && l.dial == nil
}

// heed takes note of how long the backend says it keeps an idle connection: a
// second less is what we do.
func (k *link) heed(h http.Header) {
	for _, v := range h["Keep-Alive"] {
		for p := range strings.SplitSeq(v, ",") {
			name, value, _ := strings.Cut(p, "=")
			if n, err := strconv.Atoi(strings.TrimSpace(value)); err == nil && strings.EqualFold(strings.TrimSpace(name), "timeout") {
				k.keep = min(time.Duration(n-1)*time.Second, keepIdle)
			}
		}
	}
}
