package terminate_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/snicketlb/snicket/pkg/certs"
	"github.com/snicketlb/snicket/pkg/terminate"
)

// patience bounds waits that end early when all is well.
const patience = 30 * time.Second

const host = "app.test"

// lab is what the tests of one name share: an authority and what it issued.
type lab struct {
	authority *certs.Authority
	cert      *certs.Certificate
	server    *tls.Config
}

func newLab(t testing.TB) *lab {
	t.Helper()
	a, err := certs.NewAuthority("test")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := a.Issue(certs.IssueOptions{Names: []string{host}})
	if err != nil {
		t.Fatal(err)
	}
	store := certs.Fixed(cert)
	return &lab{authority: a, cert: cert, server: terminate.ServerConfig(terminate.ServerOptions{Store: store})}
}

// noLeaks fails the test if descriptors or goroutines are left at its end.
func noLeaks(t testing.TB) {
	t.Helper()
	descriptors := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	fds, goroutines := descriptors(), runtime.NumGoroutine()
	t.Cleanup(func() {
		deadline := time.Now().Add(patience)
		for descriptors() > fds || runtime.NumGoroutine() > goroutines {
			if time.Now().After(deadline) {
				t.Errorf("left: %d descriptors of %d, %d goroutines of %d", descriptors(), fds, runtime.NumGoroutine(), goroutines)
				return
			}
			runtime.Gosched()
		}
	})
}

// peer is a client or a backend: the far end of one side.
type peer struct {
	t    testing.TB
	conn *wire
	tls  *tls.Conn // nil if plain
}

func (p *peer) write(b []byte) {
	p.t.Helper()
	var w io.Writer = p.conn
	if p.tls != nil {
		w = p.tls
	}
	if _, err := w.Write(b); err != nil {
		p.t.Fatalf("write of a peer: %v", err)
	}
}

// readN reads exactly n bytes.
func (p *peer) readN(n int) []byte {
	p.t.Helper()
	var r io.Reader = p.conn
	if p.tls != nil {
		r = p.tls
	}
	b := make([]byte, n)
	if got, err := io.ReadFull(r, b); err != nil {
		p.t.Fatalf("read of a peer after %d of %d bytes: %v", got, n, err)
	}
	return b
}

// readAll reads until the stream ends and says how: "end" in order, "cut" by a
// FIN without close_notify, "reset", "timeout".
func (p *peer) readAll() ([]byte, string) {
	p.t.Helper()
	_ = p.conn.SetReadDeadline(time.Now().Add(patience))
	var r io.Reader = p.conn
	if p.tls != nil {
		r = p.tls
	}
	b, err := io.ReadAll(r)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return b, "timeout"
	case p.conn.Ended() == terminate.EndReset:
		return b, "reset"
	case p.tls != nil && p.conn.Ended() == terminate.EndFIN:
		return b, "cut"
	case err != nil:
		return b, err.Error()
	default:
		return b, "end"
	}
}

// end ends the peer's stream in order.
func (p *peer) end() {
	p.t.Helper()
	if p.tls != nil {
		if err := p.tls.CloseWrite(); err != nil {
			p.t.Fatalf("close_notify of a peer: %v", err)
		}
		return
	}
	p.fin()
}

// fin closes the sending side of the transport.
func (p *peer) fin() {
	p.t.Helper()
	if err := p.conn.closeWrite(); err != nil {
		p.t.Fatalf("FIN of a peer: %v", err)
	}
}

// session is a relay in progress between two peers.
type session struct {
	*stream
	client, backend *peer
}

// setup says what session to make.
type setup struct {
	version uint16 // of the client's TLS
	backend uint16 // of the backend's; 0 for a plain one
	unix    bool   // the backend listens on a Unix socket
	options terminate.RelayOptions
}

func start(t testing.TB, l *lab, o setup) *session {
	t.Helper()
	return startOn(t, newRig(t), l, o, nil)
}

func startOn(t testing.TB, r *rig, l *lab, o setup, observer func(*stream)) *session {
	t.Helper()
	s := &session{}
	client, near, conn := clientPair(t, r, l, o.version)
	s.client = client
	network := "tcp"
	if o.unix {
		network = "unix"
	}
	far, fd := socketPair(t, network)
	s.backend = &peer{t: t, conn: &wire{Conn: far}}
	side := r.port(fd, nil)
	var sideTLS *tls.Conn
	if o.backend != 0 {
		s.backend.tls = tls.Server(s.backend.conn, &tls.Config{Certificates: []tls.Certificate{l.cert.Certificate}, MaxVersion: o.backend})
		b := terminate.NewBackend(terminate.BackendOptions{Roots: l.authority.Pool()})
		sideTLS = shake(t, s.backend.tls, side.connect(b, terminate.Peer{ClientSNI: host}))
	}
	s.stream = r.relay(near, side, conn, sideTLS, o.options, observer)
	return s
}

// clientPair returns a client and the balancer's side of it after the handshake.
func clientPair(t testing.TB, r *rig, l *lab, version uint16) (*peer, *port, *tls.Conn) {
	t.Helper()
	far, fd := socketPair(t, "tcp")
	client := &peer{t: t, conn: &wire{Conn: far}}
	client.tls = tls.Client(client.conn, &tls.Config{ServerName: host, RootCAs: l.authority.Pool(), MaxVersion: version})
	near := r.port(fd, nil)
	return client, near, shake(t, client.tls, near.accept(l.server))
}

// shake waits for both sides of a handshake that must succeed.
func shake(t testing.TB, far *tls.Conn, near <-chan shaken) *tls.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := far.HandshakeContext(ctx); err != nil {
		t.Fatalf("handshake of a peer: %v", err)
	}
	select {
	case got := <-near:
		if got.err != nil {
			t.Fatal(got.err)
		}
		return got.conn
	case <-ctx.Done():
		t.Fatal("the handshake goes on")
		return nil
	}
}

// result waits for the relay and checks its reason and who ended it.
func (s *session) result(t testing.TB, reason terminate.Reason, by terminate.Party) terminate.Result {
	t.Helper()
	r := s.ended(t, reason, by)
	if reason == terminate.Clean && r.Err != nil {
		t.Errorf("ended %v with error %v", r.Reason, r.Err)
	}
	return r
}

// flawed waits for a clean end that names a flaw.
func (s *session) flawed(t testing.TB, by terminate.Party) {
	t.Helper()
	if r := s.ended(t, terminate.Clean, by); r.Err == nil {
		t.Error("ended without naming the flaw")
	}
}

func (s *session) ended(t testing.TB, reason terminate.Reason, by terminate.Party) terminate.Result {
	t.Helper()
	select {
	case r := <-s.done:
		if r.Reason != reason || r.EndedBy != by {
			t.Errorf("ended %v by %v (%v), want %v by %v", r.Reason, r.EndedBy, r.Err, reason, by)
		}
		if reason != terminate.Clean && r.Err == nil {
			t.Errorf("ended %v without an error", r.Reason)
		}
		if r.In != s.in.Load() || r.Out != s.out.Load() {
			t.Errorf("result counts %d in, %d out; the counters %d, %d", r.In, r.Out, s.in.Load(), s.out.Load())
		}
		return r
	case <-time.After(patience):
		t.Fatal("the relay goes on")
		return terminate.Result{}
	}
}
