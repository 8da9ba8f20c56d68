package proxy_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/loop"
	"github.com/snicketlb/snicket/pkg/proxy"
)

func TestMoveRelays(t *testing.T) {
	b := lab.Serve(t, lab.Echo(), lab.Options{})
	h, move := moving(t, b.Addr(), func(*proxy.Route) {})
	hello := lab.Hello("a.test", "h2")
	c := h.open(hello)
	readFull(t, c, hello)
	next := move()

	h.send(c, []byte("more"))
	readFull(t, c, []byte("more"))
	if n := h.p.Active(); n != 0 {
		t.Errorf("%d sessions are left behind", n)
	}
	if got := h.p.Counters().Sessions["https"][proxy.Moved]; got != 1 {
		t.Errorf("moved sessions: got %d, want 1", got)
	}
	// New ones come to the new one, by the same sockets.
	plain := lab.Hello("a.test")
	d := next.open(plain)
	readFull(t, d, plain)
	for _, conn := range []net.Conn{c, d} {
		conn.(*net.TCPConn).CloseWrite()
		closed(t, conn)
	}
	r := next.want(proxy.OK)
	if other := next.want(proxy.OK); other.ALPN == "h2" {
		r = other
	}
	if want := int64(len(hello) + len("more")); r.BytesIn != want || r.BytesOut != want {
		t.Errorf("bytes of the moved session: got %d and %d, want %d", r.BytesIn, r.BytesOut, want)
	}
	if r.SNI != "a.test" || r.ALPN != "h2" || r.JA4 == [36]byte{} || r.Backend != b.Addr() || r.Route != "a.test" || r.Hello < 0 || r.Dial < 0 {
		t.Errorf("the record of the moved session has lost something: %+v", r)
	}
	if len(h.records) != 0 {
		t.Error("a moved session has a second record")
	}
}

func TestMoveHalfClosed(t *testing.T) {
	heard, answer := make(chan struct{}), make(chan struct{})
	b := lab.Serve(t, func(c *lab.Conn) {
		all, _ := io.ReadAll(c)
		close(heard)
		<-answer
		_, _ = c.Write(all)
	}, lab.Options{})
	h, move := moving(t, b.Addr(), func(*proxy.Route) {})
	hello := lab.Hello("a.test")
	c := h.open(hello)
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	<-heard
	next := move()
	close(answer)
	if got := readAll(t, c); !bytes.Equal(got, hello) {
		t.Errorf("the answer behind the client's end: got %d bytes", len(got))
	}
	if r := next.want(proxy.OK); r.EndedBy != proxy.ByClient {
		t.Errorf("ended by %v, want the client", r.EndedBy)
	}
}

// TestMoveHellos moves sessions that have said half of their hello, and nothing yet.
func TestMoveHellos(t *testing.T) {
	b := lab.Serve(t, lab.Echo(), lab.Options{})
	h, move := moving(t, b.Addr(), func(*proxy.Route) {})
	hello := lab.Hello("a.test")
	half, silent := h.dial(), h.dial()
	h.send(half, hello[:len(hello)/2])
	h.begun(2)
	next := move()
	if n := h.p.Counters().Hellos; n != 0 {
		t.Errorf("%d unfinished hellos are left behind", n)
	}
	if n := next.p.Counters().Hellos; n != 2 {
		t.Errorf("unfinished hellos: got %d, want 2", n)
	}
	h.send(half, hello[len(hello)/2:])
	readFull(t, half, hello)
	h.send(silent, hello)
	readFull(t, silent, hello)
	for _, c := range []*net.TCPConn{half, silent} {
		c.CloseWrite()
		closed(t, c)
		next.want(proxy.OK)
	}
}

// begun waits until so many sessions are there, and all that they have sent is read.
func (h *harness) begun(n int) {
	h.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(lab.Patience); ; <-tick.C {
		if time.Now().After(deadline) {
			h.t.Fatalf("%d sessions, want %d", h.p.Active(), n)
		}
		waiting := false
		for _, l := range sockLines(h.t) {
			waiting = waiting || l.local.String() == h.addr && l.unread > 0
		}
		if h.p.Active() == n && !waiting {
			return
		}
	}
}

