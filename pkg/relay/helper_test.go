package relay_test

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/pkg/loop"
	"github.com/snicketlb/snicket/pkg/relay"
)

// patience bounds what would hang for ever if a wake-up were lost.
const patience = 30 * time.Second

// leakCheck fails the test when it ends with other descriptors than it began
// with. Call it before anything that opens one.
func leakCheck(t testing.TB) {
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

func openFiles(t testing.TB) map[string]string {
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

// A peer is what a client or a backend has of a session: a TCP or Unix
// connection with a half-close and a reset.
type peer struct {
	net.Conn
	t testing.TB
}

func (p peer) send(b []byte) {
	p.t.Helper()
	if n, err := p.Write(b); err != nil {
		p.t.Errorf("peer wrote %d of %d: %v", n, len(b), err)
	}
}

// trySend writes what fits, without waiting.
func (p peer) trySend(b []byte) int {
	p.t.Helper()
	n, errno := 0, unix.Errno(0)
	p.control(func(fd int) { n, errno = loop.Write(fd, b) })
	if errno != 0 && errno != unix.EAGAIN {
		p.t.Errorf("peer: %v", errno)
	}
	return n
}

func (p peer) control(f func(fd int)) {
	p.t.Helper()
	raw, err := p.Conn.(syscall.Conn).SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { f(int(fd)) })
	}
	if err != nil {
		p.t.Error(err)
	}
}

func (p peer) end() {
	if err := p.Conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		p.t.Errorf("CloseWrite: %v", err)
	}
}

func (p peer) reset() {
	if c, ok := p.Conn.(*net.TCPConn); ok {
		_ = c.SetLinger(0)
	}
	_ = p.Close()
}

// receive reads n bytes.
func (p peer) receive(n int) []byte {
	p.t.Helper()
	b := make([]byte, n)
	if got, err := io.ReadFull(p, b); err != nil {
		p.t.Errorf("peer read %d of %d: %v", got, n, err)
	}
	return b
}

// rest reads up to the end; an error is what ended it, nil for a FIN.
func (p peer) rest() ([]byte, error) { return io.ReadAll(p) }

func isReset(err error) bool { return errors.Is(err, unix.ECONNRESET) }

// networks are what a session may consist of.
var networks = []string{"tcp4", "tcp6", "unix"}

// connect makes a connection over network: the peer's end, and the descriptor
// that a relay gets, which is whose turn it is to close. buffer, if not 0, is
// the size of the socket buffers of both ends.
func connect(t testing.TB, network string, buffer int) (peer, int) {
	t.Helper()
	var a *loop.Address
	switch network {
	case "tcp4":
		a = loop.TCPAddress(netip.MustParseAddrPort("127.0.0.1:0"), 0)
	case "tcp6":
		a = loop.TCPAddress(netip.MustParseAddrPort("[::1]:0"), 0)
	case "unix":
		a, _ = loop.UnixAddress(filepath.Join(t.TempDir(), "s"))
	}
	ln, errno := a.Socket()
	if errno != 0 {
		t.Fatal(errno)
	}
	defer loop.Close(ln)
	size := func(fd uintptr) {
		if buffer != 0 {
			_ = loop.SetInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, buffer)
			_ = loop.SetInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, buffer)
		}
	}
	size(uintptr(ln)) // what it accepts inherits them
	if errno := a.Bind(ln); errno != 0 {
		t.Fatal(errno)
	}
	if err := unix.Listen(ln, 1); err != nil {
		t.Fatal(err)
	}
	where := loop.LocalAddr(ln).String()
	if a.Unix() {
		where = a.Path()
	}
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error { return c.Control(size) }}
	d.SetMultipathTCP(false)
	conn, err := d.Dial(network, where)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { _ = conn.Close() })
	await(t, ln, unix.POLLIN)
	fd, _, errno := loop.Accept(ln)
	if errno != 0 {
		t.Fatal(errno)
	}
	size(uintptr(fd)) // a Unix socket inherits none
	_ = loop.SetInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	return peer{conn, t}, fd
}

// await blocks until fd has one of events, or an error or hangup.
func await(t testing.TB, fd int, events int16) {
	t.Helper()
	p := []unix.PollFd{{Fd: int32(fd), Events: events}}
	for {
		n, err := unix.Poll(p, int(patience/time.Millisecond))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if n != 1 || err != nil {
			t.Fatalf("poll: %d, %v", n, err)
		}
		return
	}
}

