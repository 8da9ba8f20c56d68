// Package server is where everything meets: it reads a configuration, builds from it
// what the data plane runs on, keeps balancers, probes and host names in step with
// it, reloads it and shuts down.
//
// Start at [New] and [Server.Run]; [Check] and [Explain] do with a configuration
// what needs no running server.
//
// A configuration becomes running state in two steps. Building may fail and touches
// nothing live: parse, validate, load certificates, bind new sockets without
// listening. Committing cannot fail: one transaction of the registry, pools updated
// by the backends' IDs so that counts and health survive, the data plane's table
// swapped. So a reload is all or nothing.
//
// What is declared and observed lies in the registry. One function,
// reconcileLocked, makes balancers and probes what the registry says; everything
// else only writes there.
package server

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/snicketlb/snicket/health"
	"github.com/snicketlb/snicket/pkg/config"
	"github.com/snicketlb/snicket/pkg/discover"
	"github.com/snicketlb/snicket/pkg/proxy"
	"github.com/snicketlb/snicket/pkg/registry"
	"github.com/snicketlb/snicket/pkg/upgrade"
)

// Options are the options of New.
type Options struct {
	// Stdout takes the access log, Stderr the log. Nil discards.
	Stdout, Stderr io.Writer
	// Lookup resolves host names. Nil: the system's resolver.
	Lookup Lookup
	// ResolveEvery is how often they are resolved anew. Default 10 s.
	ResolveEvery time.Duration
	// Syslog is the path of the socket of syslog. Default /dev/log.
	Syslog string
	// Version is what runs, for metrics and the admin API.
	Version string
	// AdminSocket is the path of the admin socket where the configuration names none;
	// empty: then there is none.
	AdminSocket string
	// Upgrade says how a new process is started that goes on where this one leaves; nil:
	// none can be.
	Upgrade *Upgrade
	// From is the process that this one goes on for; nil: there is none. It is the
	// Server's.
	From *upgrade.Conn
	// Ready is called by Run once all listeners listen, with their addresses. May be
	// nil.
	Ready func([]proxy.Bound)

	renewEvery time.Duration // how often certificates of ACME are looked at; 0: ten minutes
}

// Server is a balancer that runs by one configuration file.
type Server struct {
	path    string
	o       Options
	stderr  *outlet
	handler *logHandler
	log     *slog.Logger
	access  *accessLog
	loops   int
	operation
	registry *registry.Registry
	checker  *health.Checker
	ejector  *health.Ejector
	sources  *discover.Group
	acme     *authority
	unnamed  chan struct{} // 1 deep: a source tells of a host name that was never asked for
	hostsDue chan struct{} // 1 deep: certificates may have changed
	// secretsDue is 1 deep: a reload has put other files into force.
	secretsDue chan struct{}
	expiryDue  chan struct{} // 1 deep: other certificates are in force
	proxy      *proxy.Proxy  // from Run on

	reloading sync.Mutex // one reload at a time, guards lowered; taken before mu
	lowered   int        // the max_connections last warned of

	draining bool   // by a signal
	drained  uint64 // sessions that were drained before that; obey's until Run ends

	state *upgrade.State // of the process before, until the first commit; nil: there was none

	mu      sync.Mutex // guards the fields below
	plan    *plan
	names   map[string]answer
	found   map[string]discovered // by pool
	applied map[string]*applied
	ending  map[string]*time.Timer
	probed  uint64 // the generation the checker knows
	watched watched
	// covered holds the names in the certificates that watchHosts has seen, by pool.
	covered map[string][]string
}

