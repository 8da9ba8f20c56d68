package proxy_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/proxy"
)

// TestOwnFaultsCondemnNoBackend is a source address that this host does not have:
// a failure of ours, of which no backend is accused.
func TestOwnFaultsCondemnNoBackend(t *testing.T) {
	one, two := lab.Serve(t, lab.Echo(), lab.Options{}), lab.Serve(t, lab.Echo(), lab.Options{})
	for _, terminated := range []bool{false, true} {
		t.Run(fmt.Sprint("terminated ", terminated), func(t *testing.T) {
			r := route("a.test", one.Addr(), two.Addr())
			r.Pool.Sources = []netip.Addr{netip.MustParseAddr("192.0.2.1")}
			var failed failures
			failed.watch(r.Pool)
			ca := authority(t)
			if terminated {
				ca.terminate(t, r)
			}
			h := start(t, state(t, r))
			if terminated {
				c := h.tls(ca.client("a.test"))
				if _, err := c.Read(make([]byte, 1)); err == nil {
					t.Error("a byte from nobody")
				}
			} else {
				c := h.hello("a.test")
				alerted(t, c, 80)
				_ = c.Close()
			}
			rec := h.want(proxy.Internal)
			if rec.Retries != 0 || !strings.Contains(rec.Error, "192.0.2.1") {
				t.Errorf("retries %d, error %q; want none, the address", rec.Retries, rec.Error)
			}
			if ids, _ := failed.list(); len(ids) != 0 {
				t.Errorf("failures of %v told, want none", ids)
			}
			if one.Accepted()+two.Accepted() != 0 {
				t.Error("a backend was reached from an address that was not asked for")
			}
		})
	}
}

func TestSourceAddressesTakeTurns(t *testing.T) {
	seen := make(chan string, 100)
	srv := lab.Serve(t, func(c *lab.Conn) {
		seen <- c.RemoteAddr().(*net.TCPAddr).IP.String()
		lab.Announce("a", nil)(c)
	}, lab.Options{})
	r := route("a.test", srv.Addr())
	r.Pool.Sources = []netip.Addr{netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("::1"), netip.MustParseAddr("127.0.0.3")}
	h := startLoops(t, 1, state(t, r))
	counts := map[string]int{}
	for range 6 {
		c := h.hello("a.test")
		line(t, c)
		counts[<-seen]++
		_ = c.Close()
		h.record()
	}
	if len(counts) != 2 || counts["127.0.0.2"] == 0 || counts["127.0.0.3"] == 0 {
		t.Errorf("sources %v, want both IPv4 addresses", counts)
	}
}

// inChild runs the test once more in a process of its own, which may then lower
// its limits; it reports whether this is that process.
func inChild(t *testing.T) bool {
	t.Helper()
	if os.Getenv("PROXY_TEST_CHILD") == t.Name() {
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v") //nolint:gosec // this test itself
	cmd.Env = append(os.Environ(), "PROXY_TEST_CHILD="+t.Name())
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("in a process of its own: %v\n%s", err, out)
	}
	return false
}

// limitDescriptors lets the process open n more descriptors than it has.
func limitDescriptors(t *testing.T, n int) (lift func()) {
	t.Helper()
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	// The limit is the first number that is not given; there are no holes below
	// the highest, as all there is is opened before.
	highest := 0
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		var fd int
		if _, err := fmt.Sscan(e.Name(), &fd); err == nil {
			if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
				highest = max(highest, fd)
			}
		}
	}
	var holes []int
	for {
		fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		holes = append(holes, fd)
		if fd > highest {
			break
		}
	}
	set(t, unix.Rlimit{Cur: uint64(highest + 1 + n), Max: was.Max})
	_ = unix.Close(holes[len(holes)-1])
	t.Cleanup(func() {
		for _, fd := range holes[:len(holes)-1] {
			_ = unix.Close(fd)
		}
	})
	return func() { set(t, was) }
}

func set(t *testing.T, limit unix.Rlimit) {
	t.Helper()
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
}

// TestNoDescriptorForADial runs the process out of descriptors between accept
// and dial: the outcome is internal, and the backend is not accused.
func TestNoDescriptorForADial(t *testing.T) {
	if !inChild(t) {
		return
	}
	srv := lab.Serve(t, lab.Announce("a", nil), lab.Options{})
	r := route("a.test", srv.Addr(), lab.FreeAddr(t))
	var failed failures
	failed.watch(r.Pool)
	h := startLoops(t, 1, state(t, r))
	c := h.dial()
	eventually(t, "accepted", func() bool { return h.p.Active() == 1 })
	lift := limitDescriptors(t, 0)
	h.send(c, lab.Hello("a.test"))
	alerted(t, c, 80)
	_ = c.Close()
	rec := h.want(proxy.Internal)
	lift()
	if !strings.Contains(rec.Error, "too many open files") {
		t.Errorf("error %q, want the shortage", rec.Error)
	}
	if ids, _ := failed.list(); len(ids) != 0 {
		t.Errorf("failures of %v told, want none", ids)
	}
}

// TestAcceptSurvivesNoDescriptors runs the process out of descriptors while
// clients wait: accepting pauses, and goes on once there are some.
func TestAcceptSurvivesNoDescriptors(t *testing.T) {
	if !inChild(t) {
		return
	}
	srv := lab.Serve(t, lab.Announce("a", nil), lab.Options{})
	var log logged
	h := startLogged(t, 2, state(t, route("a.test", srv.Addr())), &log)
	waiting := h.socket()
	lift := limitDescriptors(t, 0)
	h.connect(waiting)
	eventually(t, "the pause is logged", func() bool { return log.has("accepting pauses") })
	if c := h.p.Counters(); c.AcceptFailures == 0 || c.Paused != 0 {
		t.Errorf("got %d failures and %d loops that are full, want some and none", c.AcceptFailures, c.Paused)
	}
	lift()
	w := asConn(t, waiting)
	h.send(w, lab.Hello("a.test"))
	if got := line(t, w); got != "a" {
		t.Errorf("read %q, want a", got)
	}
}
