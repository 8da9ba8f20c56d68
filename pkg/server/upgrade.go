package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/pkg/admin"
	"github.com/snicketlb/snicket/pkg/proxy"
	"github.com/snicketlb/snicket/pkg/upgrade"
)

// Upgrade says how a process is started that goes on where this one leaves.
type Upgrade struct {
	Path           string   // of this process's program: there the new one lies
	Args           []string // by which it runs the same configuration
	Stdout, Stderr *os.File
	// Patience is how long the new process may take, while all goes on as before, until it
	// has read its configuration, and again until it has resolved names and bound what is
	// new. Default 15 s.
	Patience time.Duration
}

const (
	defaultPatience = 15 * time.Second
	// serveTime is how long it may take to say that it serves, once it has all.
	serveTime = 10 * time.Second
)

// upgradeRequest is an operator's; done is nil for a signal.
type upgradeRequest struct {
	binary string
	done   chan<- upgradeResult
}

type upgradeResult struct {
	admin.Upgraded
	err error
}

// upgradeForOperator upgrades, and says what became of it.
func (s *Server) upgradeForOperator(ctx context.Context, binary string) (admin.Upgraded, error) {
	if s.phase.get() != running {
		return admin.Upgraded{}, errNoUpgrade()
	}
	done := make(chan upgradeResult, 1)
	select {
	case s.upgrades <- upgradeRequest{binary, done}:
	case <-ctx.Done():
		return admin.Upgraded{}, errNoUpgrade()
	}
	r := <-done // it says why if it is given up; nobody else would tell what became of it
	return r.Upgraded, r.err
}

func errNoUpgrade() error { return admin.Conflict("no upgrade while stopping", "", nil) }

// refuse answers a request that has come just when this process had begun to end.
func (r upgradeRequest) refuse() { r.done <- upgradeResult{err: errNoUpgrade()} }

// tryUpgrade upgrades while it looks after signals. It returns true when this process has
// nothing left to do.
func (s *Server) tryUpgrade(ctx context.Context, r upgradeRequest, signals <-chan os.Signal) (over bool) {
	attempt, cancel := context.WithCancel(ctx)
	defer cancel()
	result := make(chan upgradeResult, 1)
	go func() { // out before tryUpgrade returns
		up, err := s.upgrade(attempt, r.binary)
		result <- upgradeResult{up, err}
	}()
	var put putOff
	for {
		select {
		case now := <-result:
			if now.err == nil {
				s.admin.Leave() // so that who hears of it asks the new process from now on
			}
			if r.done != nil {
				r.done <- now
			}
			if now.err == nil {
				put.pass(now.PID)
				s.depart(ctx, now.Stay, signals)
				return true
			}
			return s.takeUp(ctx, &put, signals)
		case other := <-s.upgrades:
			other.done <- upgradeResult{err: admin.Conflict("an upgrade is under way", "", nil)}
		case sig := <-signals:
			if put.note(sig) {
				cancel()
			} else if sig == syscall.SIGUSR2 {
				s.log.Warn("an upgrade is under way", slog.String("signal", sig.String()))
			}
		}
	}
}

// putOff is what signals have asked for during an upgrade. It is meant for who serves
// behind it: the new process may have read its files before.
type putOff struct {
	reload, reopen bool
	end            os.Signal // nil: none
}

// note reports whether the upgrade is to be given up.
func (p *putOff) note(sig os.Signal) bool {
	switch sig {
	case syscall.SIGHUP:
		p.reload = true
	case syscall.SIGUSR1:
		p.reopen = true
	case syscall.SIGUSR2:
	default:
		p.end = sig
		return true
	}
	return false
}

// pass hands all of it on to another process, which may be gone.
func (p *putOff) pass(pid int) {
	if p.reopen {
		_ = unix.Kill(pid, unix.SIGUSR1)
	}
	if p.reload {
		_ = unix.Kill(pid, unix.SIGHUP)
	}
	if p.end != nil {
		_ = unix.Kill(pid, p.end.(syscall.Signal)) //nolint:forcetypeassert // what os/signal delivers here
	}
}

// takeUp does here what was put off, and reports whether that has ended this process.
func (s *Server) takeUp(ctx context.Context, put *putOff, signals <-chan os.Signal) (over bool) {
	if put.end != nil {
		s.drain(ctx, put.end, signals)
		return true
	}
	if put.reopen {
		s.reopen()
	}
	if put.reload {
		_ = s.Reload(ctx) // logged
	}
	return false
}

// upgrade starts a new process and gives it all that can be given. Its error, which is
// logged, says that this one goes on: as if nothing had been, but for what it names.
func (s *Server) upgrade(ctx context.Context, binary string) (admin.Upgraded, error) {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	done, err := s.startAndHandOver(ctx, binary)
	if err == nil {
		s.log.Info("upgraded", slog.Int("pid", done.PID), slog.String("version", done.Version),
			slog.Int("moved", done.Moved), slog.Int("stay", done.Stay), slog.Float64("pause_ms", done.PauseMS))
		return done, nil
	}
	s.log.Error("upgrade failed", slog.String("problems", err.Error()), slog.String("so", "this process goes on"))
	if _, ok := errors.AsType[*admin.Error](err); ok {
		return done, err
	}
	problems := []string{err.Error()}
	if refused, ok := errors.AsType[*upgrade.Refusal](err); ok {
		problems = refused.Problems
	}
	return done, admin.Conflict("upgrade failed, the process that runs goes on", "its log, and that of the new process, may say more", problems)
}

