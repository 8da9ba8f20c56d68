package health_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snicketlb/snicket/health"
)

var errRefused = errors.New("connect: connection refused")

// scripted is a backend whose probes answer what it was told last.
type scripted struct {
	mu     sync.Mutex
	err    error
	seen   health.Observation
	takes  time.Duration
	probes []time.Time
}

func (p *scripted) Probe(ctx context.Context) (health.Observation, error) {
	p.mu.Lock()
	p.probes = append(p.probes, time.Now())
	seen, err, takes := p.seen, p.err, p.takes
	p.mu.Unlock()
	if takes > 0 {
		select {
		case <-time.After(takes):
		case <-ctx.Done():
			return health.Observation{}, ctx.Err()
		}
	}
	return seen, err
}

func (p *scripted) answer(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
}

func (p *scripted) see(o health.Observation) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = o
}

func (p *scripted) times() []time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.probes)
}

// rig is a checker that runs in a synctest bubble, and what it reported.
type rig struct {
	*health.Checker
	t      *testing.T
	start  time.Time
	cancel context.CancelFunc
	done   chan error

	mu  sync.Mutex
	got []health.Transition
}

func newRig(t *testing.T, targets ...health.Target) *rig {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &rig{t: t, start: time.Now(), cancel: cancel, done: make(chan error, 1)}
	r.Checker = health.NewChecker(r.report, health.CheckerOptions{Seed: 1})
	r.Update(targets)
	go func() { r.done <- r.Run(ctx) }()
	synctest.Wait()
	return r
}

func (r *rig) report(tr health.Transition) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, tr)
}

// reports are those so far.
func (r *rig) reports() []health.Transition {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

// stop ends Run and waits for it; synctest.Test fails if a goroutine is left.
func (r *rig) stop() {
	r.t.Helper()
	r.cancel()
	if err := <-r.done; err != nil {
		r.t.Errorf("Run returned %v, want nil", err)
	}
}

// elapse lets d of a bubble's own time pass.
func elapse(d time.Duration) { <-time.After(d) }

// after lets d pass and all that is due then happen.
func (r *rig) after(d time.Duration) {
	elapse(d)
	synctest.Wait()
}

// want compares the transitions since the last call, as "ID from>to why @time".
func (r *rig) want(want ...string) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	var got []string
	for _, tr := range r.got {
		s := fmt.Sprintf("%s %s>%s", tr.ID, tr.From, tr.To)
		if tr.Observation.ALPN != "" {
			s += " " + tr.Observation.ALPN
		}
		if tr.Passive {
			s += " passive"
		}
		if tr.Err != nil {
			s += fmt.Sprintf(" (%v)", tr.Err)
		}
		got = append(got, s+" @"+tr.At.Sub(r.start).String())
	}
	r.got = nil
	if !slices.Equal(got, want) {
		r.t.Errorf("transitions\n got %q\nwant %q", got, want)
	}
}

// every returns a target probed each second without jitter.
func every(id string, p health.Prober) health.Target {
	return health.Target{ID: id, Prober: p, Options: health.Options{
		Interval: time.Second, Timeout: 500 * time.Millisecond, Jitter: -1, Rise: 2, Fall: 3,
	}}
}

func TestFirstResultDecides(t *testing.T) {
	tests := []struct {
		name string
		err  error
		want string
	}{
		{"pass", nil, "a unknown>ready @100ms"},
		{"failure", errRefused, "a unknown>down (connect: connection refused) @100ms"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, every("a", &scripted{err: tt.err, takes: 100 * time.Millisecond}))
				defer r.stop()
				if s, ok := r.Status("a"); !ok || s.State != health.Unknown || !s.Since.Equal(r.start) {
					t.Errorf("before the first result: %v since %v, %v; want unknown since the start", s.State, s.Since, ok)
				}
				r.after(100 * time.Millisecond)
				r.want(tt.want)
			})
		})
	}
}

