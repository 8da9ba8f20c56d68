package loop_test

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/loop"
)

func TestConnectAndAccept(t *testing.T) {
	dir := t.TempDir()
	unixAddress := func(path string) *loop.Address {
		a, ok := loop.UnixAddress(path)
		if !ok {
			t.Fatalf("UnixAddress(%q) refused", path)
		}
		return a
	}
	for _, tt := range []struct {
		name   string
		bind   *loop.Address
		dial   string // for TCP: the address to dial
		family int
	}{
		{"IPv4", local("127.0.0.1", 0), "127.0.0.1", unix.AF_INET},
		{"IPv6", local("::1", 0), "::1", unix.AF_INET6},
		{"IPv4 mapped into IPv6", local("::ffff:127.0.0.1", 0), "127.0.0.1", unix.AF_INET},
		{"dual stack", local("::", 0), "127.0.0.1", unix.AF_INET6},
		{"unix", unixAddress(dir + "/s"), "", unix.AF_UNIX},
		{"abstract", unixAddress("@snicket-loop-test" + strings.ReplaceAll(dir, "/", "-")), "", unix.AF_UNIX},
		{"longest path", unixAddress(longPath(dir)), "", unix.AF_UNIX},
	} {
		t.Run(tt.name, func(t *testing.T) {
			leakCheck(t)
			if got := tt.bind.Family(); got != tt.family {
				t.Errorf("Family() = %d, want %d", got, tt.family)
			}
			if got, want := tt.bind.Unix(), tt.family == unix.AF_UNIX; got != want {
				t.Errorf("Unix() = %t, want %t", got, want)
			}
			ln := listen(t, tt.bind)
			to := tt.bind
			if tt.dial != "" {
				to = local(tt.dial, loop.LocalAddr(ln).Port())
			}
			client, errno := to.Socket()
			if errno != 0 {
				t.Fatal(errno)
			}
			defer loop.Close(client)
			if errno := to.Connect(client); errno != 0 && errno != unix.EINPROGRESS {
				t.Fatalf("Connect: %v", errno)
			}
			await(t, ln, unix.POLLIN)
			server, peer, errno := loop.Accept(ln)
			if errno != 0 {
				t.Fatal(errno)
			}
			defer loop.Close(server)
			if want := loop.LocalAddr(client); peer != want || peer.IsValid() != (tt.dial != "") {
				t.Errorf("peer %v, want %v", peer, want)
			}
			if peer.Addr().Is4In6() {
				t.Errorf("peer %v is not unmapped", peer)
			}
			for name, fd := range map[string]int{"dialled": client, "accepted": server} {
				flags, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
				cloexec, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
				if flags&unix.O_NONBLOCK == 0 || cloexec&unix.FD_CLOEXEC == 0 {
					t.Errorf("%s socket blocks or is inherited", name)
				}
				if proto, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL); err != nil ||
					proto != unix.IPPROTO_TCP && tt.dial != "" {
					t.Errorf("%s socket speaks protocol %d, %v", name, proto, err)
				}
			}
			if _, _, errno := loop.Accept(ln); errno != unix.EAGAIN {
				t.Errorf("Accept of an empty queue: %v, want EAGAIN", errno)
			}
		})
	}
}

// longPath is a path of 107 bytes, the most that fits with its NUL.
func longPath(dir string) string {
	return dir + "/" + strings.Repeat("x", 107-len(dir)-1)
}

func TestAddress(t *testing.T) {
	for _, tt := range []struct {
		in, want string
		zone     uint32
	}{
		{in: "192.0.2.1:443", want: "192.0.2.1:443"},
		{in: "[2001:db8::1]:65535", want: "[2001:db8::1]:65535"},
		{in: "[::ffff:192.0.2.1]:1", want: "192.0.2.1:1"},
		{in: "[fe80::1]:443", want: "[fe80::1%7]:443", zone: 7},
		{in: "[fe80::1]:443", want: "[fe80::1]:443"},
	} {
		if got := loop.TCPAddress(netip.MustParseAddrPort(tt.in), tt.zone).AddrPort(); got.String() != tt.want {
			t.Errorf("TCPAddress(%s, %d).AddrPort() = %s, want %s", tt.in, tt.zone, got, tt.want)
		}
	}
	for _, tt := range []struct {
		path string
		want bool
	}{
		{"", false},
		{"/a", true},
		{strings.Repeat("a", 107), true},
		{strings.Repeat("a", 108), false},
		{"@a", true},
		{"@" + strings.Repeat("a", 106), true},
		{"@" + strings.Repeat("a", 107), false},
	} {
		a, ok := loop.UnixAddress(tt.path)
		if ok != tt.want || ok && (!a.Unix() || a.AddrPort().IsValid()) {
			t.Errorf("UnixAddress(%q) = %v, %t, want %t", tt.path, a, ok, tt.want)
		}
	}
}

