// Package relay carries the bytes of one session both ways between two sockets
// until both ways have ended, on an event loop and without a goroutine.
//
// Start with [Relay]: Start it with both descriptors, give it the events of each
// side by [Relay.Note], and call [Relay.Pump], which moves what can be moved and
// says how things stand. Small messages are copied through the loop's one
// buffer; bulk is spliced through a borrowed pipe. A way that waits for its
// sender holds nothing; one that waits for its receiver holds what was caught,
// and does not read on.
//
// Each way ends by itself: the FIN of one side is passed on once all before it
// was, and the other way goes on. A reset is never turned into a clean end: what
// the reset side had sent is delivered, and then the relay says [Cut] and leaves
// it to the caller to reset the other side. Timeouts, and the closing of
// descriptors, are the caller's too: what a reset side had sent can wait for a
// receiver that takes nothing, and only the fin timeout ends that.
//
// What the sockets cannot carry is not carried: TCP's urgent byte is dropped, as
// read(2) does, unless the socket has SO_OOBINLINE; descriptors sent over a Unix
// socket are closed, and bytes behind them wait for the next ones.
package relay

import (
	"math"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/pkg/loop"
)

// A Side is one end of a session, and the index of the way that starts there.
type Side uint8

// The sides: Client's way (client to backend) is "in", Backend's is "out".
const (
	Client Side = iota
	Backend
)

func (s Side) other() Side { return s ^ 1 }

// Status is how a relay stands after a Pump.
type Status uint8

const (
	// Waiting relays need the next event.
	Waiting Status = iota
	// More says that the turn's budget is spent: pump again without an event.
	More
	// Ended says that both ways have ended in good order.
	Ended
	// Cut says that one side was reset (see Cut) and that all it had sent has
	// been handed to the kernel for the other side.
	Cut
)

// The budget of one way in one turn, for fairness among the sessions of a loop.
const (
	turnBytes = 1 << 20
	turnCalls = 16
)

// end is one side's socket. A flag is true as long as the kernel has not said
// otherwise: with edge-triggered events nobody says it twice.
type end struct {
	fd       int32
	readable bool
	writable bool
	// behind says that something may lie behind a short read that no further
	// event tells of: a FIN, an error, bytes after an urgent one, or whatever the
	// events before Start told of. Only EAGAIN of a read disproves it.
	behind bool
	reset  bool
	errno  uint16 // why it was reset
}

// way is one direction.
type way struct {
	bytes int64
	held  *parcel // what was read and not written, or the pipe for this turn's bulk
	bulk  bool    // spliced, not copied
	done  bool
	whole bool // done by the sender's FIN, all before it handed on

	marked bool // the sender's events are held back; see mark
	shy    bool // and are not to be again
	flowed bool // while marked: bytes have come since the last Doubt
}

// A Relay is one session's pair of ways. The zero value is ready for Start. It
// belongs to one loop.
type Relay struct {
	ends  [2]end
	ways  [2]way
	first Side // the side that was reset first, if one was
	early Side // the side whose way was whole first, if one is
	// late counts what the backend has sent since the client's way was whole, up
	// to its largest value.
	late  uint16
	moved bool
}

// Start begins to relay between two connected, non-blocking sockets, which stay
// the caller's. first is written to the backend before anything else and is
// given back to env when it is: a buffer of Borrow, of which the first header
// bytes do not count as the client's. It does not matter which events of the
// sockets were seen before: what they told of is asked for again.
func (r *Relay) Start(env *Env, client, backend int, first []byte, header int) {
	*r = Relay{}
	r.ends[Client] = end{fd: int32(client), readable: true, writable: true, behind: true}
	r.ends[Backend] = end{fd: int32(backend), readable: true, writable: true, behind: true}
	if len(first) > 0 {
		r.ways[Client].held = env.wrap(first)
	} else {
		env.Return(first)
	}
	r.ways[Client].bytes = -int64(header)
}

// Drained tells, before the first Pump, that s has nothing to read now: its last
// read fell short, or it has just connected, and no event but Writable has come
// since. It saves the read that would find that out.
func (r *Relay) Drained(s Side) { r.ends[s].readable, r.ends[s].behind = false, false }

