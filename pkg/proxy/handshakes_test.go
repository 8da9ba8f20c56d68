package proxy_test

import (
	"crypto"
	"crypto/tls"
	"io"
	"net"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/certs"
	"github.com/snicketlb/snicket/pkg/proxy"
	"github.com/snicketlb/snicket/pkg/terminate"
)

// TestMaxHandshakes lets two handshakes at a time through; the next waits for
// its turn and then succeeds.
func TestMaxHandshakes(t *testing.T) {
	ca := authority(t)
	echo := lab.Serve(t, lab.Echo(), lab.Options{})
	r := route("a.test", echo.Addr())
	ca.terminate(t, r)
	s := state(t, r)
	s.Limits.MaxHandshakes = 2
	h := start(t, s)
	mute := h.hello("a.test")
	for _, c := range []*net.TCPConn{mute, h.hello("a.test")} {
		if _, err := io.ReadFull(c, make([]byte, 5)); err != nil { // its handshake is under way
			t.Fatal(err)
		}
	}
	done := make(chan string, 1)
	conn := tls.Client(h.dial(), ca.client("a.test"))
	go func() {
		if err := conn.Handshake(); err != nil {
			done <- err.Error()
			return
		}
		_, _ = io.WriteString(conn, "x")
		_ = conn.CloseWrite()
		b, _ := io.ReadAll(conn)
		done <- string(b)
	}()
	eventually(t, "all are past their hello", func() bool { return h.p.Active() == 3 && h.p.Counters().Hellos == 0 })
	select {
	case got := <-done:
		t.Errorf("the third did not wait: %q", got)
	default:
	}
	_ = mute.Close()
	if got := <-done; got != "x" {
		t.Errorf("the third read %q", got)
	}
}

// TestLeftBeforeItsHandshake holds that clients which go away while they wait for a
// turn end there, and that the turn is given to those that stay.
func TestLeftBeforeItsHandshake(t *testing.T) {
	ca := authority(t)
	echo := lab.Serve(t, lab.Echo(), lab.Options{})
	r := route("a.test", echo.Addr())
	ca.terminate(t, r)
	s := state(t, r)
	s.Limits.MaxHandshakes = 1
	h := start(t, s)
	mute := h.hello("a.test")
	if _, err := io.ReadFull(mute, make([]byte, 5)); err != nil { // its handshake is under way
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		leave func(*net.TCPConn) error
	}{
		{"FIN", (*net.TCPConn).CloseWrite},
		{"closed", (*net.TCPConn).Close},
		{"reset", func(c *net.TCPConn) error {
			_ = c.SetLinger(0)
			return c.Close()
		}},
	}
	for _, tt := range tests {
		c := h.hello("a.test")
		eventually(t, "past its hello", func() bool { return h.p.Active() == 2 && h.p.Counters().Hellos == 0 })
		if err := tt.leave(c); err != nil {
			t.Fatal(err)
		}
		if rec := h.want(proxy.ClientReset); rec.EndedBy != proxy.ByClient || rec.Handshake >= 0 {
			t.Errorf("%s: ended by %v, handshake %v", tt.name, rec.EndedBy, rec.Handshake)
		}
		// The FIN may be there with the hello.
		c = h.dial()
		h.send(c, lab.Hello("a.test"))
		_ = tt.leave(c)
		if rec := h.record(); rec.EndedBy != proxy.ByClient || rec.Outcome != proxy.ClientReset && rec.Outcome != proxy.NoHello {
			t.Errorf("%s at once: %v by %v", tt.name, rec.Outcome, rec.EndedBy)
		}
	}
	_ = mute.SetLinger(0)
	_ = mute.Close()
	h.want(proxy.ClientReset)
	if got := ask(t, h.tls(ca.client("a.test")), "after all"); got != "after all" {
		t.Errorf("read %q", got)
	}
}

