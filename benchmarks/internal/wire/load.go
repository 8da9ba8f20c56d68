package wire

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

const (
	answerSize  = 1 << 10
	messageSize = 64
	settleTime  = time.Second
	lateAfter   = time.Second / 2  // of a session begun at a rate
	stuckAfter  = 10 * time.Second // of one whose end begins the next
	openAtOnce  = 128
	mostOpen    = 12000 // flows of a load with a rate: below the descriptors of a process
	tick        = time.Millisecond
)

type kind byte

const (
	short kind = iota + 1
	pull
	push
	ping
	idle
)

// flow is one session of the load.
type flow struct {
	fd      int
	born    uint32 // tells the events of this flow from those of an earlier one in its place
	kind    kind
	started time.Duration // of the session or of the message that is under way, since the load began
	unsent  []byte        // of the hello, nil once it is out; owned by the flow
	got     int
	held    bool // idle: the byte has come
}

// load is one thread that runs all flows.
type load struct {
	*poller
	spec     Spec
	to       *unix.RawSockaddrInet4
	hellos   [idle + 1]*hello
	flows    []flow
	free     []int
	rng      *rand.Rand
	base     time.Time
	inWindow bool

	Result
	sessions, trips []int64 // latencies within the window, in nanoseconds

	open     int // idle sessions that have begun
	renew    int // short sessions that ended in this turn and begin anew after it
	begun    float64
	pinged   float64
	rested   []int           // ping flows that wait for their next message
	due      []time.Duration // messages that wait for a flow
	sweptAt  time.Duration
	message  [messageSize]byte
	received [bulkRead]byte
}

// Load runs spec from one thread against a balancer that passes connections through, and returns what it saw. Its
// error says that the measurement could not be made; sessions that fail are counted.
func Load(spec Spec) (Result, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p, err := newPoller()
	if err != nil {
		return Result{}, err
	}
	l := &load{
		poller: p, spec: spec, to: sockaddr(spec.Address), base: time.Now(),
		rng: rand.New(rand.NewPCG(1, 2)), // the same names in the same order for every balancer
	}
	answer := Answer
	if spec.First {
		answer = Reply
	}
	for k, c := range map[kind]Command{
		short: {Mode: answer, Size: answerSize}, pull: {Mode: Stream}, push: {Mode: Sink}, ping: {Mode: Echo}, idle: {Mode: Hold},
	} {
		if l.hellos[k], err = newHello(c); err != nil {
			return Result{}, err
		}
	}
	m, err := newMeter(spec.Pid)
	if err != nil {
		return Result{}, err
	}
	if err := l.hold(m); err != nil {
		return l.Result, err
	}
	if spec.New == 0 && spec.Rate == 0 && spec.Pull == 0 && spec.Push == 0 && spec.Ping == 0 {
		return l.Result, nil
	}
	return l.measure(m)
}

// hold opens the idle sessions, openAtOnce at a time, and reads what they cost.
func (l *load) hold(m *meter) (err error) {
	if l.spec.Settle {
		if l.Before, l.BeforeFiles, err = m.memory(); err != nil {
			return err
		}
	}
	for l.Idle < l.spec.Idle {
		for l.open < l.spec.Idle && l.open-l.Idle < openAtOnce {
			l.open++
			l.begin(idle, l.now())
		}
		if err := l.turn(100 * time.Millisecond); err != nil {
			return err
		}
		if l.Failed > 0 {
			return fmt.Errorf("after %d of %d idle sessions: %s", l.Idle, l.spec.Idle, l.Error)
		}
		l.sweep()
	}
	if l.spec.Settle {
		if err := l.run(settleTime); err != nil {
			return err
		}
		l.After, l.AfterFiles, err = m.memory()
	}
	return err
}

func (l *load) measure(m *meter) (Result, error) {
	for k, n := range map[kind]int{short: l.spec.New, pull: l.spec.Pull, push: l.spec.Push, ping: l.spec.Ping} {
		for range n {
			l.begin(k, l.now())
		}
	}
	l.begun, l.pinged = l.seconds()*l.spec.Rate, l.seconds()*l.spec.Pings
	if err := l.run(l.spec.Warm); err != nil {
		return l.Result, err
	}
	l.Sessions, l.Bytes, l.Trips, l.Late = 0, 0, 0, 0
	l.inWindow = true
	if err := m.start(); err != nil {
		return l.Result, err
	}
	if err := l.watch(m); err != nil {
		return l.Result, err
	}
	if err := m.stop(&l.Result); err != nil {
		return l.Result, err
	}
	l.Session, l.Trip = latency(l.sessions), latency(l.trips)
	return l.Result, nil
}

