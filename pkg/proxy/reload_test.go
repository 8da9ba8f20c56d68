package proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/proxy"
)

// TestReloadMeetsTheHelloAtPeek changes the table while a hello is unfinished:
// the session meets the new one.
func TestReloadMeetsTheHelloAtPeek(t *testing.T) {
	old := lab.Serve(t, lab.Announce("old", nil), lab.Options{})
	fresh := lab.Serve(t, lab.Announce("new", nil), lab.Options{})
	s := state(t, route("a.test", old.Addr()))
	h := start(t, s)
	before := h.hello("a.test")
	if got := line(t, before); got != "old" {
		t.Errorf("read %q", got)
	}
	hello := lab.Hello("a.test")
	peeking := h.dial()
	h.send(peeking, hello[:100])
	eventually(t, "the hello is begun", func() bool { return h.p.Counters().Hellos == 1 && unread(t, h, peeking) == 0 })

	renamed := s
	renamed.Routes = []*proxy.Route{route("a.test", fresh.Addr())}
	renamed.Routes[0].Listeners = []string{"renamed"}
	renamed.Listeners = []proxy.Listener{s.Listeners[0]}
	renamed.Listeners[0].Name = "renamed"
	h.apply(renamed)
	if bound := h.p.Bound(); len(bound) != 1 || bound[0].Address != h.addr || bound[0].Listener != "renamed" {
		t.Errorf("bound %v, want the socket kept under its new name", bound)
	}
	h.send(peeking, hello[100:])
	if got := line(t, peeking); got != "new" {
		t.Errorf("the hello at peek reached %q, want the new backend", got)
	}
	if got := line(t, h.hello("a.test")); got != "new" {
		t.Errorf("a new session reached %q", got)
	}
	h.send(before, []byte("still here"))
	_ = before.CloseWrite()
	closed(t, before)
	if r := h.want(proxy.OK); r.BytesIn != int64(len(hello)+10) {
		t.Errorf("the old session passed %d bytes, want %d", r.BytesIn, len(hello)+10)
	}
}

// TestRemovedListener serves what had come, ends what is left after the drain
// timeout, and takes nobody new.
func TestRemovedListener(t *testing.T) {
	srv := lab.Serve(t, lab.Announce("a", nil), lab.Options{})
	s := state(t, route("a.test", srv.Addr()))
	s.Routes[0].Listeners = []string{"https", "leaving"}
	s.Listeners = append(s.Listeners, listener("leaving", "127.0.0.2:0"))
	s.Timeouts.Drain = 300 * time.Millisecond
	h := start(t, s)
	going := h.dialTo("leaving")
	address := going.RemoteAddr().String()
	h.send(going, lab.Hello("a.test"))
	line(t, going)
	stays := h.hello("a.test")
	line(t, stays)
	peeking := h.dialTo("leaving")

	s.Listeners = s.Listeners[:1]
	h.apply(s)
	if _, err := net.Dial("tcp", address); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("the removed listener: %v, want a refused connection", err)
	}
	h.send(peeking, lab.Hello("a.test"))
	if got := line(t, peeking); got != "a" {
		t.Errorf("a session that had come before: %q", got)
	}
	reset(t, going)
	reset(t, peeking)
	for range 2 {
		if r := h.want(proxy.Drained); r.Listener != "leaving" || r.EndedBy != proxy.BySnicket {
			t.Errorf("record of listener %q, ended by %v", r.Listener, r.EndedBy)
		}
	}
	_ = stays.CloseWrite()
	closed(t, stays)
	h.want(proxy.OK)
}

// TestRemovedQueueIsServed removes a listener whose accept queues hold clients
// that no loop has seen yet: closing them would reset those.
func TestRemovedQueueIsServed(t *testing.T) {
	const clients = 50
	srv := lab.Serve(t, lab.Announce("a", nil), lab.Options{})
	s := state(t, route("a.test", srv.Addr()))
	h := newHarness(t, proxy.Options{Loops: 2, Log: slog.New(slog.DiscardHandler)})
	h.apply(s) // listens; nothing runs yet
	h.listening()
	var conns []*net.TCPConn
	for range clients {
		conns = append(conns, h.hello("a.test"))
	}
	s.Listeners = nil
	h.apply(s)
	h.run()
	for _, c := range conns {
		if got := line(t, c); got != "a" {
			t.Errorf("read %q", got)
		}
	}
}

