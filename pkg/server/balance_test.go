package server_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
)

const webRoute = "[[routes]]\nhosts = [\"a.test\"]\npool = \"web\"\n"

// named is a TLS backend that answers each connection with its name.
func named(t *testing.T, ca *lab.Authority, name string) *lab.Server {
	t.Helper()
	return lab.Serve(t, lab.Announce(name, nil), lab.Options{TLS: ca.Server(t, "a.test")})
}

// ask opens a session, returns the name of the backend, and ends it.
func (r *running) ask(ca *lab.Authority) string {
	r.t.Helper()
	c, err := r.dial(ca, "a.test")
	if err != nil {
		r.t.Fatal(err)
	}
	answer := name(r.t, c)
	hangUp(r.t, c)
	return answer
}

// name asks the backend of a session for its name.
func name(t *testing.T, c *tls.Conn) string {
	t.Helper()
	c.SetDeadline(time.Now().Add(lab.Patience))
	if _, err := io.WriteString(c, "x"); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// TestPolicies reloads from one policy to the next, in place.
func TestPolicies(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	one, two := named(t, ca, "one"), named(t, ca, "two")
	text := func(balance string) string {
		return webRoute + fmt.Sprintf("[pools.web]\nbackends = [%q, { address = %q, weight = 3 }]\nbalance = %q\n[pools.web.health]\nenabled = false\n",
			one.Addr(), two.Addr(), balance)
	}
	r := start(t, nil, text("round-robin"))
	got := map[string]int{}
	for range 8 {
		got[r.ask(ca)]++
	}
	if got["one"] != 2 || got["two"] != 6 {
		t.Errorf("round-robin by weight 1 and 3: got %v of 8 sessions", got)
	}
	for i, balance := range []string{"source-hash", "sni-hash"} {
		r.reload(i+1, text(balance))
		first := r.ask(ca)
		for range 8 {
			if again := r.ask(ca); again != first {
				t.Errorf("%s: got %q after %q for the same client and name", balance, again, first)
			}
		}
	}
	for i, balance := range []string{"random-two", "least-time", "least-connections"} {
		r.reload(i+3, text(balance))
		if name := r.ask(ca); name != "one" && name != "two" {
			t.Errorf("%s: got %q", balance, name)
		}
	}
}

// agent is a program beside a backend that answers with a line a test sets.
type agent struct {
	mu   sync.Mutex // guards line
	line string
}

func (a *agent) say(line string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.line = line
}

func (a *agent) serve(c *lab.Conn) {
	a.mu.Lock()
	line := a.line
	a.mu.Unlock()
	_, _ = io.WriteString(c, line+"\n")
}

// TestAgent has an agent drain its backend, halve its weight, take it down and bring it
// back.
func TestAgent(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	backend := lab.Serve(t, lab.Echo(), lab.Options{TLS: ca.Server(t, "a.test")})
	beside := &agent{line: "up"}
	asked := lab.Serve(t, beside.serve, lab.Options{})
	r := start(t, nil, webRoute+fmt.Sprintf(`
[pools.web]
backends = [%q]
[pools.web.health]
kind = "agent"
port = %d
interval = "10ms"
rise = 1
fall = 1
`, backend.Addr(), asked.AddrPort().Port()))
	r.log.wait(t, `msg="backend ready" pool=web`, 1)
	kept := r.session(ca, "a.test")
	beside.say("drain")
	r.log.wait(t, `msg="backend drains" pool=web backend=\S+ why="agent says drain"`, 1)
	r.refused(ca, "a.test", "internal error")
	r.echo(kept)
	beside.say("ready 50%")
	r.log.wait(t, `msg="backend drains no more"`, 1)
	r.log.wait(t, `msg="backend weight" pool=web backend=\S+ share=50% why="agent says so"`, 1)
	r.session(ca, "a.test").Close()
	beside.say("down 100% # no disk")
	r.log.wait(t, `msg="backend down" pool=web backend=\S+ why="agent says down: no disk"`, 1)
	r.refused(ca, "a.test", "internal error")
	beside.say("up")
	r.log.wait(t, `msg="backend ready"`, 2)
	r.session(ca, "a.test").Close()
	r.echo(kept)
}

// TestOnDownClose ends the sessions of a backend whose probe fails while its port goes
// on to serve them.
func TestOnDownClose(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	backend := lab.Serve(t, lab.Echo(), lab.Options{TLS: ca.Server(t, "a.test")})
	probed := lab.Serve(t, lab.Echo(), lab.Options{})
	text := webRoute + fmt.Sprintf("[pools.web]\nbackends = [%q]\non_down = %%q\n%sport = %d\n", backend.Addr(), quick, probed.AddrPort().Port())
	r := start(t, nil, fmt.Sprintf(text, "keep"))
	r.log.wait(t, `msg="backend ready"`, 1)
	kept := r.session(ca, "a.test")
	address := probed.Addr()
	probed.Close()
	r.log.wait(t, `msg="backend down"`, 1)
	r.echo(kept)

	r.reload(1, fmt.Sprintf(text, "close"))
	again := lab.Serve(t, lab.Echo(), lab.Options{Addr: address})
	r.log.wait(t, `msg="backend ready"`, 2)
	r.echo(kept)
	again.Close()
	r.log.wait(t, `msg="backend down"`, 2)
	kept.Read(make([]byte, 1)) // the record tells
	ended := r.access.wait(t, `outcome=(\S+) .*ended_by=(\S+)`, 1)
	if ended[1] != "backend-reset" || ended[2] != "snicket" {
		t.Errorf("got outcome=%s ended_by=%s, want backend-reset by snicket", ended[1], ended[2])
	}
}

// TestEject takes a backend out that refuses sessions although its probes pass, and
// lets it in again when its time is over.
func TestEject(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	good := named(t, ca, "good")
	probed := lab.Serve(t, lab.Echo(), lab.Options{})
	refuses := lab.FreeAddr(t)
	pool := fmt.Sprintf("[pools.web]\nbackends = [%q, { address = %q, name = \"bad\" }]\nbalance = \"round-robin\"\n"+
		"[pools.web.health]\ninterval = \"10ms\"\nrise = 1\nfall = 1000\nport = %d\n",
		good.Addr(), refuses, probed.AddrPort().Port())
	r := start(t, nil, webRoute+pool+"[pools.web.eject]\nfailures = 2\nfor = \"200ms\"\nmax_ejected = 0.5\n")
	r.log.wait(t, `msg="backend ready"`, 2)
	for range 6 { // every second one meets the bad backend first
		if got := r.ask(ca); got != "good" {
			t.Fatalf("got %q", got)
		}
	}
	why := r.log.wait(t, `msg="backend ejected" pool=web backend=bad why="(.*?)" until=\S+Z`, 1)
	if want := "2 failures in a row: connect: connection refused"; why[1] != want {
		t.Errorf("got why=%q, want %q", why[1], want)
	}
	r.log.wait(t, `msg="backend no longer ejected" pool=web backend=bad`, 1)
	for range 6 {
		r.ask(ca)
	}
	r.log.wait(t, `msg="backend ejected"`, 2)

	// Without the table there is no ejection, and what there was is over: the bad backend is
	// tried again, and again.
	r.access.wait(t, `outcome=`, 12)
	tried := strings.Count(r.access.String(), "retries=1")
	r.reload(1, webRoute+pool)
	for range 12 {
		r.ask(ca)
	}
	r.access.wait(t, `retries=1`, tried+5)

	// With the table again there is, though nothing else has changed.
	ejected := strings.Count(r.log.String(), `msg="backend ejected"`)
	r.reload(2, webRoute+pool+"[pools.web.eject]\nfailures = 2\nfor = \"1h\"\nmax_ejected = 0.5\n")
	for range 6 {
		r.ask(ca)
	}
	r.log.wait(t, `msg="backend ejected"`, ejected+1)
}

// TestEjectByHandshake counts a backend's TLS that fails, where a pool re-encrypts.
func TestEjectByHandshake(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	good := lab.Serve(t, lab.Echo(), lab.Options{TLS: ca.Server(t, "in.test")})
	bad := lab.Serve(t, lab.Echo(), lab.Options{TLS: ca.Server(t, "other.test")})
	cert, key := ca.WriteServer(t, "a.test")
	r := start(t, nil, "[[routes]]\nhosts = [\"a.test\"]\nmode = \"terminate\"\npool = \"web\"\n"+fmt.Sprintf(`
[pools.web]
backends = [%q, { address = %q, name = "bad" }]
balance = "round-robin"
tls = { server_name = "in.test", ca = %q }
health = { enabled = false }
eject = { failures = 2, for = "1h" }
[tls]
certificates = [{ cert = %q, key = %q }]
`, good.Addr(), bad.Addr(), ca.WriteCA(t), cert, key))
	for n := 1; strings.Count(r.access.String(), "outcome=backend-tls-failed") < 2; n++ {
		c, err := r.dial(ca, "a.test")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("x")); err == nil {
			_, _ = c.Read(make([]byte, 1))
		}
		c.Close()
		r.access.wait(t, `outcome=`, n)
	}
	why := r.log.wait(t, `msg="backend ejected" pool=web backend=bad why="(.*?)" until`, 1)
	if !strings.HasPrefix(why[1], "2 failures in a row: ") || !strings.Contains(why[1], "certificate") {
		t.Errorf("got why=%q, want 2 failures for the certificate", why[1])
	}
	for range 4 {
		r.session(ca, "a.test").Close()
	}
}

