package loop_test

import (
	"slices"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/loop"
)

// steps is a task that yields between its steps.
type steps struct {
	n    int
	name string
	seen *[]string
}

func (s *steps) Run(c *loop.Coroutine) {
	for i := range s.n {
		if i > 0 {
			c.Yield()
		}
		*s.seen = append(*s.seen, s.name)
	}
}

func TestCoroutinesTakeTurns(t *testing.T) {
	lab.Leaks(t)
	var p loop.Coroutines
	defer p.Close()
	var seen []string
	for range 2 { // the second time with the coroutines of the first
		seen = nil
		a, b := p.Start(&steps{2, "a", &seen}), p.Start(&steps{3, "b", &seen})
		if len(seen) != 0 {
			t.Errorf("%v ran before it was resumed", seen)
		}
		for i, step := range []struct {
			c    *loop.Coroutine
			done bool
		}{{a, false}, {b, false}, {a, true}, {b, false}, {b, true}} {
			if got := p.Resume(step.c); got != step.done {
				t.Errorf("resume %d: done %v, want %v", i, got, step.done)
			}
		}
		if want := []string{"a", "b", "a", "b", "b"}; !slices.Equal(seen, want) {
			t.Errorf("ran %v, want %v", seen, want)
		}
		if n := p.Busy(); n != 0 {
			t.Errorf("%d busy at the end", n)
		}
	}
}

// TestCoroutinesAreNotAllKept starts more than are kept: the others end.
func TestCoroutinesAreNotAllKept(t *testing.T) {
	lab.Leaks(t)
	var p loop.Coroutines
	var seen []string
	var all []*loop.Coroutine
	for range 200 {
		all = append(all, p.Start(&steps{2, "x", &seen}))
	}
	for range 2 {
		for _, c := range all {
			p.Resume(c)
		}
	}
	if len(seen) != 400 || p.Busy() != 0 {
		t.Errorf("%d steps, %d busy", len(seen), p.Busy())
	}
	p.Close()
}

type panics struct{}

func (panics) Run(*loop.Coroutine) { panic("of the task") }

func TestPanicOfATaskIsOneOfResume(t *testing.T) {
	lab.Leaks(t)
	var p loop.Coroutines
	defer p.Close()
	defer func() {
		if got := recover(); got != "of the task" {
			t.Errorf("recovered %v", got)
		}
	}()
	p.Resume(p.Start(panics{}))
}

func TestCoroutineAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	var p loop.Coroutines
	defer p.Close()
	var seen []string
	s := &steps{1, "x", &seen}
	p.Resume(p.Start(s))
	if got := testing.AllocsPerRun(100, func() {
		seen = seen[:0]
		p.Resume(p.Start(s))
	}); got != 0 {
		t.Errorf("%v allocations for a task, want none", got)
	}
}

// attached asks for further turns until it has had n.
type attached struct {
	l    *loop.Loop
	tok  loop.Token
	n    int
	done chan struct{}
}

func (a *attached) Ready(loop.Events) {
	if a.n--; a.n > 0 {
		a.l.Again(a.tok)
		return
	}
	a.l.Again(a.tok)
	a.l.Forget(a.tok) // the turn asked for never comes
	close(a.done)
}

func TestAttachedHandlerHasTurnsOfItsOwn(t *testing.T) {
	lab.Leaks(t)
	l, err := loop.New(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	a := &attached{l: l, n: 3, done: make(chan struct{})}
	a.tok = l.Attach(a)
	l.Again(a.tok)
	ended := make(chan error, 1)
	go func() { ended <- l.Run() }()
	<-a.done
	l.Stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if n := l.Registered(); n != 0 {
		t.Errorf("%d registered at the end", n)
	}
}

func BenchmarkCoroutineSwitch(b *testing.B) {
	var p loop.Coroutines
	defer p.Close()
	e := new(endless)
	c := p.Start(e)
	b.ReportAllocs()
	for b.Loop() {
		p.Resume(c)
	}
	e.stop = true
	p.Resume(c)
}

type endless struct{ stop bool }

func (e *endless) Run(c *loop.Coroutine) {
	for !e.stop {
		c.Yield()
	}
}