func TestRiseAndFall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &scripted{}
		r := newRig(t, every("a", p))
		defer r.stop()
		r.want("a unknown>ready @0s")

		p.answer(errRefused)
		r.after(2 * time.Second) // failures at 1s, 2s
		r.want()
		p.answer(nil)
		r.after(time.Second) // a pass between starts the count anew
		p.answer(errRefused)
		r.after(2 * time.Second) // 4s, 5s
		r.want()
		r.after(time.Second)
		r.want("a ready>down (connect: connection refused) @6s")
		s, _ := r.Status("a")
		if s.State != health.Down || s.Failures != 3 || s.Passes != 0 || !errors.Is(s.LastErr, errRefused) ||
			s.Since.Sub(r.start) != 6*time.Second || s.LastProbe.Sub(r.start) != 6*time.Second {
			t.Errorf("status %+v", s)
		}

		p.answer(nil)
		r.after(time.Second)
		p.answer(errRefused)
		r.after(time.Second)
		p.answer(nil)
		r.after(time.Second)
		r.want()
		r.after(time.Second)
		r.want("a down>ready @10s")
		if s, _ := r.Status("a"); s.Passes != 2 || s.Failures != 0 || s.LastErr != nil {
			t.Errorf("status %+v", s)
		}
		r.after(time.Hour)
		r.want() // reported once
	})
}

func TestTimeoutIsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, every("a", &scripted{takes: time.Hour}))
		defer r.stop()
		r.after(500 * time.Millisecond)
		r.want("a unknown>down (context deadline exceeded after 500ms) @500ms")
	})
}

func TestPassiveFailures(t *testing.T) {
	dial := errors.New("dial failed")
	synctest.Test(t, func(t *testing.T) {
		p := &scripted{}
		r := newRig(t, every("a", p))
		defer r.stop()
		r.want("a unknown>ready @0s")

		r.after(100 * time.Millisecond)
		r.Failed("a", dial)
		r.Failed("nobody", dial)
		r.Failed("a", dial)
		synctest.Wait()
		r.want()
		r.Failed("a", dial)
		synctest.Wait()
		r.want("a ready>down passive (dial failed) @100ms")

		r.after(time.Second) // 1.1s, one pass
		r.Failed("a", dial)  // which this takes back
		r.after(time.Second)
		r.want()
		r.after(time.Second)
		r.want("a down>ready @3s")

		p.answer(errRefused)
		r.after(time.Second) // probes and sessions count together
		r.Failed("a", dial)
		r.after(time.Second)
		r.want("a ready>down (connect: connection refused) @5s")
	})
}

func TestPassiveFailuresDoNotDecideAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, every("a", &scripted{takes: 400 * time.Millisecond}))
		defer r.stop()
		for range 10 {
			r.Failed("a", errRefused)
		}
		synctest.Wait()
		r.want()
		if s, _ := r.Status("a"); s.State != health.Unknown || s.Failures != 10 {
			t.Errorf("%v with %d failures, want unknown with 10", s.State, s.Failures)
		}
		r.after(400 * time.Millisecond)
		r.want("a unknown>ready @400ms")
	})
}

// Failed is called by goroutines that must not wait, whatever the checker does.
func TestFailedNeverBlocks(t *testing.T) {
	c := health.NewChecker(func(health.Transition) {}, health.CheckerOptions{})
	for range 100_000 {
		c.Failed("a", errRefused)
	}
	if n := testing.AllocsPerRun(100, func() { c.Failed("a", errRefused) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func TestOurOwnErrorsCountNeitherWay(t *testing.T) {
	for _, errno := range []syscall.Errno{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM,
		syscall.EADDRNOTAVAIL, syscall.EACCES, syscall.EPERM,
	} {
		t.Run(errno.Error(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ours := fmt.Errorf("connect: %w", errno)
				p := &scripted{err: ours}
				r := newRig(t, every("a", p))
				defer r.stop()
				r.after(10 * time.Second)
				r.want()
				if s, _ := r.Status("a"); s.State != health.Unknown || !errors.Is(s.LastErr, errno) || s.Failures != 0 {
					t.Errorf("status %+v, want unknown, no failure, %v", s, errno)
				}
				p.answer(nil)
				r.after(time.Second)
				r.want("a unknown>ready @11s")
				for range 10 {
					r.Failed("a", ours)
				}
				p.answer(ours)
				r.after(10 * time.Second)
				r.want()
			})
		})
	}
}

func TestChangeOfALPNIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &scripted{seen: health.Observation{ALPN: "http/1.1"}}
		r := newRig(t, every("a", p))
		defer r.stop()
		r.want("a unknown>ready http/1.1 @0s")
		p.see(health.Observation{ALPN: "h2"})
		r.after(2 * time.Second)
		r.want("a ready>ready h2 @1s")
		if s, _ := r.Status("a"); s.Observation.ALPN != "h2" || !s.Since.Equal(r.start) {
			t.Errorf("ALPN %q since %v, want h2 and the time of the start", s.Observation.ALPN, s.Since)
		}
		p.answer(errRefused)
		p.see(health.Observation{})
		r.after(3 * time.Second)
		r.want("a ready>down (connect: connection refused) @5s")
		p.answer(nil)
		p.see(health.Observation{ALPN: "http/1.1"})
		r.after(2 * time.Second)
		r.want("a down>ready http/1.1 @7s")
	})
}

