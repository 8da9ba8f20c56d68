package server

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"time"
)

// An outlet passes lines on to a writer that may stall or fail, and never makes
// its own caller wait: a pipe that nobody reads must stop neither signals nor a
// reload. What has no room is lost and counted.
//
// Write takes whole lines and may be called from any goroutine. The writer is called
// by one goroutine at a time, in order; it lives only while lines wait.
type outlet struct {
	room   int               // bytes that may wait
	failed func(error)       // told once when lines begin to get lost; may be nil
	mended func(lost uint64) // told once when they no longer do; may be nil

	mu      sync.Mutex // guards the fields below
	w       io.Writer
	waiting []byte
	spare   []byte        // for the lines to come, while waiting is with the writer
	passing uint64        // lines of which the writer has not said what became
	idle    chan struct{} // closed when the writer is at rest; nil while it is
	torn    bool          // the last line written has no end
	failing bool
	shut    bool
	lost    uint64 // since it began to fail
	total   uint64 // lost before that
}

// keepLines is the largest buffer, in bytes, that is kept for the lines to come.
const keepLines = 64 << 10

// skippedError is a writer's error that says how many lines it could not pass on among
// those that it returned as written.
type skippedError struct {
	lines uint64
	why   error
}

func (e *skippedError) Error() string { return e.why.Error() }
func (e *skippedError) Unwrap() error { return e.why }

// errStalled says that a writer takes nothing, or less than comes.
var errStalled = errors.New("its reader does not keep up")

// newOutlet returns an outlet to w. torn says that what w holds ends in the middle of
// a line.
func newOutlet(w io.Writer, room int, torn bool) *outlet {
	return &outlet{w: w, room: room, torn: torn}
}

// Write implements io.Writer; it never fails.
func (o *outlet) Write(b []byte) (int, error) {
	o.mu.Lock()
	if o.shut || len(o.waiting) > 0 && len(o.waiting)+len(b) > o.room {
		tell := o.loseLocked(countLines(b), errStalled)
		o.mu.Unlock()
		tell()
		return len(b), nil
	}
	defer o.mu.Unlock()
	o.waiting = append(o.waiting, b...)
	if o.idle == nil {
		o.idle = make(chan struct{})
		go o.pass() // flush waits for it
	}
	return len(b), nil
}

// pass writes until nothing waits.
func (o *outlet) pass() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.waiting) > 0 {
		lines := o.waiting
		o.waiting, o.spare = o.spare[:0], nil
		o.passing = countLines(lines)
		torn := o.torn
		o.mu.Unlock()
		n, torn, err := writeLines(o.w, lines, torn)
		o.mu.Lock()
		o.passing, o.torn = 0, torn
		if o.spare == nil && cap(lines) <= keepLines {
			o.spare = lines
		}
		tell := func() {}
		switch {
		case err != nil:
			lost := countLines(lines[n:])
			if skipped, ok := errors.AsType[*skippedError](err); ok {
				lost += skipped.lines
			}
			tell = o.loseLocked(lost, err)
		case o.failing && len(o.waiting) == 0:
			tell = o.mendLocked()
		}
		o.mu.Unlock()
		tell()
		o.mu.Lock()
	}
	close(o.idle)
	o.idle = nil
}

// writeLines writes lines, behind an end of line where the last one was torn, so that
// each stands by itself. It returns how many bytes of lines were written and whether
// the last one is torn now.
func writeLines(w io.Writer, lines []byte, torn bool) (int, bool, error) {
	if torn {
		if _, err := w.Write([]byte{'\n'}); err != nil {
			return 0, true, err
		}
	}
	n, err := w.Write(lines)
	n = min(max(n, 0), len(lines))
	return n, n > 0 && lines[n-1] != '\n', err
}

// loseLocked counts lines that are lost, and returns what to call without mu.
func (o *outlet) loseLocked(lines uint64, why error) (tell func()) {
	o.lost += lines
	if o.failing || o.failed == nil || o.shut {
		o.failing = true
		return func() {}
	}
	o.failing = true
	return func() { o.failed(why) }
}

// mendLocked is loseLocked for the end of the trouble.
func (o *outlet) mendLocked() (tell func()) {
	lost := o.lost
	o.failing, o.lost, o.total = false, 0, o.total+lost
	if o.mended == nil {
		return func() {}
	}
	return func() { o.mended(lost) }
}

// flush waits until all that was written before has been passed on, or until
// deadline.
func (o *outlet) flush(deadline time.Time) {
	o.mu.Lock()
	idle := o.idle
	o.mu.Unlock()
	if idle == nil {
		return
	}
	late := time.NewTimer(time.Until(deadline))
	defer late.Stop()
	select {
	case <-idle:
	case <-late.C:
	}
}

// end flushes until deadline, gives up what then waits still, and returns how many
// lines were lost in all. A write under way may go on for as long as the system makes
// it wait.
func (o *outlet) end(deadline time.Time) uint64 {
	o.flush(deadline)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.shut = true
	o.lost += countLines(o.waiting)
	o.waiting = nil
	return o.total + o.lost + o.passing
}

// dropped is how many lines were lost so far.
func (o *outlet) dropped() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.total + o.lost
}

func countLines(b []byte) uint64 { return uint64(bytes.Count(b, []byte{'\n'})) }
