package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/snicketlb/snicket/balancer"
	"github.com/snicketlb/snicket/pkg/loop"
	"github.com/snicketlb/snicket/pkg/terminate"
	"github.com/snicketlb/snicket/pkg/web"
)

// A guest is what a session is to the goroutines that serve its requests. They know
// nothing of the session, which stays on its loop and outlives them.
type guest struct {
	p      *Proxy
	w      *worker // for its counters alone
	by     server
	client web.Client
	conn   guestConn
	caller caller
	route  *Route        // its own; nil on an http listener
	idle   time.Duration // no byte either way; 0: no bound
	// handshake bounds one with a backend, and the end of the one with the client.
	handshake time.Duration
	tls       *terminate.Conn // under the client's TLS; nil: plain
	cancel    context.CancelFunc
	cut       context.CancelFunc // ends its requests at once
	socks     *sockets
	offers    offered // of the hello; nil on an http listener
	plain     bool    // of an http listener
	sorry     bool    // it is only told that no backend is ready

	decided bool // how it ends: the loop's

	picked atomic.Pointer[balancer.Backend]
	dial   atomic.Int64 // how long the last one took, and 1
	tunnel atomic.Bool  // it carries WebSocket

	// The goroutine's until it is done, then the loop's.
	result web.Result
	failed error // before or instead of that

	mu        sync.Mutex // guards the fields below
	transport net.Conn
	aborted   bool
	parted    chan struct{} // nil: it is not being told of its end; closed once it has been
}

func newGuest(s *session, by server, cancel context.CancelFunc, prefix []byte) *guest {
	t := s.term
	g := &guest{p: s.w.p, w: s.w, by: by, cancel: cancel, caller: s.caller(), socks: s.socks, sorry: t.sorry}
	g.conn.g = g
	g.conn.prefix = prefix
	if g.route = s.route; s.route != nil {
		g.conn.counts = s.route.Counts.of(s.w.index)
	}
	g.conn.stamp()
	life, cut := context.WithCancel(context.Background()) // ends with the goroutine
	g.cut = cut
	g.client = web.Client{
		Conn: &g.conn, Context: life, Addr: g.caller.client, Local: g.caller.local, ID: s.id.String(), SNI: s.sni,
		Left: g.left, Switched: func() { g.tunnel.Store(true) }, Picked: g.picked.Store,
	}
	if t.near == nil {
		g.plain = true
		g.idle, g.handshake = s.listener.Idle, s.listener.Handshake
		return g
	}
	if g.offers = t.offers; g.offers == nil {
		g.offers = strings.Split(s.print.alpn, ",")
	}
	state := t.near.ConnectionState()
	g.caller.alpn, g.caller.tls, g.client.TLS = t.alpn, t.secured(&state), &state
	g.conn.Conn, g.tls = t.near, &t.client
	g.idle, g.handshake = s.route.Idle, s.route.Handshake
	return g
}

var errEndedMeanwhile = errors.New("ended on its way off the loop")

// arrive makes the descriptor the goroutine's.
func (g *guest) arrive(fd int, timeouts *Timeouts) error {
	transport, err := loop.NetConn(fd)
	if err != nil {
		return err
	}
	loop.Control(transport, func(fd int) { setKeepalive(fd, timeouts) })
	g.mu.Lock()
	g.transport = transport
	aborted := g.aborted
	g.mu.Unlock()
	if aborted {
		return errEndedMeanwhile
	}
	if g.tls == nil {
		g.conn.Conn = transport
		return nil
	}
	_ = transport.SetWriteDeadline(time.Now().Add(g.handshake))
	if err := g.tls.Leave(transport); err != nil {
		return err
	}
	return transport.SetWriteDeadline(time.Time{})
}

// abort resets the client's connection, or has it be reset as soon as it is there.
func (g *guest) abort() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.aborted = true
	g.conn.endedBy(BySnicket)
	if g.transport != nil {
		resetConn(g.transport)
	}
	g.cut()
}

// left looks whether the client has left.
func (g *guest) left() web.Presence {
	now := web.Here
	if transport := g.transportNow(); transport != nil {
		loop.Control(transport, func(fd int) {
			switch {
			case loop.Gone(fd):
				now = web.Gone
			case loop.Ended(fd):
				now = web.Ended
			}
		})
	}
	switch now {
	case web.Here:
	case web.Ended:
		g.conn.endedBy(ByClient)
	case web.Gone:
		g.conn.note(syscall.ECONNRESET)
	}
	return now
}

