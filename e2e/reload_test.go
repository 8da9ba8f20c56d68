//go:build e2e

package e2e_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
)

// TestReloads reloads 100 times under load, each time changing a route, a pool and a listener. A session begun after
// the reload was logged as done sees the change; no session of the listener that stays fails, neither a long one nor
// any of the load.
func TestReloads(t *testing.T) {
	reloads := 100
	server := load(t, "serve")
	echo := server.WaitLine(`^listening (.*)$`)[1]
	backends := [2]*lab.Server{
		lab.Serve(t, lab.Announce("even", nil), lab.Options{}), lab.Serve(t, lab.Announce("odd", nil), lab.Options{}),
	}
	stays, comes := lab.FreeAddr(t), [2]string{lab.FreeAddr(t), lab.FreeAddr(t)}
	config := func(i int) string {
		// The listener that comes and goes, a route of its own for each turn, the other backend behind its pool.
		return listener(stays) + fmt.Sprintf("[listeners.turn]\naddress = %q\n", comes[i%2]) +
			passthrough("load.test", "load", []string{echo}) +
			passthrough(fmt.Sprintf("turn-%d.test", i), "turn", []string{backends[i%2].Addr()}, "[pools.turn.health]", "enabled = false")
	}
	b := run(t, config(0))
	long := dial(t, stays)
	long.SetDeadline(time.Now().Add(8 * lab.Patience))
	exchangeEcho(t, long, lab.Hello("load.test"))
	calls := load(t, "calls", "-target", stays, "-sni", "load.test", "-rate", "200", "-for", "15s")
	calls.WaitLine("^calling")

	for i := 1; i <= reloads; i++ {
		if ok, line := b.reload(config(i)); !ok {
			t.Fatalf("reload %d: %s", i, line)
		}
		for _, addr := range []string{stays, comes[i%2]} {
			c := dial(t, addr)
			answer, ending := exchange(t, c, [][]byte{lab.Hello(fmt.Sprintf("turn-%d.test", i))}, lab.Patience)
			if got, want := verdict(answer, ending), "to "+[]string{"even", "odd"}[i%2]; got != want {
				t.Errorf("reload %d: got %q by %s, want %q", i, got, addr, want)
			}
			c.Close()
		}
		c := dial(t, stays)
		c.Write(lab.Hello(fmt.Sprintf("turn-%d.test", i-1)))
		if got, err := lab.ReadAlert(c); err != nil || got.Description != 112 {
			t.Errorf("reload %d: the route of the turn before: got %v, %v, want alert 112", i, got, err)
		}
		c.Close()
		waitRefused(t, comes[(i+1)%2])
		exchangeEcho(t, long, []byte("still here"))
	}
	if got := result(calls); got["ok"] != total(got) || got["ok"] < 1000 {
		t.Errorf("the load got %v, want all ok", got)
	}
}

// TestBrokenReload gives a running balancer broken files: the old configuration runs on, and the log says why.
func TestBrokenReload(t *testing.T) {
	echo := lab.Serve(t, lab.Echo(), lab.Options{})
	addr := lab.FreeAddr(t)
	good := listener(addr) + passthrough("a.test", "a", []string{echo.Addr()})
	taken := lab.Listen(t, "127.0.0.1:0")
	defer taken.Close()
	b := run(t, good)
	long := dial(t, addr)
	exchangeEcho(t, long, lab.Hello("a.test"))
	for name, tt := range map[string]struct{ config, why string }{
		"not TOML":          {"[[routes]\n", "snicket.toml"},
		"an unknown key":    {good + "[timeouts]\nidel = \"1h\"\n", "idel"},
		"no such file":      {good + "[[routes]]\nhosts = [\"b.test\"]\nmode = \"terminate\"\nbackends = [\"127.0.0.1:1\"]\n[routes.tls]\ncertificates = [\"nowhere.pem\"]\n", "nowhere.pem"},
		"an address in use": {good + fmt.Sprintf("[listeners.more]\naddress = %q\n", taken.Addr()), taken.Addr().String()},
	} {
		t.Run(name, func(t *testing.T) {
			mark := b.Mark()
			ok, line := b.reload(tt.config)
			if ok {
				t.Fatal("the broken file was taken")
			}
			said := line
			for _, l := range b.Lines(mark) {
				said += "\n" + l.Text
			}
			if !strings.Contains(said, tt.why) {
				t.Errorf("the log does not name %q:\n%s", tt.why, said)
			}
			exchangeEcho(t, long, []byte("still here"))
			exchangeEcho(t, dial(t, addr), lab.Hello("a.test"))
		})
	}
	if ok, line := b.reload(good); !ok {
		t.Errorf("the good file again: %s", line)
	}
}

// TestBrokenStart refuses to start, with status 1 and every problem on stderr.
func TestBrokenStart(t *testing.T) {
	b := start(t, "[timeouts]\nidel = \"1h\"\n[limits]\nloops = \"many\"\n[[routes]]\nhosts = []\n")
	if got := b.Wait(0); got != 1 {
		t.Errorf("got exit status %d, want 1", got)
	}
	for _, want := range []string{"snicket.toml:2:", "snicket.toml:4:", "snicket.toml:6:"} {
		b.WaitLine(want)
	}
}

// TestAddressInUse refuses to start on an address another process listens on, SO_REUSEPORT or not: a second balancer
// would silently take half of the first one's connections.
func TestAddressInUse(t *testing.T) {
	echo := lab.Serve(t, lab.Echo(), lab.Options{})
	addr := lab.FreeAddr(t)
	config := listener(addr) + passthrough("a.test", "a", []string{echo.Addr()})
	run(t, config)
	second := start(t, config)
	if got := second.Wait(0); got != 1 {
		t.Errorf("the second got exit status %d, want 1", got)
	}
	second.WaitLine("address already in use|in use")
	for range 20 {
		exchangeEcho(t, dial(t, addr), lab.Hello("a.test"))
	}
}