// TestPanic tries all backends once too few are ready.
func TestPanic(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	one := named(t, ca, "one")
	probed := lab.Serve(t, lab.Echo(), lab.Options{})
	r := start(t, nil, webRoute+fmt.Sprintf("[pools.web]\nbackends = [%q]\npanic_below = 0.5\n%sport = %d\n", one.Addr(), quick, probed.AddrPort().Port()))
	r.log.wait(t, `msg="backend ready"`, 1)
	address := probed.Addr()
	probed.Close()
	r.log.wait(t, `msg="pool in panic, all its backends are tried" pool=web ready="0 of 1" panic_below=0.5`, 1)
	if got := r.ask(ca); got != "one" {
		t.Errorf("got %q, want the backend that is down and serves", got)
	}
	lab.Serve(t, lab.Echo(), lab.Options{Addr: address})
	r.log.wait(t, `msg="pool out of panic" pool=web ready="1 of 1"`, 1)
}

// TestQueue makes a session wait for a place, by configuration.
func TestQueue(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	backend := lab.Serve(t, lab.Echo(), lab.Options{TLS: ca.Server(t, "a.test")})
	text := func(timeout string) string {
		return webRoute + fmt.Sprintf("[pools.web]\nbackends = [{ address = %q, max_connections = 1 }]\nqueue = { size = 1, timeout = %q }\nhealth = { enabled = false }\n",
			backend.Addr(), timeout)
	}
	r := start(t, nil, text("1h"))
	first := r.session(ca, "a.test")
	second := make(chan error, 1)
	go func() {
		c, err := r.dial(ca, "a.test")
		if err == nil {
			c.Close()
		}
		second <- err
	}()
	// The second may be on its way yet: whichever of it and the end of the first is
	// seen first, it is served.
	hangUp(t, first)
	if err := <-second; err != nil {
		t.Errorf("second session: %v", err)
	}
	r.access.wait(t, `outcome=`, 2)

	r.reload(1, text("20ms"))
	r.session(ca, "a.test")
	r.refused(ca, "a.test", "internal error")
	r.access.wait(t, `outcome=queue-timeout .*queue_ms=\d`, 1)
}

