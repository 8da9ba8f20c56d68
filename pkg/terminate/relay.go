package terminate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// bufferSize is the size of a copy buffer: two full TLS records.
const bufferSize = 32 << 10

// relay is one session between its handshakes and its close. Two goroutines
// copy, one each way; the timer and the context end it from outside.
type relay struct {
	client, backend Side
	o               RelayOptions
	up, down        direction
	began           time.Time
	last            atomic.Int64 // when a byte last passed, ns since began
	clientEnded     atomic.Bool  // up.ended, for the other goroutine

	mu     sync.Mutex // guards the fields below
	timer  *time.Timer
	window time.Duration // how long no byte may pass; 0 for no bound
	expiry Reason        // what it means when the window is over
	over   bool          // the result is final
	first  Party         // who ended its direction first
	result Result
}

// direction is one way of a relay.
type direction struct {
	src, dst Side
	by       Party // who is at src
	total    *atomic.Uint64
	passed   uint64

	late  bool  // the backend has sent bytes since the client's end
	cut   error // ended otherwise than in order, when that was no fault
	lost  error // a write met that dst is gone
	ended bool  // guarded by relay.mu
}

// buffers are shared by all relays: an idle side holds none.
//
//nolint:gochecknoglobals // a cache without state of its own
var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// Relay copies both ways between client and backend until both ways have ended,
// and closes both before it returns. Both handshakes must be complete;
// deadlines left over from them are lifted. It takes one goroutine besides the
// caller's and no buffer while nothing passes. in and out, which may be nil, are
// counted up while bytes pass: client to backend and backend to client.
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
// When ctx ends, the session ends at once. That and a timeout reset both sides.
func Relay(ctx context.Context, client, backend Side, o RelayOptions, in, out *atomic.Uint64) Result {
	r := &relay{client: client, backend: backend, o: o, began: time.Now()}
	r.up = direction{src: client, dst: backend, by: ByClient, total: in}
	r.down = direction{src: backend, dst: client, by: ByBackend, total: out}
	for _, s := range [...]Side{client, backend} {
		_ = s.Conn.raw.SetDeadline(time.Time{}) // an error here is met again by reading
	}
	r.startTimer()
	stop := context.AfterFunc(ctx, func() { r.end(Canceled, ByBalancer, context.Cause(ctx)) })

	done := make(chan struct{})
	go func() { // Relay waits for it
		defer close(done)
		r.copy(&r.up, &r.down)
	}()
	r.copy(&r.down, &r.up)
	<-done

	result := r.finish()
	r.close(ctx, result)
	stop()
	return result
}

// copy moves bytes from d.src to d.dst until that way has ended.
func (r *relay) copy(d, opposite *direction) {
	src, dst := d.src.stream(), d.dst.stream()
	if err := d.src.Conn.startPolling(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		r.end(reset(d.by), d.by, err)
		return
	}
	for {
		err := r.pump(d, src, dst)
		if d.lost != nil {
			r.writeFailed(d, opposite)
			return
		}
		if !errors.Is(err, errAgain{}) {
			r.readEnded(d, opposite, err)
			return
		}
		if err := d.src.Conn.waitReadable(); err != nil && isTimeout(err) {
			return // the session is over
		}
	}
}

// pump copies with a borrowed buffer until reading yields an error, errAgain
// among them, or writing one, which is d.lost.
func (r *relay) pump(d *direction, src io.Reader, dst io.Writer) error {
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	for {
		n, err := src.Read(buf[:])
		if n > 0 {
			r.touch()
			d.late = d.late || d.by == ByBackend && r.clientEnded.Load()
			m, werr := dst.Write(buf[:n])
			d.passed += uint64(m)
			if d.total != nil {
				d.total.Add(uint64(m))
			}
			if werr != nil {
				d.lost = werr
				return nil
			}
			r.touch()
		}
		if err != nil {
			return err
		}
	}
}

// readEnded decides what the end of d.src means.
func (r *relay) readEnded(d, opposite *direction, err error) {
	c, secure := d.src.Conn, d.src.TLS != nil
	switch {
	case isTimeout(err):
		// Only the end of the session sets deadlines.
	case errors.Is(err, io.EOF) && (!secure || !c.fin):
		r.halfClosed(d)
		d.dst.closeWrite()
		if c.waitReset() {
			r.resetAfterEnd(d, opposite)
		}
	case secure && c.fin:
		if r.hasEnded(opposite) && (d.by == ByClient || !d.late) {
			d.cut = errNoCloseNotify
			r.halfClosed(d)
			return
		}
		r.end(truncated(d.by), d.by, errNoCloseNotify)
	default:
		r.end(reset(d.by), d.by, err)
	}
}

