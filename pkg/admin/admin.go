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
// own few, for a bounded time, and nothing that sessions want; nor anything that other
// clients want, see bounds.
package admin

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
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
	pages   dashboard
	serving sync.WaitGroup

	mu     sync.Mutex // guards the fields below
	socket *place     // nil: none
	tcp    *place     // nil: none
	ended  bool

	inherited *Inherited // until the first Commit; nil: nothing
}

// New returns a Server that answers nowhere yet.
func New(o Options) *Server {
	s := &Server{o: o, pages: newDashboard()}
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
	limits, handler := addressBounds(), s.readOnly
	if p.file != nil {
		limits, handler = socketBounds(), s.all
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	p.http = &http.Server{
		Handler:           http.MaxBytesHandler(handler(&limits), mostBody),
		ReadHeaderTimeout: headerTimeout, ReadTimeout: requestTime, IdleTimeout: idleTimeout, MaxHeaderBytes: mostHeader,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ConnContext: withGuest, ConnState: connState,
		ErrorLog: slog.NewLogLogger(s.o.Log.Handler(), slog.LevelDebug),
	}
	s.serving.Go(func() {
		if err := p.http.Serve(newCrowd(p.listener, &limits)); !errors.Is(err, http.ErrServerClosed) {
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
