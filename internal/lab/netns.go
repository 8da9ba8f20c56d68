package lab

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// Namespace is a network namespace joined to this one by a pair of virtual interfaces. What listens in it can be made
// a black hole: packets go in and nothing comes out, not even a refusal. Making one needs root.
type Namespace struct {
	Name   string // as `ip netns` knows it
	HostIP string // this side's address
	IP     string // the address inside
	link   string // this side's interface
}

//nolint:gochecknoglobals // numbers the namespaces of one process, whose address ranges must differ
var namespaces atomic.Uint32

// NewNamespace makes a namespace. It goes, with the interfaces, when the test ends.
func NewNamespace(t testing.TB) *Namespace {
	t.Helper()
	Require(t, "ip", "iproute2")
	// 198.18.0.0/15 is reserved for tests of network devices (RFC 2544), so that it routes nowhere else.
	n := namespaces.Add(1)
	pid := os.Getpid()
	ns := &Namespace{
		Name:   fmt.Sprintf("snicket-%d-%d", pid, n),
		HostIP: fmt.Sprintf("198.18.%d.%d", pid%256, n*4%256+1),
		IP:     fmt.Sprintf("198.18.%d.%d", pid%256, n*4%256+2),
		link:   fmt.Sprintf("sn%d.%d", pid%100000, n),
	}
	ip(t, "netns", "add", ns.Name)
	t.Cleanup(func() {
		// The interface first: taking it away with the namespace happens some time later.
		exec.Command("ip", "link", "del", ns.link).Run()
		exec.Command("ip", "netns", "del", ns.Name).Run()
	})
	ip(t, "link", "add", ns.link, "type", "veth", "peer", "name", "eth0", "netns", ns.Name)
	ip(t, "addr", "add", ns.HostIP+"/30", "dev", ns.link)
	ip(t, "link", "set", ns.link, "up")
	ip(t, "-n", ns.Name, "addr", "add", ns.IP+"/30", "dev", "eth0")
	ip(t, "-n", ns.Name, "link", "set", "lo", "up")
	ip(t, "-n", ns.Name, "link", "set", "eth0", "up")
	return ns
}

// Blackhole makes the namespace answer nothing any more: what it sends to this side is discarded within, so that a
// connect hangs and an established connection falls silent.
func (ns *Namespace) Blackhole(t testing.TB) {
	t.Helper()
	ip(t, "-n", ns.Name, "route", "add", "blackhole", ns.HostIP+"/32")
	// Asking for the hardware address must go on being answered, else the kernel reports "no route to host" after
	// three seconds: that is a failure, not a black hole.
	ip(t, "neigh", "replace", ns.IP, "lladdr", ns.hardware(t), "nud", "permanent", "dev", ns.link)
}

// Restore undoes Blackhole.
func (ns *Namespace) Restore(t testing.TB) {
	t.Helper()
	ip(t, "-n", ns.Name, "route", "del", "blackhole", ns.HostIP+"/32")
}

func (ns *Namespace) hardware(t testing.TB) string {
	t.Helper()
	fields := strings.Fields(ip(t, "-n", ns.Name, "-o", "link", "show", "eth0"))
	for i, f := range fields {
		if f == "link/ether" {
			return fields[i+1]
		}
	}
	t.Fatalf("no hardware address in %q", fields)
	return ""
}

// Listen listens on port inside the namespace; the socket stays there, the test serves it from here. Port 0 is a free
// one.
func (ns *Namespace) Listen(t testing.TB, port int) *net.TCPListener {
	t.Helper()
	type result struct {
		l   net.Listener
		err error
	}
	done := make(chan result, 1)
	go func() {
		// Not unlocked: the runtime throws the thread away, and with it the namespace it has entered.
		runtime.LockOSThread()
		f, err := os.Open("/run/netns/" + ns.Name)
		if err != nil {
			done <- result{err: err}
			return
		}
		defer f.Close()
		if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- result{err: err}
			return
		}
		l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", ns.IP, port))
		done <- result{l, err}
	}()
	r := <-done
	if r.err != nil {
		t.Fatal(r.err)
	}
	return r.l.(*net.TCPListener)
}

func ip(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out)
}