// Note records events of one side's descriptor.
func (r *Relay) Note(s Side, ev loop.Events) {
	e := &r.ends[s]
	if ev&(loop.Readable|loop.PeerShut|loop.Hangup|loop.Error|loop.Urgent) != 0 {
		e.readable = true
	}
	if ev&loop.Writable != 0 {
		e.writable = true
	}
	if ev&(loop.PeerShut|loop.Hangup|loop.Error|loop.Urgent) != 0 {
		e.behind = true
	}
	if ev&loop.Error != 0 && !e.reset {
		if errno := loop.PendingError(int(e.fd)); errno != 0 {
			r.fail(s, errno)
		}
	}
}

// fail marks a side reset; the first error counts. What lies in its receive
// queue is still read: the event that tells of it may be gone or yet to come.
func (r *Relay) fail(s Side, errno unix.Errno) {
	e := &r.ends[s]
	if e.reset {
		return
	}
	if !r.ends[s.other()].reset {
		r.first = s
	}
	e.reset, e.errno = true, uint16(errno)
	e.readable, e.behind = true, true
}

// Pump moves what can be moved within this turn's budget.
func (r *Relay) Pump(env *Env) Status {
	more := r.pump(env, Client)
	clientReset := r.ends[Client].reset
	if r.pump(env, Backend) {
		more = true
	}
	// The second way may have found either side reset: the first one's receiver
	// is gone then, or its sender has nothing to add to what it sent.
	if r.ends[Backend].reset || r.ends[Client].reset != clientReset {
		if r.pump(env, Client) {
			more = true
		}
	}
	switch cut := r.ends[Client].reset || r.ends[Backend].reset; {
	case more:
		return More
	case !r.ways[Client].done || !r.ways[Backend].done:
		return Waiting
	case cut:
		return Cut
	}
	return Ended
}

// pump moves the bytes of one way; it reports whether it stopped for its budget
// alone.
func (r *Relay) pump(env *Env, s Side) bool {
	w, from, to := &r.ways[s], &r.ends[s], &r.ends[s.other()]
	defer w.release(env)
	size := 0
	for calls := 0; !w.done; calls++ {
		if to.reset { // nobody is left to take it
			r.drop(env, w)
			return false
		}
		if calls >= turnCalls || size >= turnBytes {
			return true
		}
		var n int
		switch {
		case w.held.left() > 0:
			if !to.writable {
				return false
			}
			n = r.flush(env, s)
			r.moved = r.moved || n > 0
		case !from.readable:
			return false
		case w.bulk:
			n = r.splice(env, s, size)
		default:
			n = r.copy(env, s)
		}
		size += n
	}
	return false
}

// copy reads once through the loop's buffer and writes what it got.
func (r *Relay) copy(env *Env, s Side) int {
	w, from, to := &r.ways[s], &r.ends[s], &r.ends[s.other()]
	n, errno := loop.Read(int(from.fd), env.buf[:])
	if n == 0 {
		r.ended(s, errno)
		return 0
	}
	r.got(s, n)
	w.bulk = n == len(env.buf)
	if !w.bulk && !from.behind {
		from.readable = false // drained: the next byte brings its own event
	}
	sent := 0
	if to.writable {
		sent, errno = loop.Write(int(to.fd), env.buf[:n])
		if errno != 0 && errno != unix.EAGAIN {
			r.fail(s.other(), errno)
			return 0
		}
		w.bytes += int64(sent)
	}
	if sent < n {
		to.writable = false
		w.held = env.wrap(append(env.Borrow(n-sent), env.buf[sent:n]...))
	}
	return n
}

// splice moves up to a pipe's capacity within the kernel. The pipe is empty, so
// that EAGAIN can only mean the socket; and a short splice means nothing at all,
// as a pipe runs out of slots before it runs out of bytes. A bulk way whose sender
// pauses stays one as long as a turn, of which size bytes came before, brings more
// than could have been copied at once.
func (r *Relay) splice(env *Env, s Side, size int) int {
	w, from, to := &r.ways[s], &r.ends[s], &r.ends[s.other()]
	if w.held == nil {
		if w.held = env.takePipe(); w.held == nil {
			return r.copy(env, s)
		}
	}
	n, errno := loop.Splice(int(from.fd), w.held.w, PipeSize)
	if n == 0 {
		w.bulk = size >= chunkSize
		// A splice also stops, and even reports the end, at urgent data with more
		// behind them. Only a read knows.
		if errno == 0 || errno == unix.EAGAIN && from.behind {
			w.bulk = false
			w.release(env)
			return 0
		}
		r.ended(s, errno)
		if w.bulk && !w.done {
			r.mark(s)
		}
		return 0
	}
	r.got(s, n)
	w.held.n += n
	env.caught.Add(int64(n))
	if to.writable {
		r.flush(env, s)
	}
	return n
}