// New reads the configuration in path and makes a server of it, which has no socket
// yet. The error is a *[ConfigError].
func New(path string, o Options) (*Server, error) {
	o.Stdout, o.Stderr = cmp.Or[io.Writer](o.Stdout, io.Discard), cmp.Or[io.Writer](o.Stderr, io.Discard)
	o.ResolveEvery = cmp.Or(o.ResolveEvery, namesEvery)
	if o.Lookup == nil {
		o.Lookup = systemLookup
	}
	s := &Server{
		path: path, o: o, operation: newOperation(), stderr: newOutlet(o.Stderr, logRoom, false), registry: registry.New(),
		names: map[string]answer{}, found: map[string]discovered{}, unnamed: make(chan struct{}, 1), hostsDue: make(chan struct{}, 1), secretsDue: make(chan struct{}, 1), expiryDue: make(chan struct{}, 1), applied: map[string]*applied{}, ending: map[string]*time.Timer{},
	}
	s.handler = newLogHandler(s.stderr, s.events)
	s.log = slog.New(s.handler)
	s.stderr.mended = func(lost uint64) { s.log.Warn("log lines were lost", slog.Uint64("lost", lost)) }
	s.access = newAccessLog(
		o.Stdout, cmp.Or(o.Syslog, systemSyslog),
		func(err error) { s.log.Error("access log loses records", slog.Any("error", err)) },
		func(lost uint64) { s.log.Warn("access log is written again", slog.Uint64("lost", lost)) },
	)
	s.checker = health.NewChecker(s.observe, health.CheckerOptions{Probed: s.probeCounts.probed})
	s.ejector = health.NewEjector(s.ejected)
	s.sources = discover.NewGroup(s.discovered)
	s.acme = newAuthority(s.log, o.renewEvery)
	s.plan = s.build(nil)
	if s.plan.problems.Err() != nil {
		return nil, &ConfigError{s.plan.problems}
	}
	s.loops = loopsOf(s.plan.config)
	s.admin = s.newAdmin()
	return s, nil
}

func (s *Server) build(former *plan) *plan {
	failed := func(pool, id string, err error) { s.checker.Failed(targetID(pool, id), err) }
	return build(s.path, former, buildOptions{serving: true, failed: failed, renewed: s.renewPool, loops: s.loops, authority: s.acme, log: s.log})
}

// Loops is the number of event loops Run will have. Each holds a thread, so the
// process wants GOMAXPROCS above it.
func (s *Server) Loops() int { return s.loops }

// Log is the log, in the level and format of the configuration in force. It may be
// written to from any goroutine, and holds up nobody.
func (s *Server) Log() *slog.Logger { return s.log }

// Run serves until ctx is done, which ends all sessions at once, or a signal ends
// it: SIGTERM or SIGINT stops accepting and waits for sessions for the drain timeout
// at most, a second one does not wait. SIGHUP reloads, SIGUSR1 opens the access log
// anew. It returns when all that it
// started has ended; its error is why it could not start, or had to stop. It may be
// called once.
//
// A reader of the logs that does not read delays nothing but its own lines: what has
// no room is lost and counted, and the end waits for it no longer than a second. The
// write that it makes wait then stays behind.
func (s *Server) Run(ctx context.Context, signals <-chan os.Signal) error {
	s.handler.configure(&s.plan.config.Log)
	inherited, err := s.inherit()
	if err != nil {
		Refuse(s.o.From, err)
		return err
	}
	p, err := proxy.New(proxy.Options{
		Loops: s.loops, Log: s.log, Access: s.record, Flush: s.access.log.Flush, Inherited: inherited,
	})
	if err != nil {
		return err
	}
	s.proxy = p
	var startErr error
	err = runAll(
		ctx, p.Run, s.admin.Run,
		func(ctx context.Context) error {
			if startErr = s.start(ctx); startErr != nil {
				Refuse(s.o.From, startErr)
				return startErr
			}
			return runAll(
				ctx, s.checker.Run, s.ejector.Run, s.follow, s.resolveNames, s.runSources, s.watchHosts, s.watchConfig, s.watchSecrets, s.watchExpiry, s.renewTickets,
				func(ctx context.Context) error { return s.obey(ctx, signals) },
			)
		},
	)
	s.mu.Lock()
	for key := range s.ending {
		s.endNever(key)
	}
	s.plan.shared.closeSites()
	s.mu.Unlock()
	s.acme.close()
	s.stopped(startErr == nil)
	return err
}

// stopped says the last word, and has both logs written out as far as their readers
// let it.
func (s *Server) stopped(served bool) {
	deadline := time.Now().Add(flushWait)
	var attrs []slog.Attr
	counters := s.proxy.Counters()
	if s.draining {
		attrs = append(attrs, slog.Uint64("cut", drainedSessions(counters)-s.drained))
	}
	if lost := s.plan.secrets.keyLogs.end(deadline); lost > 0 {
		attrs = append(attrs, slog.Uint64("secrets_lost", lost))
	}
	if lost := s.access.end(deadline) + counters.DroppedRecords; lost > 0 {
		attrs = append(attrs, slog.Uint64("records_lost", lost))
	}
	if served {
		s.log.LogAttrs(context.Background(), slog.LevelInfo, "stopped", attrs...)
	}
	// What is left of the second, and a moment for the line above.
	s.stderr.end(deadline.Add(flushWait / 10))
}

