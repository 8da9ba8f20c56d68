package relay

import (
	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/pkg/loop"
)

// A sender that is faster than a wake-up is dear would have the loop woken for
// every packet. So once a way has carried much, its sender's socket is given a low
// mark (SO_RCVLOWAT): no event comes until so many bytes wait, or an end, a reset or
// urgent data. What is left below the mark in a pause would wait for ever; so the
// owner of a marked relay calls Doubt every few milliseconds, and the first time
// that nothing has come between two calls the mark is taken off, and the way has
// none again: it is not one that flows evenly.

const (
	// markAfter is what a way has carried before it is marked. At the rates at which
	// a mark saves anything that takes longer than its one late tail.
	markAfter = 64 << 20
	markBytes = 256 << 10
)

// mark gives the way's sender a low mark, now that the socket has been emptied.
func (r *Relay) mark(s Side) {
	w := &r.ways[s]
	if w.marked || w.shy || w.bytes < markAfter {
		return
	}
	if loop.SetInt(int(r.ends[s].fd), unix.SOL_SOCKET, unix.SO_RCVLOWAT, markBytes) != 0 {
		w.shy = true
		return
	}
	w.marked, w.flowed = true, true
}

// unmark takes a mark off for good. What lies below it is asked for again.
func (r *Relay) unmark(s Side) {
	w, e := &r.ways[s], &r.ends[s]
	w.marked, w.shy = false, true
	_ = loop.SetInt(int(e.fd), unix.SOL_SOCKET, unix.SO_RCVLOWAT, 1) // a socket that is gone waits for nothing
	e.readable = true
}

// Marked reports whether events may be held back by a mark: Doubt has to be called
// every few milliseconds, until this is false.
func (r *Relay) Marked() bool { return r.ways[Client].marked || r.ways[Backend].marked }

// Doubt takes the mark off a way that nothing has come on since it was last called,
// and reports whether it did: the relay is to be pumped then.
func (r *Relay) Doubt() bool {
	doubted := false
	for s := range r.ways {
		w := &r.ways[s]
		if w.marked && !w.flowed {
			r.unmark(Side(s))
			doubted = true
		}
		w.flowed = false
	}
	return doubted
}
