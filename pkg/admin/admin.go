// Package admin lets operators see and change a running balancer: HTTP and JSON over a
// Unix socket, and the reading half of it over TCP.
//
// Start at [New] and [Server.Run]; [Server.Prepare] gives it the places to answer at.
// openapi.yaml is the description of all it answers, which it serves itself, and
// pkg/admin/client the Go client that the command line uses.
//
// Whoever may connect to the Unix socket may change the balancer: the permissions of
// its file decide that, and each change is logged with the user and the process that
// the kernel names. Over TCP nothing can be changed, and nothing is told that the
// configuration keeps secret.
//
// The package does nothing by itself: what is read and changed are functions of
// [Options]. A client that is slow, silent or many holds a connection of this package's
// own few, for a bounded time, and nothing that sessions want.
package admin

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Bounds of what clients can hold, of each place.
const (
	mostConns     = 32
	mostAnswers   = 4 // under way: each may take as much memory as there are sessions
	mostFollowers = 8 // of events
	headerTimeout = 5 * time.Second
	requestTime   = 10 * time.Second // to send a request
	turnTime      = 10 * time.Second // to wait for a turn
	answerTime    = 30 * time.Second // for all that, and to take the answer
	profileTime   = 5 * time.Minute  // the same of a profile
	eventTime     = 10 * time.Second // to take one event
	idleTimeout   = 10 * time.Second
	mostHeader    = 16 << 10
	mostBody      = 64 << 10
	// endTime is how long requests under way have when a place is given up.
	endTime = time.Second
)

// Options are what is shown and done. All functions may be called from any goroutine;
// an error that is no *[Error] is answered as a fault of the process. None may be nil.
type Options struct {
	Log     *slog.Logger
	Metrics http.Handler
	Events  *Events
	// NotReady says why sessions had better go elsewhere; nothing: they need not.
	NotReady func() []string

	Status       func() Status
	Routes       func() []Route
	Backends     func() []Backend
	Sessions     func(context.Context, SessionQuery) (Sessions, error)
	Certificates func() []Certificate
	Refused      func() []Refusal
	Explain      func(Question) (Explanation, error)
	Config       func() string
	Difference   func(context.Context) (Difference, error)

	Reload    func(context.Context) (Reloaded, error)
	Upgrade   func(ctx context.Context, binary string) (Upgraded, error) // empty: the running one's path
	SetState  func(pool, backend, state, by string) error
	SetWeight func(pool, backend string, weight int, by string) error // negative: the declared one
	Kill      func(ctx context.Context, session string) error
}

// Server answers at the places it is given. Prepare and Commit are for one goroutine at
// a time.
type Server struct {
	o       Options
	live    live
	serving sync.WaitGroup

	mu     sync.Mutex // guards the fields below
	socket *place     // nil: none
	tcp    *place     // nil: none
	ended  bool

	inherited *Inherited // until the first Commit; nil: nothing
}

// New returns a Server that answers nowhere yet.
func New(o Options) *Server {
	s := &Server{o: o}
	s.live.o = &s.o
	return s
}

// Run answers until ctx is done, and returns when every request is over.
func (s *Server) Run(ctx context.Context) error {
	<-ctx.Done()
	s.mu.Lock()
	s.ended = true
	for _, p := range []*place{s.socket, s.tcp} {
		if p != nil {
			s.retire(p)
		}
	}
	s.socket, s.tcp = nil, nil
	s.mu.Unlock()
	s.serving.Wait()
	return nil
}

// place is one address that is answered at.
type place struct {
	socket   SocketSettings // of a Unix socket
	address  string         // of TCP, as it was asked for
	file     *socketFile    // of a Unix socket
	listener net.Listener
	http     *http.Server
	cancel   context.CancelFunc // ends what would go on for ever
}

// serve begins to answer at p. The caller holds mu.
func (s *Server) serve(p *place) {
	handler := s.readOnly()
	switch {
	case p.file != nil:
		handler = s.all()
	case local(p.listener.Addr()):
		handler = ofThisMachine(handler)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	p.http = &http.Server{
		Handler:           http.MaxBytesHandler(handler, mostBody),
		ReadHeaderTimeout: headerTimeout, ReadTimeout: requestTime, IdleTimeout: idleTimeout, MaxHeaderBytes: mostHeader,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ConnContext: withPeer,
		ErrorLog:    slog.NewLogLogger(s.o.Log.Handler(), slog.LevelDebug),
	}
	s.serving.Go(func() {
		if err := p.http.Serve(limited(p.listener, mostConns)); !errors.Is(err, http.ErrServerClosed) {
			s.o.Log.Error("admin api answers no more", slog.String("address", p.String()), slog.Any("error", err))
		}
	})
}

// retire stops answering at p; requests under way have endTime. The caller holds mu.
func (s *Server) retire(p *place) {
	if p.file != nil {
		p.file.remove()
	}
	p.cancel()
	s.serving.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), endTime)
		defer cancel()
		if p.http.Shutdown(ctx) != nil {
			p.http.Close()
		}
	})
}

// String is the place as the log tells of it.
func (p *place) String() string {
	if p.file != nil {
		return "unix:" + p.socket.Path
	}
	return p.listener.Addr().String()
}

// limited is l with at most n connections at a time; further ones wait in the kernel.
func limited(l net.Listener, n int) net.Listener {
	return &limitedListener{Listener: l, places: make(chan struct{}, n), closed: make(chan struct{})}
}

type limitedListener struct {
	net.Listener
	places chan struct{}
	once   sync.Once
	closed chan struct{}
}

// Accept implements net.Listener.
func (l *limitedListener) Accept() (net.Conn, error) {
	select {
	case l.places <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.places
		return nil, err
	}
	return &limitedConn{Conn: c, leave: sync.OnceFunc(func() { <-l.places })}, nil
}

// Close implements net.Listener.
func (l *limitedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// limitedConn gives its place back when it is closed.
type limitedConn struct {
	net.Conn
	leave func()
}

// Close implements net.Conn.
func (c *limitedConn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