// TestThaw freezes and goes on, again and again, under traffic: nobody notices.
func TestThaw(t *testing.T) {
	const size = 8 << 20
	b := lab.Serve(t, lab.Echo(), lab.Options{})
	h := start(t, state(t, route("a.test", b.Addr())))
	c, hello := h.dial(), lab.Hello("a.test")
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(hello)
		if err == nil {
			_, err = io.Copy(struct{ io.Writer }{c}, io.LimitReader(lab.Pattern(3), size))
		}
		sent <- errors.Join(err, c.CloseWrite())
	}()
	half := h.dial()
	h.send(half, hello[:20])
	over := make(chan struct{})
	frozen := make(chan int)
	go func() {
		for n := 0; ; n++ {
			select {
			case <-over:
				frozen <- n
				return
			default:
				h.p.Freeze().Thaw()
			}
		}
	}()
	got := readAll(t, c)
	if err := <-sent; err != nil {
		t.Error(err)
	}
	if sha256.Sum256(got) != digest(hello, 3, size) {
		t.Errorf("%d bytes came back, and not those that were sent", len(got))
	}
	close(over)
	if <-frozen == 0 {
		t.Error("nothing was frozen")
	}
	h.want(proxy.OK)
	h.send(half, hello[20:])
	readFull(t, half, hello)
	half.CloseWrite()
	closed(t, half)
	h.want(proxy.OK)
	d := h.open(hello)
	readFull(t, d, hello)
}

// TestKilledInFrost kills a session while it is frozen: it ends once it may.
func TestKilledInFrost(t *testing.T) {
	b := lab.Serve(t, lab.Echo(), lab.Options{})
	h := start(t, state(t, route("a.test", b.Addr())))
	hello := lab.Hello("a.test")
	c := h.open(hello)
	readFull(t, c, hello)
	f := h.p.Freeze()
	if len(f.Sessions) != 1 {
		t.Fatalf("%d sessions can move, want 1", len(f.Sessions))
	}
	if killed, err := h.p.Kill(t.Context(), f.Sessions[0].ID); !killed || err != nil {
		t.Fatalf("Kill: %t, %v", killed, err)
	}
	if len(h.records) != 0 {
		t.Error("it ended while it was frozen")
	}
	f.Thaw()
	h.want(proxy.Killed)
	reset(t, c)
}

// TestMoveKeeps moves a session with its times, its id and its counts.
func TestMoveKeeps(t *testing.T) {
	b := lab.Serve(t, lab.Echo(), lab.Options{})
	h, move := moving(t, b.Addr(), func(r *proxy.Route) { r.Idle = time.Hour })
	hello := lab.Hello("a.test")
	c := h.open(hello)
	readFull(t, c, hello)
	before, err := h.p.Sessions(t.Context(), proxy.SessionFilter{})
	if err != nil || len(before) != 1 {
		t.Fatalf("%d sessions, %v", len(before), err)
	}
	next := move()
	after, err := next.p.Sessions(t.Context(), proxy.SessionFilter{})
	if err != nil || len(after) != 1 {
		t.Fatalf("%d sessions behind the move, %v", len(after), err)
	}
	was, is := before[0], after[0]
	if is.ID != was.ID || is.Peer != was.Peer || is.Age < was.Age || is.Idle < was.Idle || is.Route != was.Route || is.Backend != was.Backend {
		t.Errorf("got %+v, want at least %+v", is, was)
	}
	r := next.routes[0]
	if got := r.Active.Load(); got != 1 {
		t.Errorf("the route counts %d sessions, want 1", got)
	}
	if got := r.Pool.Balancer.Backends()[0].Active(); got != 1 {
		t.Errorf("the backend counts %d sessions, want 1", got)
	}
	// The sequence of ids goes on: none is given twice.
	d := next.open(hello)
	readFull(t, d, hello)
	all, err := next.p.Sessions(t.Context(), proxy.SessionFilter{})
	if err != nil || len(all) != 2 || all[0].ID == all[1].ID || all[0].ID>>48 != all[1].ID>>48 {
		t.Errorf("the sessions are %v, %v", all, err)
	}
	if killed, err := next.p.Kill(t.Context(), was.ID); !killed || err != nil {
		t.Errorf("Kill: %t, %v", killed, err)
	}
	reset(t, c)
}

