package proxy

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/pkg/loop"
)

// A Change is a State that has been prepared: its sockets are bound, and nothing
// live has been touched. It must be committed or aborted.
type Change struct {
	p       *Proxy
	live    *live
	routes  []*Route
	added   []*sockets
	removed []*sockets
}

// Prepare builds the table of s and binds the addresses that are new in it,
// without listening. An error names the listener at fault, and leaves nothing
// behind.
func (p *Proxy) Prepare(s State) (*Change, error) {
	c := &Change{p: p, live: newLive(&s), routes: s.Routes}
	names := make([]string, 0, len(s.Listeners))
	for i := range s.Listeners {
		l := &s.Listeners[i]
		if other := c.live.listeners[l.Text]; other != nil {
			return nil, &ListenError{Listener: l.Name, Address: l.Text, Err: fmt.Errorf("listener %q has it: %w", other.Name, unix.EADDRINUSE)}
		}
		names = append(names, l.Name)
		c.live.listeners[l.Text] = l
	}
	for _, r := range s.Routes {
		if r.Active == nil {
			r.Active = new(atomic.Int64)
		}
	}
	if c.live.table = s.Table; s.Table == nil {
		table, err := NewTable(s.Routes, names)
		if err != nil {
			return nil, err
		}
		c.live.table = table
	}
	p.mu.Lock()
	kept := maps.Clone(p.sockets)
	p.mu.Unlock()
	ours := func(port uint16) bool {
		for _, s := range kept {
			if s.local.Port() == port {
				return true
			}
		}
		return slices.ContainsFunc(c.added, func(s *sockets) bool { return s.local.Port() == port })
	}
	for i := range s.Listeners {
		l := &s.Listeners[i]
		if kept[l.Text] != nil {
			delete(kept, l.Text)
			continue
		}
		socks, err := p.inherit(l)
		if socks == nil && err == nil {
			socks, err = bind(l, p.o.Loops, &s.Timeouts, ours)
		}
		if err != nil {
			c.Abort()
			return nil, &ListenError{Listener: l.Name, Address: l.Text, Err: err}
		}
		c.added = append(c.added, socks)
	}
	c.removed = slices.Collect(maps.Values(kept))
	return c, nil
}

// A ListenError says which listener of a State cannot have its address.
type ListenError struct {
	Listener, Address string
	Err               error
}

func (e *ListenError) Error() string {
	return fmt.Sprintf("listener %q: %s: %v", e.Listener, e.Address, e.Err)
}

// Unwrap is the system's error.
func (e *ListenError) Unwrap() error { return e.Err }

// Abort gives up a Change: what it bound is closed.
func (c *Change) Abort() {
	for _, s := range c.added {
		s.close()
	}
}

// Commit puts the State into force: once it has returned, every new connection
// is served by it. Listeners that are no more accept what had already come, and
// what is left of their sessions ends, as drained, after the drain timeout. Clients
// whose Site or Plain is no more are asked to come again for their next request.
func (c *Change) Commit() {
	p := c.p
	for _, s := range c.added {
		if err := s.listen(); err != nil { // only when another process won a race since bind
			p.o.Log.Error("listener is deaf", slog.Any("error", err))
		}
	}
	p.mu.Lock()
	old := p.live.Load()
	for _, s := range c.removed {
		s.last.Store(old.table)
	}
	for _, s := range c.added {
		p.sockets[s.address] = s
	}
	p.live.Store(c.live)
	p.gate.resize(c.live.limits.MaxHandshakes)
	for text, l := range c.live.listeners {
		p.sockets[text].listener.Store(l)
		for _, w := range p.workers {
			w.countsOf(l.Name) // every outcome is there from the start, at 0
		}
	}
	for _, s := range p.sockets {
		for _, fd := range s.fds {
			setKeepalive(fd, &c.live.timeouts)
		}
	}
	p.settleInheritanceLocked()
	for _, s := range c.removed {
		delete(p.sockets, s.address)
		p.retire(s, c.live.timeouts.Drain)
	}
	for _, s := range c.added {
		s.users.Store(int32(len(p.workers)))
	}
	p.mu.Unlock()
	p.arrive(c.routes)
	p.mu.Lock()
	for _, s := range c.added {
		if p.sockets[s.address] != s { // the end has come between
			continue
		}
		for _, w := range p.workers {
			w.l.Post(func() { w.adopt(s) })
		}
	}
	if old.outdated(c.live) {
		for _, w := range p.workers {
			w.l.Post(func() {
				w.windDown(func(s *session) bool { return !s.term.guest.sorry && !c.live.servers[s.term.guest.by] })
			})
		}
	}
	p.mu.Unlock()
	// A limit that was raised frees loops that wait for the lower one.
	for range p.workers {
		p.resumeOne()
	}
	p.barrier()
}

// retire has every loop stop accepting on s; sessions from it end after drain,
// unless that is 0. The caller holds mu.
func (p *Proxy) retire(s *sockets, drain time.Duration) {
	for _, w := range p.workers {
		w.l.Post(func() { w.retire(s, drain) })
	}
}

// barrier waits until every loop that runs has done what was posted before.
func (p *Proxy) barrier() {
	if !p.running.Load() {
		return
	}
	for _, w := range p.workers {
		done := make(chan struct{})
		w.l.Post(func() { close(done) })
		select {
		case <-done:
		case <-w.done:
		}
	}
}

// Bound is one listener's actual address.
type Bound struct {
	Listener string
	Address  string // IP:port with the port the kernel gave, or unix:PATH
}

// Bound lists the addresses that are listened on, by listener.
func (p *Proxy) Bound() []Bound {
	live := p.live.Load()
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []Bound
	for text, s := range p.sockets {
		l := live.listeners[text]
		if l == nil {
			continue
		}
		address := text
		if s.local.IsValid() {
			address = s.local.String()
			if l.Dual {
				address = ":" + strconv.Itoa(int(s.local.Port()))
			}
		}
		out = append(out, Bound{Listener: l.Name, Address: address})
	}
	slices.SortFunc(out, func(a, b Bound) int {
		if a.Listener < b.Listener {
			return -1
		}
		return 1
	})
	return out
}

// timerFunc is an Expirer of a plain function, for a loop's own timers.
type timerFunc struct {
	t loop.Timer
	f func()
}

func (t *timerFunc) Expired(time.Duration) { t.f() }