// Nothing waits on a Unix socket with a full backlog: the caller tries again.
func TestConnectToAFullUnixBacklog(t *testing.T) {
	leakCheck(t)
	a, _ := loop.UnixAddress(t.TempDir() + "/s")
	fd, errno := a.Socket()
	if errno != 0 {
		t.Fatal(errno)
	}
	defer loop.Close(fd)
	if errno := a.Bind(fd); errno != 0 {
		t.Fatal(errno)
	}
	if err := unix.Listen(fd, 1); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		c, errno := a.Socket()
		if errno != 0 {
			t.Fatal(errno)
		}
		defer loop.Close(c)
		switch errno := a.Connect(c); errno {
		case 0:
			continue
		case unix.EAGAIN:
			return
		default:
			t.Fatalf("Connect: %v, want EAGAIN", errno)
		}
	}
	t.Error("ten connections fit into a backlog of 1")
}

func TestResetIsSeenAsSuch(t *testing.T) {
	for _, ip := range []string{"127.0.0.1", "::1"} {
		leakCheck(t)
		client, server := tcpPair(t, ip)
		loop.Reset(client)
		await(t, server, unix.POLLIN)
		if errno := loop.PendingError(server); errno != unix.ECONNRESET {
			t.Errorf("%s: PendingError %v, want ECONNRESET", ip, errno)
		}
		if errno := loop.PendingError(server); errno != 0 {
			t.Errorf("%s: PendingError again %v, want none", ip, errno)
		}
		loop.Close(server)

		client, server = tcpPair(t, ip)
		write(t, client, "before")
		loop.Reset(client)
		await(t, server, unix.POLLHUP)
		b := make([]byte, 16)
		if n, errno := loop.Read(server, b); string(b[:n]) != "before" || errno != 0 {
			t.Errorf("%s: Read = %q, %v; want what came before the reset", ip, b[:n], errno)
		}
		if n, errno := loop.Read(server, b); n != 0 || errno != unix.ECONNRESET {
			t.Errorf("%s: Read = %d, %v; want ECONNRESET", ip, n, errno)
		}
		if n, errno := loop.Read(server, b); n != 0 || errno != 0 {
			t.Errorf("%s: Read = %d, %v; want the error only once", ip, n, errno)
		}
		loop.Close(server)
	}
}

func TestResetOfAUnixSocket(t *testing.T) {
	for _, tt := range []struct {
		name string
		sent string // to the side that resets, unread
		want unix.Errno
	}{{"nothing unread", "", 0}, {"something unread", "x", unix.ECONNRESET}} {
		t.Run(tt.name, func(t *testing.T) {
			leakCheck(t)
			a, ok := loop.UnixAddress(t.TempDir() + "/s")
			if !ok {
				t.Fatal("no address")
			}
			client, server := connect(t, a, listen(t, a))
			defer loop.Close(server)
			if tt.sent != "" {
				write(t, server, tt.sent)
			}
			loop.Reset(client)
			var b [1]byte
			if n, errno := loop.Read(server, b[:]); n != 0 || errno != tt.want {
				t.Errorf("Read = %d, %v; want 0, %v", n, errno, tt.want)
			}
		})
	}
}

func TestShutIsAnEndOfOneWay(t *testing.T) {
	leakCheck(t)
	client, server := tcpPair(t, "127.0.0.1")
	defer loop.Close(client)
	defer loop.Close(server)
	write(t, client, "last")
	if errno := loop.Shut(client); errno != 0 {
		t.Fatal(errno)
	}
	await(t, server, unix.POLLRDHUP)
	b := make([]byte, 16)
	if n, errno := loop.Read(server, b); string(b[:n]) != "last" || errno != 0 {
		t.Errorf("Read = %q, %v; want %q", b[:n], errno, "last")
	}
	if n, errno := loop.Read(server, b); n != 0 || errno != 0 {
		t.Errorf("Read = %d, %v; want the end", n, errno)
	}
	if _, errno := loop.Write(client, b); errno != unix.EPIPE {
		t.Errorf("Write after Shut: %v, want EPIPE", errno)
	}
	write(t, server, "answer")
	await(t, client, unix.POLLIN)
	if n, errno := loop.Read(client, b); string(b[:n]) != "answer" || errno != 0 {
		t.Errorf("Read = %q, %v; want %q", b[:n], errno, "answer")
	}
}

func TestUnsent(t *testing.T) {
	leakCheck(t)
	client, server := tcpPair(t, "127.0.0.1")
	defer loop.Close(client)
	defer loop.Close(server)
	if got := loop.Unsent(client); got != 0 {
		t.Errorf("Unsent() = %d, want 0", got)
	}
	// What the receiver's buffer does not take stays unsent.
	chunk := make([]byte, 64<<10)
	written := 0
	for {
		n, errno := loop.Write(client, chunk)
		if errno == unix.EAGAIN {
			break
		}
		if errno != 0 {
			t.Fatal(errno)
		}
		written += n
	}
	if got := loop.Unsent(client); got <= 0 || got > written {
		t.Errorf("Unsent() = %d after %d written to nobody", got, written)
	}
	for read := 0; read < written; {
		await(t, server, unix.POLLIN)
		n, errno := loop.Read(server, chunk)
		if errno != 0 {
			t.Fatal(errno)
		}
		read += n
	}
	// The last bytes are read, so they were sent; their acknowledgement is on the
	// way at the latest when the answer to them has come.
	write(t, server, "x")
	await(t, client, unix.POLLIN)
	if got := loop.Unsent(client); got != 0 {
		t.Errorf("Unsent() = %d after all was read, want 0", got)
	}
	if got := loop.Unsent(-1); got != 0 {
		t.Errorf("Unsent(-1) = %d, want 0", got)
	}
}

