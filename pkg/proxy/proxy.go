// Package proxy is the data plane: it accepts connections, reads the server name
// from their ClientHello, and relays each to a backend of its route, or ends its TLS
// first.
//
// The way of a connection, top to bottom: acceptor.accept (listener.go),
// session.readHello (hello.go), session.findRoute (route.go), session.pick and
// session.dial (dial.go), session.relayed (session.go), session.finish
// (account.go). A terminated session shakes hands after route, picks and dials as
// every other, and has a relay of its own (terminated.go).
//
// A [State] is served by Prepare and Commit; nothing else changes what the data
// plane does. It knows no configuration file, registry, metrics or admin API.
package proxy

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/snicketlb/snicket/pkg/loop"
)

// pipeBudget is the number of 1 MiB splice pipes that the process makes at most.
// The kernel rations a user without privilege to 64 MiB of them.
const pipeBudget = 48

// Options are what does not change while a Proxy runs.
type Options struct {
	// Loops is the number of event loops; at least one.
	Loops int
	// Log takes what an operator must know; never one line a connection.
	Log *slog.Logger
	// Access is called with each session's record by one goroutine, in order
	// for each loop. The record is the callee's during the call only. Nil: no
	// access log.
	Access func(*Record)
	// Flush is called when the records run dry after some came. May be nil.
	Flush func()
	// Inherited are sockets by the Text of the listeners they are for. They are the
	// proxy's from New on, also when that fails. A State whose listeners have that Text
	// gets them; the first that is committed has all others closed, but those to be Kept.
	Inherited map[string]Inherited
}

// A Proxy is the data plane of one process. Its methods may be called from any
// goroutine; Prepare and Commit by one at a time.
type Proxy struct {
	o       Options
	start   time.Time
	epoch   int64 // start, by CLOCK_MONOTONIC in nanoseconds
	workers []*worker
	live    atomic.Pointer[live]
	perAddr *perAddr
	gate    *gate

	active   atomic.Int64 // sessions, lingering ones included
	hellos   atomic.Int64 // unfinished hellos
	draining atomic.Bool
	running  atomic.Bool
	crowded  atomic.Bool   // goroutines have no processor but those of the loops
	empty    chan struct{} // a token when the last session of a drain has ended

	offloaded sync.WaitGroup // goroutines that work for a loop, or serve its sessions

	backends backendConns // that requests are sent on

	shown       shownNames
	largeClient sync.Once // says that a client's certificate fits into no PROXY header

	mu        sync.Mutex // guards the fields below
	stopped   []*worker  // loops that found the process full
	sockets   map[string]*sockets
	inherited map[string]Inherited
	arrival   *Arrival // until the first Commit

	spare []SessionID // the next of loops that another process had, and this one has not; the first Commit's

	waiting atomic.Int32 // len(stopped)
}

// live is what the sessions of now are served by.
type live struct {
	table     *Table
	timeouts  Timeouts
	limits    *Limits              // apart: sessions keep them, and must not keep the table with them
	listeners map[string]*Listener // by Text
	servers   map[server]bool      // of HTTP

	challengeOpen func() bool // may be nil
}

// newLive is s but for its table and listeners.
func newLive(s *State) *live {
	l := &live{timeouts: s.Timeouts, limits: &s.Limits, listeners: map[string]*Listener{}, servers: map[server]bool{}, challengeOpen: s.ChallengeOpen}
	for _, r := range s.Routes {
		if r.Site != nil {
			l.servers[r.Site] = true
		}
	}
	for i := range s.Listeners {
		if plain := s.Listeners[i].Plain; plain != nil {
			l.servers[plain] = true
		}
	}
	return l
}

// outdated reports whether a server of HTTP is no more in now.
func (l *live) outdated(now *live) bool {
	for by := range l.servers {
		if !now.servers[by] {
			return true
		}
	}
	return false
}

// New makes a Proxy that accepts nothing until a State is committed.
func New(o Options) (made *Proxy, err error) {
	p := &Proxy{
		o:         o,
		start:     time.Now(),
		perAddr:   newPerAddr(),
		gate:      newGate(),
		empty:     make(chan struct{}, 1),
		sockets:   map[string]*sockets{},
		inherited: o.Inherited,
	}
	defer func() {
		if err != nil {
			p.disinherit()
		}
	}()
	if o.Loops < 1 || o.Loops > 256 {
		return nil, fmt.Errorf("%d loops, want 1 to 256", o.Loops)
	}
	p.backends.open = map[backendKey]map[*backendConn]struct{}{}
	p.epoch = epochOf(p.start)
	table, err := NewTable(nil, nil)
	if err != nil {
		return nil, err
	}
	p.live.Store(&live{table: table, limits: new(Limits)})
	var prefix [2]byte
	_, _ = rand.Read(prefix[:]) // never fails
	for i := range o.Loops {
		l, err := loop.New(p.start)
		if err != nil {
			for _, w := range p.workers {
				w.l.Close()
			}
			return nil, fmt.Errorf("event loop: %w", err)
		}
		id := SessionID(binary.BigEndian.Uint16(prefix[:]))<<48 | SessionID(i)<<40
		p.workers = append(p.workers, newWorker(p, i, l, id, share(pipeBudget, i, o.Loops)))
	}
	return p, nil
}

