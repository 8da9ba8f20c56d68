package proxy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/snicketlb/snicket/pkg/loop"
)

// Dump tells of every session that lives now where it stands: its peer, its
// phase, its relay as it is in memory, and what the kernel holds of both sockets.
func (p *Proxy) Dump() string {
	parts := make(chan string, len(p.workers))
	for _, w := range p.workers {
		w.l.Post(func() {
			var b strings.Builder
			for s := range w.sessions.all() {
				fmt.Fprintf(&b, "%v phase %d queued %t relay %+v unsent %d %d\n",
					s.peer, s.phase, s.queued, s.relay, loop.Unsent(int(s.c.fd)), loop.Unsent(int(s.b.fd)))
			}
			parts <- b.String()
		})
	}
	var all []string
	for range p.workers {
		all = append(all, <-parts)
	}
	slices.Sort(all)
	return strings.Join(all, "")
}

// Hold has all loops stand still until release is called: what happens meanwhile they find
// in one turn.
func (p *Proxy) Hold() (release func()) {
	over := make(chan struct{})
	for _, w := range p.workers {
		held := make(chan struct{})
		w.l.Post(func() {
			close(held)
			<-over
		})
		<-held
	}
	return func() { close(over) }
}

// Held tells what is counted or kept for sessions: all is 0 when there are none.
func (p *Proxy) Held() map[string]int {
	p.barrier() // what one loop still has to tell another is posted
	held := map[string]int{}
	for _, w := range p.workers {
		done := make(chan struct{})
		w.l.Post(func() {
			defer close(done)
			for s := range w.sessions.all() {
				held["sessions"]++
				if s.away() {
					held["guests"]++
				}
			}
			for q := w.lingers.oldest; q != nil; q = q.newer {
				held["lingering"]++
			}
			held["handshakes"] += w.tls.Handshakes()
			held["caught bytes"] += int(w.tls.Caught() + w.env.Caught())
			held["marked"] += len(w.marked.sessions)
			held["awaited"] += len(w.awaited)
		})
		<-done
	}
	held["active"], held["hellos"] = int(p.active.Load()), int(p.hellos.Load())
	p.backends.mu.Lock()
	held["backends with connections"] = len(p.backends.open)
	p.backends.mu.Unlock()
	p.gate.mu.Lock()
	defer p.gate.mu.Unlock()
	held["inside the gate"], held["before it"] = p.gate.inside, p.gate.waiting.Len()
	return held
}