// resetConn closes a connection so that its peer sees a reset.
func resetConn(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

// finish fills in what a record has of a session whose goroutines are done.
func (g *guest) finish(r *Record) {
	r.BytesIn, r.BytesOut = g.conn.in.Load(), g.conn.out.Load()
	r.Requests = g.result.Requests
	r.Pool, r.Backend = g.last()
}

// last is where the last request went; empty: none did.
func (g *guest) last() (pool, backend string) {
	b := g.picked.Load()
	if b == nil {
		return "", ""
	}
	t := b.Value().(*Target)
	if t.Pool != nil {
		pool = t.Pool.Name
	}
	return pool, t.Name
}

// outcome is how the session ended, by itself.
func (g *guest) outcome() (o Outcome, by Party, why string) {
	by, broken := g.conn.end()
	switch {
	case broken != nil:
		return ClientReset, ByClient, broken.Error()
	case errors.Is(g.failed, os.ErrDeadlineExceeded):
		return HandshakeTimeout, BySnicket, g.failed.Error()
	case g.failed != nil:
		return Internal, BySnicket, g.failed.Error()
	case g.sorry:
		return NoBackend, BySnicket, balancer.ErrNoBackend.Error()
	case g.result.Err != nil:
		o, by = outcomeOfRequest(g.result.Err)
		return o, by, g.result.Err.Error()
	case g.plain && g.result.Requests == 0 && by == ByClient:
		return NoHello, ByClient, ""
	case g.plain && g.result.Requests == 0:
		return HelloTimeout, BySnicket, "no whole request header in time"
	}
	return OK, by, ""
}

// outcomeOfRequest is what a request failed by that was not answered as it should.
func outcomeOfRequest(err error) (Outcome, Party) {
	var unreached *reachError
	switch {
	case errors.Is(err, web.ErrIdle):
		return IdleTimeout, BySnicket
	case errors.Is(err, web.ErrQueueTimeout):
		return QueueTimeout, BySnicket
	case errors.As(err, &unreached):
		return unreached.outcome, unreached.by
	case errors.Is(err, balancer.ErrNoBackend), errors.Is(err, balancer.ErrFull), errors.Is(err, balancer.ErrQueueFull):
		return NoBackend, BySnicket
	}
	return BackendReset, ByBackend
}

// guestConn is a client's connection in plain text: it counts what passes, and notes
// how it ended.
type guestConn struct {
	net.Conn // TLS with the client, or its transport
	g        *guest
	prefix   []byte      // read before; the reader's
	counts   *routeCount // of its route; nil: nothing counts

	in, out atomic.Int64
	last    atomic.Int64 // when a byte last passed, from the proxy's start

	mu     sync.Mutex // guards the fields below
	first  Party      // who ended it
	broken error      // by which the client did
}

func (c *guestConn) stamp() { c.last.Store(int64(time.Since(c.g.p.start))) }

// lastByte is when a byte last passed.
func (c *guestConn) lastByte() time.Duration { return time.Duration(c.last.Load()) }

// Read serves what was read before, then the connection.
func (c *guestConn) Read(b []byte) (n int, err error) {
	if len(c.prefix) > 0 && len(b) > 0 {
		n = copy(b, c.prefix)
		if c.prefix = c.prefix[n:]; len(c.prefix) == 0 {
			c.prefix = nil
		}
	} else {
		n, err = c.Conn.Read(b)
	}
	if n > 0 {
		c.in.Add(int64(n))
		if c.counts != nil {
			c.counts.in.Add(uint64(n))
		}
		c.stamp()
	}
	c.note(err)
	return n, err
}

// Write writes to the client.
func (c *guestConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if n > 0 {
		c.out.Add(int64(n))
		if c.counts != nil {
			c.counts.out.Add(uint64(n))
		}
		c.stamp()
	}
	c.note(err)
	return n, err
}

// CloseWrite ends our side: under TLS by a close_notify, which the client may wait
// for, and by a FIN.
func (c *guestConn) CloseWrite() error {
	c.endedBy(BySnicket)
	var err error
	if secured, ok := c.Conn.(*tls.Conn); ok {
		err = secured.CloseWrite()
	}
	if transport, ok := c.g.transportNow().(interface{ CloseWrite() error }); ok {
		err = errors.Join(err, transport.CloseWrite())
	}
	return err
}

// Close ends the connection in order, but for one that is being told of its end.
func (c *guestConn) Close() error {
	c.endedBy(BySnicket)
	if c.g.parting() != nil {
		return nil
	}
	return c.Conn.Close()
}

func (g *guest) transportNow() net.Conn {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.transport
}

// note looks at an error for the client's end.
func (c *guestConn) note(err error) {
	switch {
	case err == nil, errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, net.ErrClosed):
	case err == io.EOF: //nolint:errorlint // neither package net nor crypto/tls wraps it
		c.endedBy(ByClient)
	default:
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.first == Nobody {
			c.first, c.broken = ByClient, err
		}
	}
}

func (c *guestConn) endedBy(p Party) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.first == Nobody {
		c.first = p
	}
}

func (c *guestConn) end() (first Party, broken error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.first, c.broken
}
