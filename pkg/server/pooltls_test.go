package server_test

import (
	"crypto/tls"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
)

// TestPoolTLSIsWatched exchanges the authorities that backends are verified by, and the
// certificate shown to them, while sessions stand: sessions and probes go by the files of
// now, without a reload.
func TestPoolTLSIsWatched(t *testing.T) {
	lab.Leaks(t)
	edge, v, other := lab.NewAuthority(t, "edge"), newVault(t), lab.NewAuthority(t, "other")
	cert, key := edge.WriteServer(t, "a.test")
	asking := v.authority.Server(t, "a.test")
	asking.ClientAuth, asking.ClientCAs = tls.RequireAndVerifyClientCert, v.authority.Pool()
	seen := make(chan string, 100)
	backend := lab.Serve(t, func(c *lab.Conn) {
		// A probe closes behind its handshake.
		if c.Conn.(*tls.Conn).Handshake() == nil {
			buf := make([]byte, 4)
			if n, _ := c.Read(buf); n > 0 {
				seen <- c.Conn.(*tls.Conn).ConnectionState().PeerCertificates[0].DNSNames[0]
				c.Write(buf[:n])
				lab.Echo()(c)
			}
		}
	}, lab.Options{TLS: asking})
	client := func(name string) {
		chain, key, _ := v.issueClient(name)
		v.replace("client.key", key)
		v.replace("client.pem", chain)
	}
	client("first.test")
	v.replace("ca.pem", v.authority.PEM())
	r := start(t, nil, fmt.Sprintf(`[[routes]]
hosts = ["a.test"]
mode = "terminate"
pool = "web"
[pools.web]
backends = [{ address = %q, name = "b1" }]
[pools.web.tls]
ca = %q
cert = %q
key = %q
[tls]
certificates = [{ cert = %q, key = %q }]
`, backend.Addr(), v.path("ca.pem"), v.path("client.pem"), v.path("client.key"), cert, key)+
		"[pools.web.health]\ninterval = \"10ms\"\ntimeout = \"10s\"\nrise = 1\nfall = 2\n")
	r.log.wait(t, `msg="backend ready" pool=web backend=b1`, 1)
	visit := func(want string) *tls.Conn {
		t.Helper()
		c := r.session(edge, "a.test")
		if got := <-seen; got != want {
			t.Errorf("got the client %s, want %s", got, want)
		}
		return c
	}
	held := visit("first.test")
	const reloaded = `msg=reloaded what=pools\.web files="ca\.pem, client\.key, client\.pem"`

	client("second.test")
	r.log.wait(t, reloaded, 1)
	visit("second.test")

	v.replace("ca.pem", other.PEM())
	r.log.wait(t, reloaded, 2)
	r.log.wait(t, `msg="backend down" pool=web backend=b1 why=.*unknown authority`, 1)
	v.replace("ca.pem", append(v.authority.PEM(), other.PEM()...))
	r.log.wait(t, reloaded, 3)
	r.log.wait(t, `msg="backend ready" pool=web backend=b1`, 2)
	visit("second.test")

	v.replace("ca.pem", []byte("nonsense"))
	r.log.wait(t, `msg="file is not taken" why="pools\.web: .*ca\.pem: is not PEM[^;]*" so="what was loaded before stays"`, 1)
	visit("second.test")
	r.echo(held)
	if log := r.log.String(); strings.Contains(log, "reload done") {
		t.Errorf("more was touched than the pool's TLS:\n%s", log)
	}
	// A reload with what is in force already reports no change of it, and probes go on.
	v.replace("ca.pem", v.authority.PEM())
	r.log.wait(t, reloaded, 4)
	r.signals <- syscall.SIGHUP
	if got := r.log.wait(t, `msg="reload done".*`, 1)[0]; !strings.HasSuffix(got, "changes=none") {
		t.Errorf("got %q, want no change", got)
	}
	visit("second.test")
}