// What was written to a peer that has reset the connection is gone, and stays in
// the kernel's count: whoever waits for 0 would wait for ever.
func TestUnsentAfterAReset(t *testing.T) {
	leakCheck(t)
	client, server := tcpPair(t, "127.0.0.1")
	defer loop.Close(client)
	chunk := make([]byte, 64<<10)
	for {
		if _, errno := loop.Write(client, chunk); errno == unix.EAGAIN {
			break
		}
	}
	loop.Reset(server)
	await(t, client, unix.POLLHUP)
	if got := loop.Unsent(client); got != 0 {
		t.Errorf("Unsent() = %d on a connection that was reset, want 0", got)
	}
}

func TestSplice(t *testing.T) {
	leakCheck(t)
	client, server := tcpPair(t, "127.0.0.1")
	defer loop.Close(client)
	defer loop.Close(server)
	r, w := pipe(t)
	if n, errno := loop.Splice(server, w, 100); n != 0 || errno != unix.EAGAIN {
		t.Errorf("Splice of nothing = %d, %v; want EAGAIN", n, errno)
	}
	want := []byte("some bytes")
	write(t, client, string(want))
	await(t, server, unix.POLLIN)
	if n, errno := loop.Splice(server, w, 100); n != len(want) || errno != 0 {
		t.Fatalf("Splice = %d, %v; want %d", n, errno, len(want))
	}
	if n, errno := loop.Splice(r, server, len(want)); n != len(want) || errno != 0 {
		t.Fatalf("Splice = %d, %v; want %d", n, errno, len(want))
	}
	await(t, client, unix.POLLIN)
	got := make([]byte, 100)
	n, _ := loop.Read(client, got)
	if !bytes.Equal(got[:n], want) {
		t.Errorf("got %q, want %q", got[:n], want)
	}
	loop.Shut(client)
	await(t, server, unix.POLLRDHUP)
	if n, errno := loop.Splice(server, w, 100); n != 0 || errno != 0 {
		t.Errorf("Splice = %d, %v; want the end", n, errno)
	}
}

func pipe(t *testing.T) (r, w int) {
	t.Helper()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		loop.Close(fds[0])
		loop.Close(fds[1])
	})
	return fds[0], fds[1]
}

func TestSetInt(t *testing.T) {
	leakCheck(t)
	client, server := tcpPair(t, "127.0.0.1")
	defer loop.Close(client)
	defer loop.Close(server)
	if errno := loop.SetInt(client, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); errno != 0 {
		t.Fatal(errno)
	}
	if got, err := unix.GetsockoptInt(client, unix.IPPROTO_TCP, unix.TCP_NODELAY); got == 0 || err != nil {
		t.Errorf("TCP_NODELAY %d, %v; want set", got, err)
	}
	if errno := loop.SetInt(-1, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); errno != unix.EBADF {
		t.Errorf("SetInt(-1): %v, want EBADF", errno)
	}
}

// TestEnded: the end of a peer is told though bytes before it have not been read, and
// apart from the end of the connection.
func TestEnded(t *testing.T) {
	leakCheck(t)
	ln := lab.Listen(t, "127.0.0.1:0")
	defer ln.Close()
	tcp := func() (near, far *net.TCPConn) {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		far, err = ln.AcceptTCP()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { far.Close() })
		return c.(*net.TCPConn), far
	}
	is := func(c *net.TCPConn, ended, gone bool) (got bool) {
		loop.Control(c, func(fd int) { got = loop.Ended(fd) == ended && loop.Gone(fd) == gone })
		return got
	}
	until := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(lab.Patience); !ok(); runtime.Gosched() {
			if time.Now().After(end) {
				t.Fatalf("not so: %s", what)
			}
		}
	}
	near, far := tcp()
	if _, err := far.Write([]byte("bytes")); err != nil {
		t.Fatal(err)
	}
	if !is(near, false, false) {
		t.Error("the peer of a new connection has ended")
	}
	_ = far.CloseWrite()
	until("ended behind bytes", func() bool { return is(near, true, false) })
	if b, err := io.ReadAll(near); string(b) != "bytes" || err != nil {
		t.Errorf("got %q, %v, want the bytes still", b, err)
	}
	near, far = tcp()
	_ = far.SetLinger(0)
	far.Close()
	until("gone by a reset", func() bool { return is(near, true, true) })

	a, b := pair(t)
	if loop.Ended(a) {
		t.Error("the peer of a new Unix socket has ended")
	}
	loop.Shut(b)
	if !loop.Ended(a) || loop.Gone(a) {
		t.Errorf("got ended %t, gone %t of a Unix socket, want true and false", loop.Ended(a), loop.Gone(a))
	}
}
