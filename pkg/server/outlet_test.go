package server

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// script is a writer whose every call is answered by the next step, and after the
// last one by success.
type script struct {
	mu    sync.Mutex // guards the fields below
	text  bytes.Buffer
	steps []func(b []byte) (int, error)
}

func (s *script) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := len(b), error(nil)
	if len(s.steps) > 0 {
		n, err = s.steps[0](b)
		s.steps = s.steps[1:]
	}
	s.text.Write(b[:n])
	return n, err
}

func (s *script) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// full takes n bytes and has no room for more.
func full(n int) func([]byte) (int, error) {
	return func([]byte) (int, error) { return n, syscall.ENOSPC }
}

// told is what an outlet tells its owner.
type told struct {
	failed []error
	mended []uint64
}

func (d *told) listenTo(o *outlet) {
	o.failed = func(err error) { d.failed = append(d.failed, err) }
	o.mended = func(lost uint64) { d.mended = append(d.mended, lost) }
}

// A line torn by a full disk costs itself alone; trouble is told when it begins and
// when it ends, with what was lost.
func TestOutletFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &script{steps: []func([]byte) (int, error){full(8), full(0), full(0)}}
		o, d := newOutlet(w, 1<<10, false), new(told)
		d.listenTo(o)
		for _, lines := range []string{"one\ntwo, torn\nthree\n", "four\n", "five\nsix\n", "seven\n", "eight\n"} {
			o.Write([]byte(lines))
			o.flush(time.Now().Add(time.Minute))
		}
		// Of the second line a part, its end before the first that has room again.
		if got, want := w.String(), "one\ntwo,\nseven\neight\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if len(d.failed) != 1 || !errors.Is(d.failed[0], syscall.ENOSPC) {
			t.Errorf("got told of %v, want once of a full disk", d.failed)
		}
		if len(d.mended) != 1 || d.mended[0] != 5 {
			t.Errorf("got told of %v lost, want once of 5", d.mended)
		}
		if got := o.end(time.Now()); got != 5 {
			t.Errorf("got %d lost in all, want 5", got)
		}
	})
}

func TestOutletBeginsBehindATornLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w script
		o := newOutlet(&w, 1<<10, true)
		o.Write([]byte("one\n"))
		o.flush(time.Now().Add(time.Minute))
		if got, want := w.String(), "\none\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// A writer that stalls makes nobody wait: what has no room is lost and told of once,
// the rest passes in order when it goes on.
func TestOutletStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		goOn := make(chan struct{})
		w := &script{steps: []func([]byte) (int, error){func(b []byte) (int, error) { <-goOn; return len(b), nil }}}
		o, d := newOutlet(w, 12, false), new(told)
		d.listenTo(o)
		o.Write([]byte("first\n"))
		synctest.Wait() // it is with the writer, and takes no room
		for range 5 {
			o.Write([]byte("later\n"))
		}
		if len(d.failed) != 1 || !errors.Is(d.failed[0], errStalled) {
			t.Errorf("got told of %v, want once of a stall", d.failed)
		}
		start := time.Now()
		o.flush(start.Add(time.Second))
		if got := time.Since(start); got != time.Second {
			t.Errorf("got a flush of %v, want its bound of 1s", got)
		}
		close(goOn)
		synctest.Wait()
		if got, want := w.String(), "first\nlater\nlater\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if len(d.mended) != 1 || d.mended[0] != 3 {
			t.Errorf("got told of %v lost, want once of 3", d.mended)
		}
	})
}

// What still waits at the end counts as lost, with what the writer holds.
func TestOutletEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		goOn := make(chan struct{})
		w := &script{steps: []func([]byte) (int, error){func(b []byte) (int, error) { <-goOn; return len(b), nil }}}
		o := newOutlet(w, 1<<10, false)
		o.Write([]byte("one\ntwo\n"))
		synctest.Wait()
		o.Write([]byte("three\n"))
		if got := o.end(time.Now().Add(time.Second)); got != 3 {
			t.Errorf("got %d lost, want 3", got)
		}
		close(goOn)
		synctest.Wait()
		o.Write([]byte("after the end\n"))
		synctest.Wait()
		if got := w.String(); strings.Contains(got, "three") || strings.Contains(got, "after") {
			t.Errorf("got %q written after the end", got)
		}
	})
}

// A line larger than all the room passes when nothing else waits.
func TestOutletLargeLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w script
		o := newOutlet(&w, 4, false)
		o.Write([]byte("a long line\n"))
		if got := o.end(time.Now().Add(time.Second)); got != 0 || w.String() != "a long line\n" {
			t.Errorf("got %d lost and %q, want the line", got, w.String())
		}
	})
}
