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