// share is the i-th of n nearly equal parts of whole.
func share(whole, i, n int) int { return whole*(i+1)/n - whole*i/n }

// Run serves until ctx ends; then all sessions end at once, as drained. It
// returns when every loop and every goroutine of the proxy is out.
func (p *Proxy) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p.running.Store(true)
	p.crowded.Store(runtime.GOMAXPROCS(0) <= p.o.Loops)
	errs := make(chan error, len(p.workers))
	for _, w := range p.workers {
		go func() { // out before Run returns: errs is read once for each
			err := w.l.Run()
			close(w.done)
			cancel()
			errs <- err
		}()
	}
	written := make(chan struct{})
	stopWriter := make(chan struct{})
	go p.writeRecords(stopWriter, written)

	<-ctx.Done()
	p.closeListeners()
	p.disinherit()
	p.draining.Store(true)
	for _, w := range p.workers {
		w.l.Post(func() { w.ending = true })
	}
	p.endAll()
	p.barrier()
	p.offloaded.Wait()
	for _, w := range p.workers {
		w.l.Post(w.stop)
	}
	var first error
	for range p.workers {
		if err := <-errs; err != nil && first == nil {
			first = fmt.Errorf("event loop: %w", err)
		}
	}
	close(stopWriter)
	<-written
	return first
}

// Drain stops accepting and returns when no session is left; those that are when
// ctx ends are ended as drained.
func (p *Proxy) Drain(ctx context.Context) {
	p.draining.Store(true)
	p.closeListeners()
	p.barrier() // what the queues held is a session now
	for p.active.Load() > 0 {
		select {
		case <-p.empty:
		case <-ctx.Done():
			p.endAll()
			for p.active.Load() > 0 {
				<-p.empty
			}
			return
		}
	}
}

// Active is the number of sessions now.
func (p *Proxy) Active() int { return int(p.active.Load()) }

// endAll ends every session as drained.
func (p *Proxy) endAll() { p.end(func(*session) bool { return true }, Drained) }

// EndBackend ends the sessions of one backend of a pool, with the outcome: Drained
// if it was taken away, BackendReset if it is down. In the latter case those that
// are not connected yet are left to find out by themselves, and to try another. Of a
// route that speaks HTTP only the requests under way there end: its clients stay.
func (p *Proxy) EndBackend(pool, id string, o Outcome) {
	p.end(func(s *session) bool {
		return s.pool != nil && s.pool.Name == pool && s.backendID() == id && (o != BackendReset || s.phase != inDial)
	}, o)
	p.backends.reset(backendKey{pool, id})
}

// end ends the sessions that match; match runs on each loop.
func (p *Proxy) end(match func(*session) bool, o Outcome) {
	for _, w := range p.workers {
		w.l.Post(func() { w.endMatching(match, o) })
	}
}

// closeListeners stops accepting on all addresses.
func (p *Proxy) closeListeners() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sockets {
		p.retire(s, 0)
	}
	clear(p.sockets)
}

// left is told of each session's end: a loop that waits for a place has one now.
func (p *Proxy) left() {
	if p.active.Add(-1) == 0 && p.draining.Load() {
		select {
		case p.empty <- struct{}{}:
		default:
		}
	}
	if p.waiting.Load() > 0 {
		p.resumeOne()
	}
}

// resumeOne lets one loop that found the process full accept again.
func (p *Proxy) resumeOne() {
	p.mu.Lock()
	if len(p.stopped) == 0 {
		p.mu.Unlock()
		return
	}
	w := p.stopped[0]
	p.stopped = p.stopped[1:]
	p.waiting.Add(-1)
	p.mu.Unlock()
	w.l.Post(w.resume)
}

// writeRecords hands the records of all loops to the access log until stop, and
// what is left then. Loops only fill their rings: waking a writer for each
// record would cost a connection more than the record itself.
func (p *Proxy) writeRecords(stop <-chan struct{}, done chan<- struct{}) {
	defer close(done)
	pause := time.NewTicker(recordPause)
	defer pause.Stop()
	for {
		ending := false
		select {
		case <-pause.C:
		case <-stop:
			ending = true
		}
		n := 0
		for _, w := range p.workers {
			n += w.records.drain(func(r *Record) {
				if p.o.Access != nil {
					p.o.Access(r)
				}
			})
		}
		if n > 0 && p.o.Flush != nil {
			p.o.Flush()
		}
		if ending {
			return
		}
	}
}

// recordPause is how long a record waits for its writer at most; a ring of 4096
// then holds 80,000 sessions a second of its loop.
const recordPause = 50 * time.Millisecond