func TestAddedListener(t *testing.T) {
	srv := lab.Serve(t, lab.Announce("a", nil), lab.Options{})
	s := state(t, route("a.test", srv.Addr()))
	h := start(t, s)
	s.Routes[0].Listeners = []string{"https", "new"}
	s.Listeners = append(s.Listeners, listener("new", "127.0.0.2:0"), listener("six", "[::1]:0"))
	c, err := h.p.Prepare(s)
	if err != nil {
		t.Fatal(err)
	}
	c.Abort()
	if n := len(h.p.Bound()); n != 1 {
		t.Errorf("%d listeners after an aborted change, want 1", n)
	}
	h.apply(s)
	conn := h.dialTo("new")
	h.send(conn, lab.Hello("a.test"))
	if got := line(t, conn); got != "a" {
		t.Errorf("read %q", got)
	}
	six := h.dialTo("six") // no route of this listener
	h.send(six, lab.Hello("a.test"))
	alerted(t, six, 112)
	counts := h.p.Counters().Sessions
	for _, name := range []string{"https", "new", "six"} {
		if _, there := counts[name]; !there {
			t.Errorf("no counters of listener %s", name)
		}
	}
}

// TestFailedBindLeavesNothing has one listener too many: the change fails as a
// whole, and names the address.
func TestFailedBindLeavesNothing(t *testing.T) {
	taken := lab.Listen(t, "127.0.0.1:0")
	defer func() { _ = taken.Close() }()
	dir := t.TempDir()
	regular := lab.WriteFile(t, filepath.Join(dir, "regular"), []byte("precious"))
	live := filepath.Join(dir, "live")
	l, err := net.Listen("unix", live)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	s := state(t)
	h := start(t, s)
	kept := s.Listeners[0]
	fresh := filepath.Join(dir, "fresh")
	tests := []struct {
		name string
		bad  proxy.Listener
		want error
	}{
		{name: "another process's port", bad: listener("bad", taken.Addr().String()), want: unix.EADDRINUSE},
		{name: "an address of another host", bad: listener("bad", "192.0.2.1:443"), want: unix.EADDRNOTAVAIL},
		{name: "a live Unix socket", bad: unixListener(t, "bad", live), want: unix.EADDRINUSE},
		{name: "a regular file", bad: unixListener(t, "bad", regular), want: unix.EADDRINUSE},
		{name: "the same address twice", bad: kept, want: unix.EADDRINUSE},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			descriptors := len(lab.Descriptors(t, os.Getpid()))
			s.Listeners = []proxy.Listener{kept, unixListener(t, "fresh", fresh), listener("free", "127.0.0.2:0"), tc.bad}
			_, err := h.p.Prepare(s)
			var at *proxy.ListenError
			if !errors.As(err, &at) || at.Listener != tc.bad.Name || !errors.Is(err, tc.want) {
				t.Errorf("error %v, want one of listener %s: %v", err, tc.bad.Name, tc.want)
			}
			if got := len(lab.Descriptors(t, os.Getpid())); got != descriptors {
				t.Errorf("%d descriptors after, %d before", got, descriptors)
			}
			if _, err := os.Lstat(fresh); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the file of a socket is left: %v", err)
			}
		})
	}
	if b, err := os.ReadFile(regular); err != nil || string(b) != "precious" {
		t.Errorf("the regular file: %q, %v", b, err)
	}
	alerted(t, h.hello("a.test"), 112) // the old state runs on
}

// TestRemovedListenerServesItsQueueWhenFull is a client that was let into the
// queue of a full process, whose listener is then removed.
func TestRemovedListenerServesItsQueueWhenFull(t *testing.T) {
	echo := lab.Serve(t, lab.Echo(), lab.Options{})
	s := state(t, route("a.test", echo.Addr()))
	s.Limits.MaxConnections = 1
	h := start(t, s)
	hello := lab.Hello("a.test")
	held := h.dial()
	h.send(held, hello)
	if _, err := io.ReadFull(held, make([]byte, len(hello))); err != nil {
		t.Fatal(err)
	}
	queued := h.dial()
	h.send(queued, hello)
	eventually(t, "the queue holds it", func() bool { return unread(t, h, queued) == len(hello) })
	s.Listeners = []proxy.Listener{listener("other", "127.0.0.2:0")}
	h.apply(s)
	if _, err := io.ReadFull(queued, make([]byte, len(hello))); err != nil {
		t.Errorf("the queued client: %v", err)
	}
	for _, c := range []*net.TCPConn{held, queued} {
		_ = c.CloseWrite()
		readAll(t, c)
		h.want(proxy.OK)
	}
}