// TestCertificateWatch warns of what a passthrough backend shows, once, and of a
// renewal.
func TestCertificateWatch(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	short := ca.Issue(t, lab.Certificate{Names: []string{"a.test", "b.test"}, NotAfter: certificateTime(13*24 + 12)})
	var shown atomic.Pointer[tls.Certificate]
	shown.Store(&short)
	options := &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return shown.Load(), nil }}
	backend := lab.Serve(t, lab.Echo(), lab.Options{TLS: options})
	other := lab.Serve(t, lab.Echo(), lab.Options{TLS: ca.Server(t, "b.test")})
	text := webRoute + passthrough("b.test", other.Addr()) + fmt.Sprintf("[pools.web]\nbackends = [%q]\n%skind = \"tls\"\n", backend.Addr(), quick)
	r := start(t, nil, text)
	r.log.wait(t, `level=WARN msg="backend certificate" pool=web backend=`+backend.Addr()+` routes=a.test why="certificate expires in 13 days"`, 1)
	r.log.wait(t, `level=WARN msg="backend certificate" listener=https pool=web why=".*covers b.test .*pool \\"b.test\\"`, 1)

	another := ca.Issue(t, lab.Certificate{Names: []string{"c.test"}})
	shown.Store(&another)
	r.log.wait(t, `msg="backend certificate" pool=web backend=\S+ why="certificate chain changed: names c.test, were a.test, b.test; expires`, 1)
	r.log.wait(t, `msg="backend certificate" pool=web backend=\S+ routes=a.test why="certificate is valid for c.test, not for a.test"`, 1)
	r.reload(1, text)
	if got := strings.Count(r.log.String(), `not for a.test`); got != 1 {
		t.Errorf("got told %d times of the same, want once", got)
	}
}

// TestCertificateOfEachHost warns of hosts that the probe does not ask for, where a backend
// has a certificate for each name.
func TestCertificateOfEachHost(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	own := map[string]tls.Certificate{
		"a.test": ca.Issue(t, lab.Certificate{Names: []string{"a.test"}}),
		"c.test": ca.Issue(t, lab.Certificate{Names: []string{"c.test", "other.test"}, NotAfter: certificateTime(36)}),
	}
	backend := lab.Serve(t, lab.Echo(), lab.Options{TLS: &tls.Config{
		GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if c, ok := own[h.ServerName]; ok {
				return &c, nil
			}
			c := own["a.test"]
			return &c, nil
		},
	}})
	elsewhere := lab.Serve(t, lab.Echo(), lab.Options{TLS: ca.Server(t, "other.test")})
	r := start(t, nil, "[[routes]]\nhosts = [\"a.test\", \"b.test\", \"c.test\"]\npool = \"web\"\n"+
		passthrough("other.test", elsewhere.Addr())+
		fmt.Sprintf("[pools.web]\nbackends = [%q]\n%skind = \"tls\"\n", backend.Addr(), quick))
	r.log.wait(t, `level=WARN msg="backend certificate" pool=web backend=\S+ why="certificate is valid for a.test, not for b.test"`, 1)
	r.log.wait(t, `level=WARN msg="backend certificate" pool=web backend=\S+ why="certificate expires in 1 day \(shown for c.test\)"`, 1)
	r.log.wait(t, `level=WARN msg="backend certificate" listener=https pool=web why=".*covers other.test`, 1)
	if got := strings.Count(r.log.String(), "backend certificate"); got != 3 {
		t.Errorf("got %d warnings, want 3", got)
	}
}
