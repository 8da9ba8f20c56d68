package loop_test

import (
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/pkg/loop"
)

// What a loop does all day allocates nothing.
func TestHotPathAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	leakCheck(t)
	l := newLoop(t)
	serve(t, l)
	a, b := pair(t)
	r, w := pipe(t)
	ln := listen(t, local("127.0.0.1", 0))
	to := local("127.0.0.1", loop.LocalAddr(ln).Port())
	buf := make([]byte, 64)
	var timer loop.Timer
	var h loop.Handler = handle(func(loop.Events) {})
	var e loop.Expirer = expire(func(time.Duration) {})
	posted := func() {}
	for _, tt := range []struct {
		name string
		f    func()
	}{
		{"Write and Read", func() {
			_, _ = loop.Write(a, buf)
			_, _ = loop.Read(b, buf)
		}},
		{"Splice", func() {
			_, _ = loop.Write(a, buf)
			_, _ = loop.Splice(b, w, len(buf))
			_, _ = loop.Splice(r, b, len(buf))
			_, _ = loop.Read(a, buf)
		}},
		{"Socket, Connect, Accept, Unsent, PendingError, Reset", func() {
			c, _ := to.Socket()
			_ = to.Connect(c)
			s, _, _ := loop.Accept(ln)
			_ = loop.SetInt(c, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
			_ = loop.Unsent(c)
			_ = loop.PendingError(c)
			_ = loop.LocalAddr(c)
			_ = loop.Shut(c)
			loop.Reset(s)
			loop.Close(c)
		}},
		{"Add, Again, Forget", func() {
			token, err := l.Add(a, h)
			if err != nil {
				t.Error(err)
			}
			l.Again(token)
			l.Remove(token, a)
		}},
		{"Set and Cancel", func() {
			l.Set(&timer, l.Now()+time.Hour, e)
			l.Set(&timer, l.Now()+time.Minute, e)
			l.Cancel(&timer)
		}},
	} {
		on(l, func() {
			if got := testing.AllocsPerRun(100, tt.f); got != 0 {
				t.Errorf("%s: %v allocations, want 0", tt.name, got)
			}
		})
	}
	if got := testing.AllocsPerRun(100, func() { l.Post(posted) }); got > 0 {
		t.Errorf("Post: %v allocations, want 0", got)
	}
}

func BenchmarkPost(b *testing.B) {
	l, err := loop.New(time.Now())
	if err != nil {
		b.Fatal(err)
	}
	l.Background(1)
	ended := make(chan error)
	go func() { ended <- l.Run() }()
	done := make(chan struct{})
	f := func() { done <- struct{}{} }
	b.ReportAllocs()
	for b.Loop() {
		l.Post(f)
		<-done
	}
	l.Stop()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}

func BenchmarkTimerSet(b *testing.B) {
	l, err := loop.New(time.Now())
	if err != nil {
		b.Fatal(err)
	}
	var e loop.Expirer = expire(func(time.Duration) {})
	var timer loop.Timer
	b.ReportAllocs()
	for b.Loop() {
		l.Set(&timer, l.Now()+time.Hour, e)
	}
	l.Cancel(&timer)
	l.Stop()
	if err := l.Run(); err != nil {
		b.Fatal(err)
	}
}

// Every session has a Timer and two registrations: a pin, so that they do not grow
// unseen.
func TestTimerSize(t *testing.T) {
	if got := unsafe.Sizeof(loop.Timer{}); got > 40 {
		t.Errorf("a Timer of %d bytes, want at most 40", got)
	}
}
