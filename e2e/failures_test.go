//go:build e2e

package e2e_test

import (
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/internal/lab"
)

// quick probes fast enough for a test to see rise and fall.
const quick = "[pools.a.health]\ninterval = \"200ms\"\ntimeout = \"200ms\"\nrise = 2\nfall = 3\n"

// load starts the load program.
func load(t *testing.T, args ...string) *lab.Process {
	t.Helper()
	return lab.Start(t, lab.Command{Path: program(t, "internal/lab/load"), Args: args})
}

// result waits for the load program's last line and returns its counts.
func result(p *lab.Process) map[string]int {
	match := p.WaitLine(`^result (.*)$`)
	counts := map[string]int{}
	for part := range strings.FieldsSeq(match[1]) {
		key, value, _ := strings.Cut(part, "=")
		counts[key], _ = strconv.Atoi(value)
	}
	return counts
}

// total adds up counts.
func total(counts map[string]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

// TestKilledBackend kills one of two backends under load. Whoever had a session there loses it; nobody new fails,
// and the backend is used again once it is back.
func TestKilledBackend(t *testing.T) {
	good, victim := lab.FreeAddr(t), lab.FreeAddr(t)
	load(t, "serve", "-listen", good).WaitLine("^listening")
	backend := load(t, "serve", "-listen", victim)
	backend.WaitLine("^listening")
	addr := lab.FreeAddr(t)
	b := run(t, listener(addr)+passthrough("a.test", "a", []string{good, victim}, `dial_timeout = "1s"`)+quick)

	calls := load(t, "calls", "-target", addr, "-sni", "a.test", "-rate", "200", "-for", "6s")
	calls.WaitLine("^calling")
	b.waitRecord(0, record{"outcome": "ok", "backend": victim})
	mark := b.Mark()
	backend.Kill()
	_, mark = waitState(b, mark, victim, "down")
	load(t, "serve", "-listen", victim).WaitLine("^listening")
	_, mark = waitState(b, mark, victim, "ready")
	b.waitRecord(mark, record{"outcome": "ok", "backend": victim})
	counts := result(calls)
	// A call lasts a moment: only those in flight at the kill may be lost.
	if lost := total(counts) - counts["ok"]; lost > 20 || counts["ok"] < 500 {
		t.Errorf("got %v, want all ok but those in flight", counts)
	}
}

// waitState waits for the log line that says a backend has become ready or down.
func waitState(b *balancer, mark int, backend, state string) ([]string, int) {
	b.t.Helper()
	return b.WaitLineAfter(mark, `level=\w+ .*\b`+regexp.QuoteMeta(backend)+`\b.*\b`+state+`\b|level=\w+ .*\b`+state+`\b.*\b`+regexp.QuoteMeta(backend)+`\b`)
}

// TestBlackHole makes a backend vanish without a word. Clients are served by the other within dial_timeout, what the
// hole swallows is down after fall probes and is dialled no more, and comes back by itself.
func TestBlackHole(t *testing.T) {
	ns := lab.NewNamespace(t)
	hole := lab.Serve(t, lab.Echo(), lab.Options{Listener: ns.Listen(t, 0)})
	good := lab.Serve(t, lab.Echo(), lab.Options{})
	addr := lab.FreeAddr(t)
	b := run(t, listener(addr)+passthrough("a.test", "a", []string{hole.Addr(), good.Addr()}, `dial_timeout = "500ms"`)+quick)

	mark := b.Mark()
	ns.Blackhole(t)
	for range 4 {
		c := dial(t, addr)
		c.SetDeadline(time.Now().Add(10 * time.Second)) // dial_timeout × 3 tries is 1.5 s
		exchangeEcho(t, c, lab.Hello("a.test"))
		c.Close()
	}
	waitRecords(b, mark, 4)
	waitState(b, mark, hole.Addr(), "down")
	mark = b.Mark()
	for range 20 {
		c := dial(t, addr)
		exchangeEcho(t, c, lab.Hello("a.test"))
		c.Close()
	}
	for i, r := range waitRecords(b, mark, 20) {
		if r["backend"] != good.Addr() || r["retries"] != "0" || r["outcome"] != "ok" {
			t.Errorf("session %d after the backend went down: %v", i, r)
		}
	}
	ns.Restore(t)
	_, mark = waitState(b, mark, hole.Addr(), "ready")
	for range 4 {
		c := dial(t, addr)
		exchangeEcho(t, c, lab.Hello("a.test"))
		c.Close()
	}
	b.waitRecord(mark, record{"backend": hole.Addr(), "outcome": "ok"})
}

// waitRecords waits for n records since mark.
func waitRecords(b *balancer, mark, n int) []record {
	b.t.Helper()
	b.WaitLines(mark, `^time=.* outcome=`, n)
	return b.records(mark)[:n]
}

// TestMuteBackend accepts and answers nothing, to anyone: a tcp probe cannot tell, a tls probe does. Until then and
// after, clients of the other backend are served.
func TestMuteBackend(t *testing.T) {
	ca := lab.NewAuthority(t, "backend")
	mute := lab.Serve(t, lab.Mute(), lab.Options{})
	good := lab.Serve(t, lab.Echo(), lab.Options{TLS: ca.Server(t, "a.test")})
	addr := lab.FreeAddr(t)
	b := run(t, listener(addr)+passthrough("a.test", "a", []string{mute.Addr(), good.Addr()})+quick+"kind = \"tls\"\n")
	waitState(b, 0, mute.Addr(), "down")
	before := b.Mark()
	for range 10 {
		if got := ask(t, addr, ca.Client("a.test"), "hello"); got != "hello" {
			t.Errorf("got %q, want the echo", got)
		}
	}
	for _, r := range waitRecords(b, before, 10) {
		if r["backend"] != good.Addr() {
			t.Errorf("a session went to the mute backend: %v", r)
		}
	}
}

// TestFullBacklog fills a backend's accept queue, so that connecting to it hangs. Clients are served by the other
// within dial_timeout × tries.
func TestFullBacklog(t *testing.T) {
	full := fullBacklog(t)
	good := lab.Serve(t, lab.Echo(), lab.Options{})
	addr := lab.FreeAddr(t)
	b := run(t, listener(addr)+passthrough("a.test", "a", []string{full, good.Addr()}, `dial_timeout = "500ms"`)+
		"[pools.a.health]\nenabled = false\n")
	for range 6 {
		c := dial(t, addr)
		exchangeEcho(t, c, lab.Hello("a.test"))
		c.Close()
	}
	retried := 0
	for _, r := range waitRecords(b, 0, 6) {
		if r["backend"] != good.Addr() || r["outcome"] != "ok" {
			t.Errorf("a session was not served by the other backend: %v", r)
		}
		if r["retries"] != "0" {
			retried++
		}
	}
	if retried == 0 {
		t.Error("no session was retried: the full backend was never tried, so nothing was shown")
	}
}

// fullBacklog returns the address of a socket that listens and never accepts, its queue full.
func fullBacklog(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", sa.(*unix.SockaddrInet4).Port)
	for range 16 {
		c, err := net.DialTimeout("tcp", addr, 200*time.Millisecond)
		if err != nil {
			return addr // it hangs: full
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Fatal("the accept queue never filled")
	return ""
}

// TestAllDown refuses a client by internal_error once no backend is ready, and serves again when one is.
func TestAllDown(t *testing.T) {
	backend := lab.FreeAddr(t)
	addr := lab.FreeAddr(t)
	b := run(t, listener(addr)+passthrough("a.test", "a", []string{backend})+quick)
	_, mark := waitState(b, 0, backend, "down")
	c := dial(t, addr)
	c.Write(lab.Hello("a.test"))
	if got, err := lab.ReadAlert(c); err != nil || got.Description != 80 {
		t.Errorf("got alert %v, %v, want 80", got, err)
	}
	b.waitRecord(mark, record{"outcome": "no-backend"})
	lab.Serve(t, lab.Echo(), lab.Options{Addr: backend})
	waitState(b, mark, backend, "ready")
	c = dial(t, addr)
	exchangeEcho(t, c, lab.Hello("a.test"))
}

// TestDescriptors runs the balancer out of descriptors: what fails is its own, no backend is condemned for it, and it
// serves again once there are some.
func TestDescriptors(t *testing.T) {
	echo := lab.Serve(t, lab.Echo(), lab.Options{})
	addr := lab.FreeAddr(t)
	b := run(t, listener(addr)+passthrough("a.test", "a", []string{echo.Addr()})+quick)
	now := len(lab.Descriptors(t, b.PID()))
	var was unix.Rlimit
	limit := unix.Rlimit{Cur: uint64(now + 9), Max: 20000}
	if err := unix.Prlimit(b.PID(), unix.RLIMIT_NOFILE, &limit, &was); err != nil {
		t.Fatal(err)
	}
	mark := b.Mark()
	var conns []*net.TCPConn
	for range 30 {
		c := dial(t, addr)
		c.Write(lab.Hello("a.test"))
		conns = append(conns, c)
	}
	// The first few fit; the others wait in the backlog or end as internal.
	if _, err := io.ReadFull(conns[0], make([]byte, 1)); err != nil {
		t.Errorf("the first session: %v", err)
	}
	for _, c := range conns {
		c.Close()
	}
	if err := unix.Prlimit(b.PID(), unix.RLIMIT_NOFILE, &was, nil); err != nil {
		t.Fatal(err)
	}
	c := dial(t, addr)
	exchangeEcho(t, c, lab.Hello("a.test"))
	c.Close()
	b.waitRecord(mark, record{"client": c.LocalAddr().String(), "outcome": "ok"})
	for _, r := range b.records(mark) {
		if r["outcome"] == "dial-failed" || r["outcome"] == "no-backend" {
			t.Errorf("the backend was blamed: %v", r)
		}
	}
	for _, line := range b.Lines(mark) {
		if line.Stderr && strings.Contains(line.Text, echo.Addr()) && strings.Contains(line.Text, "down") {
			t.Errorf("the backend was condemned: %s", line.Text)
		}
	}
}

// TestDrain sends SIGTERM: live sessions go on, nobody new is accepted, and the program ends with status 0 once the
// last session has.
func TestDrain(t *testing.T) {
	echo := lab.Serve(t, lab.Echo(), lab.Options{})
	addr := lab.FreeAddr(t)
	b := run(t, listener(addr)+passthrough("a.test", "a", []string{echo.Addr()}))
	c := dial(t, addr)
	exchangeEcho(t, c, lab.Hello("a.test"))
	b.Signal(syscall.SIGTERM)
	waitRefused(t, addr)
	exchangeEcho(t, c, []byte("still here"))
	c.Close()
	if got := b.Wait(0); got != 0 {
		t.Errorf("got exit status %d, want 0", got)
	}
}

// waitRefused waits until nothing listens on addr.
func waitRefused(t *testing.T, addr string) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(lab.Patience); time.Now().Before(deadline); <-tick.C {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return
		}
		c.Close()
	}
	t.Fatalf("%s still listens", addr)
}

// TestDrainEnds ends what does not end by itself: after drain, and at once at the second signal.
func TestDrainEnds(t *testing.T) {
	for name, settings := range map[string]string{"after drain": "[timeouts]\ndrain = \"1s\"\n", "second signal": ""} {
		t.Run(name, func(t *testing.T) {
			echo := lab.Serve(t, lab.Echo(), lab.Options{})
			addr := lab.FreeAddr(t)
			b := run(t, listener(addr)+settings+passthrough("a.test", "a", []string{echo.Addr()}))
			c := dial(t, addr)
			exchangeEcho(t, c, lab.Hello("a.test"))
			b.Signal(syscall.SIGTERM)
			if settings == "" {
				waitRefused(t, addr)
				b.Signal(syscall.SIGTERM)
			}
			b.Wait(15 * time.Second) // the default of drain is 30 s
			if settings != "" {
				b.waitRecord(0, record{"outcome": "drained"})
			}
		})
	}
}