var errNoCloseNotify = errors.New("closed without close_notify")

// writeFailed handles a d.dst that is gone. If it can still be read from, what
// it sent before is delivered first, and its reader finds the reset.
func (r *relay) writeFailed(d, opposite *direction) {
	if isTimeout(d.lost) {
		return // the session is over
	}
	if isReset(d.lost) && !r.hasEnded(opposite) {
		r.halfClosed(d)
		return
	}
	if d.by == ByClient && r.hasEnded(opposite) {
		r.refusedLate(d.lost)
		return
	}
	r.end(reset(opposite.by), opposite.by, d.lost)
}

// refusedLate ends a session whose backend had ended in order and will not take
// what the client sends behind that.
func (r *relay) refusedLate(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refusedLateLocked(err)
}

func (r *relay) refusedLateLocked(err error) {
	if !r.over {
		r.down.cut = err
		r.endLocked(Clean, r.first, err)
	}
}

// resetAfterEnd handles a d.src that ended its stream and was reset later. If
// the opposite way had ended too, nothing was lost: a client that closes at
// once answers our close_notify with a RST.
func (r *relay) resetAfterEnd(d, opposite *direction) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case opposite.ended:
	case d.by == ByBackend:
		r.refusedLateLocked(syscall.ECONNRESET)
	default:
		r.endLocked(reset(d.by), d.by, syscall.ECONNRESET)
	}
}

// halfClosed notes that d has ended; what remains is under the fin timeout.
func (r *relay) halfClosed(d *direction) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d.ended = true
	if d.by == ByClient {
		r.clientEnded.Store(true)
	}
	if r.up.ended && r.down.ended {
		r.wakeReadersLocked()
	}
	if r.first == ByBalancer {
		r.first = d.by
	}
	if r.o.Fin > 0 && !r.over {
		r.touch()
		r.window, r.expiry = r.o.Fin, FinTimeout
		r.armLocked(r.window)
	}
}

func (r *relay) hasEnded(d *direction) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return d.ended
}

// wakeReadersLocked ends the waits for a reset; writes go on.
func (r *relay) wakeReadersLocked() {
	past := time.Unix(1, 0)
	_ = r.client.Conn.raw.SetReadDeadline(past) // an error: it is closed, and awake
	_ = r.backend.Conn.raw.SetReadDeadline(past)
}

// end makes the result final, unless it is, and wakes both goroutines.
func (r *relay) end(reason Reason, by Party, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.endLocked(reason, by, err)
}

func (r *relay) endLocked(reason Reason, by Party, err error) {
	if r.over {
		return
	}
	r.over = true
	r.result = Result{Reason: reason, EndedBy: by, Err: err}
	past := time.Unix(1, 0)
	// An error here means that the socket is closed, which wakes as well.
	_ = r.client.Conn.raw.SetDeadline(past)
	_ = r.backend.Conn.raw.SetDeadline(past)
}

// touch notes that a byte has passed.
func (r *relay) touch() { r.last.Store(int64(time.Since(r.began))) }

func (r *relay) startTimer() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.o.Idle > 0 {
		r.window, r.expiry = r.o.Idle, IdleTimeout
		r.armLocked(r.window)
	}
}

// armLocked lets the timer fire after d.
func (r *relay) armLocked(d time.Duration) {
	if r.timer == nil {
		r.timer = time.AfterFunc(d, r.expire)
		return
	}
	r.timer.Reset(d)
}

// expire runs when the timer fires. Bytes do not set the timer back, they only
// leave their time: it is set anew by what is left of the window.
func (r *relay) expire() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return
	}
	silent := time.Since(r.began) - time.Duration(r.last.Load())
	if silent < r.window {
		r.armLocked(r.window - silent)
		return
	}
	r.endLocked(r.expiry, ByBalancer, fmt.Errorf("no byte for %v", r.window))
}

// finish returns the result once both goroutines are done.
func (r *relay) finish() Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.timer != nil {
		r.timer.Stop()
	}
	if !r.over {
		r.over = true
		r.result = Result{Reason: Clean, EndedBy: r.first}
		// A side that ended in order and was gone when we wrote to it has cut
		// what we had for it: the client its answer, the backend only what came
		// behind its own end.
		switch {
		case r.down.lost != nil:
			r.result = Result{Reason: ClientReset, EndedBy: ByClient, Err: r.down.lost}
		case r.up.lost != nil:
			r.down.cut = r.up.lost
		}
		if r.result.Reason == Clean {
			r.result.Err = r.down.cut
		}
	}
	r.result.In, r.result.Out = r.up.passed, r.down.passed
	return r.result
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
