package balancer_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snicketlb/snicket/balancer"
)

// line is a queue seen from those that wait: who was given what, in order.
type line struct {
	t    *testing.T
	pool *balancer.Pool
	told []string
}

func newLine(t *testing.T, size int, specs ...balancer.Spec) *line {
	l := &line{t: t, pool: newPool(t, specs...)}
	l.pool.Configure(balancer.Options{QueueSize: size})
	return l
}

func (l *line) wait(name string, tried ...*balancer.Backend) (cancel func() bool) {
	l.t.Helper()
	cancel, err := l.pool.Wait(balancer.Pick{Tried: tried}, func(b *balancer.Backend) {
		if b == nil {
			l.told = append(l.told, name+":none")
			return
		}
		l.told = append(l.told, name+":"+b.ID())
	})
	if err != nil {
		l.t.Fatalf("%s: %v", name, err)
	}
	return cancel
}

// want checks who was told since the last call, and how many still wait.
func (l *line) want(told string, length int) {
	l.t.Helper()
	if got := strings.Join(l.told, " "); got != told || l.pool.QueueLength() != length {
		l.t.Errorf("told %q with %d waiting, want %q with %d", got, l.pool.QueueLength(), told, length)
	}
	l.told = nil
}

func capped(id string, n int) balancer.Spec {
	return balancer.Spec{ID: id, Weight: 1, MaxConnections: n}
}

func TestQueueIsFirstInFirstOut(t *testing.T) {
	l := newLine(t, 3, capped("a", 1), capped("b", 1))
	p := l.pool
	one, two := acquire(t, p), acquire(t, p)
	l.wait("first")
	l.wait("second")
	l.wait("third")
	if cancel, err := p.Wait(balancer.Pick{}, nil); !errors.Is(err, balancer.ErrQueueFull) || cancel != nil {
		t.Errorf("error %v, want %v", err, balancer.ErrQueueFull)
	}
	l.want("", 3)
	p.Release(two, balancer.Result{})
	l.want("first:b", 2)
	if b, err := p.Acquire(balancer.Pick{}); !errors.Is(err, balancer.ErrFull) {
		t.Errorf("Acquire overtook the queue: %v, %v", b, err)
	}
	p.Release(one, balancer.Result{})
	l.want("second:a", 1)
	p.Release(two, balancer.Result{}) // of first
	l.want("third:b", 0)
	if one.Active() != 1 || two.Active() != 1 || one.Total() != 2 || two.Total() != 3 {
		t.Errorf("a has %d of %d sessions, b %d of %d; want 1 of 2 and 1 of 3", one.Active(), one.Total(), two.Active(), two.Total())
	}
}

func TestWaitWithoutAQueue(t *testing.T) {
	p := newPool(t, capped("a", 1))
	acquire(t, p)
	if _, err := p.Wait(balancer.Pick{}, nil); !errors.Is(err, balancer.ErrQueueFull) {
		t.Errorf("error %v, want %v", err, balancer.ErrQueueFull)
	}
}

// A place that became free between Acquire and Wait is not lost.
func TestWaitTakesWhatIsFree(t *testing.T) {
	l := newLine(t, 1, capped("a", 1))
	cancel := l.wait("late")
	l.want("late:a", 0)
	if cancel() {
		t.Error("it left the queue after it was served")
	}
	if got := l.pool.Backends()[0].Active(); got != 1 {
		t.Errorf("%d sessions, want 1", got)
	}
}

func TestLeavingTheQueue(t *testing.T) {
	l := newLine(t, 9, capped("a", 1))
	p := l.pool
	a := acquire(t, p)
	l.wait("first")
	second := l.wait("second")
	l.wait("third")
	if !second() {
		t.Error("second did not leave")
	}
	if second() {
		t.Error("second left twice")
	}
	l.want("", 2)
	p.Release(a, balancer.Result{})
	l.want("first:a", 1)
	p.Release(a, balancer.Result{})
	l.want("third:a", 0)
	p.Release(a, balancer.Result{})
	if a.Active() != 0 || a.Total() != 3 {
		t.Errorf("a has %d of %d sessions, want 0 of 3", a.Active(), a.Total())
	}
}

