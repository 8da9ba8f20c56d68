package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/balancer"
	"github.com/snicketlb/snicket/pkg/loop"
	"github.com/snicketlb/snicket/pkg/proxyheader"
	"github.com/snicketlb/snicket/pkg/terminate"
)

// terminal is the part of a terminated session that its goroutine owns. Until
// the goroutine posts the session back to its loop, the loop touches kill alone.
type terminal struct {
	s      *session
	conn   *terminate.Conn
	cancel context.CancelCauseFunc
	killed atomic.Uint32 // the outcome asked for, plus one
	record Record
}

var errKilled = errors.New("ended from outside")

// terminate hands the session to a goroutine: crypto/tls wants a net.Conn. The
// descriptor leaves epoll first, as its registration would outlive it in the
// duplicate that net makes. The session's counts travel with it.
func (s *session) terminate() {
	w := s.w
	if s.pool.Balancer.Ready() == 0 { // an alert can say so now, not after the handshake
		s.refuse(NoBackend, balancer.ErrNoBackend.Error())
		return
	}
	s.phase = terminated
	fd := int(s.c.fd)
	w.l.Remove(s.c.tok, fd)
	s.c = socket{fd: -1}
	f := os.NewFile(uintptr(fd), "client")
	conn, err := net.FileConn(f)
	if s.peer.IsValid() { // net has set a keepalive of its own
		setKeepalive(fd, &w.p.live.Load().timeouts)
	}
	_ = f.Close()
	if err != nil {
		s.phase = inHello
		s.refuse(Internal, err.Error())
		return
	}
	prefix := bytes.Clone(s.peek.buf)
	w.env.Return(s.peek.buf)
	s.peek.buf = nil
	ctx, cancel := context.WithCancelCause(context.Background())
	s.term = &terminal{s: s, conn: terminate.NewConn(conn, prefix), cancel: cancel}
	s.term.record.Handshake = -1
	w.p.terminated.Add(1)
	w.l.Background(1)
	go s.term.run(ctx) // Proxy.Run waits for it
	// Else it would wait in this loop's own run queue until the next slow wait.
	runtime.Gosched()
}

// kill ends the session with the outcome; the first one counts.
func (t *terminal) kill(o Outcome) {
	if t.killed.CompareAndSwap(0, uint32(o)+1) {
		t.cancel(errKilled)
	}
}

// run is the session's goroutine.
func (t *terminal) run(ctx context.Context) {
	s := t.s
	w := s.w
	s.outcome, s.err = t.serve(ctx)
	if o := t.killed.Load(); o != 0 {
		s.outcome, s.endedBy, s.err = Outcome(o-1), BySnicket, ""
	}
	t.cancel(nil)
	s.release()
	w.l.Post(func() {
		w.l.Background(-1)
		s.account(&t.record)
	})
	w.p.terminated.Done()
}

// serve is the way of a terminated session from its hello on: handshake before
// pick, so that a flood of handshakes holds no backend.
func (t *terminal) serve(ctx context.Context) (Outcome, string) {
	s := t.s
	client, outcome, err := t.handshake(ctx)
	if err != nil {
		s.endedBy = BySnicket
		if t.byClient(err) {
			s.endedBy = ByClient
		}
		return outcome, err.Error()
	}
	backend, outcome, err := t.backend(ctx, client)
	if err != nil {
		s.endedBy = BySnicket
		if outcome == BackendTLSFailed || outcome == BackendReset {
			s.endedBy = ByBackend
		}
		_ = t.conn.Abort()
		return outcome, err.Error()
	}
	var in, out atomic.Uint64
	res := terminate.Relay(ctx, terminate.Side{TLS: client, Conn: t.conn}, backend,
		terminate.RelayOptions{Idle: s.route.Idle, Fin: s.route.Fin}, &in, &out)
	t.record.BytesIn, t.record.BytesOut = int64(in.Load()), int64(out.Load())
	return t.ended(res)
}

// byClient reports whether it was the client that gave up on a handshake: by an
// alert, or by leaving.
func (t *terminal) byClient(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error" || t.conn.Ended() != terminate.EndNone
}

