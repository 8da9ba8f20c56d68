package loop_test

import (
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/pkg/loop"
)

func TestPostFromManyGoroutinesKeepsEachOnesOrder(t *testing.T) {
	leakCheck(t)
	const goroutines, each = 8, 2000
	l := newLoop(t)
	l.Background(1)
	stop := serve(t, l)
	var next [goroutines]int
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := range each {
				l.Post(func() {
					if next[g] != i {
						t.Errorf("goroutine %d: work %d ran, want %d", g, i, next[g])
					}
					next[g]++
				})
			}
		})
	}
	wg.Wait()
	stop()
	for g, got := range next {
		if got != each {
			t.Errorf("goroutine %d: %d ran, want %d", g, got, each)
		}
	}
}

func TestPostFromTheLoopRunsInALaterTurn(t *testing.T) {
	leakCheck(t)
	l := newLoop(t)
	var order []string
	l.Post(func() {
		l.Post(func() { order = append(order, "posted"); l.Stop() })
		order = append(order, "first")
	})
	if err := l.Run(); err != nil {
		t.Fatal(err)
	}
	if want := []string{"first", "posted"}; !slices.Equal(order, want) {
		t.Errorf("order %q, want %q", order, want)
	}
}

// The number of the loop's eventfd belongs to somebody else once Run has ended;
// a late Post must not write there.
func TestPostAfterRunWritesNowhere(t *testing.T) {
	leakCheck(t)
	l := newLoop(t)
	serve(t, l)()
	var others []int
	for range 8 {
		fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
		if err != nil {
			t.Fatal(err)
		}
		others = append(others, fd)
	}
	l.Post(func() { t.Error("ran after the end") })
	l.Stop()
	for _, fd := range others {
		var b [8]byte
		if n, errno := loop.Read(fd, b[:]); errno != unix.EAGAIN {
			t.Errorf("descriptor %d was written to: %d, %v", fd, n, errno)
		}
		loop.Close(fd)
	}
}

func TestStopBeforeRun(t *testing.T) {
	leakCheck(t)
	l := newLoop(t)
	ran := false
	l.Post(func() { ran = true })
	l.Stop()
	if err := l.Run(); err != nil || !ran {
		t.Errorf("Run = %v, posted work ran: %t; want nil and true", err, ran)
	}
}

// Handlers that always want another turn take turns, and leave room for the
// events of others. Nothing else would ever wake this loop: a wait that slept
// with a turn due would hang the test.
func TestAgainTakesTurnsAndDoesNotSleep(t *testing.T) {
	leakCheck(t)
	l := newLoop(t)
	const rounds = 100
	a, _ := pair(t)
	b, _ := pair(t)
	ping, pong := pair(t)
	var order []byte
	var ta, tb loop.Token
	var err error
	echoes := 0
	if _, err = l.AddLevel(ping, handle(func(loop.Events) {
		var buf [8]byte
		_, _ = loop.Read(ping, buf[:])
		echoes++
		write(t, pong, "x")
	}), false); err != nil {
		t.Fatal(err)
	}
	greedy := func(name byte, token *loop.Token) handle {
		return func(ev loop.Events) {
			if ev != 0 {
				t.Errorf("%c: events %x with a turn of Again, want none", name, ev)
			}
			if order = append(order, name); len(order) < 2*rounds {
				l.Again(*token)
			} else {
				l.Stop()
			}
		}
	}
	if ta, err = l.AddLevel(a, greedy('a', &ta), false); err != nil {
		t.Fatal(err)
	}
	if tb, err = l.AddLevel(b, greedy('b', &tb), false); err != nil {
		t.Fatal(err)
	}
	write(t, pong, "x")
	l.Again(ta)
	l.Again(tb)
	if err := l.Run(); err != nil {
		t.Fatal(err)
	}
	for i, got := range order[:2*rounds] {
		if want := "ab"[i%2]; got != want {
			t.Fatalf("turn %d went to %c, want %c", i, got, want)
		}
	}
	if echoes < rounds-1 {
		t.Errorf("%d events of the third in %d turns, want one a turn", echoes, rounds)
	}
}

