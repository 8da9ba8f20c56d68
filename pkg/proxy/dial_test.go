package proxy_test

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/loop"
	"github.com/snicketlb/snicket/pkg/proxy"
)

// failures keeps what a pool was told of failed dials.
type failures struct {
	mu   sync.Mutex // guards the fields below
	ids  []string
	errs []error
}

func (f *failures) watch(p *proxy.Pool) {
	p.Failed = func(id string, err error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.ids, f.errs = append(f.ids, id), append(f.errs, err)
	}
}

func (f *failures) list() ([]string, []error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ids, f.errs
}

// TestDeadBackendsLoseNoByte is a client that never notices dead backends: what
// it sent meanwhile reaches the living one, whole.
func TestDeadBackendsLoseNoByte(t *testing.T) {
	heard := lab.NewRecorder()
	live := lab.Serve(t, lab.Announce("alive", heard), lab.Options{})
	r := route("a.test", lab.FreeAddr(t), lab.FreeAddr(t), live.Addr())
	var failed failures
	failed.watch(r.Pool)
	h := start(t, state(t, r))
	retries := 0
	for i := range 9 {
		c := h.dial()
		sent := append(lab.Hello("a.test"), bytes.Repeat([]byte{byte(i)}, 3000)...)
		h.send(c, sent)
		if got := line(t, c); got != "alive" {
			t.Errorf("backend %q", got)
		}
		if got := heard.Wait(t, i, len(sent)); !bytes.Equal(got, sent) {
			t.Errorf("the backend got other bytes than the %d sent", len(sent))
		}
		_ = c.CloseWrite()
		closed(t, c)
		retries += h.want(proxy.OK).Retries
	}
	ids, _ := failed.list()
	if retries == 0 || len(ids) != retries {
		t.Errorf("%d retries and %d failures told, want as many", retries, len(ids))
	}
}

func TestAllBackendsDead(t *testing.T) {
	dead := []string{lab.FreeAddr(t), lab.FreeAddr(t), lab.FreeAddr(t), lab.FreeAddr(t)}
	tests := []struct {
		name         string
		backends     []string
		retries      int
		dials, again int // dials made, and how many of them the record calls retries
	}{
		{name: "no retries", backends: dead, retries: 0, dials: 1, again: 0},
		{name: "bounded by retries", backends: dead, retries: 2, dials: 3, again: 2},
		{name: "bounded by the backends", backends: dead[:2], retries: 5, dials: 2, again: 1},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			r := route("a.test", tc.backends...)
			r.Pool.Retries = tc.retries
			var failed failures
			failed.watch(r.Pool)
			h := start(t, state(t, r))
			c := h.hello("a.test")
			alerted(t, c, 80)
			_ = c.Close()
			rec := h.want(proxy.DialFailed)
			if rec.Retries != tc.again || rec.Dial >= 0 || rec.Error == "" {
				t.Errorf("retries %d, dial %v, error %q; want %d, never, one", rec.Retries, rec.Dial, rec.Error, tc.again)
			}
			ids, errs := failed.list()
			if len(ids) != tc.dials {
				t.Errorf("%d failures told, want %d", len(ids), tc.dials)
			}
			for _, err := range errs {
				if !errors.Is(err, unix.ECONNREFUSED) {
					t.Errorf("told of %v, want a refused connection", err)
				}
			}
		})
	}
}

func TestUnresolvedBackendIsTriedNoFurther(t *testing.T) {
	live := lab.Serve(t, lab.Announce("alive", nil), lab.Options{})
	r := route("a.test", live.Addr())
	specs := []string{"nowhere.test:443", live.Addr()}
	update(r.Pool.Balancer, []any{
		&proxy.Target{Name: specs[0], Unreachable: errors.New("no such host")}, target(specs[1]),
	}, specs...)
	h := start(t, state(t, r))
	for range 4 {
		c := h.hello("a.test")
		if got := line(t, c); got != "alive" {
			t.Errorf("backend %q", got)
		}
		_ = c.Close()
		h.record()
	}
}

// TestDialTimeout is a backend behind a black hole: only dial_timeout tells.
func TestDialTimeout(t *testing.T) {
	full := fullBacklog(t)
	live := lab.Serve(t, lab.Announce("alive", nil), lab.Options{})
	for name, backends := range map[string][]string{"tcp": {full, live.Addr()}, "unix": {fullUnixBacklog(t), live.Addr()}} {
		t.Run(name, func(t *testing.T) {
			r := route("a.test", backends...)
			r.Pool.DialTimeout = 50 * time.Millisecond
			var failed failures
			failed.watch(r.Pool)
			h := start(t, state(t, r))
			retries := 0
			for range 4 {
				c := h.hello("a.test")
				if got := line(t, c); got != "alive" {
					t.Errorf("backend %q", got)
				}
				_ = c.Close()
				rec := h.record()
				retries += rec.Retries
				if rec.Retries > 0 && rec.Dial < r.Pool.DialTimeout {
					t.Errorf("dial took %v, less than the timeout of the first", rec.Dial)
				}
			}
			if ids, _ := failed.list(); retries == 0 || len(ids) != retries {
				t.Errorf("%d retries, %d failures told; want as many, and some", retries, len(ids))
			}
		})
	}
}

