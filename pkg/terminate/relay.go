package terminate

import (
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/pkg/loop"
	"github.com/snicketlb/snicket/pkg/relay"
)

// The budget of one way in one turn, for fairness among the sessions of a loop.
// Each call gathers and passes on up to plainSize; all take at most turnReads
// records. An answer of crypto/tls to its peer counts as one: between two records
// of data it bears sixteen KeyUpdates, which cost far more than the data.
const (
	turnCalls = 4
	turnReads = 64
)

// way is one direction of a relay, from the side of its index to the other.
type way struct {
	passed  uint64 // to a side that speaks TLS: plain text that the kernel has taken
	waiting uint64 // plain text within what it has not
	err     error  // how reading ended, until all before it has been taken
	cut     error  // ended otherwise than in order, when that was no fault
	lost    error  // a write met that the receiver is gone
	late    bool   // the backend has sent bytes since the client's end
	told    bool   // close_notify is on its way
	ended   bool
	done    bool // nothing is read any more
}

// state is where a relay stands.
type state uint8

const (
	running state = iota
	closing       // the result is final; a side to be reset still takes what came before
	over
)

// Relay carries bytes both ways between client and backend until both ways have
// ended. It lives on a loop: the caller notes events, pumps, and looks to the time
// it asks for. It holds no buffer while nothing waits for a receiver.
//
// An end reaches the other side as what it was:
//
//   - close_notify of a TLS side and FIN of a plain one end their direction: the
//     other side is sent close_notify if it speaks TLS, and FIN. The opposite
//     direction goes on.
//   - A FIN without close_notify, and a fatal alert, is a cut. What came before
//     it is delivered; then the other side is reset, without close_notify.
//   - A reset is a reset: the other side is sent what came before it, then a
//     RST, never close_notify.
//   - A client that has been sent the whole answer and close_notify and then
//     closes without its own is common and no fault: the session is Clean, but
//     the backend is reset all the same, for its request may be incomplete.
//   - So it is with a backend that closes without close_notify once the client
//     has ended, and has sent nothing since; and with one that ended in order and
//     refuses what the client sends behind that. The client is reset.
//
// A Unix socket knows no RST: there a cut reaches a plain backend as an end.
//
// Cancel ends the session at once. That and a timeout reset both sides.
//
// The descriptors stay the caller's, who closes both once the relay is over, as
// [Result.Resets] says.
type Relay struct {
	env   *Env
	o     RelayOptions
	sides [2]Side
	ways  [2]way

	state  state
	first  Party         // who ended its direction first
	last   time.Duration // when a byte last passed
	window time.Duration // how long no byte may pass; 0 for no bound
	expiry Reason        // what it means when the window is over
	broken error         // a side was reset while what it had sent waits
	result Result
	until  time.Duration // when closing ends at the latest
}

// Start begins to relay at the time now of the loop's clock. Both handshakes must
// be over. What the backend's Conn holds goes out with the client's first bytes.
func (r *Relay) Start(env *Env, client, backend Side, o RelayOptions, now time.Duration) {
	*r = Relay{env: env, o: o, sides: [2]Side{client, backend}, last: now}
	r.window, r.expiry = o.Idle, IdleTimeout
}

// Note records events of one side's descriptor. Pump must follow.
func (r *Relay) Note(s relay.Side, ev loop.Events, now time.Duration) {
	c, w, opposite := r.sides[s].Conn, &r.ways[s], &r.ways[s^1]
	c.Note(ev)
	switch {
	case ev&(loop.Error|loop.Hangup) == 0 || r.state != running || !c.gone():
	case w.ended:
		r.resetAfterEnd(s, opposite, now)
	case r.sides[s^1].Conn.Unsent() && r.broken == nil:
		// What it had sent is delivered if the receiver takes it in time.
		r.broken = c.opError("read", unix.ECONNRESET)
		r.last = now
		r.window, r.expiry = r.finLimit(), reset(party(s))
	}
}

// Pump moves what can be moved within this turn's budget.
func (r *Relay) Pump(now time.Duration) Status {
	if r.state == running { // the client is not read while it takes no answer to that
		r.flushed(relay.Backend, now)
	}
	more := r.pumpBoth(now)
	// The second way may have found that the first one's receiver is gone.
	if r.ways[relay.Backend].lost != nil || r.ways[relay.Client].lost != nil {
		more = r.pumpBoth(now) || more
	}
	r.settle(now)
	switch {
	case r.state == over:
		return Over
	case more && r.state == running:
		return More
	}
	return Waiting
}

