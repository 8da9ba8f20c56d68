package proxy

import "sync/atomic"

// ring carries records from one loop to the log writer without a lock: one
// producer, one consumer. A full ring drops and counts.
type ring struct {
	slots   []Record
	head    atomic.Uint64 // next to take
	_       [56]byte      // head and tail are written by different threads
	tail    atomic.Uint64 // next to fill
	dropped atomic.Uint64
}

const ringSize = 4096 // a power of two; 1 MiB a loop

func newRing() *ring { return &ring{slots: make([]Record, ringSize)} }

// put copies r in; the producer's.
func (r *ring) put(rec *Record) {
	tail := r.tail.Load()
	if tail-r.head.Load() == ringSize {
		r.dropped.Add(1)
		return
	}
	r.slots[tail%ringSize] = *rec
	r.tail.Store(tail + 1)
}

// drain calls f with each record there is, in order; the consumer's. The record
// is f's for the call only.
func (r *ring) drain(f func(*Record)) int {
	head, tail := r.head.Load(), r.tail.Load()
	for i := head; i < tail; i++ {
		s := &r.slots[i%ringSize]
		f(s)
		*s = Record{} // let go of its strings
		r.head.Store(i + 1)
	}
	return int(tail - head)
}
