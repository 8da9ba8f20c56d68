package server_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
)

// A paused client says its hello, and the rest of its handshake when told to go on.
type paused struct {
	net.Conn
	said sync.Once
	goOn chan struct{}
}

func (p *paused) Write(b []byte) (int, error) {
	first := false
	p.said.Do(func() { first = true })
	if !first {
		<-p.goOn
	}
	return p.Conn.Write(b)
}

// pause begins a session to name that stays in its handshake with Snicket until
// goOn is closed; done then tells how the handshake ended.
func (r *running) pause(a *lab.Authority, name string) (c *tls.Conn, goOn chan struct{}, done chan error) {
	r.t.Helper()
	raw, err := net.Dial("tcp", r.address)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { raw.Close() })
	raw.SetDeadline(time.Now().Add(lab.Patience))
	p := &paused{Conn: raw, goOn: make(chan struct{})}
	heard := make(chan struct{})
	config := a.Client(name)
	config.VerifyConnection = func(tls.ConnectionState) error { // Snicket has answered the hello
		close(heard)
		return nil
	}
	c, done = tls.Client(p, config), make(chan error, 1)
	go func() { done <- c.Handshake() }()
	select {
	case <-heard:
	case <-time.After(lab.Patience):
		r.t.Fatal("no answer to the hello")
	}
	return c, p.goOn, done
}

// A session that meets a reload in its handshake is given a backend of the new
// configuration, and speaks to it as that one says: never plain text to a backend
// that has been declared TLS.
func TestHandshakeMeetsABackendDeclaredTLS(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	cert, key := ca.WriteServer(t, "a.test")
	was, is := lab.NewRecorder(), lab.NewRecorder()
	plain := lab.Serve(t, lab.Announce("plain", was), lab.Options{})
	sealed := lab.Serve(t, lab.Announce("sealed", is), lab.Options{}) // hears what comes
	text := func(backend, more string) string {
		return fmt.Sprintf(`
[[routes]]
hosts = ["a.test"]
mode = "terminate"
pool = "p"
[routes.tls]
certificates = [{ cert = %q, key = %q }]
[pools.p]
backends = [%q]
[pools.p.health]
enabled = false
%s`, cert, key, backend, more)
	}
	r := start(t, nil, text(plain.Addr(), ""))
	c, goOn, done := r.pause(ca, "a.test")
	r.reload(1, text(sealed.Addr(), fmt.Sprintf("[pools.p.tls]\nca = %q\n", ca.WriteCA(t))))
	close(goOn)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	const secret = "GET /secret"
	_, _ = c.Write([]byte(secret)) // the answer to the hello inside may come first
	is.Wait(t, 0, 1)
	r.access.wait(t, `outcome=backend-tls-failed`, 1)
	const handshake = 22
	if got := is.Heard(0); got[0] != handshake || bytes.Contains(got, []byte(secret)) {
		t.Errorf("a backend declared TLS was sent %q", got)
	}
	if n := was.Count(); n != 0 {
		t.Errorf("the former backend was sent %d connections", n)
	}
}

// A session that meets a reload in its handshake outlives its pool's name.
func TestHandshakeOutlivesItsPool(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	cert, key := ca.WriteServer(t, "a.test")
	echo := lab.Serve(t, lab.Echo(), lab.Options{})
	text := func(pool string) string {
		return fmt.Sprintf(`
[[routes]]
hosts = ["a.test"]
mode = "terminate"
pool = %q
[routes.tls]
certificates = [{ cert = %q, key = %q }]
[pools.%s]
backends = [%q]
`, pool, cert, key, pool, echo.Addr())
	}
	r := start(t, nil, text("one"))
	c, goOn, done := r.pause(ca, "a.test")
	r.reload(1, text("two"))
	close(goOn)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	r.echo(c)
	hangUp(t, c)
	r.access.wait(t, `pool=one .*outcome=ok`, 1)
}