func (r *Relay) pumpBoth(now time.Duration) bool {
	in := r.pump(relay.Client, now)
	out := r.pump(relay.Backend, now)
	return in || out
}

// Due is when Expired is to be called unless bytes pass before.
func (r *Relay) Due(now time.Duration) time.Duration {
	switch {
	case r.state == closing:
		return min(now+flushPoll, r.until)
	case r.window <= 0:
		return math.MaxInt64
	}
	return r.last + r.window
}

// Expired tells that the time is now, at or after Due or before it.
func (r *Relay) Expired(now time.Duration) Status {
	if r.state == running && r.window > 0 && now-r.last >= r.window {
		switch {
		case r.broken != nil:
			by := ByClient
			if r.expiry == BackendReset {
				by = ByBackend
			}
			r.end(r.expiry, by, r.broken, now)
			r.state = over // the receiver has had its time
		default:
			r.end(r.expiry, ByBalancer, fmt.Errorf("no byte for %v", r.window), now)
		}
	}
	r.settle(now)
	if r.state == over {
		return Over
	}
	return Waiting
}

// Cancel ends the relay at once, because of err.
func (r *Relay) Cancel(err error, now time.Duration) {
	r.end(Canceled, ByBalancer, err, now)
	r.state = over
}

// LastByte is when a byte last passed, or the relay began, by the loop's clock.
func (r *Relay) LastByte() time.Duration { return r.last }

// Bytes returns how many bytes of plain text from s the other side's transport
// has taken.
func (r *Relay) Bytes(s relay.Side) uint64 {
	to := &r.sides[s^1]
	if to.Conn == nil {
		return 0
	}
	if to.TLS != nil {
		return r.ways[s].passed
	}
	return to.Conn.written - min(to.Conn.foreign, to.Conn.written)
}

// pump moves the bytes of one way; it reports whether it stopped for its budget
// alone.
func (r *Relay) pump(s relay.Side, now time.Duration) bool {
	w, src, dst := &r.ways[s], &r.sides[s], &r.sides[s^1]
	reads := 0
	for calls := 0; r.state == running; calls++ {
		if !dst.Conn.held && !r.flushed(s, now) || w.done {
			return false
		}
		if w.err != nil {
			r.readEnded(s, w.err, now)
			return false
		}
		if calls == turnCalls || reads >= turnReads {
			return true
		}
		n, err := r.gather(src, &reads)
		again := err != nil && isAgain(err)
		if !again {
			w.err = err
		}
		if n > 0 {
			r.last = now
			w.late = w.late || s == relay.Backend && r.ways[relay.Client].ended
			r.deliver(s, r.env.plain[:n], now)
		}
		if again || n == 0 && err == nil {
			if dst.Conn.held { // it waits for nobody
				r.flushed(s, now)
			}
			return false
		}
	}
	return false
}

// gather reads what is there, as far as there is room, and counts its reads.
func (r *Relay) gather(src *Side, reads *int) (n int, err error) {
	buf := r.env.plain[:]
	from := src.stream()
	for *reads < turnReads && n < len(buf) && err == nil {
		writes := src.Conn.writes
		var m int
		m, err = from.Read(buf[n:])
		n += m
		*reads += 1 + int(src.Conn.writes-writes)
	}
	return n, err
}

// deliver passes b on. An end in order that follows goes out with it.
func (r *Relay) deliver(s relay.Side, b []byte, now time.Duration) {
	w, dst := &r.ways[s], &r.sides[s^1]
	last := w.err != nil && r.inOrder(s, w.err)
	var err error
	if dst.TLS == nil {
		err = dst.Conn.send(b, last)
	} else {
		r.env.cork(dst.Conn)
		if _, err = dst.TLS.Write(b); err == nil && last {
			w.told = true
			_ = dst.TLS.CloseWrite() // fails only as writing does
		}
		if sent := r.env.uncork(last); err == nil {
			err = sent
		}
		w.waiting += uint64(len(b))
	}
	if err != nil {
		w.waiting = 0
		r.writeFailed(s, err, now)
		return
	}
	r.taken(s)
}

