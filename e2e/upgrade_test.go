//go:build e2e

package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
)

// upgraded is what `snicket upgrade --json` prints.
type upgraded struct {
	PID     int     `json:"pid"`
	Moved   int     `json:"moved"`
	Stay    int     `json:"stay"`
	PauseMS float64 `json:"pause_ms"`

	gone time.Duration // how long the process before was there behind the answer, if nothing stays
}

// upgrade has a new process go on, and checks that the old one ends when all has moved.
func (b *balancer) upgrade(pid int) upgraded {
	b.t.Helper()
	var done upgraded
	var out string
	for status, again := 1, 3; status != 0; again-- {
		out, status = tool(b.t, "", program(b.t, "cmd/snicket"), "upgrade", "--socket", b.socket(), "--json")
		// On a machine that stands still for two seconds the process that runs goes on,
		// as it should.
		if status != 0 && (again == 0 || !strings.Contains(out, "i/o timeout")) {
			b.t.Fatalf("snicket upgrade: exit status %d\n%s", status, out)
		}
	}
	if err := json.Unmarshal([]byte(out), &done); err != nil {
		b.t.Fatalf("%v in %s", err, out)
	}
	if done.PID == pid {
		b.t.Fatalf("the process is still %d", pid)
	}
	if answered := time.Now(); done.Stay == 0 {
		waitEnded(b.t, pid)
		done.gone = time.Since(answered)
	}
	return done
}

// waitEnded waits until a process is gone, or only its parent has not looked yet.
func waitEnded(t testing.TB, pid int) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(lab.Patience); ; <-tick.C {
		stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
		if _, rest, ok := strings.Cut(string(stat), ") "); err != nil || ok && strings.HasPrefix(rest, "Z") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d runs still", pid)
		}
	}
}

// TestUpgrades upgrades 20 times in a row under load: no session fails, neither long ones
// nor any of those that come and go, and no connection is refused.
func TestUpgrades(t *testing.T) {
	const long = 50
	server := load(t, "serve")
	echo := server.WaitLine(`^listening (.*)$`)[1]
	addr := lab.FreeAddr(t)
	b := run(t, listener(addr)+"[limits]\nloops = 2\n"+passthrough("load.test", "load", []string{echo}))
	hello := lab.Hello("load.test")
	first := dial(t, addr)
	exchangeEcho(t, first, hello)
	alike := len(lab.Descriptors(t, b.PID()))
	first.Close()
	sessions := make([]*net.TCPConn, long)
	for i := range sessions {
		c := dial(t, addr)
		c.SetDeadline(time.Now().Add(8 * lab.Patience))
		exchangeEcho(t, c, hello)
		sessions[i] = c
	}
	calls := load(t, "calls", "-target", addr, "-sni", "load.test", "-rate", "200", "-for", "12s")
	calls.WaitLine("^calling")
	pid := b.PID()
	var gone time.Duration
	for i := range 20 {
		mark := b.Mark()
		done := b.upgrade(pid)
		b.WaitLineAfter(mark, `msg="took over"`)
		if done.Moved < long {
			t.Errorf("upgrade %d: %d sessions moved, want at least %d", i, done.Moved, long)
		}
		pid, gone = done.PID, max(gone, done.gone)
		for j, c := range sessions {
			message := fmt.Appendf(nil, "upgrade %d of session %d", i, j)
			exchangeEcho(t, c, message)
		}
	}
	t.Logf("the process before was gone %v behind the answer at the latest", gone)
	if got := result(calls); got["ok"] != total(got) || got["ok"] < 500 {
		t.Errorf("the load got %v, want all ok", got)
	}
	// What a process hands on, and what it finds, is all that the last one has.
	b.alone(long)
	if got, want := len(lab.Descriptors(t, pid)), alike+2*long; got > want {
		t.Errorf("behind 20 upgrades there are %d descriptors, want %d at most", got, want)
	}
	for _, c := range sessions {
		c.Close()
	}
	syscall.Kill(pid, syscall.SIGTERM)
	waitEnded(t, pid)
}

// alone waits until a balancer has so many sessions left.
func (b *balancer) alone(n int) {
	b.t.Helper()
	for deadline := time.Now().Add(lab.Patience); len(b.sessionIDs()) != n; {
		if time.Now().After(deadline) {
			b.t.Fatalf("%d sessions are left, want %d", len(b.sessionIDs()), n)
		}
	}
}

// exchangeRest expects what was sent before.
func exchangeRest(t testing.TB, c net.Conn, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("the echo of %d bytes: %v, or not what was sent", len(want), err)
	}
}
