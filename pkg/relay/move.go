package relay

import (
	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/pkg/loop"
)

// A Stand is how a relay stands, without its sockets: enough to go on elsewhere, in
// another process too. What was caught and not handed on is in its ways.
type Stand struct {
	Errnos [2]uint16 // why a side was reset; 0: it was not; by Side
	Ways   [2]WayStand
	First  Side // the side that was reset first, if one was
	Early  Side // the side whose way was whole first, if one is
	Late   uint16
}

// A WayStand is one direction of a [Stand].
type WayStand struct {
	Bytes int64
	Done  bool
	Whole bool
	// Held is what was caught: the buffer is the relay's. In a pipe it is Piped bytes,
	// between the descriptors Read and Write, which are the relay's too.
	Held        []byte
	Piped       int
	Read, Write int // -1: none
}

// Stand stops the relay, which must not be pumped until Renew, and returns how it
// stands. Nothing is given up: whoever has copies of all descriptors may Resume, and then
// this one must be closed and not be renewed.
func (r *Relay) Stand() Stand {
	st := Stand{First: r.first, Early: r.early, Late: r.late}
	for i := range r.ways {
		w := &r.ways[i]
		if w.marked {
			r.unmark(Side(i))
		}
		if r.ends[i].reset {
			st.Errnos[i] = r.ends[i].errno
		}
		way := WayStand{Bytes: w.bytes, Done: w.done, Whole: w.whole, Read: -1, Write: -1}
		switch p := w.held; {
		case p.left() == 0:
		case p.buf != nil:
			way.Held = p.buf[p.off:]
		default:
			way.Piped, way.Read, way.Write = p.n, p.r, p.w
		}
		st.Ways[i] = way
	}
	return st
}

// Renew lets a relay go on behind Stand. Events that came meanwhile are asked for again.
func (r *Relay) Renew() {
	for i := range r.ends {
		e := &r.ends[i]
		e.readable, e.writable, e.behind = true, true, true
	}
}

// Resume is Start for a relay that stood elsewhere. The pipes in st are env's from then
// on; its bytes are copied.
func (r *Relay) Resume(env *Env, client, backend int, st *Stand) {
	*r = Relay{first: st.First, early: st.Early, late: st.Late}
	for i, fd := range [2]int{client, backend} {
		r.ends[i] = end{fd: int32(fd), errno: st.Errnos[i], reset: st.Errnos[i] != 0}
		from, w := &st.Ways[i], &r.ways[i]
		w.bytes, w.done, w.whole = from.Bytes, from.Done, from.Whole
		switch {
		case len(from.Held) > 0:
			w.held = env.wrap(append(env.Borrow(len(from.Held)), from.Held...))
		case from.Read >= 0:
			w.held = env.adoptPipe(from.Read, from.Write, from.Piped)
		}
	}
	r.Renew()
}

// adoptPipe makes a pipe that holds n bytes one of env's.
func (e *Env) adoptPipe(r, w, n int) *parcel {
	unix.CloseOnExec(r)
	unix.CloseOnExec(w)
	e.made++
	e.caught.Add(int64(n))
	return &parcel{r: r, w: w, n: n}
}

// Close closes the pipes of a Stand that nobody resumes.
func (st *Stand) Close() {
	for i := range st.Ways {
		if w := &st.Ways[i]; w.Read >= 0 {
			loop.Close(w.Read)
			loop.Close(w.Write)
			w.Read, w.Write = -1, -1
		}
	}
}