// taken counts what waited, once nothing does.
func (r *Relay) taken(s relay.Side) {
	if w := &r.ways[s]; !r.sides[s^1].Conn.Unsent() {
		w.passed += w.waiting
		w.waiting = 0
	}
}

// flushed sends what waits for room; it reports whether nothing does.
func (r *Relay) flushed(s relay.Side, now time.Duration) bool {
	w, c := &r.ways[s], r.sides[s^1].Conn
	if !c.Unsent() {
		return true
	}
	before := c.written
	err := c.Flush()
	if c.written > before {
		r.last = now
	}
	if err == nil {
		r.taken(s)
		return !c.Unsent()
	}
	w.waiting = 0
	if !w.done { // else it was the end alone, and reading tells what became of it
		r.writeFailed(s, err, now)
	}
	return true
}

// inOrder reports whether err, met by reading from s, is an end in order.
func (r *Relay) inOrder(s relay.Side, err error) bool {
	return errors.Is(err, io.EOF) && (r.sides[s].TLS == nil || !r.sides[s].Conn.fin)
}

// readEnded decides what the end of s means. All that came before it has been
// taken by the other side's transport.
func (r *Relay) readEnded(s relay.Side, err error, now time.Duration) {
	w, opposite, c := &r.ways[s], &r.ways[s^1], r.sides[s].Conn
	switch {
	case r.inOrder(s, err):
		r.halfClosed(s, now)
		last := opposite.done && opposite.cut == nil && opposite.lost == nil
		r.sides[s^1].closeWrite(w.told, last && !c.Unsent())
		if c.gone() {
			r.resetAfterEnd(s, opposite, now)
		}
	case r.sides[s].TLS != nil && c.fin:
		if opposite.ended && (s == relay.Client || !w.late) {
			w.cut = errNoCloseNotify
			r.halfClosed(s, now)
			return
		}
		r.end(truncated(party(s)), party(s), errNoCloseNotify, now)
	default:
		r.end(reset(party(s)), party(s), err, now)
	}
}

var errNoCloseNotify = errors.New("closed without close_notify")

// writeFailed handles a receiver that is gone. If it can still be read from,
// what it sent before is delivered first, and its reader finds the reset.
func (r *Relay) writeFailed(s relay.Side, err error, now time.Duration) {
	w, opposite, dst := &r.ways[s], &r.ways[s^1], r.sides[s^1].Conn
	w.lost, w.done = err, true
	dst.drop()
	dst.readable, dst.behind = true, true
	switch {
	case isReset(err) && !opposite.ended:
		r.halfClosed(s, now)
	case s == relay.Client && opposite.ended:
		r.refusedLate(err, now)
	default:
		r.end(reset(party(s^1)), party(s^1), err, now)
	}
}

// refusedLate ends a session whose backend had ended in order and will not take
// what the client sends behind that.
func (r *Relay) refusedLate(err error, now time.Duration) {
	if r.state == running {
		r.ways[relay.Backend].cut = err
		r.end(Clean, r.first, err, now)
	}
}

// resetAfterEnd handles a side that ended its stream and was reset later. If
// the opposite way had ended too, nothing was lost: a client that closes at
// once answers our close_notify with a RST.
func (r *Relay) resetAfterEnd(s relay.Side, opposite *way, now time.Duration) {
	switch {
	case opposite.ended:
	case s == relay.Backend:
		r.refusedLate(unix.ECONNRESET, now)
	default:
		r.end(reset(party(s)), party(s), unix.ECONNRESET, now)
	}
}

// halfClosed notes that a way has ended; what remains is under the fin timeout.
func (r *Relay) halfClosed(s relay.Side, now time.Duration) {
	w := &r.ways[s]
	w.ended, w.done = true, true
	if r.first == ByBalancer {
		r.first = party(s)
	}
	if r.o.Fin > 0 && r.state == running {
		r.last = now
		r.window, r.expiry = r.o.Fin, FinTimeout
	}
}

func party(s relay.Side) Party {
	if s == relay.Client {
		return ByClient
	}
	return ByBackend
}

func reset(by Party) Reason {
	if by == ByClient {
		return ClientReset
	}
	return BackendReset
}

func truncated(by Party) Reason {
	if by == ByClient {
		return ClientTruncated
	}
	return BackendTruncated
}