// handshake is TLS with the client. The connection is closed on an error.
func (t *terminal) handshake(ctx context.Context) (*tls.Conn, Outcome, error) {
	s := t.s
	p := s.w.p
	begun := time.Since(p.start)
	ctx, cancel := context.WithTimeout(ctx, s.route.Handshake)
	defer cancel()
	if err := p.gate.enter(ctx); err != nil {
		_ = t.conn.Abort()
		return nil, HandshakeTimeout, errors.New("max_handshakes: no turn in time")
	}
	client, err := terminate.Handshake(ctx, t.conn, s.route.TLS.config(s.pool))
	p.gate.leave()
	if err != nil {
		outcome := ClientTLSFailed
		switch {
		case ctx.Err() != nil:
			outcome = HandshakeTimeout
		case errors.Is(err, terminate.ErrNoCertificate):
			outcome = NoCertificate
		case t.conn.Ended() == terminate.EndReset:
			outcome = ClientReset
		}
		p.linger(t.conn)
		return nil, outcome, err
	}
	state := client.ConnectionState()
	r := &t.record
	r.Handshake = time.Since(p.start) - begun
	r.TLSVersion, r.Cipher, r.Resumed = state.Version, state.CipherSuite, state.DidResume
	r.ALPN = state.NegotiatedProtocol
	if len(state.PeerCertificates) > 0 {
		r.ClientCN = state.PeerCertificates[0].Subject.CommonName
	}
	return client, OK, nil
}

// linger closes a connection on which an alert may be on its way. That takes a
// place among the unfinished hellos; where there is none it does not wait.
func (p *Proxy) linger(conn *terminate.Conn) {
	limit := int64(p.live.Load().limits.MaxHellos)
	if p.hellos.Add(1) > limit && limit > 0 {
		_ = conn.Close()
	} else {
		_ = conn.CloseLinger()
	}
	p.hellos.Add(-1)
}

// backend picks, dials, and says there who the client is. Everything it opened
// is closed on an error.
func (t *terminal) backend(ctx context.Context, client *tls.Conn) (terminate.Side, Outcome, error) {
	s := t.s
	raw, outcome := t.dial(ctx)
	if raw == nil {
		return terminate.Side{}, outcome, s.choice.err
	}
	side := terminate.Side{Conn: terminate.NewConn(raw, nil)}
	ctx, cancel := context.WithTimeout(ctx, s.route.Handshake)
	defer cancel()
	if s.choice.via.ProxyProtocol != 0 {
		out := s.proxyHeader()
		state := client.ConnectionState()
		if s.choice.via.TLVs.ALPN {
			out.ALPN = state.NegotiatedProtocol
		}
		if s.choice.via.TLVs.SSL {
			out.SSL = sslOf(&state)
		}
		header, err := proxyheader.Append(nil, out)
		if err != nil {
			_ = side.Conn.Abort()
			return side, Internal, err
		}
		if _, err := side.Conn.Write(header); err != nil {
			_ = side.Conn.Abort()
			return side, BackendReset, err
		}
	}
	if s.choice.via.TLS == nil {
		return side, OK, nil
	}
	var err error
	side.TLS, err = s.choice.via.TLS.Client(ctx, side.Conn, s.sni, client.ConnectionState().NegotiatedProtocol)
	if err != nil {
		_ = side.Conn.Abort()
		return side, BackendTLSFailed, err
	}
	return side, OK, nil
}

// dial finds a backend that can be reached; without one choice.err says why.
func (t *terminal) dial(ctx context.Context) (net.Conn, Outcome) {
	s := t.s
	p := s.w.p
	s.choice.start(s)
	s.dialed = time.Since(p.start)
	for {
		target, outcome := s.choice.next()
		if outcome != OK {
			return nil, outcome
		}
		begun := time.Now()
		conn, err := p.dialBlocking(ctx, s.choice.via, target)
		if err == nil {
			s.dialTook = spanOf(time.Since(p.start) - s.dialed)
			return conn, OK
		}
		if ctx.Err() != nil { // killed: no fault of the backend
			s.choice.err = err
			return nil, DialFailed
		}
		if again, outcome := s.choice.failed(err, time.Since(begun)); !again {
			return nil, outcome
		}
	}
}