// One that every backend of the first tier failed takes a place of the next, however
// many are before it that wait for the first; and it hears that none is left for it.
func TestRetriesAreNotHeldUpByTheQueue(t *testing.T) {
	second := capped("c", 1)
	second.Tier = 1
	l := newLine(t, 9, capped("a", 1), capped("b", 1), second)
	p := l.pool
	a, b := acquire(t, p), acquire(t, p)
	c, err := p.Acquire(balancer.Pick{Tried: []*balancer.Backend{a, b}})
	if err != nil {
		t.Fatal(err)
	}
	l.wait("fresh")
	l.wait("retry", a, b)
	l.wait("later")
	l.wait("another", a, b)
	l.want("", 4)
	p.Release(c, balancer.Result{})
	l.want("retry:c", 3)
	p.Mark("c", balancer.Down, true)
	l.want("another:none", 2)
	p.Release(a, balancer.Result{})
	l.want("fresh:a", 1)
	p.Release(b, balancer.Result{})
	l.want("later:b", 0)
}

// Whoever waits for another backend than the one that is free holds nobody up.
func TestQueueIsNotHeldUpByRetries(t *testing.T) {
	l := newLine(t, 9, capped("a", 1), capped("b", 1))
	p := l.pool
	a, b := acquire(t, p), acquire(t, p)
	l.wait("retry", a)
	l.wait("fresh")
	p.Release(a, balancer.Result{})
	l.want("fresh:a", 1)
	p.Release(a, balancer.Result{})
	l.want("", 1)
	// a is free, and the one that waits cannot use it: a new session can.
	if got := acquire(t, p); got != a {
		t.Errorf("picked %s, want a", got.ID())
	}
	p.Release(b, balancer.Result{})
	l.want("retry:b", 0)
	l.wait("nothing left", a, b)
	l.want("nothing left:none", 0)
}

func TestChangesServeTheQueue(t *testing.T) {
	tests := []struct {
		name   string
		change func(*balancer.Pool)
		want   string
	}{
		{"a higher limit", func(p *balancer.Pool) { p.Update([]balancer.Spec{capped("a", 2)}) }, "1:a"},
		{"no limit", func(p *balancer.Pool) { p.Update([]balancer.Spec{capped("a", 0)}) }, "1:a 2:a 3:a"},
		{"a new backend", func(p *balancer.Pool) { p.Update([]balancer.Spec{capped("a", 1), capped("c", 2)}) }, "1:c 2:c"},
		{"all go down", func(p *balancer.Pool) { p.Mark("a", balancer.Down, true) }, "1:none 2:none 3:none"},
		{"all are removed", func(p *balancer.Pool) { p.Update(nil) }, "1:none 2:none 3:none"},
		{"weight 0", func(p *balancer.Pool) { p.SetWeight("a", 0) }, "1:none 2:none 3:none"},
		{"no queue any more", func(p *balancer.Pool) { p.Configure(balancer.Options{}) }, ""},
		{"down, and the backup is ready", func(p *balancer.Pool) {
			p.Update([]balancer.Spec{capped("a", 1), {ID: "spare", Weight: 1, Backup: true}})
			p.Mark("a", balancer.Down, true)
		}, "1:spare 2:spare 3:spare"},
		{"down, in panic", func(p *balancer.Pool) {
			p.Configure(balancer.Options{QueueSize: 9, PanicBelow: 0.01})
			p.Mark("a", balancer.Down, true)
		}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newLine(t, 9, capped("a", 1))
			acquire(t, l.pool)
			for _, name := range []string{"1", "2", "3"} {
				l.wait(name)
			}
			tt.change(l.pool)
			l.want(tt.want, 3-len(strings.Fields(tt.want)))
		})
	}
}

// A session that arrives when a place is free already, and nobody has served the
// queue yet, serves it first. OnPanic is called at such a moment.
func TestNobodyOvertakesTheQueue(t *testing.T) {
	l := newLine(t, 9, capped("a", 1), capped("b", 1), capped("c", 1))
	p := l.pool
	p.Mark("c", balancer.Down, true)
	acquire(t, p)
	acquire(t, p)
	panics := 0
	p.Configure(balancer.Options{QueueSize: 9, PanicBelow: 0.5, OnPanic: func(balancer.Panic) {
		panics++
		if b, err := p.Acquire(balancer.Pick{}); !errors.Is(err, balancer.ErrFull) {
			t.Errorf("a session overtook the queue: %v, %v", b, err)
		}
	}})
	l.wait("first")
	l.want("", 1)
	p.Mark("b", balancer.Down, true) // one ready of three: c is tried
	l.want("first:c", 0)
	if panics != 1 {
		t.Errorf("%d panics, want 1", panics)
	}
}

