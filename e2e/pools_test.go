//go:build e2e

package e2e_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
)

// site is an nginx that answers over TLS with its name, and over plain HTTP on another port whether it is well: until
// the file down is there.
type site struct {
	*lab.Process
	name, addr, health, down string
	begin                    func() *lab.Process
}

func startSite(t *testing.T, ca *lab.Authority, name string) *site {
	t.Helper()
	cert, key := ca.WriteServer(t, "a.test")
	s := &site{name: name, addr: lab.FreeAddr(t), health: lab.FreeAddr(t), down: filepath.Join(t.TempDir(), "down")}
	s.begin = func() *lab.Process {
		return startNginx(t, fmt.Sprintf(`
http {
	access_log off;
	server {
		listen %s ssl;
		ssl_certificate %s;
		ssl_certificate_key %s;
		location / { return 200 '%s'; }
	}
	server {
		listen %s;
		location = /healthz { if (-f %s) { return 503; } return 200 'fine'; }
	}
}`, s.addr, cert, key, name, s.health, s.down), s.addr, s.health)
	}
	s.Process = s.begin()
	return s
}

// get asks a.test at addr for a page, over a connection of its own.
func get(t *testing.T, addr string, ca *lab.Authority) (string, error) {
	t.Helper()
	transport := &http.Transport{
		TLSClientConfig: ca.Client("a.test"), DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		},
	}
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: transport, Timeout: lab.Patience}
	resp, err := client.Get("https://a.test/")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

// count asks n times, and returns who answered how often.
func count(t *testing.T, n int, addr string, ca *lab.Authority) map[string]int {
	t.Helper()
	got := map[string]int{}
	for range n {
		answer, err := get(t, addr, ca)
		if err != nil {
			t.Fatal(err)
		}
		got[answer]++
	}
	return got
}

// TestPoolOfNginx takes a backend down by what its health page says, and brings it back, slowly.
func TestPoolOfNginx(t *testing.T) {
	ca := lab.NewAuthority(t, "ca")
	one, two := startSite(t, ca, "one"), startSite(t, ca, "two")
	addr := lab.FreeAddr(t)
	// The health page of each is at a port of its own, so each has a pool's worth of probes by itself: what is shared
	// is the port, so both listen on it, on addresses of their own.
	health := port(t, one.health)
	lab.Serve(t, func(c *lab.Conn) { proxyTo(c, two.health) }, lab.Options{Addr: net.JoinHostPort("127.0.0.2", health)})
	second := lab.Serve(t, func(c *lab.Conn) { proxyTo(c, two.addr) }, lab.Options{Addr: net.JoinHostPort("127.0.0.2", port(t, two.addr))})
	b := run(t, listener(addr)+passthrough("a.test", "web", []string{one.addr, second.Addr()},
		`balance = "round-robin"`, `slow_start = "1h"`,
		"[pools.web.health]", `kind = "http"`, "port = "+health, `path = "/healthz"`, `expect_body = "^fine$"`,
		`interval = "50ms"`, "rise = 2", "fall = 2"))
	b.WaitLines(0, `msg="backend ready"`, 2)
	if got := count(t, 10, addr, ca); got["one"] != 5 || got["two"] != 5 {
		t.Errorf("both ready: got %v of 10, want 5 each", got)
	}
	mark := b.Mark()
	lab.WriteFile(t, one.down, nil)
	match, mark := b.WaitLineAfter(mark, `msg="backend down" pool=web backend=`+one.addr+` why="([^"]*)"`)
	if want := "status 503, want 200-399"; match[1] != want {
		t.Errorf("down: got why %q, want %q", match[1], want)
	}
	if got := count(t, 10, addr, ca); got["two"] != 10 {
		t.Errorf("one down: got %v of 10, want two alone", got)
	}
	if err := os.Remove(one.down); err != nil {
		t.Fatal(err)
	}
	b.WaitLineAfter(mark, `msg="backend ready" pool=web backend=`+one.addr)
	// A twentieth at first, and the hour has hardly begun.
	if got := count(t, 60, addr, ca); got["one"] == 0 || got["one"] > 10 {
		t.Errorf("in its slow start: got %v of 60, want about 3 from one", got)
	}
}

// proxyTo joins a connection with one to addr until both have ended.
func proxyTo(c *lab.Conn, addr string) {
	out, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	defer out.Close()
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = io.Copy(out, c)
		_ = out.(*net.TCPConn).CloseWrite()
	})
	_, _ = io.Copy(c, out)
	_ = c.CloseWrite()
	wg.Wait()
}

