package lab

import (
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Conn is a connection a [Server] accepted: plain TCP, or TLS over it when the server has a TLS configuration.
type Conn struct {
	net.Conn
	tcp *net.TCPConn
}

// waitGone returns once the connection is gone: closed on this side, reset, or closed by both. A read cannot tell,
// after a FIN it returns at once, and one that is not read from has none; so look at the socket's state.
func (c *Conn) waitGone() {
	raw, err := c.tcp.SyscallConn()
	if err != nil {
		return
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		gone := false
		if err := raw.Control(func(fd uintptr) {
			info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
			gone = err != nil || info.State == unix.BPF_TCP_CLOSE
		}); err != nil || gone {
			return
		}
	}
}

// CloseWrite ends this side's direction: close_notify and FIN under TLS, FIN alone on plain TCP.
func (c *Conn) CloseWrite() error {
	if t, ok := c.Conn.(*tls.Conn); ok {
		if err := t.CloseWrite(); err != nil {
			return err
		}
	}
	return c.tcp.CloseWrite()
}

// Reset closes the connection by RST, so that the peer reads "connection reset by peer".
func (c *Conn) Reset() error {
	if err := c.tcp.SetLinger(0); err != nil {
		return err
	}
	return c.tcp.Close()
}

// TCP returns the connection below TLS, or the plain connection itself. It is for options; its bytes are the server's.
func (c *Conn) TCP() *net.TCPConn { return c.tcp }

// A Handler serves one connection on a goroutine of its own. The connection is closed when it returns. It must return
// once the connection fails, which the end of its [Server] brings about.
type Handler func(c *Conn)

// Options of a [Server]. The zero value is a plain server on a free port of 127.0.0.1.
type Options struct {
	Listener net.Listener // if set, the listener to serve; the server owns it. It must be a *net.TCPListener.
	Addr     string       // address to listen on; default "127.0.0.1:0"
	TLS      *tls.Config  // if set, each connection shakes hands first, on the handler's first read or write
}

// Server is a real TCP server for the length of a test. Its methods may be called from any goroutine.
type Server struct {
	listener *net.TCPListener
	tls      *tls.Config
	handler  Handler
	wg       sync.WaitGroup

	mu       sync.Mutex // mu guards the fields below
	changed  *sync.Cond // of mu; each change of accepted or conns
	accepted int
	conns    map[*Conn]struct{}
	closed   bool
}

// Serve starts a server that hands each connection to h. It is closed, with every connection, when the test ends.
func Serve(t testing.TB, h Handler, o Options) *Server {
	t.Helper()
	l := o.Listener
	if l == nil {
		addr := o.Addr
		if addr == "" {
			addr = "127.0.0.1:0"
		}
		l = Listen(t, addr)
	}
	s := &Server{listener: l.(*net.TCPListener), tls: o.TLS, handler: h, conns: map[*Conn]struct{}{}}
	s.changed = sync.NewCond(&s.mu)
	s.wg.Go(s.accept)
	t.Cleanup(s.Close)
	return s
}

// Listen listens on addr, by plain TCP (no MPTCP), and fails the test when it cannot.
func Listen(t testing.TB, addr string) *net.TCPListener {
	t.Helper()
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return l.(*net.TCPListener)
}

// Addr returns the address the server listens on, as "IP:port".
func (s *Server) Addr() string { return s.listener.Addr().String() }

// AddrPort returns the address the server listens on.
func (s *Server) AddrPort() netip.AddrPort {
	return s.listener.Addr().(*net.TCPAddr).AddrPort()
}

// Accepted returns how many connections the server has accepted so far.
func (s *Server) Accepted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.accepted
}

// Open returns how many connections the server holds now.
func (s *Server) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// WaitAccepted waits until the server has accepted at least n connections.
func (s *Server) WaitAccepted(t testing.TB, n int) {
	t.Helper()
	if !s.wait(func() bool { return s.accepted >= n }) {
		t.Fatalf("server %s accepted %d connections, want %d", s.Addr(), s.Accepted(), n)
	}
}

// WaitOpen waits until the server holds exactly n connections.
func (s *Server) WaitOpen(t testing.TB, n int) {
	t.Helper()
	if !s.wait(func() bool { return len(s.conns) == n }) {
		t.Fatalf("server %s holds %d connections, want %d", s.Addr(), s.Open(), n)
	}
}

// wait waits for a condition over the fields of mu, for Patience at most.
func (s *Server) wait(condition func() bool) bool {
	late := false
	timer := time.AfterFunc(Patience, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		late = true
		s.changed.Broadcast()
	})
	defer timer.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for !condition() && !late {
		s.changed.Wait()
	}
	return condition()
}

// ResetAll resets every connection the server holds.
func (s *Server) ResetAll() {
	for _, c := range s.all() {
		c.Reset()
	}
}

// Close stops accepting, closes every connection and waits for their handlers. It may be called more than once.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.listener.Close()
	for _, c := range s.all() {
		c.tcp.Close()
	}
	s.wg.Wait()
}

func (s *Server) all() []*Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	conns := make([]*Conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	return conns
}

func (s *Server) accept() {
	for {
		tcp, err := s.listener.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // ECONNABORTED: that client's loss
		}
		c := &Conn{Conn: tcp, tcp: tcp}
		if s.tls != nil {
			c.Conn = tls.Server(tcp, s.tls)
		}
		if s.add(c) {
			s.wg.Go(func() { s.serve(c) })
		}
	}
}

func (s *Server) add(c *Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		c.tcp.Close()
		return false
	}
	s.accepted++
	s.conns[c] = struct{}{}
	s.changed.Broadcast()
	return true
}

func (s *Server) serve(c *Conn) {
	s.handler(c)
	c.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.changed.Broadcast()
}
