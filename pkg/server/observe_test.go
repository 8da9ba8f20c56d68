package server_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/server"
)

const quick = "[pools.web.health]\ninterval = \"10ms\"\nrise = 1\nfall = 2\n"

func TestBackendGoesDownAndComesBack(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	options := lab.Options{TLS: ca.Server(t, "a.test")}
	backend := lab.Serve(t, lab.Echo(), options)
	route := "[[routes]]\nhosts = [\"a.test\"]\npool = \"web\"\n"
	text := route + fmt.Sprintf("[pools.web]\nbackends = [%q]\n", backend.Addr()) + quick
	r := start(t, nil, text)
	r.log.wait(t, `msg="backend ready" pool=web backend=`+backend.Addr(), 1)
	r.session(ca, "a.test").Close()

	address := backend.Addr()
	backend.Close()
	down := r.log.wait(t, `msg="backend down" pool=web backend=\S+ why=(.*)`, 1)
	if !strings.Contains(down[1], "refused") {
		t.Errorf("got why=%s, want a refused connection", down[1])
	}
	r.refused(ca, "a.test", "internal error")
	r.access.wait(t, `outcome=no-backend`, 1)

	// What is known survives a reload, and is not told again.
	r.reload(1, text+"jitter = \"1ms\"\n")
	r.refused(ca, "a.test", "internal error")

	options.Addr = address
	lab.Serve(t, lab.Echo(), options)
	r.log.wait(t, `msg="backend ready"`, 2)
	r.session(ca, "a.test")
	if got := strings.Count(r.log.String(), `msg="backend down"`); got != 1 {
		t.Errorf("got told %d times that it is down, want once", got)
	}
}

func TestNoProbesTakeNothingDown(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	options := lab.Options{TLS: ca.Server(t, "a.test")}
	backend := lab.Serve(t, lab.Echo(), options)
	route := "[[routes]]\nhosts = [\"a.test\"]\npool = \"web\"\n" + fmt.Sprintf("[pools.web]\nbackends = [%q]\n", backend.Addr())
	r := start(t, nil, route+quick)
	backend.Close()
	r.log.wait(t, `msg="backend down"`, 1)
	options.Addr = backend.Addr()
	r.reload(1, route+"[pools.web.health]\nenabled = false\n")
	lab.Serve(t, lab.Echo(), options)
	r.session(ca, "a.test")
}

func TestNames(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	options := lab.Options{TLS: ca.Server(t, "a.test"), Addr: lab.FreeAddr(t)}
	one := lab.Serve(t, lab.Echo(), options)
	_, port, err := net.SplitHostPort(one.Addr())
	if err != nil {
		t.Fatal(err)
	}
	options.Addr = net.JoinHostPort("127.0.0.2", port) // no port that the kernel gives away
	two := lab.Serve(t, lab.Echo(), options)
	text := "[[routes]]\nhosts = [\"a.test\"]\npool = \"web\"\n[pools.web]\nbackends = [\"app.internal:" + port + "\"]\n" +
		"[pools.web.health]\nenabled = false\n"
	id := "app.internal:" + port

	// A name that does not resolve is down, and no failed start.
	var names book
	r := start(t, names.lookup, text)
	down := r.log.wait(t, `msg="backend down" pool=web backend=`+id+` why="(.*)"`, 1)[1]
	if want := "app.internal does not resolve: no such host"; down != want {
		t.Errorf("got why %q, want %q", down, want)
	}
	r.refused(ca, "a.test", "internal error")

	// Each address is a backend.
	names.set("app.internal", "127.0.0.2", "127.0.0.1", "::ffff:127.0.0.1")
	if got, want := r.reload(1, text), fmt.Sprintf(`backends="added: web/%s@127.0.0.1, web/%[1]s@127.0.0.2; removed: web/%[1]s"`, id); !strings.HasSuffix(got, want) {
		t.Errorf("got %s, want %s", got, want)
	}
	held := r.session(ca, "a.test")
	r.session(ca, "a.test")
	one.WaitAccepted(t, 1)
	two.WaitAccepted(t, 1)

	// A failure keeps the last good ones.
	names.set("app.internal")
	if got := r.reload(2, text); strings.Contains(got, "backends=") {
		t.Errorf("got %s, want no backend changed", got)
	}
	r.log.wait(t, `msg="name does not resolve" name=app.internal error="no such host" addresses_kept=2`, 1)
	r.echo(held)
	r.session(ca, "a.test")

	// Fewer addresses are fewer backends.
	names.set("app.internal", "127.0.0.1")
	if got, want := r.reload(3, text), fmt.Sprintf(`backends="removed: web/%s@127.0.0.2"`, id); !strings.HasSuffix(got, want) {
		t.Errorf("got %s, want %s", got, want)
	}
	r.log.wait(t, `msg="name resolves anew" name=app.internal addresses=\[127.0.0.1\]`, 1)
}

