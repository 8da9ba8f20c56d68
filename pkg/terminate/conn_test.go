package terminate_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"testing"

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
	return terminate.NewConn(raw, nil), far.(*tls.Conn) //nolint:errcheck // what a TLS listener accepts
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
	if n, err := c.Read(make([]byte, 1)); err == nil || err == io.EOF {
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