// TestHandshakesHoldNobodyUp has two hundred clients stop in the middle of their
// handshakes, on one loop, while others shake hands, talk and end beside them.
func TestHandshakesHoldNobodyUp(t *testing.T) {
	const stuck = 200
	ca := authority(t)
	echo := lab.Serve(t, lab.Echo(), lab.Options{})
	sealed, plain := route("a.test", echo.Addr()), route("b.test", echo.Addr())
	ca.terminate(t, sealed)
	s := state(t, sealed, plain)
	s.Limits.MaxHandshakes = 1000
	h := startLoops(t, 1, s)
	for i := range stuck {
		c := h.hello("a.test")
		if _, err := io.ReadFull(c, make([]byte, 5)); err != nil { // the server's flight: its turn has come
			t.Fatal(err)
		}
		if i%2 == 0 { // half of a record
			h.send(c, []byte{22, 3, 3, 0, 100, 1, 2, 3})
		}
	}
	for range 20 {
		if got := ask(t, h.tls(ca.client("a.test")), "past them"); got != "past them" {
			t.Errorf("read %q", got)
		}
		h.want(proxy.OK)
		c := h.hello("b.test")
		if _, err := io.ReadFull(c, make([]byte, len(lab.Hello("b.test")))); err != nil {
			t.Fatal(err)
		}
		_ = c.CloseWrite()
		readAll(t, c)
		h.want(proxy.OK)
	}
	if n := h.p.Active(); n != stuck {
		t.Errorf("%d sessions, want the %d that are stuck", n, stuck)
	}
	h.stop()
	for range stuck {
		if r := h.want(proxy.Drained); r.Handshake >= 0 || r.Backend != "" {
			t.Errorf("handshake %v, backend %q", r.Handshake, r.Backend)
		}
	}
}

// TestSlowKeyOfATerminatedHost holds that a signature that takes long holds up no
// other session of its loop, and that a session may end meanwhile.
func TestSlowKeyOfATerminatedHost(t *testing.T) {
	ca := authority(t)
	echo := lab.Serve(t, lab.Echo(), lab.Options{})
	sealed, plain := route("a.test", echo.Addr()), route("b.test", echo.Addr())
	ca.terminate(t, sealed)
	cert := *ca.issue(t, certs.IssueOptions{Names: []string{"a.test"}, RSA: true})
	key := &heldKey{Signer: cert.PrivateKey.(crypto.Signer), signing: make(chan struct{}), release: make(chan struct{})}
	cert.PrivateKey = key
	sealed.TLS.Fixed = terminate.ServerConfig(terminate.ServerOptions{
		Store: certs.Fixed(&cert),
	})
	h := startLoops(t, 1, state(t, sealed, plain))
	left := h.hello("a.test")
	<-key.signing
	waiting := tls.Client(h.dial(), ca.client("a.test"))
	shaken := make(chan error, 1)
	go func() { shaken <- waiting.Handshake() }()
	<-key.signing

	c := h.hello("b.test") // the same loop serves it
	if _, err := io.ReadFull(c, make([]byte, len(lab.Hello("b.test")))); err != nil {
		t.Fatal(err)
	}
	_ = c.CloseWrite()
	readAll(t, c)
	h.want(proxy.OK)
	_ = left.SetLinger(0)
	_ = left.Close() // nobody waits for this signature any more
	select {
	case err := <-shaken:
		t.Errorf("the handshake ended before its signature was made: %v", err)
	default:
	}
	close(key.release)
	if err := <-shaken; err != nil {
		t.Fatal(err)
	}
	h.want(proxy.ClientReset)
	if got := ask(t, waiting, "at last"); got != "at last" {
		t.Errorf("read %q", got)
	}
	h.want(proxy.OK)
}

// heldKey tells of a signature that is to be made, and makes it when let.
type heldKey struct {
	crypto.Signer
	signing, release chan struct{}
}

func (k *heldKey) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	k.signing <- struct{}{}
	<-k.release
	return k.Signer.Sign(rand, digest, opts)
}
