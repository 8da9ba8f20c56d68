package web

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// The bounds of an HTTP/2 connection that are the same for everyone. net/http
// itself ends one that resets streams faster than they can be served, and one that
// makes it answer more control frames than it takes.
const (
	maxStreams = 250         // at once, of one client
	pingAfter  = time.Minute // of silence while requests are under way
	pingWithin = 15 * time.Second
)

// What a client still sends of a request that has its answer is read away for this
// long, and as much as that.
const (
	lingerBody  = 3 * time.Second
	lingerBytes = 256 << 10
)

// limits of a visit.
type limits struct {
	maxHeader         int
	header, keepalive time.Duration
	log               *slog.Logger
}

// visit is one client connection while it is served. It has an http.Server of its
// own: that is what can tell one client, and not all, that no further request is
// taken.
type visit struct {
	client *Client
	conn   *conn
	answer func(v *visit, w http.ResponseWriter, r *http.Request)
	log    *slog.Logger
	server *http.Server

	requests, retries atomic.Int64

	mu     sync.Mutex // guards the fields below
	state  http.ConnState
	active int              // requests under way
	over   chan struct{}    // closed once the connection is done with and no request is under way
	own    map[*Pool]*shelf // connections to backends that serve this client alone
	err    error
}

func (v *visit) h2() bool { return v.client.TLS != nil && v.client.TLS.NegotiatedProtocol == "h2" }

// shelf returns the connections that the client's requests may use.
func (v *visit) shelf(p *Pool) *shelf {
	if p.shared != nil {
		return p.shared
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.own[p]
	if s == nil {
		s = newShelf(p)
		if v.own == nil {
			v.own = make(map[*Pool]*shelf)
		}
		v.own[p] = s
	}
	return s
}

func newVisit(c *Client, answer func(*visit, http.ResponseWriter, *http.Request)) *visit {
	return &visit{client: c, conn: &conn{Conn: c.Conn, client: c}, answer: answer, over: make(chan struct{})}
}

// serve speaks HTTP until the connection is over.
func (v *visit) serve(ctx context.Context, l limits) Result {
	defer v.client.Conn.Close()
	v.log = l.log
	v.server = &http.Server{
		Handler: v, ConnState: v.note, DisableGeneralOptionsHandler: true,
		ReadHeaderTimeout: l.header, IdleTimeout: l.keepalive, MaxHeaderBytes: l.maxHeader,
		ErrorLog: slog.NewLogLogger(l.log.Handler(), slog.LevelDebug),
	}
	if v.client.Context != nil {
		v.server.BaseContext = func(net.Listener) context.Context { return v.client.Context }
	}
	var p http.Protocols
	if v.h2() {
		p.SetUnencryptedHTTP2(true)
		v.server.HTTP2 = &http.HTTP2Config{
			MaxConcurrentStreams: maxStreams, SendPingTimeout: pingAfter, PingTimeout: pingWithin,
		}
	} else {
		p.SetHTTP1(true)
	}
	v.server.Protocols = &p
	_ = v.server.Serve(&only{conn: v.conn}) // ends at once, with the only connection taken
	stop := context.AfterFunc(ctx, v.drain) // not before, or the connection would not be
	defer stop()
	<-v.over
	if v.conn.deaf.Load() {
		v.conn.linger()
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, s := range v.own {
		s.close()
	}
	return Result{Requests: int(v.requests.Load()), Retries: int(v.retries.Load()), Err: v.err}
}

// drain takes no further request. A connection that is new is asked for its first one
// still, since its client was promised an answer, and has as long to say it as any.
func (v *visit) drain() {
	if !v.server.Protocols.UnencryptedHTTP2() {
		// Not Shutdown, which drops a request whose header is being read.
		v.server.SetKeepAlivesEnabled(false)
		return
	}
	done, cancel := context.WithCancel(context.Background())
	cancel()
	_ = v.server.Shutdown(done) // sends GOAWAY, and does not wait
}

// note follows the state of the connection.
func (v *visit) note(_ net.Conn, s http.ConnState) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.state = s
	v.endLocked()
}

// goneLocked reports whether net/http is done with the connection. One that was
// hijacked is its request's, and over with that.
func (v *visit) goneLocked() bool {
	return v.state == http.StateClosed || v.state == http.StateHijacked
}

func (v *visit) endLocked() {
	if v.goneLocked() && v.active == 0 {
		select {
		case <-v.over:
		default:
			close(v.over)
		}
	}
}

// fail notes why a request was not answered as it should.
func (v *visit) fail(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.err == nil {
		v.err = err
	}
}

// ServeHTTP answers one request.
func (v *visit) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	if v.goneLocked() { // a stream that began as its connection ended
		v.mu.Unlock()
		return
	}
	v.active++
	v.mu.Unlock()
	v.requests.Add(1)
	defer v.answered()
	v.answer(v, w, r)
}

// answered is the end of a request, also of one that panics.
func (v *visit) answered() {
	p := recover()
	v.mu.Lock()
	v.active--
	v.endLocked()
	v.mu.Unlock()
	if p == nil {
		return
	}
	if err, ok := p.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
		v.log.Error("a request panicked", "panic", p, "stack", string(debug.Stack()))
	}
	panic(http.ErrAbortHandler)
}

// only is a listener that has one connection.
type only struct{ conn net.Conn }

// Accept returns the connection, and io.EOF from then on.
func (l *only) Accept() (net.Conn, error) {
	c := l.conn
	l.conn = nil
	if c == nil {
		return nil, io.EOF
	}
	return c, nil
}

// Close does nothing: the connection is not the listener's any more.
func (l *only) Close() error { return nil }

// Addr returns an address that nobody asks for.
func (l *only) Addr() net.Addr { return &net.TCPAddr{} }

// conn is the client's connection as net/http sees it. That it hides what else the
// connection can do matters: one that told of its TLS would not be let speak
// HTTP/2.
type conn struct {
	net.Conn
	client *Client
	deaf   atomic.Bool
	shut   atomic.Bool // our side has ended
}

// Read reads from the client, for as long as that is listened to.
func (c *conn) Read(b []byte) (int, error) {
	if c.deaf.Load() {
		return 0, io.EOF
	}
	n, err := c.Conn.Read(b)
	if c.deaf.Load() {
		return 0, io.EOF
	}
	return n, err
}

// Close ends the connection, but for one that is deaf: the visit does that.
func (c *conn) Close() error {
	if c.deaf.Load() {
		return nil
	}
	return c.Conn.Close()
}

// linger ends our side of a connection that is deaf and reads away what still comes,
// for some time: a close with bytes unread is a reset, and the answer would be lost to
// it.
func (c *conn) linger() {
	if closeWrite(c.Conn) == nil && c.SetReadDeadline(time.Now().Add(lingerBody)) == nil {
		_, _ = io.CopyN(io.Discard, c.Conn, lingerBytes) // until the client, its patience or ours ends
	}
}

// deafen makes all that the client still sends the end of what it has sent.
func (c *conn) deafen() {
	c.deaf.Store(true)
	_ = c.SetReadDeadline(time.Unix(1, 0)) // whoever reads now ends too; an error: it is closed
}

// RemoteAddr returns the client's address.
func (c *conn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.client.Addr) }

// CloseWrite ends the direction to the client.
func (c *conn) CloseWrite() error {
	c.shut.Store(true)
	return closeWrite(c.Conn)
}
