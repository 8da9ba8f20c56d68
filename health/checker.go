package health

import (
	"context"
	"crypto/x509"
	"errors"
	"maps"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"
)

// Observation is what a probe saw of a backend beside whether it works. What a
// kind of probe cannot see is zero.
type Observation struct {
	// ALPN is the protocol the backend selected, such as "h2"; "" if none.
	ALPN string

	// TLSVersion is the negotiated version, such as tls.VersionTLS13.
	TLSVersion uint16

	// Certificates is the chain the backend sent, its leaf first, verified or
	// not. It is shared and must not be changed.
	Certificates []*x509.Certificate

	// Agent is what the backend's agent said, for the kind of that name. That of
	// a [Status] or a [Transition] is what stands after all it said so far.
	Agent AgentReport
}

// Prober makes one attempt at a backend.
type Prober interface {
	// Probe returns nil if the backend works, and else the reason in the
	// operator's words: "connect: connection refused", "status 503, want
	// 200-299". It returns soon after ctx is done; the deadline of ctx is the
	// probe's timeout, and the error it makes of that wraps
	// os.ErrDeadlineExceeded or context.DeadlineExceeded. The Observation counts
	// also beside an error. A checker may call it again while a former call,
	// whose context is done, has not yet returned.
	Probe(ctx context.Context) (Observation, error)
}

// Options say how often a target is probed and how many results it takes to
// change its state. A zero field is its default.
type Options struct {
	// Interval is the time between the starts of two probes. Default 2s.
	Interval time.Duration

	// IntervalDown is the same while the target is down: shorter, so that one that
	// is back is soon in use. Default Interval.
	IntervalDown time.Duration

	// Timeout bounds one probe. Default 1s. It may be longer than Interval: the
	// next probe then waits for the end of the one before.
	Timeout time.Duration

	// Jitter is how far an interval may be off at random, either way, so that
	// many targets do not fall into step. Default a tenth of the interval in use;
	// negative is none; more than the interval in use is all of it.
	Jitter time.Duration

	// Rise is how many passes in a row bring a target up. Default 2.
	Rise int

	// Fall is how many failures in a row take a target down. Default 3.
	Fall int
}

// interval returns the time to the next probe of a target in a state, and how far
// it may be off.
func (o Options) interval(s State) (interval, jitter time.Duration) {
	interval = o.Interval
	if s == Down {
		interval = o.IntervalDown
	}
	if o.Jitter == 0 {
		return interval, interval / 10
	}
	return interval, min(max(o.Jitter, 0), interval)
}

func (o Options) withDefaults() Options {
	if o.Interval <= 0 {
		o.Interval = 2 * time.Second
	}
	if o.Timeout <= 0 {
		o.Timeout = time.Second
	}
	if o.IntervalDown <= 0 {
		o.IntervalDown = o.Interval
	}
	if o.Rise <= 0 {
		o.Rise = 2
	}
	if o.Fall <= 0 {
		o.Fall = 3
	}
	return o
}

// Target is something to probe.
type Target struct {
	// ID names the target, uniquely among those of one checker.
	ID string

	// Prober makes the attempts.
	Prober Prober

	// Options may change from one update to the next without a new start.
	Options Options

	// Key stands for the settings of Prober, which cannot be compared: an
	// update in which both ID and Key stay leaves the target's probing alone.
	// Another Key starts it anew, with a probe at once and the counts of passes
	// and failures at 0, but keeps the last state.
	Key string
}

// State is what is known about a target.
type State uint8

const (
	// Unknown targets have had no result yet. They are to be used as if Up.
	Unknown State = iota
	// Up targets work.
	Up
	// Down targets do not.
	Down
)

// String returns "unknown", "ready" or "down".
func (s State) String() string {
	switch s {
	case Unknown:
		return "unknown"
	case Up:
		return "ready"
	case Down:
		return "down"
	}
	return "State(" + strconv.Itoa(int(s)) + ")"
}

// Transition is a change of a target: of its state or, if From and To are the
// same, of what its Observation holds: while it is up of the ALPN or of the
// Certificates, in any state of what its agent wishes.
type Transition struct {
	ID       string
	From, To State

	// Err is why the target is down; nil if it is not.
	Err error

	// At is when the result that decided came in; Since is when the target came
	// into To, and differs only if From and To are the same.
	At, Since time.Time

	// Observation is that of the probe that decided. If Passive is set it is
	// that of the last probe that passed. Its Agent is always what stands.
	Observation Observation

	// Passive says that the failure of a session decided, not that of a probe.
	Passive bool
}

