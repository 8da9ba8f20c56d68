package loop_test

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/pkg/loop"
)

// A handle is a Handler made of a function.
type handle func(loop.Events)

func (h handle) Ready(ev loop.Events) { h(ev) }

// An expire is an Expirer made of a function.
type expire func(time.Duration)

func (e expire) Expired(now time.Duration) { e(now) }

// leakCheck fails the test when it ends with other descriptors than it began
// with. Call it before anything that opens one.
func leakCheck(t *testing.T) {
	t.Helper()
	// The runtime opens its own poller at first use and keeps it.
	if l, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		_ = l.Close()
	}
	before := openFiles(t)
	t.Cleanup(func() {
		after := openFiles(t)
		for fd, what := range after {
			if before[fd] == "" {
				t.Errorf("descriptor %s leaked: %s", fd, what)
			}
		}
		for fd, what := range before {
			if after[fd] == "" {
				t.Errorf("descriptor %s closed that was not the test's: %s", fd, what)
			}
		}
	})
}

func openFiles(t *testing.T) map[string]string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string]string)
	for _, e := range entries {
		// The descriptor of the listing itself is closed by now.
		if what, err := os.Readlink(filepath.Join("/proc/self/fd", e.Name())); err == nil {
			files[e.Name()] = what
		}
	}
	return files
}

func newLoop(t *testing.T) *loop.Loop {
	t.Helper()
	l, err := loop.New(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// serve runs l until the function it returns is called, which waits for the end;
// the end of the test calls it too.
func serve(t *testing.T, l *loop.Loop) (stop func()) {
	t.Helper()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := l.Run(); err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	stop = func() {
		l.Stop()
		<-ended
	}
	t.Cleanup(stop)
	return stop
}

// on runs f on l's thread and waits for it.
func on(l *loop.Loop, f func()) {
	done := make(chan struct{})
	l.Post(func() {
		defer close(done)
		f()
	})
	<-done
}

// turns waits until l has gone through n turns at least.
func turns(l *loop.Loop, n int) {
	for range n {
		on(l, func() {})
	}
}

// pair makes two connected non-blocking sockets that the end of the test closes.
func pair(t *testing.T) (a, b int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		loop.Close(fds[0])
		loop.Close(fds[1])
	})
	return fds[0], fds[1]
}

func write(t *testing.T, fd int, s string) {
	t.Helper()
	if n, errno := loop.Write(fd, []byte(s)); n != len(s) || errno != 0 {
		t.Fatalf("Write(%q) = %d, %v", s, n, errno)
	}
}

// listen binds and listens on a; the end of the test closes it.
func listen(t *testing.T, a *loop.Address) int {
	t.Helper()
	fd, errno := a.Socket()
	if errno != 0 {
		t.Fatalf("Socket: %v", errno)
	}
	t.Cleanup(func() { loop.Close(fd) })
	if errno := a.Bind(fd); errno != 0 {
		t.Fatalf("Bind: %v", errno)
	}
	if err := unix.Listen(fd, 128); err != nil {
		t.Fatalf("listen: %v", err)
	}
	return fd
}

// local is a loopback address, with the port that fd listens on.
func local(ip string, port uint16) *loop.Address {
	return loop.TCPAddress(netip.AddrPortFrom(netip.MustParseAddr(ip), port), 0)
}

// tcpPair makes a connected pair over loopback; its ends are the caller's.
func tcpPair(t *testing.T, ip string) (client, server int) {
	t.Helper()
	ln := listen(t, local(ip, 0))
	return connect(t, local(ip, loop.LocalAddr(ln).Port()), ln)
}

// connect connects to ln by a and accepts.
func connect(t *testing.T, a *loop.Address, ln int) (client, server int) {
	t.Helper()
	client, errno := a.Socket()
	if errno != 0 {
		t.Fatalf("Socket: %v", errno)
	}
	if errno := a.Connect(client); errno != 0 && errno != unix.EINPROGRESS {
		t.Fatalf("Connect: %v", errno)
	}
	await(t, client, unix.POLLOUT)
	await(t, ln, unix.POLLIN)
	server, _, errno = loop.Accept(ln)
	if errno != 0 {
		t.Fatalf("Accept: %v", errno)
	}
	return client, server
}

// await blocks until fd has one of events, or an error or hangup.
func await(t *testing.T, fd int, events int16) {
	t.Helper()
	p := []unix.PollFd{{Fd: int32(fd), Events: events}}
	for {
		n, err := unix.Poll(p, 10_000)
		if err == unix.EINTR {
			continue
		}
		if n != 1 || err != nil {
			t.Fatalf("poll: %d, %v", n, err)
		}
		return
	}
}
