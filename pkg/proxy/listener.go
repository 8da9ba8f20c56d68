package proxy

import (
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/pkg/loop"
)

const (
	// acceptBatch bounds the connections taken off a queue in one turn: what was
	// begun goes on before more is begun.
	acceptBatch = 16
	// backlog bounds the queue of each loop's socket. What waits longer than its
	// client does is served for nothing, and in an overload that is all there is: at
	// 10,000 sessions a second this is a tenth of one.
	backlog = 1024
	// acceptPause is how long a listener rests when the process or the kernel
	// is out of descriptors or memory.
	acceptPause = 100 * time.Millisecond
)

// An acceptor is one listening socket on one loop. It is registered level-
// triggered, so what is left in the queue asks again by itself.
type acceptor struct {
	w     *worker
	socks *sockets
	fd    int
	tok   loop.Token // NoToken while it rests
	// want is how many connections a turn expects to find. It doubles when it
	// finds as many, so that a flood is taken in batches, and the usual turn does
	// not ask an empty queue: what is left asks again by itself.
	want int
	// retiring lets in what the queue still holds though the process is full:
	// those clients were promised a connection, and closing would reset them.
	retiring bool
	rest     loop.Timer
}

// adopt starts accepting on new sockets.
func (w *worker) adopt(s *sockets) {
	for i, fd := range s.fds {
		if !s.shared && i != w.index {
			continue
		}
		a := &acceptor{w: w, socks: s, fd: fd, want: 1}
		w.acceptors = append(w.acceptors, a)
		if !w.full {
			a.resume()
		}
	}
}

// retire stops accepting on s, once what its queue holds has been taken: closing
// one of several sockets of an address resets what waits there.
func (w *worker) retire(s *sockets, drain time.Duration) {
	w.leave(s, func(a *acceptor) {
		a.retiring = true
		for a.acceptBatch() {
		}
	})
	w.windDown(func(x *session) bool { return x.socks == s })
	if drain > 0 {
		w.after(drain, func() { w.endMatching(func(x *session) bool { return x.socks == s }, Drained) })
	}
}

// leave gives up the loop's acceptors on s, each after last.
func (w *worker) leave(s *sockets, last func(*acceptor)) {
	w.acceptors = slices.DeleteFunc(w.acceptors, func(a *acceptor) bool {
		if a.socks != s {
			return false
		}
		last(a)
		a.pause()
		w.l.Cancel(&a.rest)
		if !s.shared {
			loop.Close(a.fd)
		}
		return true
	})
	if s.users.Add(-1) == 0 {
		if s.shared {
			for _, fd := range s.fds {
				loop.Close(fd)
			}
		}
		s.unlink()
	}
}

// Ready accepts what waits, as far as it expects any.
func (a *acceptor) Ready(loop.Events) {
	if n, more := a.accept(a.want); more {
		a.want = min(max(2*n, 1), acceptBatch)
	} else {
		a.want = max(n, 1)
	}
}

// Expired ends a rest.
func (a *acceptor) Expired(time.Duration) {
	if !a.w.full {
		a.resume()
	}
}

// acceptBatch accepts what waits, up to the batch, and reports whether the queue
// may hold more.
func (a *acceptor) acceptBatch() bool {
	_, more := a.accept(acceptBatch)
	return more
}

// accept takes up to most connections off the queue. It tells how many it took,
// and whether there may be more.
func (a *acceptor) accept(most int) (taken int, more bool) {
	w, p := a.w, a.w.p
	live := p.live.Load()
	for range most {
		limit := live.limits.MaxConnections
		if a.retiring {
			limit = 0
		}
		if !p.enter(limit) {
			w.stopAccepting()
			return taken, false
		}
		fd, peer, errno := loop.Accept(a.fd)
		switch errno {
		case 0:
			w.begin(a, live, fd, peer)
			taken++
			continue
		case unix.EAGAIN:
		case unix.ECONNABORTED, unix.EPROTO, unix.EPERM, unix.ENETDOWN, unix.EHOSTDOWN,
			unix.EHOSTUNREACH, unix.ENETUNREACH, unix.ENOPROTOOPT, unix.EOPNOTSUPP, unix.ENONET:
			// The connection died in the queue: accept(2) says to go on.
			p.left()
			continue
		default: // EMFILE, ENFILE, ENOBUFS, ENOMEM: the queue waits
			a.pause()
			a.tryLater()
			p.o.Log.Warn("accepting pauses", slog.String("address", a.socks.address), slog.Any("error", errno))
		}
		p.left()
		return taken, false
	}
	return taken, true
}