// Status is what a checker knows about a target at one moment.
type Status struct {
	State State

	// Since is when the target came into State; for Unknown, when it was added.
	Since time.Time

	// Why says why the target is down; nil if it is not.
	Why error

	// Passes and Failures count the latest results in a row; one of them is 0.
	Passes, Failures int

	// LastErr is why the latest result was no pass; nil if it was.
	LastErr error

	// LastProbe is when the latest probe ended; zero if none has.
	LastProbe time.Time

	// Observation is that of the last probe that passed.
	Observation Observation
}

// CheckerOptions are the options of [NewChecker]. A zero field is its default.
type CheckerOptions struct {
	// MaxInFlight is the most probes at one time, each of which may hold one
	// descriptor. Those that are due beyond it wait. It bounds how fast targets
	// that time out are found out: MaxInFlight divided by Timeout in a second.
	// Default 256.
	MaxInFlight int

	// Seed makes the jitter repeatable. Default a random one.
	Seed uint64

	// Probed is told of each probe that has ended, how long it took and why it was no
	// pass; of those that failed by this side's fault, such as EMFILE, it is not. It is
	// called with a lock of the checker's held: it must not block, nor call the checker.
	// Default nobody.
	Probed func(id string, took time.Duration, err error)
}

// Checker probes targets and reports their transitions. All its methods may be
// called from any goroutine.
type Checker struct {
	report      func(Transition)
	probed      func(id string, took time.Duration, err error) // may be nil
	maxInFlight int
	direct      []attempt  // the scheduler's, for use again
	connector   *connector // the scheduler's; nil before its first use; written with mu held
	passive     chan passiveFailure
	wake        chan struct{} // 1 deep: the scheduler has to look again
	reportable  chan struct{} // 1 deep: pending is not empty

	mu         sync.Mutex // guards the fields below
	started    bool
	rand       *rand.Rand
	targets    map[string]*target
	queue      queue // targets that no probe is running for
	inFlight   int
	probes     uint64       // numbers given
	sleepUntil time.Time    // when the scheduler looks again unless woken; zero: never
	pending    []Transition // not yet reported
}

// passiveFailure is a failure of a session.
type passiveFailure struct {
	id  string
	err error
}

// maxPassive bounds the failures of sessions that wait to be counted. A flood of
// them says no more than its first ones.
const maxPassive = 1024

// errRunTwice is returned by a second Run.
var errRunTwice = errors.New("health: Run called twice")

// NewChecker returns a Checker without targets. It calls report for each
// transition, from one goroutine of Run and without a lock held, so report may
// call the checker. The transitions of a target come in order, one that was made
// just before the target was removed perhaps after it. A report that takes long
// delays further reports and no probe.
func NewChecker(report func(Transition), o CheckerOptions) *Checker {
	if o.MaxInFlight <= 0 {
		o.MaxInFlight = 256
	}
	if o.Seed == 0 {
		o.Seed = rand.Uint64()
	}
	return &Checker{
		report:      report,
		probed:      o.Probed,
		maxInFlight: o.MaxInFlight,
		passive:     make(chan passiveFailure, maxPassive),
		wake:        make(chan struct{}, 1),
		reportable:  make(chan struct{}, 1),
		rand:        rand.New(rand.NewPCG(o.Seed, o.Seed)),
		targets:     make(map[string]*target),
	}
}

// Failed says that a session failed by the target's fault, which counts as a
// failed probe; but an unknown target waits for its first probe to decide. It
// never blocks: beyond 1024 failures not yet counted, and while Run is not
// running, further ones are dropped. An id that is no target's is ignored, and
// so is an error of this side's making, such as EMFILE.
func (c *Checker) Failed(id string, err error) {
	select {
	case c.passive <- passiveFailure{id, err}:
	default:
	}
}

// All calls yield with the ID of each target, in no order, and with what is known
// about it. yield is called without a lock held, and its false ends the calls.
func (c *Checker) All(yield func(id string, s Status) bool) {
	c.mu.Lock()
	all := make(map[string]Status, len(c.targets))
	for id, t := range c.targets {
		all[id] = t.status
	}
	c.mu.Unlock()
	maps.All(all)(yield)
}

// Status returns what is known about the target with the given ID, and whether
// there is one.
func (c *Checker) Status(id string) (Status, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.targets[id]
	if t == nil {
		return Status{}, false
	}
	return t.status, true
}

// Restore gives a target of which nothing is known yet what another checker knew of it,
// such as that of the process before this one, and reports whether there is such a
// target. Its next results count on from there. Nothing is reported.
func (c *Checker) Restore(id string, s Status) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.targets[id]
	if t == nil || t.status.State != Unknown || !t.status.LastProbe.IsZero() {
		return false
	}
	t.status = s
	t.reported = s.Observation.Agent
	if s.Observation.Agent.Said == Down {
		t.agentDown = s.Why
	}
	return true
}
