package server_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/admin"
	"github.com/snicketlb/snicket/pkg/admin/client"
	"github.com/snicketlb/snicket/pkg/server"
	"github.com/snicketlb/snicket/pkg/upgrade"
)

// The roles make the program of the tests a process that follows a balancer.
const (
	followRole  = "-follow"  // by the file that it names; no host name resolves for it
	silentRole  = "-silent"  // and says nothing
	witnessRole = "-witness" // and tells what it was told: see witness
)

// TestMain runs the tests, or is the process that a test is upgraded to.
func TestMain(m *testing.M) {
	var err error
	switch {
	case len(os.Args) == 3 && os.Args[1] == followRole:
		err = follow(os.Args[2])
	case len(os.Args) == 2 && os.Args[1] == silentRole:
		<-time.After(time.Hour)
	case len(os.Args) == 3 && os.Args[1] == witnessRole:
		err = witness(os.Args[2])
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func follow(path string) error {
	from, err := upgrade.Inherited()
	if err != nil {
		return err
	}
	silent := func(context.Context, string) ([]netip.Addr, error) { return nil, errors.New("no such host") }
	s, err := server.New(path, server.Options{Stderr: os.Stderr, From: from, Lookup: silent})
	if err != nil {
		server.Refuse(from, err)
		return err
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	return s.Run(context.Background(), signals)
}

// witness follows a balancer that is operated at socket, and serves nothing. Before it is
// able it has backend b1 drained, and waits until somebody has b2 down; then it takes all,
// waits for a SIGHUP, and prints what operators wish.
func witness(socket string) error {
	ctx, stop := context.WithTimeout(context.Background(), lab.Patience)
	defer stop()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP)
	from, err := upgrade.Inherited()
	if err != nil {
		return err
	}
	if err := from.Greet(&upgrade.Greeting{Protocol: upgrade.Protocol, PID: os.Getpid()}); err != nil {
		return err
	}
	for last := false; !last; {
		given, _, err := from.Sockets()
		if err != nil {
			return err
		}
		last = given.Last
	}
	operator := client.New(socket)
	if _, err := operator.SetState(ctx, "web", "b1", "drain"); err != nil {
		return err
	}
	for down := false; !down; {
		all, err := operator.Backends(ctx, "web")
		if err != nil {
			return err
		}
		down = slices.ContainsFunc(all, func(b admin.Backend) bool { return b.Wish != nil && b.Wish.Value == "down" })
	}
	if err := from.SendAble(); err != nil {
		return err
	}
	sessions, with, err := from.Sessions(lab.Patience)
	if err != nil {
		return err
	}
	if err := errors.Join(from.SendHave(len(sessions)), from.Go(lab.Patience), from.SendServing(), from.Main()); err != nil {
		return err
	}
	for _, row := range with.State.Statuses {
		fmt.Fprintln(os.Stdout, row.Pool, row.ID, row.Wished.State)
	}
	select {
	case <-signals:
		fmt.Fprintln(os.Stdout, "SIGHUP")
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// followed is how this program's balancer is followed by another.
func followed(t *testing.T) *server.Upgrade {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return &server.Upgrade{Path: path, Stderr: os.Stderr} // startBy knows the file
}

// end ends the process that an answer tells of, and waits until it has.
func end(t *testing.T, answer string) {
	t.Helper()
	match := regexp.MustCompile(`"pid":([0-9]+)`).FindStringSubmatch(answer)
	if match == nil {
		t.Fatalf("no process in %s", answer)
	}
	pid, _ := strconv.Atoi(match[1])
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Error(err)
	}
}

// TestUpgradeWhileNothingResolves upgrades just when the name of a backend does not resolve
// and the file with others is gone: both are known, and their sessions stay.
func TestUpgradeWhileNothingResolves(t *testing.T) {
	one, two := lab.Serve(t, lab.Echo(), lab.Options{}), lab.Serve(t, lab.Echo(), lab.Options{})
	_, port, _ := net.SplitHostPort(one.Addr())
	file := lab.WriteFile(t, filepath.Join(t.TempDir(), "backends.json"), fmt.Appendf(nil, "[%q]", two.Addr()))
	lookup := func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	}
	o := operateBy(t, server.Options{Upgrade: followed(t), Lookup: lookup}, fmt.Sprintf(`
[timeouts]
drain = "10ms"
[[routes]]
hosts = ["named.test"]
pool = "named"
[[routes]]
hosts = ["found.test"]
pool = "found"
[pools.named]
backends = ["app.internal:%s"]
health = { enabled = false }
[pools.found]
discover = { file = %q }
health = { enabled = false }
`, port, file))
	sessions := map[string]net.Conn{}
	echoes := func(host string, c net.Conn) {
		t.Helper()
		hello := lab.Hello(host)
		if _, err := c.Write(hello); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, len(hello))); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	open := func(host string) net.Conn {
		t.Helper()
		c, err := net.DialTimeout("tcp", o.address, lab.Patience)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		_ = c.SetDeadline(time.Now().Add(lab.Patience))
		echoes(host, c)
		return c
	}
	for _, host := range []string{"named.test", "found.test"} {
		sessions[host] = open(host)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	done := must(o.Upgrade(t.Context(), ""))
	t.Cleanup(func() { _ = syscall.Kill(done.PID, syscall.SIGKILL) })
	if done.Moved != len(sessions) {
		t.Errorf("%d sessions moved, want %d", done.Moved, len(sessions))
	}
	for host, c := range sessions {
		open(host)
		echoes(host, c)
	}
}

// TestUpgradeToSilent upgrades to a program that never says a word.
func TestUpgradeToSilent(t *testing.T) {
	backend := lab.Serve(t, lab.Echo(), lab.Options{})
	to := followed(t)
	to.Args, to.Patience = []string{silentRole}, 20*time.Millisecond
	o := operateBy(t, server.Options{Upgrade: to}, pool(unprobed, backend))
	if _, err := o.Upgrade(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "upgrade failed") {
		t.Errorf("got %v, want that it failed", err)
	}
	o.log.wait(t, `msg="upgrade failed" problems="waiting for greeting: .*i/o timeout"`, 1)
	if status := must(o.Status(t.Context())); status.State != admin.Running {
		t.Errorf("behind it the state is %v, want running", status.State)
	}
}

// TestUpgradeMeanwhile has operators change this and that while a new process prepares: it
// is told what they wish, and gets the signals that it may have come too early for.
func TestUpgradeMeanwhile(t *testing.T) {
	one, two := lab.Serve(t, lab.Echo(), lab.Options{}), lab.Serve(t, lab.Echo(), lab.Options{})
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	defer in.Close()
	to := followed(t)
	to.Stdout, to.Patience = in, lab.Patience
	socket := filepath.Join(t.TempDir(), "admin.sock")
	to.Args = []string{witnessRole, socket}
	r := startBy(t, server.Options{Upgrade: to, AdminSocket: socket}, preamble+fmt.Sprintf(`
[[routes]]
hosts = ["a.test"]
pool = "web"
[pools.web]
backends = [{ address = %q, name = "b1" }, { address = %q, name = "b2" }]
health = { enabled = false }
`, one.Addr(), two.Addr()))
	operator := client.New(socket)
	defer operator.Close()
	upgraded := make(chan error, 1)
	go func() {
		_, err := operator.Upgrade(t.Context(), "")
		upgraded <- err
	}()
	r.log.wait(t, `msg="backend drains" pool=web backend=b1`, 1)
	for range 2 { // there is room for one: the second waits until the first was heard
		r.signals <- syscall.SIGHUP
	}
	if _, err := operator.SetState(t.Context(), "web", "b2", "down"); err != nil {
		t.Fatal(err)
	}
	if err := <-upgraded; err != nil {
		t.Fatal(err)
	}
	in.Close()
	if said, err := io.ReadAll(out); err != nil || string(said) != "web b1 drain\nweb b2 down\nSIGHUP\n" {
		t.Errorf("the new process says %q, %v, want both wishes and the signal", said, err)
	}
	r.wait()
}

// TestUpgradeFailsMeanwhile has this process itself do what signals have asked for while
// an upgrade was under way that came to nothing.
func TestUpgradeFailsMeanwhile(t *testing.T) {
	backend := lab.Serve(t, lab.Echo(), lab.Options{})
	to := followed(t)
	to.Args, to.Patience = []string{silentRole}, lab.Patience
	o := operateBy(t, server.Options{Upgrade: to}, pool(unprobed, backend))
	upgraded := make(chan error, 1)
	go func() {
		_, err := o.Upgrade(t.Context(), "")
		upgraded <- err
	}()
	pid := o.log.wait(t, `msg=upgrading pid=([0-9]+)`, 1)[1]
	for range 2 {
		o.signals <- syscall.SIGHUP
	}
	child, _ := strconv.Atoi(pid)
	if err := syscall.Kill(child, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := <-upgraded; err == nil || !strings.Contains(err.Error(), "upgrade failed") {
		t.Errorf("got %v, want that it failed", err)
	}
	o.log.wait(t, `msg="upgrade failed" problems="waiting for greeting: the other process has ended`, 1)
	o.log.wait(t, `msg="reload done"`, 1)
}

// TestUpgradeForgetsAgent upgrades to a configuration that asks no agent any more: what it
// said last, which nobody would ever take back, is forgotten.
func TestUpgradeForgetsAgent(t *testing.T) {
	backend := lab.Serve(t, lab.Echo(), lab.Options{})
	agent := lab.Serve(t, func(c *lab.Conn) { _, _ = io.WriteString(c, "up drain\n") }, lab.Options{})
	_, port, _ := net.SplitHostPort(agent.Addr())
	socket := filepath.Join(t.TempDir(), "admin.sock")
	text := func(health string) string {
		return preamble + fmt.Sprintf("[admin]\nsocket = %q\n[[routes]]\nhosts = [\"a.test\"]\npool = \"web\"\n[pools.web]\nbackends = [%q]\n[pools.web.health]\ninterval = \"10ms\"\n%s", socket, backend.Addr(), health)
	}
	o := &operated{Client: client.New(socket), socket: socket}
	o.running = startBy(t, server.Options{Upgrade: followed(t)}, text("kind = \"agent\"\nport = "+port+"\n"))
	t.Cleanup(o.Close)
	o.log.wait(t, `msg="backend drains" .*why="agent says drain"`, 1)
	o.write(text("kind = \"tcp\"\n"))
	done := must(o.Upgrade(t.Context(), ""))
	t.Cleanup(func() { _ = syscall.Kill(done.PID, syscall.SIGKILL) })
	if got := o.backend(t, "web", backend.Addr()); got.State != "ready" {
		t.Errorf("behind the upgrade it is %s (%s), want ready", got.State, got.Why)
	}
}