// dialBlocking connects to t as session.dial does, in a goroutine.
func (p *Proxy) dialBlocking(ctx context.Context, pool *Pool, t *Target) (net.Conn, error) {
	if t.Address == nil {
		return nil, t.unreachable()
	}
	timeouts := &p.live.Load().timeouts
	d := net.Dialer{Deadline: time.Now().Add(pool.DialTimeout), KeepAlive: -1}
	d.SetMultipathTCP(false)
	d.Control = func(_, _ string, c syscall.RawConn) error {
		var bindErr error
		err := c.Control(func(fd uintptr) {
			if t.Address.Unix() {
				return
			}
			setKeepalive(int(fd), timeouts)
			bindErr = p.blockingTurn.bind(pool, t.Address, int(fd))
		})
		return errors.Join(err, bindErr)
	}
	conn, err := d.DialContext(ctx, t.Address.Network(), t.Address.String())
	for t.Address.Unix() && errors.Is(err, unix.EAGAIN) && ctx.Err() == nil && time.Now().Before(d.Deadline) {
		// Its backlog is full. No event tells of room, so ask again.
		select {
		case <-time.After(backlogPause):
		case <-ctx.Done():
		}
		conn, err = d.DialContext(ctx, t.Address.Network(), t.Address.String())
	}
	var errno unix.Errno
	var timeout net.Error
	var dial *dialError
	switch {
	case err == nil:
		return conn, nil
	case errors.As(err, &dial): // of bind
		return nil, dial
	case errors.Is(err, unix.EAGAIN) && t.Address.Unix():
		return nil, errDialTimeout
	case errors.As(err, &errno):
		return nil, &dialError{"connect", errno}
	case errors.As(err, &timeout) && timeout.Timeout():
		return nil, errDialTimeout
	}
	return nil, err
}

// ended tells the outcome of a relay.
func (t *terminal) ended(res terminate.Result) (Outcome, string) {
	switch res.EndedBy {
	case terminate.ByClient:
		t.s.endedBy = ByClient
	case terminate.ByBackend:
		t.s.endedBy = ByBackend
	case terminate.ByBalancer:
		t.s.endedBy = BySnicket
	}
	text := ""
	if res.Err != nil {
		text = res.Err.Error()
	}
	switch res.Reason {
	case terminate.Clean:
		return OK, text
	case terminate.ClientReset, terminate.ClientTruncated:
		return ClientReset, text
	case terminate.BackendReset, terminate.BackendTruncated:
		return BackendReset, text
	case terminate.IdleTimeout:
		return IdleTimeout, text
	case terminate.FinTimeout:
		return FinTimeout, text
	case terminate.Canceled:
		return Drained, text
	}
	return Internal, text
}

// sslOf is the SSL TLV of a client's connection (PROXY protocol §2.2.6). Cipher
// names are OpenSSL's, as the specification's examples and other senders have it.
func sslOf(c *tls.ConnectionState) *proxyheader.SSL {
	ssl := &proxyheader.SSL{
		Version: strings.Replace(tls.VersionName(c.Version), "TLS ", "TLSv", 1),
		Cipher:  opensslCipher(tls.CipherSuiteName(c.CipherSuite)),
	}
	if len(c.PeerCertificates) > 0 {
		ssl.ClientCertificate = true
		ssl.CommonName = c.PeerCertificates[0].Subject.CommonName
		ssl.Verified = len(c.VerifiedChains) > 0
	}
	return ssl
}

// opensslCipher turns the IANA name of a TLS 1.2 suite into OpenSSL's; those of
// TLS 1.3 are the same.
func opensslCipher(name string) string {
	before, after, ok := strings.Cut(name, "_WITH_")
	if !ok {
		return name
	}
	after = strings.Replace(after, "AES_", "AES", 1)
	after = strings.Replace(after, "POLY1305_SHA256", "POLY1305", 1)
	return strings.ReplaceAll(strings.TrimPrefix(before, "TLS_")+"-"+after, "_", "-")
}

// sourceTurn takes the source addresses of pools in turn.
type sourceTurn struct{ n atomic.Uint32 }

// bind binds fd to the next source address of the pool that fits. The port is
// chosen at connect, so that it counts for each destination by itself.
func (t *sourceTurn) bind(p *Pool, to *loop.Address, fd int) error {
	four := to.Family() == unix.AF_INET
	for range p.Sources {
		src := p.Sources[int(t.n.Add(1))%len(p.Sources)]
		if src.Is4() != four {
			continue
		}
		loop.SetInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
		if errno := loop.TCPAddress(netip.AddrPortFrom(src, 0), 0).Bind(fd); errno != 0 {
			return &dialError{"bind " + src.String(), errno}
		}
		return nil
	}
	return nil
}