// settle pumps until nothing is left to do without an event.
func settle(t testing.TB, r *relay.Relay, env *relay.Env) relay.Status {
	t.Helper()
	for range 10_000 {
		if s := r.Pump(env); s != relay.More {
			return s
		}
	}
	t.Fatal("More for ever")
	return relay.More
}

// A result is how a session ended.
type result struct {
	status  relay.Status
	in, out int64
	side    relay.Side
	errno   unix.Errno
	broken  bool
}

// A session runs a relay on a loop as its owner has to: it notes events, pumps,
// asks for another turn, and passes a reset on once the send queue is empty.
type session struct {
	l      *loop.Loop
	env    *relay.Env
	relay  relay.Relay
	fds    [2]int
	tokens [2]loop.Token
	timer  loop.Timer
	again  bool
	status relay.Status
	late   time.Duration
	ended  chan result
}

// A half is the handler of one of a session's descriptors.
type half struct {
	s    *session
	side relay.Side
}

func (h half) Ready(ev loop.Events) {
	if ev == 0 {
		h.s.again = false
	}
	h.s.relay.Note(h.side, ev)
	h.s.pump()
}

func (s *session) pump() {
	if s.status == relay.Cut {
		return // waits for its timer
	}
	switch s.status = s.relay.Pump(s.env); s.status {
	case relay.Waiting:
	case relay.More:
		if !s.again {
			s.again = true
			s.l.Again(s.tokens[relay.Client])
		}
	case relay.Ended:
		s.end()
	case relay.Cut:
		s.late = s.l.Now() + patience/2
		s.Expired(s.l.Now())
	}
}

func (s *session) Expired(now time.Duration) {
	side, _, _ := s.relay.Broken()
	if loop.Unsent(s.fds[side^1]) > 0 && now < s.late {
		s.l.Set(&s.timer, now, s)
		return
	}
	s.end()
}

func (s *session) end() {
	r := result{status: s.status, in: s.relay.Bytes(relay.Client), out: s.relay.Bytes(relay.Backend)}
	r.side, r.errno, r.broken = s.relay.Broken()
	for i, fd := range s.fds {
		s.l.Forget(s.tokens[i])
		if s.status == relay.Cut {
			loop.Reset(fd)
		} else {
			loop.Close(fd)
		}
	}
	s.relay.Close(s.env)
	s.ended <- r
}

// A stage is a running loop with what its relays share.
type stage struct {
	t   testing.TB
	l   *loop.Loop
	env *relay.Env
}

func newStage(t testing.TB, maxPipes int) *stage {
	t.Helper()
	l, err := loop.New(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	l.Background(1) // the peers are goroutines
	g := &stage{t: t, l: l, env: relay.NewEnv(maxPipes)}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := l.Run(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(func() {
		l.Stop()
		wg.Wait()
		if got := g.env.Caught(); got != 0 {
			t.Errorf("%d bytes caught after the last session, want 0", got)
		}
		if made, free := g.env.Pipes(), g.env.FreePipes(); made != free {
			t.Errorf("%d pipes made, %d free; want all free", made, free)
		}
		g.env.Close()
		if made := g.env.Pipes(); made != 0 {
			t.Errorf("%d pipes left after Close, want 0", made)
		}
	})
	return g
}

// on runs f on the loop's thread and waits for it.
func (g *stage) on(f func()) {
	done := make(chan struct{})
	g.l.Post(func() {
		defer close(done)
		f()
	})
	<-done
}

// start relays between two descriptors, which it owns from here.
func (g *stage) start(client, backend int, first []byte, header int) *session {
	s := &session{l: g.l, env: g.env, fds: [2]int{client, backend}, ended: make(chan result, 1)}
	g.on(func() {
		for side, fd := range s.fds {
			var err error
			if s.tokens[side], err = g.l.Add(fd, half{s, relay.Side(side)}); err != nil {
				g.t.Error(err)
			}
		}
		s.relay.Start(g.env, client, backend, first, header)
		s.pump()
	})
	return s
}

// wait is how the session ended.
func (s *session) wait(t testing.TB) result {
	t.Helper()
	select {
	case r := <-s.ended:
		return r
	case <-time.After(patience):
		t.Fatalf("session hangs: status %d", s.status)
		return result{}
	}
}
