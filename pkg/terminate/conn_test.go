package terminate_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snicketlb/snicket/pkg/terminate"
)

// connect dials a TLS listener and returns both ends, without a handshake.
func connect(t *testing.T, l net.Listener) (*terminate.Conn, *tls.Conn) {
	t.Helper()
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return terminate.NewConn(raw, nil), far.(*tls.Conn)
}

func TestConnServesPrefixFirst(t *testing.T) {
	noLeaks(t)
	a, b := socketPair(t, "tcp")
	c := terminate.NewConn(b, []byte("peeked, "))
	if _, err := io.WriteString(a, "then read"); err != nil {
		t.Fatal(err)
	}
	if got := c.Ended(); got != terminate.EndNone {
		t.Errorf("ended %v before its end", got)
	}
	if err := a.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	if want := "peeked, then read"; string(got) != want {
		t.Errorf("read %q, want %q", got, want)
	}
	if got, want := c.BytesRead(), uint64(len("peeked, then read")); got != want {
		t.Errorf("counted %d bytes, want %d", got, want)
	}
	if got := c.Ended(); got != terminate.EndFIN {
		t.Errorf("ended %v, want EndFIN", got)
	}
}

// TestConnKnowsAReset holds that a reset whose news a write has taken is not
// read as an end.
func TestConnKnowsAReset(t *testing.T) {
	noLeaks(t)
	a, b := socketPair(t, "tcp")
	c := terminate.NewConn(b, nil)
	if err := terminate.NewConn(a, nil).Abort(); err != nil {
		t.Fatal(err)
	}
	for {
		// The raw socket, so that c does not learn of it from the write.
		if _, err := b.Write([]byte("x")); err != nil {
			break
		}
	}
	if n, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("read %d, %v; want a reset", n, err)
	}
	if got := c.Ended(); got != terminate.EndReset {
		t.Errorf("ended %v, want EndReset", got)
	}
}

// TestCloseLinger holds that an alert reaches a client that is still sending.
func TestCloseLinger(t *testing.T) {
	noLeaks(t)
	a, b := socketPair(t, "tcp")
	c := terminate.NewConn(b, nil)
	if _, err := a.Write(make([]byte, 20_000)); err != nil {
		t.Fatal(err)
	}
	alert := []byte{21, 3, 3, 0, 2, 2, 112}
	if _, err := c.Write(alert); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- c.CloseLinger() }()
	got, err := io.ReadAll(a)
	if err != nil || !bytes.Equal(got, alert) {
		t.Errorf("client read %x, %v; want the alert", got, err)
	}
	a.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// undated is a socket that counts the write deadlines set on it.
type undated struct {
	*net.TCPConn
	set atomic.Int32
}

func (u *undated) SetWriteDeadline(t time.Time) error {
	u.set.Add(1)
	return u.TCPConn.SetWriteDeadline(t)
}

// TestCloseNotifyHasNoDeadline holds that a close_notify waits behind what a
// slow client has still to read. crypto/tls would give it up after five seconds
// and leave a whole answer without its end.
func TestCloseNotifyHasNoDeadline(t *testing.T) {
	noLeaks(t)
	l := newLab(t)
	a, b := socketPair(t, "tcp")
	raw := &undated{TCPConn: b.(*net.TCPConn)}
	client := &peer{t: t, conn: terminate.NewConn(a, nil)}
	client.tls = tls.Client(client.conn, &tls.Config{ServerName: host, RootCAs: l.authority.Pool()})
	near := terminate.Side{Conn: terminate.NewConn(raw, nil)}
	near.TLS = shake(t, client.tls, func(ctx context.Context) (*tls.Conn, error) { return terminate.Handshake(ctx, near.Conn, l.server) })
	far, side := socketPair(t, "tcp")
	s := &session{client: client, backend: &peer{t: t, conn: terminate.NewConn(far, nil)}, done: make(chan terminate.Result, 1)}
	raw.set.Store(0)
	go func() {
		s.done <- terminate.Relay(t.Context(), near, terminate.Side{Conn: terminate.NewConn(side, nil)}, terminate.RelayOptions{}, &s.in, &s.out)
	}()
	s.exchange()
	s.backend.end()
	s.client.expect(nil, "end")
	s.client.end()
	s.backend.expect(nil, "end")
	s.result(t, terminate.Clean, terminate.ByBackend)
	if got := raw.set.Load(); got != 0 {
		t.Errorf("%d write deadlines were set", got)
	}
}
