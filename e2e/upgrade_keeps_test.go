//go:build e2e

package e2e_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
)

// TestUpgradeKeeps upgrades a balancer in use: what an operator wishes holds behind it,
// clients resume their TLS sessions, and a live one that is terminated here goes on in
// the old process, until its time to drain is over and it is told so.
func TestUpgradeKeeps(t *testing.T) {
	ca := lab.NewAuthority(t, "ca")
	cert, key := ca.WriteServer(t, "t.test")
	one, two := lab.Serve(t, lab.Echo(), lab.Options{}), lab.Serve(t, lab.Echo(), lab.Options{})
	addr := lab.FreeAddr(t)
	b := run(t, listener(addr)+"[timeouts]\ndrain = \"5s\"\n"+terminated("t.test", "load", cert, key, []string{one.Addr(), two.Addr()}))
	b.operate("drain", "load/"+one.Addr())
	b.operate("weight", "load/"+two.Addr(), "7")
	wished := b.backend(one.Addr())
	client := ca.Client("t.test")
	client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	live := dialTLS(t, addr, client)
	exchangeEcho(t, live, []byte("before"))

	mark := b.Mark()
	done := b.upgrade(b.PID())
	if done.Moved != 0 || done.Stay != 1 {
		t.Errorf("%d sessions moved and %d stay, want the one in TLS to stay", done.Moved, done.Stay)
	}
	b.WaitLineAfter(mark, `msg="took over"`)
	exchangeEcho(t, live, []byte("behind the upgrade, by the old process"))
	if got := b.backend(one.Addr()); got.Wish == nil || got.Wish.Value != "drain" || !got.Wish.Since.Equal(wished.Wish.Since) || got.Wish.By != wished.Wish.By {
		t.Errorf("the wish is %+v, want %+v", got.Wish, wished.Wish)
	}
	if got := b.backend(two.Addr()); got.Weight != 7 {
		t.Errorf("the weight is %d, want 7", got.Weight)
	}
	next := dialTLS(t, addr, client)
	if !next.ConnectionState().DidResume {
		t.Error("a client with a ticket of the old process cannot resume")
	}
	exchangeEcho(t, next, []byte("by the new process"))
	next.Close()

	if n, err := live.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("the one that stayed read %d bytes, %v, want the end", n, err)
	}
	b.waitRecord(mark, record{"outcome": "drained", "route": "t.test"})
	waitEnded(t, b.PID())
}

// TestUpgradeTellsSystemd has the old process name the new one before it ends, and the new
// one say that it is ready only then, when systemd listens to it.
func TestUpgradeTellsSystemd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	said := func(want string) {
		t.Helper()
		got := make([]byte, 1<<10)
		if err := socket.SetReadDeadline(time.Now().Add(lab.Patience)); err != nil {
			t.Fatal(err)
		}
		n, err := socket.Read(got)
		if err != nil || string(got[:n]) != want {
			t.Errorf("got %q, %v, want %q", got[:n], err, want)
		}
	}
	addr := lab.FreeAddr(t)
	file := lab.WriteFile(t, filepath.Join(t.TempDir(), "snicket.toml"), []byte(listener(addr)+passthrough("a.test", "a", []string{"127.0.0.1:1"})))
	b := &balancer{t: t, file: file, Process: lab.Start(t, lab.Command{
		Path: program(t, "cmd/snicket"), Args: []string{"run", "-c", file},
		Env: []string{"RUNTIME_DIRECTORY=" + filepath.Dir(file), "NOTIFY_SOCKET=" + path},
	})}
	said("READY=1")
	pid := b.PID()
	for range 2 {
		done := b.upgrade(pid)
		said(fmt.Sprintf("MAINPID=%d", done.PID))
		said("READY=1")
		pid = done.PID
	}
	mark := b.Mark()
	if err := syscall.Kill(pid, syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	match, _ := b.WaitLineAfter(mark, `msg=upgraded pid=([0-9]+)`)
	said("MAINPID=" + match[1])
	said("READY=1")
	waitEnded(t, pid)
}

// TestUpgradeInContainer refuses: with the first process all others of a container end.
func TestUpgradeInContainer(t *testing.T) {
	addr := lab.FreeAddr(t)
	file := lab.WriteFile(t, filepath.Join(t.TempDir(), "snicket.toml"), []byte(listener(addr)+passthrough("a.test", "a", []string{"127.0.0.1:1"})))
	b := &balancer{t: t, file: file, Process: lab.Start(t, lab.Command{
		Path: "unshare", Args: []string{"--pid", "--fork", "--kill-child", program(t, "cmd/snicket"), "run", "-c", file},
		Env: []string{"RUNTIME_DIRECTORY=" + filepath.Dir(file)},
	})}
	b.WaitLine(`\bmsg=ready\b`)
	b.refusesUpgrade(t, "the first one of its container")
}