// TestBackupSite kills the first site: the second serves until it is back.
func TestBackupSite(t *testing.T) {
	ca := lab.NewAuthority(t, "ca")
	near, far := startSite(t, ca, "near"), startSite(t, ca, "far")
	addr := lab.FreeAddr(t)
	b := run(t, listener(addr)+fmt.Sprintf(`
[[routes]]
hosts = ["a.test"]
pool = "sites"
[pools.sites]
backends = [%q, { address = %q, backup = true }]
[pools.sites.health]
kind = "tls"
interval = "50ms"
rise = 1
fall = 1
`, near.addr, far.addr))
	b.WaitLines(0, `msg="backend ready"`, 2)
	if got := count(t, 5, addr, ca); got["near"] != 5 {
		t.Errorf("both ready: got %v, want near alone", got)
	}
	near.Kill()
	// Whether or not a probe has seen it, no client notices.
	if got := count(t, 5, addr, ca); got["far"] != 5 {
		t.Errorf("near is gone: got %v, want far alone", got)
	}
	_, mark := b.WaitLineAfter(0, `msg="backend down" pool=sites backend=`+near.addr+` why="connect: connection refused"`)
	if got := count(t, 5, addr, ca); got["far"] != 5 {
		t.Errorf("near is known to be gone: got %v, want far alone", got)
	}
	near.Process = near.begin()
	b.WaitLineAfter(mark, `msg="backend ready" pool=sites backend=`+near.addr)
	if got := count(t, 5, addr, ca); got["near"] != 5 {
		t.Errorf("near is back: got %v, want near alone", got)
	}
}

// TestPoolFromDNS follows a name of a real DNS server from one backend to another.
func TestPoolFromDNS(t *testing.T) {
	lab.Require(t, "dnsmasq", "dnsmasq-base")
	ca := lab.NewAuthority(t, "ca")
	one := lab.Serve(t, lab.Announce("one", nil), lab.Options{TLS: ca.Server(t, "a.test"), Addr: lab.FreeAddr(t)})
	two := lab.Serve(t, lab.Announce("two", nil), lab.Options{
		TLS: ca.Server(t, "a.test"), Addr: net.JoinHostPort("127.0.0.2", port(t, one.Addr())),
	})
	dir := t.TempDir()
	at, hosts := netip.MustParseAddrPort(lab.FreeAddr(t)), filepath.Join(dir, "hosts")
	conf := lab.WriteFile(t, filepath.Join(dir, "dnsmasq.conf"), fmt.Appendf(nil, `
port=%d
listen-address=%s
bind-interfaces
user=root
pid-file=%s/pid
log-facility=-
no-resolv
no-hosts
addn-hosts=%s
local=/test/
local-ttl=1
`, at.Port(), at.Addr(), dir, hosts))
	lab.WriteFile(t, hosts, []byte("127.0.0.1 app.test\n"))
	d := lab.Start(t, lab.Command{Path: "dnsmasq", Args: []string{"--keep-in-foreground", "--conf-file=" + conf}})
	d.WaitLine(`read .*hosts`)
	d.WaitReachable(at.String())
	addr := lab.FreeAddr(t)
	b := run(t, listener(addr)+fmt.Sprintf(`
[[routes]]
hosts = ["a.test"]
pool = "web"
[pools.web.discover]
dns = "app.test.:%s"
resolvers = [%q]
[pools.web.health]
kind = "tls"
interval = "50ms"
`, port(t, one.Addr()), at))
	b.WaitLine(`msg="backend ready" pool=web backend=` + one.Addr())
	if got := ask(t, addr, ca.Client("a.test"), "x"); got != "one\n" {
		t.Errorf("got %q, want one", got)
	}
	lab.WriteFile(t, hosts, []byte("127.0.0.2 app.test\n"))
	d.Signal(syscall.SIGHUP)
	b.WaitLine(`msg="backends discovered" pool=web .* changes="added: ` + two.Addr() + `; removed: ` + one.Addr() + `"`)
	b.WaitLine(`msg="backend removed" pool=web backend=` + one.Addr())
	b.WaitLine(`msg="backend ready" pool=web backend=` + two.Addr())
	if got := ask(t, addr, ca.Client("a.test"), "x"); got != "two\n" {
		t.Errorf("got %q, want two", got)
	}
	// Without the server the last good set stays.
	d.Kill()
	b.WaitLine(`level=WARN msg="discovery failed" pool=web from="dns app.test.:\d+" why=.* backends_kept=1`)
	if got := ask(t, addr, ca.Client("a.test"), "x"); got != "two\n" {
		t.Errorf("without DNS: got %q, want two", got)
	}
}