func (a *acceptor) resume() {
	if a.tok != loop.NoToken || a.w.frost != nil {
		return
	}
	tok, err := a.w.l.AddLevel(a.fd, a, a.socks.shared)
	if err != nil { // out of kernel memory
		a.tryLater()
		return
	}
	a.tok = tok
}

// tryLater has the listener try once more after a rest.
func (a *acceptor) tryLater() {
	a.w.unaccepted.Add(1)
	a.w.l.Set(&a.rest, a.w.l.Now()+acceptPause, a)
}

func (a *acceptor) pause() {
	if a.tok != loop.NoToken {
		a.w.l.Remove(a.tok, a.fd)
		a.tok = loop.NoToken
	}
}

// enter takes a place among the sessions of the process; false: it is full.
func (p *Proxy) enter(limit int) bool {
	for n := p.active.Load(); n < int64(limit) || limit == 0; n = p.active.Load() {
		if p.active.CompareAndSwap(n, n+1) {
			return true
		}
	}
	return false
}

// stopAccepting notes that the process is full: the kernel's backlog waits until
// whoever frees a place calls resume. A lingering session gives its place first.
func (w *worker) stopAccepting() {
	if w.lingers.endOldest() {
		return
	}
	if w.full {
		return
	}
	w.full = true
	for _, a := range w.acceptors {
		a.pause()
	}
	p := w.p
	p.mu.Lock()
	p.stopped = append(p.stopped, w)
	p.mu.Unlock()
	p.waiting.Add(1)
	// The last place may have been freed before this loop was on the list.
	if limit := int64(p.live.Load().limits.MaxConnections); limit == 0 || p.active.Load() < limit {
		p.resumeOne()
	}
}

// resume accepts again. It asks the queues at once: a loop that has nothing to
// accept any more must pass its turn on to the next that waits, and no event
// would tell it. An empty queue does so as it gives its place back.
func (w *worker) resume() {
	w.full = false
	if w.frost != nil { // thaw comes back to it
		return
	}
	asked := false
	for _, a := range w.acceptors {
		if a.rest.Armed() {
			continue
		}
		a.resume()
		a.acceptBatch()
		if w.full {
			return
		}
		asked = true
	}
	if !asked {
		w.p.resumeOne()
	}
}

// begin makes a session of an accepted connection, whose place in the process is
// taken.
func (w *worker) begin(a *acceptor, live *live, fd int, peer netip.AddrPort) {
	s := w.get()
	now := w.l.Now()
	s.socks = a.socks
	s.listener = a.socks.listener.Load()
	w.countsOf(s.listener.Name).begun.Add(1)
	s.accepted, s.stamp = now, now
	s.peer = peer
	s.c.fd, s.b.fd = int32(fd), -1
	s.limits = live.limits
	s.wantHeader = s.listener.trusts(peer)
	if !s.helloSlot() {
		s.refuse(OverLimit, "max_hellos")
		return
	}
	if !s.wantHeader {
		if out := s.admit(); out != OK {
			s.refuse(out, errPerIP.Error())
			return
		}
	}
	var err error
	if s.c.tok, err = w.l.Add(fd, (*clientEnd)(s)); err != nil {
		s.refuse(Internal, err.Error())
		return
	}
	s.helloUntil = now + live.timeouts.Hello
	w.l.Set(&s.timer, min(s.helloUntil, now+helloGrace), s)
}

// trusts reports whether peer must send a PROXY header.
func (l *Listener) trusts(peer netip.AddrPort) bool {
	if !peer.IsValid() {
		return l.AcceptProxyUnix
	}
	if len(l.AcceptProxyFrom) == 0 {
		return false
	}
	_, in := prefixFor(l.AcceptProxyFrom, peer.Addr())
	return in
}