func TestAgainOfAnEndedRegistrationReachesNobody(t *testing.T) {
	leakCheck(t)
	l := newLoop(t)
	serve(t, l)
	a, _ := pair(t)
	told := 0
	on(l, func() {
		h := handle(func(loop.Events) { told++ })
		old, err := l.AddLevel(a, h, false)
		if err != nil {
			t.Error(err)
		}
		l.Again(old)
		l.Again(loop.NoToken)
		l.Remove(old, a)
		if _, err := l.AddLevel(a, h, false); err != nil {
			t.Error(err)
		}
	})
	turns(l, 2)
	on(l, func() {
		if told != 0 {
			t.Errorf("the slot's next tenant was told %d times, want 0", told)
		}
	})
}

// The runtime preempts by a signal, which interrupts either kind of wait.
func TestSignalsInterruptNothing(t *testing.T) {
	for _, tt := range []struct {
		name       string
		background int
	}{{"raw wait", 0}, {"blocking wait", 1}} {
		t.Run(tt.name, func(t *testing.T) {
			leakCheck(t)
			l := newLoop(t)
			l.Background(tt.background)
			serve(t, l)
			var tid int
			on(l, func() { tid = unix.Gettid() })
			for range 50 {
				for range 4 {
					if err := unix.Tgkill(unix.Getpid(), tid, unix.SIGURG); err != nil {
						t.Fatal(err)
					}
				}
				turns(l, 1) // hangs if the loop has ended
			}
		})
	}
}

// With one processor for all, the loop's wait has to leave it to goroutines.
func TestGoroutinesRunWhileTheLoopWaits(t *testing.T) {
	leakCheck(t)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	l := newLoop(t)
	l.Background(1)
	serve(t, l)
	work := make(chan int)
	results := make(chan int)
	go func() {
		for n := range work {
			results <- n + 1
		}
		close(results)
	}()
	sum := 0
	for i := range 1000 {
		turns(l, 1)
		work <- i
		sum += <-results
	}
	close(work)
	<-results
	if want := 1000 * 1001 / 2; sum != want {
		t.Errorf("sum %d, want %d", sum, want)
	}
}

func TestBackgroundMayChangeWhileTheLoopRuns(t *testing.T) {
	leakCheck(t)
	l := newLoop(t)
	serve(t, l)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				l.Background(1)
				turns(l, 1)
				l.Background(-1)
			}
		})
	}
	wg.Wait()
}

func TestTimersOfALoop(t *testing.T) {
	leakCheck(t)
	l := newLoop(t)
	l.Background(1)
	serve(t, l)
	var short, far, cancelled loop.Timer
	fired := make(chan time.Duration)
	var at time.Duration
	on(l, func() {
		at = l.Clock() + 15*time.Millisecond
		l.Set(&far, time.Hour, expire(func(time.Duration) { t.Error("far timer fired") }))
		l.Set(&cancelled, at, expire(func(time.Duration) { t.Error("cancelled timer fired") }))
		l.Set(&short, at, expire(func(now time.Duration) { fired <- now }))
		l.Cancel(&cancelled)
		l.Cancel(&cancelled)
		if !short.Armed() || !far.Armed() || cancelled.Armed() {
			t.Error("Armed() is wrong after Set and Cancel")
		}
	})
	if now := <-fired; now < at {
		t.Errorf("fired at %v, early for %v", now, at)
	}
	on(l, func() {
		if short.Armed() || !far.Armed() {
			t.Error("Armed() is wrong after firing")
		}
		if l.Now() > l.Clock() {
			t.Errorf("Now() %v is ahead of Clock() %v", l.Now(), l.Clock())
		}
		l.Cancel(&far)
	})
}

func TestJitterLengthensByAQuarterAtMost(t *testing.T) {
	for _, d := range []time.Duration{0, 1, 3, time.Second, time.Hour} {
		for range 100 {
			if got := loop.Jitter(d); got < d || got > d+d/4 {
				t.Fatalf("Jitter(%v) = %v, want %v to %v", d, got, d, d+d/4)
			}
		}
	}
}