// The timeout is the caller's: a timer that cancels. Whoever's timer comes too
// late has a backend, and nobody loses a place.
func TestQueueTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, capped("a", 1))
		p.Configure(balancer.Options{QueueSize: 100})
		a := acquire(t, p)
		const waiting = 50
		var served, left atomic.Int64
		for i := range waiting {
			cancel, err := p.Wait(balancer.Pick{}, func(b *balancer.Backend) {
				served.Add(1)
				time.AfterFunc(time.Second, func() { p.Release(b, balancer.Result{}) })
			})
			if err != nil {
				t.Fatal(err)
			}
			time.AfterFunc(time.Duration(1+i%5)*5*time.Second+time.Millisecond, func() {
				if cancel() {
					left.Add(1)
				}
			})
		}
		time.AfterFunc(time.Second, func() { p.Release(a, balancer.Result{}) })
		time.Sleep(time.Minute) //nolint:forbidigo // the bubble's clock
		synctest.Wait()
		// One begins each second, and at 5, 10, 15, 20 and 25 s those leave whose
		// time is up. From 21 s on only four are left of the last ten.
		if served.Load()+left.Load() != waiting || p.QueueLength() != 0 {
			t.Errorf("%d served and %d left of %d, %d still wait", served.Load(), left.Load(), waiting, p.QueueLength())
		}
		if got := served.Load(); got != 24 {
			t.Errorf("%d served, want 24", got)
		}
		if a.Active() != 0 {
			t.Errorf("a is left with %d sessions", a.Active())
		}
	})
}

// Sessions come, wait, give up and end from many goroutines while the pool
// changes: no place is lost, none is given twice, and nobody waits for ever.
func TestQueueUnderLoad(t *testing.T) {
	const goroutines, rounds, limit = 8, 2000, 2
	specs := equal(3)
	for i := range specs {
		specs[i].MaxConnections = limit
	}
	p := newPool(t, specs...)
	p.Configure(balancer.Options{QueueSize: goroutines})
	var served, left, none atomic.Int64
	use := func(b *balancer.Backend) {
		if n := b.Active(); n < 1 || n > limit {
			t.Errorf("%s has %d sessions, limit %d", b.ID(), n, limit)
		}
		served.Add(1)
		p.Release(b, balancer.Result{})
	}
	var workers, others sync.WaitGroup
	done := make(chan struct{})
	for g := range goroutines {
		workers.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 3))
			var held []*balancer.Backend
			for range rounds {
				if len(held) > r.IntN(3) {
					for _, b := range held {
						use(b)
					}
					held = held[:0]
				}
				b, err := p.Acquire(balancer.Pick{})
				if err == nil {
					held = append(held, b)
					continue
				}
				if !errors.Is(err, balancer.ErrFull) {
					t.Error(err)
					return
				}
				// What it holds, others wait for: hold and wait would deadlock.
				for _, b := range held {
					use(b)
				}
				held = held[:0]
				answer := make(chan *balancer.Backend, 1)
				cancel, err := p.Wait(balancer.Pick{}, func(b *balancer.Backend) { answer <- b })
				if err != nil {
					t.Error(err)
					return
				}
				if r.IntN(2) == 0 && cancel() {
					left.Add(1)
					continue
				}
				if b := <-answer; b == nil {
					none.Add(1)
				} else {
					use(b)
				}
			}
			for _, b := range held {
				use(b)
			}
		})
	}
	others.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
				p.Mark("b0", balancer.Down, i%2 == 0)
				specs[1].MaxConnections = 1 + i%limit
				p.Update(slices.Clone(specs))
			}
		}
	})
	workers.Wait()
	close(done)
	others.Wait()
	if got := served.Load() + left.Load() + none.Load(); got != goroutines*rounds {
		t.Errorf("%d served, %d left, %d without: %d of %d", served.Load(), left.Load(), none.Load(), got, goroutines*rounds)
	}
	if p.QueueLength() != 0 || none.Load() != 0 {
		t.Errorf("%d still wait, %d found no backend; want none, b1 and b2 being ready", p.QueueLength(), none.Load())
	}
	for _, b := range p.Backends() {
		if b.Active() != 0 {
			t.Errorf("%s is left with %d sessions", b.ID(), b.Active())
		}
	}
}

// What is called may itself use the pool.
func TestQueueCallsWithoutALock(t *testing.T) {
	p := newPool(t, capped("a", 1))
	p.Configure(balancer.Options{QueueSize: 2})
	a := acquire(t, p)
	var order []string
	var cancel func() bool
	cancel, err := p.Wait(balancer.Pick{}, func(b *balancer.Backend) {
		order = append(order, "first")
		if cancel() {
			t.Error("first left after it was served")
		}
		p.Release(b, balancer.Result{})
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Wait(balancer.Pick{}, func(*balancer.Backend) { order = append(order, "second") }); err != nil {
		t.Fatal(err)
	}
	p.Release(a, balancer.Result{})
	if !slices.Equal(order, []string{"first", "second"}) || a.Active() != 1 {
		t.Errorf("told %q, a has %d sessions; want first and second, 1", order, a.Active())
	}
}
