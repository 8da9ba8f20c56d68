package server_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/server"
)

func TestReload(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	backend := lab.Serve(t, lab.Echo(), lab.Options{TLS: ca.Server(t, "*.test")})
	pool := func(more string) string {
		return fmt.Sprintf("[pools.web]\nbackends = [{ address = %q, max_connections = 1 }]\n%s", backend.Addr(), more)
	}
	const a, b = "[[routes]]\nhosts = [\"a.test\"]\npool = \"web\"\n", "[[routes]]\nhosts = [\"b.test\"]\npool = \"web\"\n"
	r := start(t, nil, a+pool(""))
	held := r.session(ca, "a.test")
	r.refused(ca, "b.test", "unrecognized name")

	done := r.reload(1, a+b+pool("retries = 1\n"))
	for _, want := range []string{"generation=2", `routes="added: b.test"`, `pools="changed: web"`} {
		if !strings.Contains(done, want) {
			t.Errorf("got %s, want %s in it", done, want)
		}
	}
	if strings.Contains(done, "listeners=") || strings.Contains(done, "backends=") {
		t.Errorf("got %s, want neither listeners nor backends changed", done)
	}
	r.echo(held)
	// The one connection that the backend takes is counted still.
	r.refused(ca, "b.test", "internal error")
	hangUp(t, held)
	r.access.wait(t, `outcome=ok`, 1)
	r.session(ca, "b.test")

	// A broken file changes nothing, and all that is wrong is told with its place.
	r.write(preamble + a + "colour = 1\n" + pool("retires = 1\n"))
	r.signals <- syscall.SIGHUP
	failed := r.log.wait(t, `^.*msg="reload failed".*$`, 1)[0]
	for _, want := range []string{"snicket.toml:9: ", "snicket.toml:12: ", "colour", "retires", "the old configuration runs on"} {
		if !strings.Contains(failed, want) {
			t.Errorf("got %s, want %q in it", failed, want)
		}
	}
	r.refused(ca, "c.test", "unrecognized name")
}

func TestReloadListeners(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	backend := lab.Serve(t, lab.Echo(), lab.Options{TLS: ca.Server(t, "a.test")})
	r := start(t, nil, passthrough("a.test", backend.Addr()))
	held := r.session(ca, "a.test")
	second := "[listeners.more]\naddress = \"127.0.0.2:0\"\n"
	r.reload(1, second+passthrough("a.test", backend.Addr()))
	address := r.log.wait(t, `msg=listening listener=more address=(\S+)`, 1)[1]
	first := r.address
	r.address = address
	onSecond := r.session(ca, "a.test")

	// An address that cannot be had leaves everything as it is.
	taken := lab.Listen(t, "127.0.0.1:0")
	defer taken.Close()
	r.write(preamble + fmt.Sprintf("[listeners.taken]\naddress = %q\n", taken.Addr()) + passthrough("b.test", backend.Addr()))
	r.signals <- syscall.SIGHUP
	failed := r.log.wait(t, `^.*msg="reload failed".*$`, 1)[0]
	if !strings.Contains(failed, "snicket.toml:7: ") || !strings.Contains(failed, "another process listens there") {
		t.Errorf("got %s, want the listener's line and a hint", failed)
	}
	r.session(ca, "a.test")

	// A listener that is no more lets its sessions drain.
	r.reload(2, "[timeouts]\ndrain = \"10ms\"\n"+passthrough("a.test", backend.Addr()))
	ended(t, onSecond)
	r.access.wait(t, `listener=more .*outcome=drained`, 1)
	if c, err := net.Dial("tcp", address); err == nil {
		c.Close()
		t.Error("got a connection to a listener that is no more")
	}
	r.address = first
	r.echo(held)
	r.session(ca, "a.test")
}

func TestRemovedBackendDrains(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	config := lab.Options{TLS: ca.Server(t, "a.test", "b.test")}
	one, two := lab.Serve(t, lab.Echo(), config), lab.Serve(t, lab.Echo(), config)
	const drain = "[timeouts]\ndrain = \"10ms\"\n"
	r := start(t, nil, drain+passthrough("a.test", one.Addr())+passthrough("b.test", one.Addr()))
	moves, stays := r.session(ca, "a.test"), r.session(ca, "b.test")
	r.reload(1, drain+passthrough("a.test", two.Addr())+passthrough("b.test", one.Addr()))
	ended(t, moves)
	r.access.wait(t, `pool=a.test backend=`+one.Addr()+` outcome=drained`, 1)
	r.echo(stays)
	r.session(ca, "a.test")
	two.WaitAccepted(t, 1)

	// A pool that is no more drains as its backends do.
	r.reload(2, drain+passthrough("a.test", two.Addr()))
	ended(t, stays)
}

