package proxy

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/snicketlb/snicket/pkg/web"
)

// A server speaks HTTP on connections: a *web.Site or a *web.Plain.
type server interface {
	Serve(ctx context.Context, c *web.Client) web.Result
}

// handOver gives the session to a goroutine, on which by serves its requests. The
// session stays on its loop as what is counted and can be ended; it comes back to be
// accounted when the goroutine is done. prefix is what was read before of plain text.
func (s *session) handOver(by server, prefix []byte) {
	w, t := s.w, s.term
	fd := int(s.c.fd)
	ctx, cancel := context.WithCancel(context.Background()) // ends with the goroutine
	g := newGuest(s, by, cancel, prefix)
	t.stage, t.guest = inSite, g
	// The registration belongs to the socket, which outlives this descriptor.
	w.l.Remove(s.c.tok, fd)
	s.c = socket{fd: -1}
	w.giveOpening(s)
	w.l.Cancel(&s.timer)
	if g.idle > 0 {
		w.l.Set(&s.timer, w.l.Now()+g.idle, s)
	}
	live := w.p.live.Load()
	if !g.sorry && !live.servers[by] || live.listeners[s.socks.address] == nil || w.p.draining.Load() {
		cancel()
	}
	timeouts := live.timeouts
	// While there are processors beside those of the loops, the loop's wait need not
	// leave room: one idle client of HTTP would make all others of the loop dearer.
	room := 0
	if w.p.crowded.Load() {
		room = 1
	}
	w.l.Background(room)
	w.p.offloaded.Go(func() {
		g.serve(ctx, fd, &timeouts)
		w.l.Background(-room)
		w.l.Post(t.back)
	})
	runtime.Gosched() // else it stands in the queue of this loop's own one
}

// back ends a session that its goroutine is done with.
func (t *terminal) back() {
	s, g := t.s, t.guest
	s.retries = uint16(min(g.result.Retries, math.MaxUint16))
	if s.pool != nil && s.pool.Retried != nil {
		s.pool.Retried.Add(uint64(g.result.Retries))
	}
	if took := g.dial.Load(); took > 0 {
		s.dialTook = spanOf(time.Duration(took - 1))
	}
	if !g.decided {
		s.outcome, s.endedBy, t.err = g.outcome()
	}
	s.finish()
}

// away reports whether goroutines serve the session.
func (s *session) away() bool { return s.term != nil && s.term.guest != nil }

// windDown asks the sessions that match, and that goroutines serve, to take no further
// request.
func (w *worker) windDown(match func(*session) bool) {
	for s := range w.sessions.all() {
		if s.away() && match(s) {
			s.term.guest.cancel()
		}
	}
}

// expelled ends a session that goroutines serve: it is decided now, and over when they
// have noticed.
func (t *terminal) expelled(o Outcome, why string) {
	g := t.guest
	if g.decided {
		return
	}
	g.decided = true
	t.s.outcome, t.s.endedBy, t.err = o, BySnicket, why
	if o != Drained || t.s.w.ending || !g.part() {
		g.abort()
	}
}

// siteExpired looks after the idle timeout of a session that goroutines serve.
func (t *terminal) siteExpired(now time.Duration) {
	g := t.guest
	if due := g.conn.lastByte() + g.idle; now < due {
		t.s.w.l.Set(&t.s.timer, due, t.s)
		return
	}
	t.expelled(IdleTimeout, fmt.Sprintf("no byte for %v", g.idle))
}

// serve is the goroutine of a guest.
func (g *guest) serve(ctx context.Context, fd int, timeouts *Timeouts) {
	defer g.cancel()
	defer g.cut()
	defer func() {
		if v := recover(); v != nil { // of one session; all others go on
			g.failed = fmt.Errorf("panic: %v", v)
			g.p.o.Log.Error("a session panicked", slog.String("id", g.caller.id.String()), slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
			g.abort()
		}
	}()
	if g.failed = g.arrive(fd, timeouts); g.failed != nil {
		g.abort()
		return
	}
	g.result = g.by.Serve(ctx, &g.client)
	_ = g.conn.Close()
	if parted := g.parting(); parted != nil {
		<-parted
	}
}