// watch lets the window pass, and takes the samples that are asked for.
func (l *load) watch(m *meter) error {
	if l.spec.Every == 0 {
		return l.run(l.spec.Window)
	}
	until := l.now() + l.spec.Window
	var last Sample // what has been counted up to the sample before
	sessions, trips := 0, 0
	for l.now() < until {
		if err := l.run(min(l.spec.Every, until-l.now())); err != nil {
			return err
		}
		s := Sample{Failed: l.Failed, Sessions: l.Sessions, Bytes: l.Bytes, Trips: l.Trips}
		s.Session, s.Trip = latency(slices.Clone(l.sessions[sessions:])), latency(slices.Clone(l.trips[trips:]))
		sessions, trips = len(l.sessions), len(l.trips)
		var err error
		if s.CPU, s.Seconds, err = m.used(); err != nil {
			return err
		}
		if s.Memory, s.Files, err = m.memory(); err != nil {
			return err
		}
		total := s
		s.CPU = s.CPU.Sub(last.CPU)
		s.Sessions, s.Bytes, s.Trips = s.Sessions-last.Sessions, s.Bytes-last.Bytes, s.Trips-last.Trips
		l.Samples = append(l.Samples, s)
		last = total
	}
	return nil
}

func (l *load) now() time.Duration { return time.Since(l.base) }
func (l *load) seconds() float64   { return l.now().Seconds() }

func (l *load) run(d time.Duration) error {
	for until := l.now() + d; l.now() < until; {
		l.arrive()
		if err := l.turn(min(until-l.now(), 100*time.Millisecond)); err != nil {
			return err
		}
		l.sweep()
		if l.Sessions == 0 && l.Failed > 10000 {
			return fmt.Errorf("every session fails: %s", l.Error)
		}
	}
	return nil
}

// arrive begins what is due by now. A message for which no flow is free keeps its time, from which its latency counts,
// so that a balancer that stalls cannot hide it by stalling the load. A session beyond mostOpen is late at once.
func (l *load) arrive() {
	now := l.now()
	for ; l.spec.Rate > 0 && l.begun < now.Seconds()*l.spec.Rate; l.begun++ {
		if len(l.flows)-len(l.free) >= mostOpen {
			l.Late++
			continue
		}
		l.begin(short, now)
	}
	for ; l.spec.Pings > 0 && l.pinged < now.Seconds()*l.spec.Pings; l.pinged++ {
		l.due = append(l.due, now)
	}
	for len(l.due) > 0 && len(l.rested) > 0 {
		at := l.rested[0]
		l.rested = l.rested[1:]
		l.say(at)
	}
}

func (l *load) turn(most time.Duration) error {
	if l.spec.Rate > 0 || l.spec.Pings > 0 {
		most = min(most, tick)
	}
	events, err := l.wait(int((most + time.Millisecond - 1) / time.Millisecond))
	if err != nil {
		return err
	}
	for i := range events {
		t := tag(&events[i])
		at := int(uint32(t))
		if f := &l.flows[at]; f.fd >= 0 && f.born == uint32(t>>32) {
			l.step(at)
		}
	}
	n := l.renew
	l.renew = 0
	for range n {
		l.begin(short, l.now())
	}
	return nil
}

// begin opens a flow. Over loopback the connection stands when connect returns, so the hello goes out at once.
func (l *load) begin(k kind, started time.Duration) {
	fd, err := dial(l.to)
	if err != nil {
		l.fail(err)
		return
	}
	at := len(l.flows)
	if n := len(l.free); n > 0 {
		at, l.free = l.free[n-1], l.free[:n-1]
	} else {
		l.flows = append(l.flows, flow{})
	}
	f := &l.flows[at]
	*f = flow{fd: fd, born: f.born + 1, kind: k, started: started}
	h := l.hellos[k]
	if l.spec.Names > 1 {
		h.setName(l.rng.IntN(l.spec.Names))
	}
	first := h.bytes
	if k == ping {
		first = append(slices.Clip(first), l.message[:]...)
	}
	events := uint32(unix.EPOLLIN)
	n, err := unix.Write(fd, first)
	switch {
	case again(err):
		f.unsent = append([]byte(nil), first...)
		events = unix.EPOLLOUT
	case err != nil || n < len(first):
		l.finish(at, fmt.Errorf("writing the hello: %w", err))
		return
	case k == push:
		events = unix.EPOLLOUT
	}
	if err := l.set(unix.EPOLL_CTL_ADD, fd, events, uint64(f.born)<<32|uint64(at)); err != nil {
		l.finish(at, fmt.Errorf("epoll_ctl: %w", err))
	}
}

