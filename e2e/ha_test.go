//go:build e2e

package e2e_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/internal/lab"
)

// The example's network, within one that leads nowhere else (RFC 2544), on a bridge.
const (
	haShared = "198.19.77.10"
	haBridge = "198.19.77.1" // the test, with the backends
)

// twin is a machine of the pair: a network namespace.
type twin struct {
	t          *testing.T
	name       string // of the namespace
	link       string // the bridge's end of its cable
	ip, peer   string
	file, conf string // of snicket and of keepalived
	snicket    *lab.Process
	keepalived *lab.Process
}

// TestPair loses the balancer that has the address, three times in three ways: the next session is served by the other
// one, the quickest of them within three seconds, resumes there, and finds the backend of before.
func TestPair(t *testing.T) {
	lab.Require(t, "keepalived", "keepalived")
	ca := lab.NewAuthority(t, "edge")
	clients := make([]string, 8)
	haNetwork(t, clients)
	var game, www []string
	for i := range 3 {
		game = append(game, lab.Serve(t, lab.Announce(fmt.Sprintf("backend-%d", i), nil), lab.Options{Addr: haBridge + ":0"}).Addr())
	}
	for range 2 {
		www = append(www, lab.Serve(t, lab.Echo(), lab.Options{Addr: haBridge + ":0"}).Addr())
	}
	cert, key := ca.WriteServer(t, "www.example.com")
	a, b := newTwin(t, "a", "198.19.77.11", "198.19.77.12"), newTwin(t, "b", "198.19.77.12", "198.19.77.11")
	for _, e := range []*twin{a, b} {
		e.configure(cert, key, www, game)
		e.runSnicket()
	}

	// Wherever a client comes in, its backend is the same.
	homes := map[string]string{}
	for _, client := range clients {
		homes[client] = gameOf(t, client, a.ip)
		if other := gameOf(t, client, b.ip); other != homes[client] {
			t.Errorf("client %s: got %s by one balancer and %s by the other", client, homes[client], other)
		}
	}
	if len(valuesOf(homes)) < 2 {
		t.Fatalf("all clients have one backend, which says nothing: %v", homes)
	}

	for _, e := range []*twin{a, b} {
		e.runKeepalived()
	}
	await(t, "one of them has the address", func() bool { return a.hasShared() != b.hasShared() })
	conf := ca.Client("www.example.com")
	conf.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	resumed := func() bool {
		t.Helper()
		c := dialTLS(t, net.JoinHostPort(haShared, "443"), conf)
		defer c.Close()
		exchangeEcho(t, c, []byte("hello")) // by then the ticket is there
		return c.ConnectionState().DidResume
	}
	haServed(t, ca.Client("www.example.com"))
	if resumed() {
		t.Fatal("the first session was resumed")
	}
	quickest := time.Hour
	for _, loss := range []struct {
		name         string
		lose, mended func(e *twin)
	}{
		{"snicket is killed", func(e *twin) { e.snicket.Signal(unix.SIGKILL) }, func(e *twin) {
			mark := e.keepalived.Mark()
			e.runSnicket()
			e.keepalived.WaitLineAfter(mark, `effective priority from 80 to 100`)
		}},
		{"the cable is cut", func(e *twin) { haIP(t, "link", "set", e.link, "down") }, func(e *twin) {
			mark := e.keepalived.Mark()
			haIP(t, "link", "set", e.link, "up")
			e.keepalived.WaitLineAfter(mark, `Entering BACKUP STATE`)
		}},
		{"keepalived is stopped", func(e *twin) { e.keepalived.Signal(unix.SIGTERM) }, (*twin).runKeepalived},
	} {
		master, other := a, b
		if b.hasShared() {
			master, other = b, a
		}
		mark, begin := other.keepalived.Mark(), time.Now()
		loss.lose(master)
		haServed(t, ca.Client("www.example.com"))
		took := time.Since(begin)
		quickest = min(quickest, took)
		t.Logf("%s: a new session after %v", loss.name, took.Round(time.Millisecond))
		other.keepalived.WaitLineAfter(mark, `Entering MASTER STATE`)
		if !resumed() {
			t.Errorf("%s: the session was not resumed at the other one", loss.name)
		}
		for client, home := range homes {
			if now := gameOf(t, client, haShared); now != home {
				t.Errorf("%s: client %s got %s, before %s", loss.name, client, now, home)
			}
		}
		loss.mended(master)
	}
	if quickest > 3*time.Second {
		t.Errorf("the quickest of three losses took %v, want three seconds at most", quickest)
	}
}

// haNetwork makes the bridge, with further addresses for clients.
func haNetwork(t *testing.T, clients []string) {
	t.Helper()
	haIP(t, "link", "add", "snha", "type", "bridge")
	t.Cleanup(func() { exec.Command("ip", "link", "del", "snha").Run() })
	haIP(t, "addr", "add", haBridge+"/24", "dev", "snha")
	for i := range clients {
		clients[i] = fmt.Sprintf("198.19.77.%d", 100+i)
		haIP(t, "addr", "add", clients[i]+"/24", "dev", "snha")
	}
	haIP(t, "link", "set", "snha", "up")
}