// ended handles a read that gave no byte: nothing there yet, the end, or a reset.
func (r *Relay) ended(s Side, errno unix.Errno) {
	w, from, to := &r.ways[s], &r.ends[s], &r.ends[s.other()]
	switch {
	case errno == unix.EAGAIN:
		from.readable, from.behind = false, false
		return
	case errno != 0:
		r.fail(s, errno)
	}
	w.done = true
	if from.reset {
		return
	}
	second := r.ways[s.other()].whole
	w.whole = true
	r.moved = true
	if second && r.late == 0 {
		return // nothing is left to wait for: closing the socket sends the FIN
	}
	if !second {
		r.early = s
	}
	// If the second end follows an answer, the shutdown may tell that the client,
	// which had ended, has reset and left the answer.
	if errno := loop.Shut(int(to.fd)); errno != 0 {
		// It was reset and its event is still to come.
		if pending := loop.PendingError(int(to.fd)); pending != 0 {
			errno = pending
		}
		r.fail(s.other(), errno)
	}
}

// flush writes caught bytes, and gives back what held them once they are gone.
func (r *Relay) flush(env *Env, s Side) int {
	w, to := &r.ways[s], &r.ends[s.other()]
	var n int
	var errno unix.Errno
	p := w.held
	if p.buf != nil {
		n, errno = loop.Write(int(to.fd), p.buf[p.off:])
	} else {
		n, errno = loop.Splice(p.r, int(to.fd), p.n)
	}
	switch {
	case errno == unix.EAGAIN:
		to.writable = false
		return 0
	case errno != 0:
		r.fail(s.other(), errno)
		return 0
	}
	w.bytes += int64(n)
	env.caught.Add(-int64(n))
	if p.buf == nil {
		p.n -= n
		return n
	}
	p.off += n
	if p.left() == 0 {
		w.release(env)
	} else {
		to.writable = false
	}
	return n
}

// release gives an empty buffer or pipe back.
func (w *way) release(env *Env) {
	if w.held != nil && w.held.left() == 0 {
		env.give(w.held)
		w.held = nil
	}
}

// drop ends a way whose receiver is gone, with what was caught for it.
func (r *Relay) drop(env *Env, w *way) {
	w.done = true
	if w.held != nil {
		env.give(w.held)
		w.held = nil
	}
}

// Close gives all that is still held back to env. The sockets are left as they were
// found.
func (r *Relay) Close(env *Env) {
	for s := range r.ways {
		if r.ways[s].marked {
			r.unmark(Side(s))
		}
	}
	r.drop(env, &r.ways[Client])
	r.drop(env, &r.ways[Backend])
}

// Bytes is how much of what came from s has been handed on to the other side.
func (r *Relay) Bytes(s Side) int64 { return max(r.ways[s].bytes, 0) }

// Moved reports whether a byte or an end has passed since it was last asked.
func (r *Relay) Moved() bool {
	moved := r.moved
	r.moved = false
	return moved
}

// HalfEnded reports whether one way at least has ended: by its FIN, or because
// a side was reset.
func (r *Relay) HalfEnded() bool {
	return r.ways[Client].done || r.ways[Backend].done || r.ends[Client].reset || r.ends[Backend].reset
}

// Broken tells which side was reset, the first if both were, and by which error;
// false if none was.
func (r *Relay) Broken() (Side, unix.Errno, bool) {
	e := &r.ends[r.first]
	return r.first, unix.Errno(e.errno), e.reset
}

// FirstEnd is the side whose way ended by its FIN before the other's did; false
// while neither has.
func (r *Relay) FirstEnd() (Side, bool) { return r.early, r.ways[r.early].whole }

// got notes n bytes read from s.
func (r *Relay) got(s Side, n int) {
	r.moved, r.ways[s].flowed = true, true
	if s == Backend && r.ways[Client].whole {
		r.late = uint16(min(int(r.late)+n, math.MaxUint16))
	}
}

// Late is how many bytes the backend has sent since the client's way was whole,
// handed on or not; beyond 65535 it is that.
func (r *Relay) Late() int { return int(r.late) }

// Whole reports whether s has ended its way in good order: its FIN, and all that
// came before, has been handed on. It may be reset later all the same, by bytes
// that it will not take.
func (r *Relay) Whole(s Side) bool { return r.ways[s].whole }