// drainedSessions counts the sessions that ended as drained.
func drainedSessions(c proxy.Counters) uint64 {
	var n uint64
	for _, outcomes := range c.Sessions {
		n += outcomes[proxy.Drained]
	}
	return n
}

// start puts the first configuration into force.
func (s *Server) start(ctx context.Context) error {
	pl := s.plan
	seen := s.gather(ctx, pl.config)
	if ctx.Err() != nil {
		return nil
	}
	ready, err := s.prepare(pl)
	if err != nil {
		return err
	}
	arrived, err := s.takeOver(ready)
	if err != nil {
		return err
	}
	_, _ = s.commit(ready, seen) // nothing was before
	bound := s.proxy.Bound()
	for _, b := range bound {
		s.log.Info("listening", slog.String("listener", b.Listener), slog.String("address", b.Address))
	}
	s.warn(pl, nil)
	s.phase.set(running)
	s.tookOver(ctx, arrived)
	s.log.Info("ready", slog.Int("loops", s.loops), slog.Int("routes", len(pl.config.Routes)), slog.Int("pools", len(pl.config.Pools)))
	s.notify(notifyReady)
	if s.o.Ready != nil {
		s.o.Ready(bound)
	}
	return nil
}

// warn logs the warnings of a plan, those of before left out. What is wrong with the
// age of a certificate is told each time.
func (s *Server) warn(pl, before *plan) {
	pl.secrets.keyLogs.warn(s.log)
	for _, w := range pl.problems.Warnings() {
		switch {
		case slices.Contains(pl.aged, w):
			s.log.Warn("certificate is not valid now, clients will refuse it", slog.String("warning", w.String()))
		case before == nil || !slices.ContainsFunc(before.problems, func(p config.Problem) bool {
			return p.Warning && p.Text == w.Text && p.Pos.File == w.Pos.File
		}):
			s.log.Warn("configuration", slog.String("warning", w.String()))
		}
	}
}

// record takes the record of each session that has ended.
func (s *Server) record(r *proxy.Record) {
	s.refusals.add(r)
	s.access.write(r)
}

// runAll runs actors until the first is out, tells all others to end, and returns
// when they have: with the first error there was.
func runAll(ctx context.Context, actors ...func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out := make(chan error)
	for _, run := range actors {
		go func() { out <- run(ctx) }() // each is waited for below
	}
	var first error
	for range actors {
		err := <-out
		cancel()
		first = cmp.Or(first, err)
	}
	return first
}

// problemsText is every problem that is no warning, in one line.
func problemsText(err error) string {
	c, ok := errors.AsType[*ConfigError](err)
	if !ok {
		return err.Error()
	}
	var all []string
	for _, p := range c.Problems {
		if !p.Warning {
			all = append(all, p.String())
		}
	}
	return strings.Join(all, "; ")
}

// listenProblem is where a listener that cannot have its address is declared.
func listenProblem(c *config.Config, err error) error {
	l, ok := errors.AsType[*proxy.ListenError](err)
	if !ok {
		return err
	}
	p := config.Problem{Text: l.Error()}
	for _, declared := range c.Listeners {
		if declared.Name == l.Listener {
			p.Pos = declared.Pos
		}
	}
	switch {
	case strings.HasPrefix(l.Address, "systemd:"):
		p.Hint = "start it by its socket unit, whose FileDescriptorName= is the name, or with systemd-socket-activate --fdname"
	case errors.Is(err, syscall.EADDRINUSE) && strings.HasPrefix(l.Address, "unix:"):
		p.Hint = "another process listens there; ss -lxp shows which"
	case errors.Is(err, syscall.EADDRINUSE):
		p.Hint = "another process listens there; ss -ltnp shows which"
	case errors.Is(err, syscall.EACCES) && strings.HasPrefix(l.Address, "unix:"):
		p.Hint = "let the user that runs snicket write into the directory"
	case errors.Is(err, syscall.EACCES):
		p.Hint = "ports below 1024 need the capability CAP_NET_BIND_SERVICE"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		p.Hint = "no interface of this machine has the address"
	}
	return &ConfigError{config.Problems{p}}
}