func newTwin(t *testing.T, name, ip, peer string) *twin {
	t.Helper()
	e := &twin{t: t, name: fmt.Sprintf("snicket-ha-%s-%d", name, os.Getpid()), link: "snha" + name, ip: ip, peer: peer}
	haIP(t, "netns", "add", e.name)
	t.Cleanup(func() {
		exec.Command("ip", "link", "del", e.link).Run()
		exec.Command("ip", "netns", "del", e.name).Run()
	})
	haIP(t, "link", "add", e.link, "type", "veth", "peer", "name", "eth0", "netns", e.name)
	haIP(t, "link", "set", e.link, "master", "snha", "up")
	haIP(t, "-n", e.name, "addr", "add", ip+"/24", "dev", "eth0")
	haIP(t, "-n", e.name, "link", "set", "lo", "up")
	haIP(t, "-n", e.name, "link", "set", "eth0", "up")
	return e
}

// configure writes the example's files with the addresses of the test, which are the only difference.
func (e *twin) configure(cert, key string, www, game []string) {
	e.t.Helper()
	dir := e.t.TempDir()
	text := read(e.t, "../examples/ha/snicket.toml")
	for old, now := range map[string]string{
		`"10.0.0.21:8080", "10.0.0.22:8080"`:                   `"` + strings.Join(www, `", "`) + `"`,
		`"10.0.0.21:7443", "10.0.0.22:7443", "10.0.0.23:7443"`: `"` + strings.Join(game, `", "`) + `"`,
	} {
		text = replaceOnce(e.t, text, old, now)
	}
	e.file = lab.WriteFile(e.t, filepath.Join(dir, "snicket.toml"), []byte(text))
	lab.WriteFile(e.t, filepath.Join(dir, "ticket.secret"), []byte(strings.Repeat("s", 48)))
	if err := os.Mkdir(filepath.Join(dir, "certs"), 0o700); err != nil {
		e.t.Fatal(err)
	}
	lab.WriteFile(e.t, filepath.Join(dir, "certs", "www.pem"), []byte(read(e.t, cert)+read(e.t, key)))
	text = read(e.t, "../examples/ha/keepalived.conf")
	if _, shown, _ := strings.Cut(text, "vrrp_script"); !strings.Contains(read(e.t, "../docs/ha.md"), shown) {
		e.t.Error("docs/ha.md shows another keepalived.conf")
	}
	text = replaceOnce(e.t, text, "192.0.2.11\n", e.ip+"\n")
	text = replaceOnce(e.t, text, "192.0.2.12\n", e.peer+"\n")
	text = replaceOnce(e.t, text, "192.0.2.10/24", haShared+"/24")
	e.conf = lab.WriteFile(e.t, filepath.Join(dir, "keepalived.conf"), []byte(text))
}

func (e *twin) runSnicket() {
	e.t.Helper()
	e.snicket = lab.Start(e.t, lab.Command{
		Path: program(e.t, "cmd/snicket"), Args: []string{"run", "-c", e.file}, Netns: e.name,
		Env: []string{"RUNTIME_DIRECTORY=" + filepath.Dir(e.file)},
	})
	e.snicket.WaitLine(`\bmsg=ready\b`)
}

// runKeepalived returns when it takes part.
func (e *twin) runKeepalived() {
	e.t.Helper()
	dir := e.t.TempDir()
	e.keepalived = lab.Start(e.t, lab.Command{
		Path: "keepalived", Netns: e.name,
		Args: []string{"--dont-fork", "--log-console", "--log-detail", "--vrrp", "--use-file", e.conf, "--pid", filepath.Join(dir, "pid"), "--vrrp_pid", filepath.Join(dir, "vrrp")},
	})
	e.keepalived.WaitLine(`\(edge\) Entering (BACKUP|MASTER) STATE`)
}

// hasShared reports whether the shared address is here.
func (e *twin) hasShared() bool {
	return strings.Contains(haIP(e.t, "-n", e.name, "-o", "addr", "show", "dev", "eth0"), " "+haShared+"/")
}

// await asks until it is so: for what tells nobody.
func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for late := time.After(2 * lab.Patience); !is(); {
		select {
		case <-look.C:
		case <-late:
			t.Fatalf("never came: %s", what)
		}
	}
}

// haServed tries until a new session by the shared address is served.
func haServed(t *testing.T, conf *tls.Config) {
	t.Helper()
	try := func() error {
		raw, err := net.DialTimeout("tcp", net.JoinHostPort(haShared, "443"), 200*time.Millisecond)
		if err != nil {
			return err
		}
		defer raw.Close()
		raw.SetDeadline(time.Now().Add(500 * time.Millisecond))
		c := tls.Client(raw, conf)
		if _, err := io.WriteString(c, "hello"); err != nil {
			return err
		}
		_, err = io.ReadFull(c, make([]byte, 5))
		return err
	}
	for late := time.Now().Add(lab.Patience); ; {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(late) {
			t.Fatalf("no session by the shared address: %v", err)
		}
	}
}

// gameOf is the backend that a client is led to.
func gameOf(t *testing.T, client, ip string) string {
	t.Helper()
	c := dialFrom(t, client, net.JoinHostPort(ip, "443"))
	defer c.Close()
	answer, ending := exchange(t, c, [][]byte{lab.Hello("game.example.com")}, lab.Patience)
	return verdict(answer, ending)
}

func valuesOf(m map[string]string) map[string]bool {
	values := map[string]bool{}
	for _, v := range m {
		values[v] = true
	}
	return values
}

func haIP(t *testing.T, args ...string) string {
	t.Helper()
	return mustTool(t, "", "ip", args...)
}