func TestNamesAreResolvedAnew(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	backend := lab.Serve(t, lab.Echo(), lab.Options{TLS: ca.Server(t, "a.test")})
	_, port, err := net.SplitHostPort(backend.Addr())
	if err != nil {
		t.Fatal(err)
	}
	var names book
	r := startBy(t, server.Options{Lookup: names.lookup, ResolveEvery: time.Millisecond},
		preamble+passthrough("a.test", "app.internal:"+port))
	r.log.wait(t, `msg="backend down" pool=a.test`, 1)
	names.set("app.internal", "127.0.0.1")
	r.log.wait(t, `msg="backend ready" pool=a.test backend=app.internal:`+port+`@127.0.0.1`, 1)
	r.session(ca, "a.test")
}

func TestUnixSockets(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	dir := t.TempDir()
	l, err := tls.Listen("unix", dir+"/backend.sock", ca.Server(t, "a.test"))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer l.Close()
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { io.Copy(c, c); c.Close() })
		}
	})
	r := startBy(t, server.Options{}, fmt.Sprintf("[listeners.local]\naddress = \"unix:%s/front.sock\"\n", dir)+
		passthrough("a.test", "unix:"+dir+"/backend.sock"))
	r.log.wait(t, `msg=listening listener=local address=unix:\S+/front.sock`, 1)
	r.log.wait(t, `msg="backend ready" pool=a.test backend=unix:`, 1)
	c, err := tls.Dial("unix", dir+"/front.sock", ca.Client("a.test"))
	if err != nil {
		t.Fatal(err)
	}
	r.echo(c)
	hangUp(t, c)
	r.access.wait(t, `client=- peer=- sni="a.test" .*outcome=ok`, 1)
}

// Sessions that meet a dead backend count against it between two probes, and are
// served by the next one.
func TestFailedDialsTakeABackendDown(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	options := lab.Options{TLS: ca.Server(t, "a.test")}
	dies, stays := lab.Serve(t, lab.Echo(), options), lab.Serve(t, lab.Echo(), options)
	r := start(t, nil, "[[routes]]\nhosts = [\"a.test\"]\npool = \"web\"\n"+
		fmt.Sprintf("[pools.web]\nbackends = [%q, %q]\n", dies.Addr(), stays.Addr())+
		"[pools.web.health]\ninterval = \"1h\"\nfall = 2\n")
	r.log.wait(t, `msg="backend ready"`, 2)
	dies.Close()
	n := 0
	for ; !strings.Contains(r.log.String(), `msg="backend down"`); n++ {
		hangUp(t, r.session(ca, "a.test"))
	}
	r.log.wait(t, `msg="backend down" pool=web backend=`+dies.Addr()+` why=.*refused`, 1)
	r.access.wait(t, `outcome=ok`, n)
	r.access.wait(t, `outcome=ok .*retries=1`, 2)
	before := len(r.access.String())
	const more = 4
	for range more {
		hangUp(t, r.session(ca, "a.test"))
	}
	r.access.wait(t, `outcome=ok`, n+more)
	if after := r.access.String()[before:]; strings.Count(after, "retries=0") != more {
		t.Errorf("got\n%s\nwant no dial to a backend that is down", after)
	}
}
