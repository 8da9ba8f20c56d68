package terminate_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/pkg/loop"
	"github.com/snicketlb/snicket/pkg/relay"
	"github.com/snicketlb/snicket/pkg/terminate"
)

// rig is a loop with what terminated sessions share there.
type rig struct {
	t         testing.TB
	l         *loop.Loop
	env       *terminate.Env
	pool      *relay.Env
	offloaded atomic.Int32
	aside     func() // called before what is done aside; may be nil
	workers   sync.WaitGroup
	stopped   chan error
	once      sync.Once
}

func newRig(t testing.TB) *rig {
	t.Helper()
	l, err := loop.New(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	l.Background(1) // the peers are goroutines
	r := &rig{t: t, l: l, pool: relay.NewEnv(0), stopped: make(chan error, 1)}
	r.env = terminate.NewEnv(r.pool, func(work, done func()) {
		r.offloaded.Add(1)
		r.workers.Go(func() {
			if r.aside != nil {
				r.aside()
			}
			work()
			l.Post(done)
		})
	})
	go func() { r.stopped <- l.Run() }()
	t.Cleanup(r.stop)
	return r
}

// stop ends the loop and checks that nothing is left on it; once.
func (r *rig) stop() {
	r.once.Do(func() {
		r.workers.Wait()
		r.do(func() {
			if n := r.env.Handshakes(); n != 0 {
				r.t.Errorf("%d handshakes are not over", n)
				return
			}
			r.env.Close()
		})
		if n := r.env.Caught(); n != 0 {
			r.t.Errorf("%d bytes left", n)
		}
		r.l.Stop()
		if err := <-r.stopped; err != nil {
			r.t.Error(err)
		}
	})
}

// do runs f on the loop and waits for it.
func (r *rig) do(f func()) {
	done := make(chan struct{})
	r.l.Post(func() {
		defer close(done)
		f()
	})
	<-done
}

// port is one socket of the balancer's, with whatever drives it at the time.
type port struct {
	r     *rig
	fd    int
	tok   loop.Token
	conn  *terminate.Conn
	shake *terminate.Handshake
	shook *terminate.Handshake   // that is over
	end   func(*tls.Conn, error) // of the handshake
	ready func(loop.Events)
}

func (r *rig) port(fd int, prefix []byte) *port {
	r.t.Helper()
	p := &port{r: r, fd: fd, conn: terminate.NewConn(r.env, fd, prefix)}
	p.ready = p.conn.Note
	r.do(func() {
		var err error
		if p.tok, err = r.l.Add(fd, p); err != nil {
			r.t.Error(err)
		}
	})
	r.t.Cleanup(func() {
		select {
		case <-r.stopped:
		default:
			r.do(func() { p.close(false) })
		}
	})
	return p
}

// Ready is the handler of the socket.
func (p *port) Ready(ev loop.Events) { p.ready(ev) }

// Wake has the handshake go on.
func (p *port) Wake() { p.step() }

func (p *port) step() {
	if p.shake == nil || !p.shake.Step() {
		return
	}
	h := p.shake
	p.shake, p.shook = nil, h
	p.ready = p.conn.Note
	p.end(h.Result())
}

// close closes the socket, in its loop.
func (p *port) close(reset bool) {
	if p.fd < 0 {
		return
	}
	if p.shake != nil {
		p.shake.Abort(net.ErrClosed)
		p.step()
	}
	p.conn.Release()
	p.r.l.Forget(p.tok)
	if reset {
		loop.Reset(p.fd)
	} else {
		loop.Close(p.fd)
	}
	p.fd = -1
}

type shaken struct {
	conn  *tls.Conn
	err   error
	shown terminate.Shown
	who   terminate.Verdict
}

// begin starts a handshake; the channel tells how it ended.
func (p *port) begin(begin func() (*terminate.Handshake, error)) <-chan shaken {
	result := make(chan shaken, 1)
	p.r.do(func() {
		p.end = func(c *tls.Conn, err error) {
			end := shaken{conn: c, err: err}
			if err == nil {
				end.shown, end.who = p.shook.Shown(), p.shook.Verdict()
			}
			result <- end
		}
		h, err := begin()
		if err != nil {
			p.end(nil, err)
			return
		}
		p.shake = h
		p.ready = func(ev loop.Events) {
			p.conn.Note(ev)
			if p.conn.Unsent() {
				_ = p.conn.Flush()
			}
			p.step()
		}
		p.step()
	})
	return result
}

func (p *port) accept(cfg *tls.Config) <-chan shaken { return p.acceptFor(cfg, host) }

// acceptFor is accept of a session that was routed by name.
func (p *port) acceptFor(cfg *tls.Config, name string) <-chan shaken {
	return p.begin(func() (*terminate.Handshake, error) { return p.r.env.Accept(p.conn, cfg, name, p), nil })
}

func (p *port) connect(b *terminate.Backend, peer terminate.Peer) <-chan shaken {
	return p.begin(func() (*terminate.Handshake, error) { return b.Connect(p.r.env, p.conn, peer, p) })
}

// readToEnd reads the plain text of c to its end and tells how that was.
func (p *port) readToEnd(c *tls.Conn) error {
	result := make(chan error, 1)
	read := func(ev loop.Events) {
		p.conn.Note(ev)
		for {
			_, err := c.Read(make([]byte, 1024))
			var temporary net.Error
			if errors.As(err, &temporary) && temporary.Timeout() {
				return
			}
			if err != nil {
				p.ready = p.conn.Note
				result <- err
				return
			}
		}
	}
	p.r.do(func() {
		p.ready = read
		read(0)
	})
	err := <-result
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// stream is a relay under way: it drives it as pkg/proxy does.
type stream struct {
	r        *rig
	ports    [2]*port
	relay    terminate.Relay
	timer    loop.Timer
	queued   bool
	ended    bool
	in, out  atomic.Uint64
	done     chan terminate.Result
	turns    int
	observer func(*stream) // after each turn, on the loop
}

func (r *rig) relay(client, backend *port, near, side *tls.Conn, o terminate.RelayOptions, observer func(*stream)) *stream {
	s := &stream{r: r, ports: [2]*port{client, backend}, done: make(chan terminate.Result, 1), observer: observer}
	r.do(func() {
		s.relay.Start(r.env, terminate.Side{TLS: near, Conn: client.conn}, terminate.Side{TLS: side, Conn: backend.conn}, o, r.l.Now())
		for i, p := range s.ports {
			p.ready = func(ev loop.Events) { s.ready(relay.Side(i), ev) }
		}
		s.ready(relay.Client, 0)
	})
	return s
}

func (s *stream) ready(side relay.Side, ev loop.Events) {
	if ev == 0 {
		s.queued = false
	}
	s.relay.Note(side, ev, s.r.l.Now())
	s.after(s.relay.Pump(s.r.l.Now()))
}

func (s *stream) after(status terminate.Status) {
	if s.ended {
		return
	}
	s.in.Store(s.relay.Bytes(relay.Client))
	s.out.Store(s.relay.Bytes(relay.Backend))
	s.turns++
	if s.observer != nil {
		s.observer(s)
	}
	switch status {
	case terminate.Over:
		s.ended = true
		s.r.l.Cancel(&s.timer)
		client, backend := s.relay.Resets()
		s.ports[0].close(client)
		s.ports[1].close(backend)
		s.done <- s.relay.Result()
		return
	case terminate.More:
		if !s.queued {
			s.queued = true
			s.r.l.Again(s.ports[0].tok)
		}
	case terminate.Waiting:
	}
	if due := s.relay.Due(s.r.l.Now()); due < 1<<62 {
		s.r.l.Set(&s.timer, due, s)
	}
}

// Expired is the timer.
func (s *stream) Expired(now time.Duration) { s.after(s.relay.Expired(now)) }

// cancel ends the relay from outside.
func (s *stream) cancel(why error) {
	s.r.do(func() {
		if !s.ended {
			s.relay.Cancel(why, s.r.l.Now())
			s.after(terminate.Over)
		}
	})
}

// socketPair returns the far end of a connection over a real socket, and the
// descriptor of the near one, which does not block.
func socketPair(t testing.TB, network string) (far net.Conn, fd int) {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "s")
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	fd = dialFD(t, l)
	if far, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	return far, fd
}

// dialFD connects to l.
func dialFD(t testing.TB, l net.Listener) int {
	t.Helper()
	var address *loop.Address
	if tcp, ok := l.Addr().(*net.TCPAddr); ok {
		address = loop.TCPAddress(tcp.AddrPort(), 0)
	} else {
		address, _ = loop.UnixAddress(l.Addr().String())
	}
	fd, errno := address.Socket()
	if errno != 0 {
		t.Fatal(errno)
	}
	loop.SetInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if errno := address.Connect(fd); errno != 0 && errno != unix.EINPROGRESS {
		t.Fatal(errno)
	}
	return fd
}

// wire is a peer's transport, which notes how it ended.
type wire struct {
	net.Conn
	ended atomic.Int32 // terminate.End
	shut  atomic.Bool
}

func (w *wire) Ended() terminate.End { return terminate.End(w.ended.Load()) }

func (w *wire) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	var timeout net.Error
	switch {
	case err == nil, errors.As(err, &timeout) && timeout.Timeout():
	case !errors.Is(err, io.EOF):
		w.ended.Store(int32(terminate.EndReset))
	case w.Ended() == terminate.EndReset || !w.shut.Load() && w.gone():
		w.ended.Store(int32(terminate.EndReset))
		return n, unix.ECONNRESET
	default:
		w.ended.Store(int32(terminate.EndFIN))
	}
	return n, err
}

func (w *wire) Write(b []byte) (int, error) {
	n, err := w.Conn.Write(b)
	if errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE) {
		w.ended.Store(int32(terminate.EndReset))
	}
	return n, err
}

// gone tells of a reset whose news a write has taken, or that came behind a FIN.
func (w *wire) gone() (gone bool) {
	if tcp, ok := w.Conn.(*net.TCPConn); ok {
		if raw, err := tcp.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { gone = loop.Gone(int(fd)) })
		}
	}
	return gone
}

func (w *wire) closeWrite() error {
	w.shut.Store(true)
	return w.Conn.(interface{ CloseWrite() error }).CloseWrite()
}

// abort closes with a RST.
func (w *wire) abort() {
	if tcp, ok := w.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	w.Close()
}
