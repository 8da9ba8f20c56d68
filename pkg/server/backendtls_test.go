package server_test

import (
	"crypto/tls"
	"fmt"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
)

// TestBackendSessions resumes with backends, behind reloads as well, as far as
// session_cache allows it and nothing has changed that a session was begun by.
func TestBackendSessions(t *testing.T) {
	lab.Leaks(t)
	edge, inner := lab.NewAuthority(t, "edge"), lab.NewAuthority(t, "inner")
	cert, key := edge.WriteServer(t, "a.test")
	config := inner.Server(t, "a.test", "b.test")
	seen := make(chan tls.ConnectionState, 1)
	backend := lab.Serve(t, func(c *lab.Conn) {
		if err := c.Conn.(*tls.Conn).Handshake(); err != nil {
			return
		}
		seen <- c.Conn.(*tls.Conn).ConnectionState()
		lab.Echo()(c)
	}, lab.Options{TLS: config})
	ca := inner.WriteCA(t)
	text := func(pool string) string {
		return fmt.Sprintf("[[routes]]\nhosts = [\"a.test\"]\nmode = \"terminate\"\npool = \"web\"\n[pools.web]\nbackends = [%q]\n"+
			"[pools.web.health]\nenabled = false\n[pools.web.tls]\nca = %q\n%s[tls]\ncertificates = [{ cert = %q, key = %q }]\n",
			backend.Addr(), ca, pool, cert, key)
	}
	r := start(t, nil, text(""))
	visit := func(wantName string, want bool) {
		t.Helper()
		c := r.session(edge, "a.test")
		if state := <-seen; state.DidResume != want || state.ServerName != wantName {
			t.Errorf("resumed %v with %q, want %v with %q", state.DidResume, state.ServerName, want, wantName)
		}
		hangUp(t, c)
	}
	visit("a.test", false)
	visit("a.test", true)
	r.reload(1, text(""))
	visit("a.test", true)
	r.reload(2, text("server_name = \"b.test\"\n"))
	visit("b.test", false)
	visit("b.test", true)
	r.reload(3, text("server_name = \"b.test\"\nsession_cache = 0\n"))
	visit("b.test", false)
	visit("b.test", false)
}
