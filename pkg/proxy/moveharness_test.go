package proxy_test

import (
	"bytes"
	"log/slog"
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/pkg/proxy"
)

// copied is a descriptor of the same open file, as another process gets it.
func copied(t testing.TB, fd int) int {
	t.Helper()
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// successor is a second data plane that has the sockets of h, by the same routes, and does
// not accept yet.
func (h *harness) successor(s proxy.State, loops int) (*harness, *proxy.Change) {
	h.t.Helper()
	given := h.p.Sockets()
	for text, i := range given {
		for k, fd := range i.Sockets {
			i.Sockets[k] = copied(h.t, fd)
		}
		given[text] = i
	}
	next := newHarness(h.t, proxy.Options{Loops: loops, Log: slog.New(slog.DiscardHandler), Inherited: given})
	next.run()
	next.routes = append(next.routes, s.Routes...)
	change, err := next.p.Prepare(s)
	if err != nil {
		h.t.Fatal(err)
	}
	return next, change
}

// move hands all that can be moved over, and returns how many sessions that were.
func (h *harness) move(next *harness, change *proxy.Change, s proxy.State) int {
	h.t.Helper()
	f := h.p.Freeze()
	a := h.sent(f, s)
	f.Leave()
	next.p.Inherit(a)
	change.Commit()
	next.listening()
	return len(a.Sessions)
}

// sent is what arrives in another process, which has the pools of s.
func (h *harness) sent(f *proxy.Frozen, s proxy.State) *proxy.Arrival {
	h.t.Helper()
	a := &proxy.Arrival{Heritage: f.Heritage, Sessions: make([]proxy.Transfer, len(f.Sessions)), Pools: map[string]*proxy.Pool{}}
	for _, r := range s.Routes {
		a.Pools[r.Pool.Name] = r.Pool
	}
	for i, m := range f.Sessions {
		if m.Relay != nil {
			r := *m.Relay
			m.Relay = &r
			for w := range r.Stand.Ways {
				r.Stand.Ways[w].Held = bytes.Clone(r.Stand.Ways[w].Held)
			}
		}
		if m.Opening != nil {
			o := *m.Opening
			o.Bytes = bytes.Clone(o.Bytes)
			m.Opening = &o
		}
		m.Descriptors(func(fd *int) { *fd = copied(h.t, *fd) })
		a.Sessions[i] = m
	}
	return a
}

// open connects and sends a hello.
func (h *harness) open(hello []byte) *net.TCPConn {
	h.t.Helper()
	c := h.dial()
	h.send(c, hello)
	return c
}

// moving is a data plane with one route to backend, and the one that follows it.
func moving(t testing.TB, backend string, change func(*proxy.Route)) (h *harness, move func() *harness) {
	t.Helper()
	fresh := func() proxy.State {
		r := route("a.test", backend)
		change(r)
		return state(t, r)
	}
	h = start(t, fresh())
	return h, func() *harness {
		s := fresh()
		next, prepared := h.successor(s, 3)
		h.move(next, prepared, s)
		return next
	}
}