// TestMoveStray moves a session whose backend is no more: it goes on, for the drain time.
func TestMoveStray(t *testing.T) {
	b := lab.Serve(t, lab.Echo(), lab.Options{})
	h := start(t, state(t, route("a.test", b.Addr())))
	hello := lab.Hello("a.test")
	c := h.open(hello)
	readFull(t, c, hello)
	s := state(t, route("b.test", b.Addr()))
	s.Timeouts.Drain = 50 * time.Millisecond
	next, change := h.successor(s, 1)
	h.move(next, change, s)
	if r := next.want(proxy.Drained); r.Route != "a.test" || r.Pool != "a.test" || r.Backend != b.Addr() {
		t.Errorf("its record names route %q, pool %q, backend %q", r.Route, r.Pool, r.Backend)
	}
	reset(t, c)
}

// TestMoveUnixListener moves a listener whose socket has a file: it stays while anybody
// listens, and goes with the last.
func TestMoveUnixListener(t *testing.T) {
	b := lab.Serve(t, lab.Announce("here", nil), lab.Options{})
	path := filepath.Join(t.TempDir(), "listener.sock")
	fresh := func() proxy.State {
		s := state(t, route("a.test", b.Addr()))
		address, _ := loop.UnixAddress(path)
		s.Listeners = []proxy.Listener{{Name: "https", Address: address, Text: "unix:" + path}}
		return s
	}
	h := start(t, fresh())
	s := fresh()
	next, change := h.successor(s, 2)
	h.move(next, change, s)
	h.stop()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(lab.Patience))
	h.send(c, lab.Hello("a.test"))
	if got := line(t, c); got != "here" {
		t.Errorf("got the backend %q, want here", got)
	}
	c.Close()
	next.want(proxy.OK)
	next.stop()
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file of the socket: got %v, want it gone", err)
	}
}

// TestMoveDials moves a session whose backend has not answered yet: it dials anew.
func TestMoveDials(t *testing.T) {
	path := filepath.Join(t.TempDir(), "backend.sock")
	full, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(full)
	if err := errors.Join(unix.Bind(full, &unix.SockaddrUnix{Name: path}), unix.Listen(full, 0),
		unix.SetsockoptTimeval(full, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: int64(lab.Patience / time.Second)})); err != nil {
		t.Fatal(err)
	}
	filler, err := net.Dial("unix", path) // takes the one place of its backlog
	if err != nil {
		t.Fatal(err)
	}
	defer filler.Close()
	h, move := moving(t, path, func(r *proxy.Route) { r.Pool.DialTimeout = time.Hour })
	hello := lab.Hello("a.test")
	c := h.open(hello)
	eventually(t, "it dials", func() bool {
		all, _ := h.p.Sessions(t.Context(), proxy.SessionFilter{})
		return len(all) == 1 && all[0].Phase == proxy.PhaseDial
	})
	h.p.Freeze().Thaw() // which it outlives as well
	next := move()
	var heard []byte
	for range 2 { // the one that fills it, and the session's
		fd, _, err := unix.Accept4(full, unix.SOCK_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if heard == nil {
			heard = make([]byte, 4<<10)
			continue
		}
		if n, err := unix.Read(fd, heard); err != nil || !bytes.Equal(heard[:n], hello) {
			t.Errorf("the backend got %d bytes, %v, want the hello", n, err)
		}
	}
	c.Close()
	next.stop()
}
