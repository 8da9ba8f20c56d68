//go:build e2e

package e2e_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
)

// TestUpgradeFails upgrades to programs that fail at each step, and to a configuration
// that cannot be had: the process that runs goes on as if nothing had been, under load,
// and can be upgraded behind it.
func TestUpgradeFails(t *testing.T) {
	server := load(t, "serve")
	echo := server.WaitLine(`^listening (.*)$`)[1]
	addr := lab.FreeAddr(t)
	good := listener(addr) + passthrough("load.test", "load", []string{echo})
	b := run(t, good)
	long, hello := dial(t, addr), lab.Hello("load.test")
	long.SetDeadline(time.Now().Add(8 * lab.Patience))
	exchangeEcho(t, long, hello)
	calls := load(t, "calls", "-target", addr, "-sni", "load.test", "-rate", "100", "-for", "12s")
	calls.WaitLine("^calling")
	dir, failing := t.TempDir(), program(t, "internal/lab/successor")
	for _, tt := range []struct{ step, why string }{
		{"exits", "has ended"},
		{"speaks-otherwise", "speaks upgrade protocol 99"},
		{"refuses", "there is no room"},
		{"exits-unable", "has ended"},
		{"exits-able", "has ended"},
		{"hangs-able", "i/o timeout"},
		{"exits-with-sessions", "has ended"},
		{"hangs-with-sessions", "i/o timeout"},
		{"loses-one", "sessions arrived of"},
	} {
		t.Run(tt.step, func(t *testing.T) {
			path := filepath.Join(dir, tt.step)
			if err := os.Link(failing, path); err != nil {
				t.Fatal(err)
			}
			b.refusesUpgrade(t, tt.why, "--binary", path)
			exchangeEcho(t, long, []byte("still here"))
			exchangeEcho(t, dial(t, addr), hello)
		})
	}
	t.Run("not to be trusted", func(t *testing.T) {
		path := filepath.Join(dir, "writable")
		lab.WriteFile(t, path, []byte("#!/bin/sh\n"))
		if err := os.Chmod(path, 0o777); err != nil {
			t.Fatal(err)
		}
		b.refusesUpgrade(t, "not to be trusted", "--binary", path)
	})
	t.Run("no program", func(t *testing.T) {
		b.refusesUpgrade(t, "is no program", "--binary", b.file)
		b.refusesUpgrade(t, "there is no", "--binary", filepath.Join(dir, "none"))
	})
	t.Run("a broken configuration", func(t *testing.T) {
		lab.WriteFile(t, b.file, []byte(good+"[timeouts]\nidel = \"1h\"\n"))
		b.refusesUpgrade(t, "idel")
		lab.WriteFile(t, b.file, []byte(good))
	})
	t.Run("an address in use", func(t *testing.T) {
		taken := lab.Listen(t, "127.0.0.1:0")
		defer taken.Close()
		lab.WriteFile(t, b.file, []byte(good+"[listeners.more]\naddress = \""+taken.Addr().String()+"\"\n"))
		b.refusesUpgrade(t, "address already in use")
		lab.WriteFile(t, b.file, []byte(good))
	})
	if got := result(calls); got["ok"] != total(got) || got["ok"] < 500 {
		t.Errorf("the load got %v, want all ok", got)
	}
	half := dial(t, addr)
	if _, err := half.Write(hello[:100]); err != nil {
		t.Fatal(err)
	}
	b.upgrade(b.PID())
	exchangeEcho(t, long, []byte("behind them all"))
	if _, err := half.Write(hello[100:]); err != nil {
		t.Fatal(err)
	}
	exchangeRest(t, half, hello)
}

// TestUpgradeLost upgrades to a program that takes all, and ends. What it had is lost, and
// ends with a reset; the process before serves on, at the same listeners.
func TestUpgradeLost(t *testing.T) {
	echo := lab.Serve(t, lab.Echo(), lab.Options{})
	b, addr := pass(t, echo.Addr(), "")
	hello := lab.Hello("a.test")
	long := dial(t, addr)
	exchangeEcho(t, long, hello)
	path := filepath.Join(t.TempDir(), "exits-with-all")
	if err := os.Link(program(t, "internal/lab/successor"), path); err != nil {
		t.Fatal(err)
	}
	mark := b.Mark()
	b.refusesUpgrade(t, "1 sessions are lost", "--binary", path)
	if n, err := long.Read(make([]byte, 1)); n != 0 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the session that was lost: got %d bytes, %v, want a reset", n, err)
	}
	b.waitRecord(mark, record{"outcome": "internal", "error": "the process that it was moved to has ended"})
	next := dial(t, addr)
	exchangeEcho(t, next, hello)
	b.upgrade(b.PID())
	exchangeEcho(t, next, []byte("by the new process"))
}

// refusesUpgrade wants an upgrade to fail, and to say why.
func (b *balancer) refusesUpgrade(t *testing.T, why string, args ...string) {
	t.Helper()
	var out string
	var status int
	for again := 3; ; again-- {
		out, status = tool(t, "", program(t, "cmd/snicket"), append([]string{"upgrade", "--socket", b.socket()}, args...)...)
		// On a machine that stands still for two seconds it fails by that.
		if again == 0 || strings.Contains(out, why) || !strings.Contains(out, "i/o timeout") {
			break
		}
	}
	if status != 1 || !strings.Contains(out, why) {
		t.Errorf("snicket upgrade: got status %d, want 1 and %q in:\n%s", status, why, out)
	}
}