func TestStates(t *testing.T) {
	for s, want := range map[health.State]string{
		health.Unknown: "unknown", health.Up: "ready", health.Down: "down", 9: "State(9)",
	} {
		if got := s.String(); got != want {
			t.Errorf("state %d is %q, want %q", s, got, want)
		}
	}
}

func TestRunTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.stop()
		if err := r.Run(t.Context()); err == nil {
			t.Error("a second Run returned nil")
		}
	})
}

// A report may take its time and may call the checker.
func TestReportMayBlockAndCallBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		release := make(chan struct{})
		var c *health.Checker
		var got []string
		c = health.NewChecker(func(tr health.Transition) {
			<-release
			got = append(got, tr.ID+" "+tr.To.String())
			c.Update([]health.Target{every("a", &scripted{}), every("b", &scripted{})})
			c.Failed(tr.ID, errRefused)
			if _, ok := c.Status(tr.ID); !ok {
				t.Errorf("no status of %s", tr.ID)
			}
		}, health.CheckerOptions{})
		p := &scripted{}
		c.Update([]health.Target{every("a", p)})
		done := make(chan error)
		go func() { done <- c.Run(ctx) }()
		elapse(10 * time.Second)
		if n := len(p.times()); n != 10 && n != 11 {
			t.Errorf("%d probes in 10s beside a report that blocks, want 10", n)
		}
		close(release)
		elapse(time.Second)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if want := []string{"a ready", "b ready"}; !slices.Equal(got, want) {
			t.Errorf("reported %q, want %q", got, want)
		}
	})
}

// TestRestore goes on with what another checker knew: a target that was down needs as many
// passes as are left to come up, and one that was up falls as soon as it would have.
func TestRestore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told rig
		c := health.NewChecker(told.report, health.CheckerOptions{})
		options := health.Options{Interval: time.Second, Jitter: -1, Rise: 3, Fall: 3}
		c.Update([]health.Target{
			{ID: "rising", Prober: verdict{nil}, Options: options},
			{ID: "falling", Prober: verdict{errors.New("broken")}, Options: options},
		})
		if !c.Restore("rising", health.Status{State: health.Down, Why: errors.New("was broken"), Passes: 1}) {
			t.Error("a target was not restored")
		}
		c.Restore("falling", health.Status{State: health.Up, Failures: 2})
		if c.Restore("rising", health.Status{State: health.Up}) || c.Restore("none", health.Status{}) {
			t.Error("restored what is known already, or not there")
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		time.Sleep(500 * time.Millisecond) //nolint:forbidigo // the bubble's clock
		synctest.Wait()
		if seen := told.reports(); len(seen) != 1 || seen[0].ID != "falling" || seen[0].To != health.Down {
			t.Errorf("behind one probe: got %+v, want the one that fell", seen)
		}
		time.Sleep(time.Second) //nolint:forbidigo // the bubble's clock
		synctest.Wait()
		if seen := told.reports(); len(seen) != 2 || seen[1].ID != "rising" || seen[1].From != health.Down || seen[1].To != health.Up {
			t.Errorf("behind two probes: got %+v, want the one that rose", seen)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// verdict is a prober that says the same each time.
type verdict struct{ err error }

func (v verdict) Probe(context.Context) (health.Observation, error) {
	return health.Observation{}, v.err
}