// step does what one event asks of a flow: whatever it says, the call that follows tells what came, errors too.
func (l *load) step(at int) {
	f := &l.flows[at]
	if f.unsent != nil {
		n, err := unix.Write(f.fd, f.unsent)
		if again(err) {
			return
		}
		if err != nil || n < len(f.unsent) {
			l.finish(at, fmt.Errorf("writing the hello: %w", err))
			return
		}
		f.unsent = nil
		if f.kind != push {
			if err := l.set(unix.EPOLL_CTL_MOD, f.fd, unix.EPOLLIN, uint64(f.born)<<32|uint64(at)); err != nil {
				l.finish(at, fmt.Errorf("epoll_ctl: %w", err))
			}
		}
		return
	}
	switch f.kind {
	case push:
		n, err := unix.Write(f.fd, l.received[:bulkWrite])
		if err != nil && !again(err) {
			l.finish(at, fmt.Errorf("upload: %w", err))
			return
		}
		l.Bytes += int64(max(n, 0))
	case ping:
		l.heard(at, f)
	default:
		l.take(at, f)
	}
}

// take reads what a short session, a download or an idle session got.
func (l *load) take(at int, f *flow) {
	n, err := drop(f.fd, bulkRead)
	switch {
	case again(err):
	case err != nil:
		l.finish(at, fmt.Errorf("reading: %w", err))
	case f.kind == pull && n > 0:
		l.Bytes += int64(n)
	case f.kind == idle && n > 0:
		if !f.held {
			f.held = true
			l.Idle++
		}
	case n > 0:
		if f.got += n; f.got >= answerSize && l.spec.First {
			l.succeed(at, f)
		}
	case f.kind == short && f.got == answerSize:
		l.succeed(at, f)
	default:
		l.finish(at, fmt.Errorf("ended after %d bytes", f.got))
	}
}

func (l *load) succeed(at int, f *flow) {
	l.Sessions++
	if l.inWindow {
		l.sessions = append(l.sessions, int64(l.now()-f.started))
	}
	l.finish(at, nil)
}

func (l *load) heard(at int, f *flow) {
	n, err := unix.Read(f.fd, l.received[:messageSize])
	if again(err) {
		return
	}
	if n <= 0 {
		l.finish(at, fmt.Errorf("ping: %w", errors.Join(err, errEnded)))
		return
	}
	if f.got += n; f.got < messageSize {
		return
	}
	f.got = 0
	l.Trips++
	if l.inWindow {
		l.trips = append(l.trips, int64(l.now()-f.started))
	}
	l.say(at)
}

var errEnded = errors.New("the session ended")

// say sends the next message of a flow, or lets it rest until one is due.
func (l *load) say(at int) {
	f := &l.flows[at]
	f.started = l.now()
	if l.spec.Pings > 0 {
		if len(l.due) == 0 {
			l.rested = append(l.rested, at)
			return
		}
		f.started, l.due = l.due[0], l.due[1:]
	}
	if _, err := unix.Write(f.fd, l.message[:]); err != nil {
		l.finish(at, fmt.Errorf("ping: %w", err))
	}
}

// finish closes a flow; with an error it has failed. A short one of a fixed number begins anew.
func (l *load) finish(at int, err error) {
	f := &l.flows[at]
	k := f.kind
	_ = unix.Close(f.fd)
	f.fd = -1
	l.free = append(l.free, at)
	if err != nil {
		l.fail(err)
	}
	if k == short && l.spec.Rate == 0 {
		l.renew++ // not from here: a balancer that refuses at once would never let this return
	}
}

func (l *load) fail(err error) {
	l.Failed++
	if l.Error == "" {
		l.Error = err.Error()
	}
}

// sweep ends short and opening sessions that take too long, so that none hangs the load.
func (l *load) sweep() {
	now := l.now()
	if now-l.sweptAt < 100*time.Millisecond {
		return
	}
	l.sweptAt = now
	for at := range l.flows {
		f := &l.flows[at]
		if f.fd < 0 || f.kind != short && (f.kind != idle || f.held) {
			continue
		}
		switch age := now - f.started; {
		case l.spec.Rate > 0 && l.spec.Every == 0 && f.kind == short && age > lateAfter:
			l.Late++
			l.finish(at, nil)
		case age > stuckAfter:
			l.finish(at, fmt.Errorf("no end within %v", stuckAfter))
		}
	}
}
