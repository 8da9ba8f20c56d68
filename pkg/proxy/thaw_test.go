package proxy_test

import (
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/loop"
	"github.com/snicketlb/snicket/pkg/proxy"
)

// TestThawLate has sessions stand still until their time is over. What came for them
// meanwhile goes before that, here and in another process: a hello, a connection to the
// backend, and room in the backlog of one.
func TestThawLate(t *testing.T) {
	hello := lab.Hello("a.test")
	for _, tt := range []struct {
		name        string
		dials, unix bool
		moves       bool
	}{
		{name: "hello"},
		{name: "hello that moves", moves: true},
		{name: "dial", dials: true},
		{name: "dial of a full backlog", dials: true, unix: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			backend, full := lab.Serve(t, lab.Echo(), lab.Options{}).Addr(), -1
			if tt.unix {
				backend = filepath.Join(t.TempDir(), "full")
				full = fillUnix(t, backend)
			}
			fresh := func() proxy.State {
				s := state(t, route("a.test", backend))
				if tt.dials {
					s.Routes[0].Pool.DialTimeout = time.Nanosecond
				} else {
					s.Timeouts.Hello = time.Nanosecond
				}
				return s
			}
			h, s := startLoops(t, 1, fresh()), fresh()
			on, goOn := h, (*proxy.Frozen).Thaw
			if tt.moves {
				next, change := h.successor(s, 1)
				on, goOn = next, func(f *proxy.Frozen) {
					a := h.sent(f, s)
					f.Leave()
					next.p.Inherit(a)
					change.Commit()
				}
			}
			c, f := h.frozenAt(tt.dials, hello)
			stood := time.Now()
			for filled := tt.unix; filled; {
				filled = take(full)
			}
			if !tt.dials {
				h.send(c, hello)
			}
			eventually(t, "it stood for some ticks", func() bool { return time.Since(stood) > 30*time.Millisecond })
			goOn(f)
			if tt.unix {
				echoOnce(t, full, len(hello))
			}
			readFull(t, c, hello)
			_ = c.CloseWrite()
			closed(t, c)
			on.want(proxy.OK)
		})
	}
}

// frozenAt opens a session, and freezes in the very turn in which it is accepted, or in
// which it dials.
func (h *harness) frozenAt(dials bool, hello []byte) (*net.TCPConn, *proxy.Frozen) {
	h.t.Helper()
	for range 50 {
		var c *net.TCPConn
		var release func()
		if dials {
			c = h.dial()
			h.begun(1)
			release = h.p.Hold()
			h.send(c, hello)
			eventually(h.t, "the hello is there", func() bool { return unread(h.t, h, c) == len(hello) })
		} else {
			release = h.p.Hold()
			c = h.dial()
		}
		frozen := make(chan *proxy.Frozen)
		go func() { frozen <- h.p.Freeze() }()
		release()
		f := <-frozen
		if len(f.Sessions) == 1 && f.Sessions[0].Opening != nil && f.Sessions[0].Opening.Whole == dials {
			return c, f
		}
		f.Thaw() // it came too late, or too early
		_ = c.Close()
		h.record()
	}
	h.t.Fatal("no session is met in that turn")
	return nil, nil
}

// take accepts a connection and closes it; false: there is none.
func take(fd int) bool {
	c, _, errno := loop.Accept(fd)
	if errno == 0 {
		loop.Close(c)
	}
	return errno == 0
}

// echoOnce accepts a connection, and echoes so many bytes.
func echoOnce(t testing.TB, fd, size int) {
	t.Helper()
	var conn net.Conn
	eventually(t, "a connection", func() bool {
		conn = accepted(t, fd)
		return conn != nil
	})
	defer conn.Close()
	if _, err := io.CopyN(conn, conn, int64(size)); err != nil {
		t.Error(err)
	}
}