func (s *Server) startAndHandOver(ctx context.Context, binary string) (admin.Upgraded, error) {
	path, err := s.successor(binary)
	if err != nil {
		return admin.Upgraded{}, err
	}
	child, err := upgrade.Start(upgrade.Command{Path: path, Args: s.o.Upgrade.Args, Stdout: s.o.Upgrade.Stdout, Stderr: s.o.Upgrade.Stderr})
	if err != nil {
		return admin.Upgraded{}, err
	}
	s.log.Info("upgrading", slog.Int("pid", child.PID), slog.String("binary", path))
	keep := context.AfterFunc(ctx, child.Terminate)
	done, err := s.handOver(child, keep)
	if err != nil {
		keep()
		if how := child.Kill(); how != nil {
			err = fmt.Errorf("%w (%w)", err, how)
		}
		return admin.Upgraded{}, err
	}
	return done, nil
}

// successor is the program to start. Whoever may write to the socket may name one, so it
// has to be one that only this user or root can have put there.
func (s *Server) successor(binary string) (string, error) {
	u := s.o.Upgrade
	switch {
	case u == nil:
		return "", admin.Conflict("this process cannot be upgraded", "", nil)
	case os.Getpid() == 1:
		return "", admin.Conflict("this process is the first one of its container, which ends with it",
			"start a container of the new version, and stop this one", nil)
	}
	path := u.Path
	if binary != "" {
		path = binary
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", admin.Conflict(fmt.Sprintf("there is no %s", path), "name the new program with --binary", nil)
	case err != nil:
		return "", admin.Conflict(err.Error(), "", nil)
	case !info.Mode().IsRegular() || info.Mode()&0o111 == 0:
		return "", admin.Conflict(fmt.Sprintf("%s is no program", path), "", nil)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if own := os.Geteuid(); binary != "" && (!ok || owner.Uid != 0 && int(owner.Uid) != own || info.Mode()&0o022 != 0) {
		return "", admin.Conflict(fmt.Sprintf("%s is not to be trusted", path),
			"it must belong to root or to the user that runs snicket, and be writable by nobody else", nil)
	}
	return path, nil
}

// handOver gives the new process all there is. Until keep, which takes the right to end it
// away from all others, everything can go back; behind it, if that process never serves,
// the listeners can.
func (s *Server) handOver(child *upgrade.Child, keep func() bool) (done admin.Upgraded, err error) {
	within := cmp.Or(s.o.Upgrade.Patience, defaultPatience)
	hello, err := child.Greeting(within)
	if err != nil {
		return done, err
	}
	if err := s.sendSockets(child.Conn); err != nil {
		return done, err
	}
	if err := child.Able(within); err != nil {
		return done, err
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	begun := time.Now()
	frozen := s.proxy.Freeze()
	if err := s.giveAway(child, frozen, keep); err != nil {
		frozen.Thaw()
		return done, err
	}
	moved := len(frozen.Sessions)
	if err := child.Serving(serveTime); err != nil {
		_ = child.Kill() // it has no use for them, and may come round
		frozen.Reclaim()
		return done, fmt.Errorf("the new process had taken over, and does not serve: %w; %d sessions are lost", err, moved)
	}
	s.phase.set(handedOver)
	frozen.Leave()
	pause := time.Since(begun)
	s.notify(fmt.Sprintf("MAINPID=%d", child.PID))
	_ = child.SendMain() // if it is gone, so be it
	child.Close()
	return admin.Upgraded{
		PID: child.PID, Version: hello.Version, Moved: moved, Stay: frozen.Stay,
		PauseMS: float64(pause.Microseconds()) / 1000,
	}, nil
}

// giveAway sends what stands still, and says the word behind which there is no way back,
// if all has arrived.
func (s *Server) giveAway(child *upgrade.Child, frozen *proxy.Frozen, keep func() bool) error {
	all := len(frozen.Sessions)
	if err := child.SendHave(all); err != nil {
		return err
	}
	if err := child.SendSessions(frozen.Sessions, &upgrade.All{Heritage: frozen.Heritage, State: s.stateNow()}); err != nil {
		return err
	}
	n, err := child.Have()
	switch {
	case err != nil:
		return err
	case n != all:
		return fmt.Errorf("%d sessions arrived of %d", n, all)
	case !keep():
		return context.Canceled
	}
	return child.SendGo()
}

// sendSockets sends what is listened on.
func (s *Server) sendSockets(to *upgrade.Conn) error {
	for text, given := range s.proxy.Sockets() {
		if err := to.SendSockets(upgrade.Sockets{For: upgrade.ForListener, Text: text, Kept: given.Kept}, given.Sockets); err != nil {
			return err
		}
	}
	operators, err := s.admin.Sockets()
	if err != nil {
		return err
	}
	defer operators.Close()
	if operators.Path != "" {
		use := upgrade.Sockets{For: upgrade.ForAdminSocket, Text: operators.Path, Inode: operators.Inode}
		if err := to.SendSockets(use, []int{operators.SocketFD}); err != nil {
			return err
		}
	}
	if operators.Address != "" {
		if err := to.SendSockets(upgrade.Sockets{For: upgrade.ForAdminAddress, Text: operators.Address}, []int{operators.TCPFD}); err != nil {
			return err
		}
	}
	return to.SendNoMoreSockets()
}

// depart ends what could not move: the sessions that stay have the drain timeout.
func (s *Server) depart(ctx context.Context, stay int, signals <-chan os.Signal) {
	s.mu.Lock()
	wait := s.plan.config.Timeouts.Drain
	s.mu.Unlock()
	s.draining, s.drained = true, drainedSessions(s.proxy.Counters())
	if stay > 0 {
		s.log.Info("sessions that cannot move end here", slog.Int("sessions", stay), slog.String("timeout", wait.String()))
	}
	s.awaitDrain(ctx, wait, signals)
}
