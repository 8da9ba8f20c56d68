package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/balancer"
	"github.com/snicketlb/snicket/pkg/loop"
	"github.com/snicketlb/snicket/pkg/terminate"
	"github.com/snicketlb/snicket/pkg/web"
)

// Dial connects to a backend of the pool for requests of c, which this package has
// given to its route's Site: the PROXY header and TLS are done, and what came of it is
// told to the backend's Target and the pool's Failed. alpn are the protocols offered if
// the pool speaks TLS, proto what the backend chose. It is what [web.PoolOptions] calls
// Dial.
//
// A backend that is reached by other settings than p's gives a [web.Single]. The
// connection is closed when the backend leaves its pool or goes down, as sessions
// are; see [Proxy.EndBackend].
func (p *Pool) Dial(ctx context.Context, b *balancer.Backend, c *web.Client, alpn []string) (conn net.Conn, proto string, err error) {
	g := c.Conn.(*guestConn).g
	t := b.Value().(*Target)
	via := p
	if t.Pool != nil {
		via = t.Pool
	}
	begun := time.Now()
	transport, err := via.connect(ctx, t, g.p)
	if err == nil {
		took := time.Since(begun)
		g.dial.Store(int64(took) + 1)
		g.w.dial.Observe(took)
		conn, proto, err = via.greet(ctx, transport, b, g, alpn)
	}
	var failed *reachError
	switch {
	case err == nil:
		reached(b, nil)
		if via.TLS != p.TLS || via.ProxyProtocol != p.ProxyProtocol {
			// Between two configurations: it may tell of a client what the Site, which
			// has it serve all, knows nothing of.
			conn = web.Single{Conn: conn}
		}
		return conn, proto, nil
	case ctx.Err() != nil: // nobody waits for it any more
		return nil, "", err
	case errors.As(err, &failed) && failed.outcome == Internal:
		return nil, "", err
	case errors.As(err, &failed) && failed.outcome == DialFailed:
		b.DialFailed()
		if via.Failed != nil {
			via.Failed(b.ID(), err)
		}
	}
	reached(b, err)
	return nil, "", err
}

// reachError is why a backend could not be reached for a request.
type reachError struct {
	outcome Outcome
	by      Party
	err     error
}

func (e *reachError) Error() string { return e.err.Error() }

// Unwrap is the error of the system or of TLS.
func (e *reachError) Unwrap() error { return e.err }

// Is tells package web which are ours.
func (e *reachError) Is(target error) bool { return target == web.ErrLocal && e.outcome == Internal }

// connect dials t, as session.dial does on a loop.
func (p *Pool) connect(ctx context.Context, t *Target, proxy *Proxy) (*backendConn, error) {
	if t.Address == nil {
		return nil, &reachError{DialFailed, BySnicket, t.unreachable()}
	}
	dialer := net.Dialer{KeepAlive: -1} // armed below, as everywhere
	dialer.SetMultipathTCP(false)
	if src, ok := p.source(int(proxy.backends.turn.Add(1)), t.Address.Family() == unix.AF_INET); ok && !t.Address.Unix() {
		dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(src, 0))
		dialer.Control = func(_, _ string, raw syscall.RawConn) error {
			return raw.Control(func(fd uintptr) { loop.SetInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1) })
		}
	}
	limited, cancel := context.WithTimeoutCause(ctx, p.DialTimeout, errDialTimeout)
	defer cancel()
	c, err := dial(limited, &dialer, t.Address)
	switch {
	case err == nil:
	case context.Cause(limited) == errDialTimeout: //nolint:errorlint // it is the cause itself
		return nil, &reachError{DialFailed, BySnicket, errDialTimeout}
	case ours(err):
		return nil, &reachError{Internal, BySnicket, plainDialError(err)}
	default:
		return nil, &reachError{DialFailed, BySnicket, plainDialError(err)}
	}
	timeouts := &proxy.live.Load().timeouts
	if !t.Address.Unix() {
		loop.Control(c, func(fd int) { setKeepalive(fd, timeouts) })
	}
	return &backendConn{Conn: c}, nil
}

// dial tries a Unix socket whose backlog is full again, of which no event tells.
func dial(ctx context.Context, d *net.Dialer, a *loop.Address) (net.Conn, error) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		c, err := d.DialContext(ctx, a.Network(), a.String())
		if err == nil || !a.Unix() || !errors.Is(err, unix.EAGAIN) {
			return c, err
		}
		pause.Reset(backlogPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// plainDialError is err without the addresses, which stand beside it.
func plainDialError(err error) error {
	if call, ok := errors.AsType[*net.OpError](err); ok {
		return call.Err
	}
	return err
}

// greet tells the backend who the client is, and shakes hands if the pool speaks TLS.
func (p *Pool) greet(ctx context.Context, c *backendConn, b *balancer.Backend, g *guest, alpn []string) (net.Conn, string, error) {
	g.p.backends.add(backendKey{p.Name, b.ID()}, c)
	if p.ProxyProtocol != 0 {
		header, err := g.p.appendHeader(nil, p.header(&g.caller))
		if err != nil {
			_ = c.Close()
			return nil, "", &reachError{Internal, BySnicket, err}
		}
		c.held = header
	}
	if p.TLS == nil {
		return c, "", nil
	}
	limited, cancel := context.WithTimeout(ctx, g.handshake)
	defer cancel()
	secured, err := p.TLS.Handshake(limited, c, terminate.Peer{
		Address: b.Value().(*Target).Address.String(), ClientSNI: g.caller.sni, Offers: alpn,
	})
	if err != nil {
		_ = c.Close()
		return nil, "", &reachError{BackendTLSFailed, ByBackend, err}
	}
	state := secured.ConnectionState()
	g.w.backendTLS.add(state.DidResume)
	return secured, state.NegotiatedProtocol, nil
}

// backendConn is a connection that requests are sent on.
type backendConn struct {
	net.Conn
	held   []byte // to go out with the first bytes; the writer's
	closed func() // takes it off the list
	once   sync.Once
}

// Write writes to the backend, which is told first what is held for it.
func (c *backendConn) Write(b []byte) (int, error) {
	if c.held == nil {
		return c.Conn.Write(b)
	}
	all := append(c.held, b...)
	before := len(c.held)
	c.held = nil
	n, err := c.Conn.Write(all)
	return max(n-before, 0), err
}

// CloseWrite ends our side.
func (c *backendConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return fmt.Errorf("%T has no half-close", c.Conn)
}

// Close ends the connection.
func (c *backendConn) Close() error {
	c.once.Do(c.closed)
	return c.Conn.Close()
}

// backendConns are those there are, by backend.
type backendConns struct {
	turn atomic.Uint32 // of source addresses

	mu   sync.Mutex // guards open
	open map[backendKey]map[*backendConn]struct{}
}

type backendKey struct{ pool, id string }

func (s *backendConns) add(k backendKey, c *backendConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[k] == nil {
		s.open[k] = map[*backendConn]struct{}{}
	}
	s.open[k][c] = struct{}{}
	c.closed = func() { s.remove(k, c) }
}

func (s *backendConns) remove(k backendKey, c *backendConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open[k], c)
	if len(s.open[k]) == 0 {
		delete(s.open, k)
	}
}

// reset ends the connections of one backend, and the requests on them.
func (s *backendConns) reset(k backendKey) {
	s.mu.Lock()
	open := make([]*backendConn, 0, len(s.open[k]))
	for c := range s.open[k] {
		open = append(open, c)
	}
	s.mu.Unlock()
	for _, c := range open {
		resetConn(c.Conn)
		_ = c.Close()
	}
}
