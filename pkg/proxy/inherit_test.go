package proxy_test

import (
	"log/slog"
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/proxy"
)

// passed is a listening socket as a service manager passes it, and its address.
func passed(t *testing.T) (fd int, addr string) {
	t.Helper()
	l := lab.Listen(t, "127.0.0.1:0")
	defer l.Close()
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return dup(t, f), l.Addr().String()
}

// dup is a descriptor of f's that is the test's no more.
func dup(t *testing.T, f *os.File) int {
	t.Helper()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// TestInheritedSockets serves by sockets that others have made: any number of one name,
// by all loops, and again behind a State that did not want them.
func TestInheritedSockets(t *testing.T) {
	b := lab.Serve(t, lab.Announce("here", nil), lab.Options{})
	one, firstAddr := passed(t)
	two, secondAddr := passed(t)
	unwanted, unwantedAddr := passed(t)
	h := newHarness(t, proxy.Options{Loops: 2, Log: slog.New(slog.DiscardHandler), Inherited: map[string]proxy.Inherited{
		"systemd:https": {Sockets: []int{one, two}, Kept: true},
		"127.0.0.1:1":   {Sockets: []int{unwanted}},
	}})
	h.run()
	with := state(t, route("a.test", b.Addr()))
	with.Listeners = []proxy.Listener{{Name: "https", Text: "systemd:https"}}
	without := state(t, route("a.test", b.Addr()))
	for range 2 {
		h.apply(with)
		for _, h.addr = range []string{firstAddr, secondAddr} {
			for range 4 {
				c := h.hello("a.test")
				if got := line(t, c); got != "here" {
					t.Errorf("got the backend %q by %s, want here", got, h.addr)
				}
				c.Close()
				h.want(proxy.OK)
			}
		}
		if c, err := net.Dial("tcp", unwantedAddr); err == nil {
			c.Close()
			t.Error("what no listener wants is listened on still")
		}
		h.apply(without)
	}
}

// TestInheritedRefused refuses a State whose sockets are not there, or are none that listen.
func TestInheritedRefused(t *testing.T) {
	c, err := net.Dial("tcp", lab.Serve(t, lab.Echo(), lab.Options{}).Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	f, err := c.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := newHarness(t, proxy.Options{Loops: 1, Log: slog.New(slog.DiscardHandler), Inherited: map[string]proxy.Inherited{
		"systemd:connected": {Sockets: []int{dup(t, f)}, Kept: true},
	}})
	h.run()
	for text, want := range map[string]string{
		"systemd:connected": `listener "https": systemd:connected: what was passed is no stream socket that listens`,
		"systemd:none":      `listener "https": systemd:none: the service manager has passed no socket of that name`,
	} {
		s := state(t, route("a.test", "127.0.0.1:1"))
		s.Listeners = []proxy.Listener{{Name: "https", Text: text}}
		if _, err := h.p.Prepare(s); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