func TestDrain(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	backend := lab.Serve(t, lab.Echo(), lab.Options{TLS: ca.Server(t, "a.test")})
	text := passthrough("a.test", backend.Addr())
	t.Run("sessions may end", func(t *testing.T) {
		r := start(t, nil, text)
		c := r.session(ca, "a.test")
		r.signals <- syscall.SIGTERM
		r.log.wait(t, `msg=draining signal=terminated sessions=1`, 1)
		r.echo(c)
		hangUp(t, c)
		r.wait()
		r.access.wait(t, `outcome=ok`, 1)
		r.log.wait(t, `msg=stopped`, 1)
	})
	t.Run("a second signal does not wait", func(t *testing.T) {
		r := start(t, nil, text)
		c := r.session(ca, "a.test")
		r.signals <- syscall.SIGINT
		r.log.wait(t, `msg=draining`, 1)
		r.signals <- syscall.SIGHUP
		r.log.wait(t, `msg="no reload while ending"`, 1)
		r.signals <- syscall.SIGINT
		ended(t, c)
		r.wait()
		r.access.wait(t, `outcome=drained`, 1)
	})
	t.Run("nor does the drain timeout", func(t *testing.T) {
		r := start(t, nil, "[timeouts]\ndrain = \"10ms\"\n"+text)
		c := r.session(ca, "a.test")
		r.signals <- syscall.SIGTERM
		ended(t, c)
		r.wait()
		r.access.wait(t, `outcome=drained`, 1)
	})
}

func TestRunCannotListen(t *testing.T) {
	lab.Leaks(t)
	taken := lab.Listen(t, "127.0.0.1:0")
	defer taken.Close()
	socket := t.TempDir() + "/taken.sock"
	local, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	for address, hint := range map[string]string{
		taken.Addr().String(): "ss -ltnp", "unix:" + socket: "ss -lxp", "192.0.2.1:0": "no interface",
	} {
		text := fmt.Sprintf("[listeners.https]\naddress = %q\n", address) + passthrough("a.test", "127.0.0.1:9")
		path := lab.WriteFile(t, t.TempDir()+"/snicket.toml", []byte(text))
		s, err := server.New(path, server.Options{})
		if err != nil {
			t.Fatal(err)
		}
		err = s.Run(context.Background(), nil)
		var bad *server.ConfigError
		if !errors.As(err, &bad) || bad.Problems[0].Pos.Line != 2 || !strings.Contains(bad.Problems[0].Hint, hint) {
			t.Errorf("%s: got %v, want a problem at line 2 and a hint of %s", address, err, hint)
		}
	}
}

func TestAccessLogFile(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	backend := lab.Serve(t, lab.Echo(), lab.Options{TLS: ca.Server(t, "a.test")})
	file := t.TempDir() + "/access.log"
	text := fmt.Sprintf("[log]\nformat = \"json\"\naccess = %q\n", file) + passthrough("a.test", backend.Addr())
	r := start(t, nil, text)
	hangUp(t, r.session(ca, "a.test"))
	backend.WaitOpen(t, 0)
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	r.write(preamble + text)
	r.signals <- syscall.SIGHUP
	r.log.wait(t, `"msg":"reload done"`, 1)
	hangUp(t, r.session(ca, "a.test"))
	r.signals <- syscall.SIGTERM
	r.wait()
	var all string
	for _, name := range []string{file + ".1", file} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all += string(text)
	}
	if got := strings.Count(all, `"outcome":"ok"`); got != 2 {
		t.Errorf("got %d records, want 2:\n%s", got, all)
	}
	if got := r.access.String(); got != "" {
		t.Errorf("got %q on stdout, want nothing", got)
	}
}