// metered counts what is read.
type metered struct {
	net.Conn
	read int
}

func (m *metered) Read(b []byte) (int, error) {
	n, err := m.Conn.Read(b)
	m.read += n
	return n, err
}

func TestDrain(t *testing.T) {
	ca := authority(t)
	echo := lab.Serve(t, lab.Echo(), lab.Options{})
	sealed := route("b.test", echo.Addr())
	ca.terminate(t, sealed)
	h := start(t, state(t, route("a.test", echo.Addr()), sealed))
	hello := lab.Hello("a.test")
	finishing := h.dial()
	h.send(finishing, hello)
	if _, err := io.ReadFull(finishing, make([]byte, len(hello))); err != nil {
		t.Fatal(err)
	}
	left := h.dial()
	h.send(left, hello)
	if _, err := io.ReadFull(left, make([]byte, len(hello))); err != nil {
		t.Fatal(err)
	}
	transport := &metered{Conn: h.dial()}
	secure := tls.Client(transport, ca.client("b.test"))
	if _, err := secure.Write(hello); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(secure, make([]byte, len(hello))); err != nil {
		t.Fatal(err)
	}
	peeking := h.dial()
	eventually(t, "all are in", func() bool { return h.p.Active() == 4 })

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	drained := make(chan struct{})
	go func() {
		h.p.Drain(ctx)
		close(drained)
	}()
	eventually(t, "the listener is gone", func() bool {
		_, there := sideOf(t, h.addr, "0.0.0.0:0")
		return !there
	})
	h.send(finishing, []byte("goes on"))
	_ = finishing.CloseWrite()
	if b := readAll(t, finishing); !bytes.Equal(b, []byte("goes on")) {
		t.Errorf("read %q in a drain", b)
	}
	h.want(proxy.OK)
	select {
	case <-drained:
		t.Error("the drain ended before its sessions")
	default:
	}
	cancel()
	<-drained
	if n := h.p.Active(); n != 0 {
		t.Errorf("%d sessions after the drain", n)
	}
	reset(t, left)
	reset(t, peeking)
	// crypto/tls takes a bare end for one in order, so what came counts.
	before := transport.read
	if n, err := secure.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("the terminated client read %d bytes, %v, want the end", n, err)
	}
	if transport.read == before {
		t.Error("the terminated client was not told: no close_notify came")
	}
	for range 3 {
		if r := h.want(proxy.Drained); r.EndedBy != proxy.BySnicket {
			t.Errorf("ended by %v", r.EndedBy)
		}
	}
}

// TestDrainOfNobody returns at once, and Run's end finds nothing to do.
func TestDrainOfNobody(t *testing.T) {
	h := start(t, state(t))
	h.p.Drain(t.Context())
	h.p.Drain(t.Context())
}

func TestEndBackend(t *testing.T) {
	ca := authority(t)
	one, two := lab.Serve(t, lab.Echo(), lab.Options{}), lab.Serve(t, lab.Echo(), lab.Options{})
	plain, sealed := route("a.test", one.Addr()), route("b.test", one.Addr(), two.Addr())
	ca.terminate(t, sealed)
	h := start(t, state(t, plain, sealed))
	hello := lab.Hello("a.test")
	c := h.dial()
	h.send(c, hello)
	if _, err := io.ReadFull(c, make([]byte, len(hello))); err != nil {
		t.Fatal(err)
	}
	for range 2 { // one on each backend
		s := h.tls(ca.client("b.test"))
		if _, err := s.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(s, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	h.p.EndBackend("b.test", one.Addr(), proxy.Drained)
	if r := h.want(proxy.Drained); r.Backend != one.Addr() || r.Pool != "b.test" {
		t.Errorf("ended a session of %s at %s", r.Pool, r.Backend)
	}
	h.p.EndBackend("a.test", one.Addr(), proxy.Drained)
	if r := h.want(proxy.Drained); r.Backend != one.Addr() || r.Pool != "a.test" {
		t.Errorf("ended a session of %s at %s", r.Pool, r.Backend)
	}
	reset(t, c)
	if n := h.p.Active(); n != 1 {
		t.Errorf("%d sessions left, want the one of the other backend", n)
	}
}