// fullBacklog is the address of a listener that takes no further connection:
// its queue is full, and SYNs are dropped.
func fullBacklog(t *testing.T) string {
	t.Helper()
	a := loop.TCPAddress(netip.MustParseAddrPort("127.0.0.1:0"), 0)
	fd, errno := a.Socket()
	if errno != 0 {
		t.Fatal(errno)
	}
	t.Cleanup(func() { loop.Close(fd) })
	if errno := a.Bind(fd); errno != 0 {
		t.Fatal(errno)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	addr := loop.LocalAddr(fd).String()
	for range 8 {
		c, err := net.DialTimeout("tcp", addr, 100*time.Millisecond)
		if err != nil {
			return addr
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	t.Fatal("a backlog of 0 took 8 connections")
	return ""
}

// fullUnixBacklog is the path of a Unix socket whose queue is full.
func fullUnixBacklog(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "full")
	fillUnix(t, path)
	return path
}

// fillUnix listens on path and fills the queue; the descriptor is the listener.
func fillUnix(t *testing.T, path string) int {
	t.Helper()
	a, _ := loop.UnixAddress(path)
	fd, errno := a.Socket()
	if errno != 0 {
		t.Fatal(errno)
	}
	t.Cleanup(func() { loop.Close(fd) })
	if errno := a.Bind(fd); errno != 0 {
		t.Fatal(errno)
	}
	if err := unix.Listen(fd, 1); err != nil {
		t.Fatal(err)
	}
	for range 16 {
		c, errno := a.Socket()
		if errno != 0 {
			t.Fatal(errno)
		}
		t.Cleanup(func() { loop.Close(c) })
		if errno := a.Connect(c); errno == unix.EAGAIN {
			return fd
		} else if errno != 0 {
			t.Fatal(errno)
		}
	}
	t.Fatal("a backlog of 1 took 16 connections")
	return -1
}

// TestUnixBacklogFrees is a dial that waits in front of a full Unix backlog, of
// whose room no event tells.
func TestUnixBacklogFrees(t *testing.T) {
	path := filepath.Join(t.TempDir(), "full")
	fd := fillUnix(t, path)
	h := start(t, state(t, route("a.test", path)))
	hello := lab.Hello("a.test")
	c := h.dial()
	h.send(c, hello)
	h.taken(c)
	// Room for it: take all that waits, and what comes next is ours.
	got := acceptUntil(t, fd, hello)
	defer func() { _ = got.Close() }()
	if _, err := got.Write([]byte("answer")); err != nil {
		t.Fatal(err)
	}
	_ = got.Close()
	if b := readAll(t, c); string(b) != "answer" {
		t.Errorf("read %q, want the answer", b)
	}
	_ = c.Close()
	h.want(proxy.OK)
}

// TestAnswerAfterFinWhileDialing is a client that sends its hello and FIN, and
// waits for the answer of a backend that is yet to be reached.
func TestAnswerAfterFinWhileDialing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "full")
	fd := fillUnix(t, path)
	h := start(t, state(t, route("a.test", path)))
	hello := lab.Hello("a.test")
	c := h.dial()
	h.send(c, hello)
	_ = c.CloseWrite()
	h.taken(c)
	got := acceptUntil(t, fd, hello)
	defer func() { _ = got.Close() }()
	closed(t, got)
	if _, err := got.Write([]byte("answer")); err != nil {
		t.Fatal(err)
	}
	_ = got.Close()
	if b := readAll(t, c); string(b) != "answer" {
		t.Errorf("read %q, want the answer", b)
	}
	h.want(proxy.OK)
}

func TestClientLeavesWhileDialing(t *testing.T) {
	h := start(t, state(t, route("a.test", fullBacklog(t))))
	c := h.hello("a.test")
	h.taken(c)
	_ = c.SetLinger(0)
	_ = c.Close()
	if r := h.want(proxy.ClientReset); r.EndedBy != proxy.ByClient || r.Dial >= 0 {
		t.Errorf("ended by %v, dial %v; want the client, never", r.EndedBy, r.Dial)
	}
}