func TestTerminateOffersWhatBackendsChose(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	cert, key := ca.WriteServer(t, "a.test")
	for _, tc := range []struct {
		name string
		alpn [][]string // of each backend
		want string
	}{
		{"h2", [][]string{{"h2", "http/1.1"}, {"h2"}}, "h2"},
		{"one speaks http/1.1 alone", [][]string{{"h2", "http/1.1"}, {"http/1.1"}}, "http/1.1"},
		{"one speaks none", [][]string{{"h2"}, nil}, ""},
		{"one refuses both", [][]string{{"imap"}}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var backends []string
			for _, alpn := range tc.alpn {
				config := ca.Server(t, "a.test")
				config.NextProtos = alpn
				backends = append(backends, fmt.Sprintf("%q", lab.Serve(t, lab.Echo(), lab.Options{TLS: config}).Addr()))
			}
			r := start(t, nil, fmt.Sprintf(`
[[routes]]
hosts = ["a.test"]
mode = "terminate"
pool = "web"
[routes.tls]
certificates = [{ cert = %q, key = %q }]
[pools.web]
backends = [%s]
[pools.web.tls]
ca = %q
`, cert, key, strings.Join(backends, ", "), ca.WriteCA(t)))
			r.log.wait(t, `msg="backend ready"`, len(backends))
			c := r.session(ca, "a.test", "h2", "http/1.1")
			if got := c.ConnectionState().NegotiatedProtocol; got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestTicketsStayWithTheirRoute(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	cert, key := ca.WriteServer(t, "a.test", "b.test")
	backend := lab.Serve(t, lab.Echo(), lab.Options{})
	route := "[[routes]]\nhosts = [%q]\nmode = \"terminate\"\nbackends = [%q]\n"
	r := start(t, nil, fmt.Sprintf(route+route+"[tls]\ncertificates = [{ cert = %q, key = %q }]\n",
		"a.test", backend.Addr(), "b.test", backend.Addr(), cert, key))
	cache := tls.NewLRUClientSessionCache(4)
	resumes := func(name string) bool {
		config := ca.Client("a.test") // what the cache and the verification go by
		config.ClientSessionCache = sameKey{cache}
		config.ServerName = name
		c, err := tls.Dial("tcp", r.address, config)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		r.echo(c) // brings the ticket along
		return c.ConnectionState().DidResume
	}
	if got := resumes("a.test"); got {
		t.Fatal("got a resumption of the first session")
	}
	if got := resumes("b.test"); got {
		t.Error("got a session of a.test resumed at b.test")
	}
	if got := resumes("b.test"); !got {
		t.Error("got no resumption at b.test itself")
	}
}

// sameKey shows the tickets of all servers to each.
type sameKey struct{ tls.ClientSessionCache }

func (s sameKey) Get(string) (*tls.ClientSessionState, bool) { return s.ClientSessionCache.Get("") }

func (s sameKey) Put(_ string, cs *tls.ClientSessionState) { s.ClientSessionCache.Put("", cs) }

// Reloads that each change a listener, a route and a pool break no session of what
// stays, and count as done only once they hold.
func TestReloadsUnderLoad(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	backend := lab.Serve(t, lab.Echo(), lab.Options{TLS: ca.Server(t, "*.test")})
	stays := passthrough("stays.test", backend.Addr())
	r := start(t, nil, stays)
	stop, failed := make(chan struct{}), make(chan error, 4)
	for range cap(failed) {
		go func() {
			for {
				select {
				case <-stop:
					failed <- nil
					return
				default:
				}
				c, err := r.dial(ca, "stays.test")
				if err != nil {
					failed <- err
					return
				}
				c.Close()
			}
		}()
	}
	for i := 1; i <= 20; i++ {
		name := fmt.Sprintf("r%d.test", i)
		r.reload(i, fmt.Sprintf("[listeners.l%d]\naddress = \"127.0.0.%d:0\"\n", i, i+1)+stays+
			fmt.Sprintf("[[routes]]\nhosts = [%q]\npool = \"web\"\n", name)+
			fmt.Sprintf("[pools.web]\nbackends = [{ address = %q, weight = %d }]\n", backend.Addr(), i))
		r.session(ca, name).Close()
	}
	close(stop)
	for range cap(failed) {
		if err := <-failed; err != nil {
			t.Errorf("a session of what stays: %v", err)
		}
	}
}
