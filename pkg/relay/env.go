package relay

import (
	"math/bits"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/pkg/loop"
)

const (
	// chunkSize is how much is copied at once; a read that fills it makes the
	// direction a bulk one.
	chunkSize = 16 << 10
	// PipeSize is the capacity of a splice pipe. 64 KiB ones take four to eight
	// times the calls for the same bytes.
	PipeSize = 1 << 20

	// Size classes of borrowed buffers: 1 KiB to 128 KiB.
	minClass, maxClass = 10, 17
	// keepBytes is what the free list of a class holds at most.
	keepBytes = 1 << 20
	// keepParcels is how many parcels without a content are kept for reuse.
	keepParcels = 1024

	// pipePause is for how many requests no pipe is tried once the kernel has
	// refused one: a refusal costs four calls, at each 16 KiB.
	pipePause = 1024
)

// A parcel is what a way has caught and its receiver has not taken: buf[off:] of
// a borrowed buffer, or, where buf is nil, n bytes in a borrowed pipe. A way that
// waits for its sender has none, so that it costs an idle session one pointer.
type parcel struct {
	buf  []byte
	off  int
	r, w int // of the pipe
	n    int
}

// left is how many bytes of it the receiver has not taken; 0 where there is none.
func (p *parcel) left() int {
	if p == nil {
		return 0
	}
	return len(p.buf) - p.off + p.n
}

// An Env is what the relays of one loop share: the copy buffer, the pipes and
// the pooled buffers. It belongs to the loop's thread, save for Caught.
type Env struct {
	buf     [chunkSize]byte
	pipes   []*parcel // free ones
	made    int       // free and lent
	maxPipe int
	refused int // requests left to answer without asking the kernel
	classes [maxClass - minClass + 1][][]byte
	spare   []*parcel // without a buffer or a pipe
	caught  atomic.Int64
}

// NewEnv makes the shared part for one loop, which may hold up to maxPipes
// pipes of [PipeSize] at a time. 0 copies everything.
func NewEnv(maxPipes int) *Env { return &Env{maxPipe: maxPipes} }

// Caught is the number of bytes that were read and wait in pipes and buffers
// for a receiver to take them. Any goroutine may ask.
func (e *Env) Caught() int64 { return e.caught.Load() }

// Pipes is the number of pipes that exist now.
func (e *Env) Pipes() int { return e.made }

// Scratch is the loop's one read buffer. What it holds lasts until the next
// call into a relay of the loop.
func (e *Env) Scratch() []byte { return e.buf[:] }

// Borrow lends an empty buffer with room for at least n bytes.
func (e *Env) Borrow(n int) []byte {
	class := max(bits.Len(uint(max(n, 1)-1)), minClass)
	if class > maxClass {
		return make([]byte, 0, n)
	}
	free := &e.classes[class-minClass]
	if k := len(*free); k > 0 {
		b := (*free)[k-1]
		*free = (*free)[:k-1]
		return b
	}
	return make([]byte, 0, 1<<class)
}

// Return takes back a buffer of Borrow. Any other slice is left to the collector.
func (e *Env) Return(b []byte) {
	class := bits.Len(uint(cap(b))) - 1
	if class < minClass || class > maxClass || cap(b) != 1<<class {
		return
	}
	if free := &e.classes[class-minClass]; len(*free) < keepBytes>>class {
		*free = append(*free, b[:0])
	}
}

// wrap makes a parcel of a buffer of Borrow.
func (e *Env) wrap(b []byte) *parcel {
	var p *parcel
	if k := len(e.spare); k > 0 {
		p = e.spare[k-1]
		e.spare = e.spare[:k-1]
	} else {
		p = new(parcel)
	}
	p.buf = b
	e.caught.Add(int64(len(b)))
	return p
}

// give takes a parcel back, with what is left in it. A pipe that still holds
// bytes is closed with them.
func (e *Env) give(p *parcel) {
	left := p.left()
	if left > 0 {
		e.caught.Add(-int64(left))
	}
	switch {
	case p.buf != nil:
		e.Return(p.buf)
		*p = parcel{}
		if len(e.spare) < keepParcels {
			e.spare = append(e.spare, p)
		}
	case left == 0:
		e.pipes = append(e.pipes, p)
	default:
		loop.Close(p.r)
		loop.Close(p.w)
		e.made--
	}
}

// takePipe lends a pipe, or nil when the budget or the kernel has none: a pipe
// that cannot be grown is not worth having.
func (e *Env) takePipe() *parcel {
	if k := len(e.pipes); k > 0 {
		p := e.pipes[k-1]
		e.pipes = e.pipes[:k-1]
		return p
	}
	if e.made >= e.maxPipe {
		return nil
	}
	if e.refused > 0 {
		e.refused--
		return nil
	}
	var fds [2]int
	if unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK) != nil {
		e.refused = pipePause
		return nil
	}
	if _, err := unix.FcntlInt(uintptr(fds[1]), unix.F_SETPIPE_SZ, PipeSize); err != nil {
		loop.Close(fds[0])
		loop.Close(fds[1])
		e.refused = pipePause
		return nil
	}
	e.made++
	return &parcel{r: fds[0], w: fds[1]}
}

// Close closes the free pipes. All relays must have ended before.
func (e *Env) Close() {
	for _, p := range e.pipes {
		loop.Close(p.r)
		loop.Close(p.w)
		e.made--
	}
	e.pipes = nil
}