// TestQueueOfSlowBackends has more clients than its backends take: all are served, none of the backends has more at
// once than it may, and the record says who waited.
func TestQueueOfSlowBackends(t *testing.T) {
	const clients, limit = 40, 2
	var mu sync.Mutex
	active, most := map[string]int{}, 0
	slow := func(name string) lab.Handler {
		return func(c *lab.Conn) {
			if _, err := c.Read(make([]byte, 1)); err != nil {
				return
			}
			mu.Lock()
			active[name]++
			most = max(most, active[name])
			mu.Unlock()
			<-time.After(20 * time.Millisecond) // what the backend takes, and not the test
			mu.Lock()
			active[name]--
			mu.Unlock()
			_, _ = io.WriteString(c, name)
		}
	}
	ca := lab.NewAuthority(t, "ca")
	one := lab.Serve(t, slow("one"), lab.Options{TLS: ca.Server(t, "a.test")})
	two := lab.Serve(t, slow("two"), lab.Options{TLS: ca.Server(t, "a.test")})
	addr := lab.FreeAddr(t)
	b := run(t, listener(addr)+fmt.Sprintf(`
[[routes]]
hosts = ["a.test"]
pool = "web"
[pools.web]
backends = [{ address = %q, max_connections = %d }, { address = %q, max_connections = %d }]
queue = { size = %d, timeout = "1m" }
health = { enabled = false }
`, one.Addr(), limit, two.Addr(), limit, clients))
	var wg sync.WaitGroup
	got := make([]string, clients)
	for i := range clients {
		wg.Go(func() {
			c, err := tls.DialWithDialer(&net.Dialer{Timeout: 2 * lab.Patience}, "tcp", addr, ca.Client("a.test"))
			if err != nil {
				got[i] = err.Error()
				return
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(lab.Patience))
			_, _ = io.WriteString(c, "x")
			answer, _ := io.ReadAll(c)
			got[i] = string(answer)
		})
	}
	wg.Wait()
	for i, answer := range got {
		if answer != "one" && answer != "two" {
			t.Errorf("client %d: got %q", i, answer)
		}
	}
	if most > limit {
		t.Errorf("a backend had %d sessions at once, want at most %d", most, limit)
	}
	waited := 0
	b.WaitLines(0, `^time=.* outcome=.*$`, clients)
	for _, r := range b.records(0) {
		if r["queue_ms"] != "-" {
			waited++
		}
	}
	if waited == 0 {
		t.Error("nobody waited in the queue")
	}
}

// TestEjectsWhoRefuses has a backend refuse connections while its probe, at another port, passes.
func TestEjectsWhoRefuses(t *testing.T) {
	ca := lab.NewAuthority(t, "ca")
	good := startSite(t, ca, "good")
	addr, refuses := lab.FreeAddr(t), lab.FreeAddr(t)
	b := run(t, listener(addr)+passthrough("a.test", "web", []string{good.addr, refuses},
		`balance = "round-robin"`, "[pools.web.health]", `kind = "http"`, `path = "/healthz"`, "fall = 1000", `interval = "100ms"`,
		"port = "+port(t, good.health), "[pools.web.eject]", "failures = 3", `for = "1h"`))
	if got := count(t, 12, addr, ca); got["good"] != 12 {
		t.Errorf("got %v, want good alone", got)
	}
	match := b.WaitLine(`msg="backend ejected" pool=web backend=` + refuses + ` why="([^"]*)"`)
	if want := "3 failures in a row: connect: connection refused"; match[1] != want {
		t.Errorf("got why %q, want %q", match[1], want)
	}
	const record = `^time=.* outcome=.*$`
	b.WaitLines(0, record, 12)
	mark := b.Mark()
	count(t, 12, addr, ca)
	b.WaitLines(mark, record, 12)
	for _, r := range b.records(mark) {
		if r["retries"] != "0" {
			t.Errorf("got %s retries with the backend ejected, want none", r["retries"])
		}
	}
}

// TestCheckProbe asks real servers by their presets, and those that are gone.
func TestCheckProbe(t *testing.T) {
	_, pg := startPostgres(t, "scram-sha-256")
	lab.Require(t, "redis-server", "redis-server")
	rd := lab.FreeAddr(t)
	redis := lab.Start(t, lab.Command{Path: "redis-server", Args: []string{
		"--port", port(t, rd), "--bind", "127.0.0.1", "--save", "", "--dir", t.TempDir(),
	}})
	redis.WaitReachable(rd)
	file := lab.WriteFile(t, filepath.Join(t.TempDir(), "snicket.toml"), []byte(
		passthrough("a.test", "pg", []string{pg}, "[pools.pg.health]", `kind = "exchange"`, `preset = "postgres"`)+
			passthrough("b.test", "rd", []string{rd}, "[pools.rd.health]", `kind = "exchange"`, `preset = "redis"`)))
	out, status := tool(t, "", program(t, "cmd/snicket"), "check", "--probe", "-c", file)
	if status != 0 || strings.Count(out, "  ready  ") != 2 {
		t.Errorf("both up: got status %d and\n%s\nwant 0 and two ready", status, out)
	}
	redis.Kill()
	out, status = tool(t, "", program(t, "cmd/snicket"), "check", "--probe", "-c", file)
	if status != 1 || !strings.Contains(out, "connect: connection refused") || strings.Count(out, "  ready  ") != 1 {
		t.Errorf("redis gone: got status %d and\n%s\nwant 1, refused and one ready", status, out)
	}
}
