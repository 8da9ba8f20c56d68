package server

import (
	"context"
	"log/slog"
	"os"
	"syscall"
	"time"
)

// obey does what signals say until ctx is done or one has ended the server.
func (s *Server) obey(ctx context.Context, signals <-chan os.Signal) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case r := <-s.upgrades:
			if s.tryUpgrade(ctx, r, signals) {
				return nil
			}
		case sig := <-signals:
			switch sig {
			case syscall.SIGHUP:
				_ = s.Reload(ctx) // logged
			case syscall.SIGUSR1:
				s.reopen()
			case syscall.SIGUSR2:
				if s.tryUpgrade(ctx, upgradeRequest{}, signals) {
					return nil
				}
			default:
				s.drain(ctx, sig, signals)
				return nil
			}
		}
	}
}

// delay goes on as before, but for not being ready, for d; false: a further signal asks
// for an end at once.
func (s *Server) delay(ctx context.Context, d time.Duration, sig os.Signal, signals <-chan os.Signal) bool {
	s.enter(stopping)
	s.log.Info("stopping", slog.String("signal", sig.String()), slog.String("shutdown_delay", d.String()))
	over := time.NewTimer(d)
	defer over.Stop()
	for {
		select {
		case <-over.C:
			return true
		case <-ctx.Done():
			return true
		case r := <-s.upgrades:
			r.refuse()
		case sig := <-signals:
			if s.endsAtOnce(sig) {
				return false
			}
		}
	}
}

// endsAtOnce obeys a signal of one that is ending already, and reports whether it asks
// for the end now.
func (s *Server) endsAtOnce(sig os.Signal) bool {
	switch sig {
	case syscall.SIGHUP:
		s.log.Warn("no reload while ending")
	case syscall.SIGUSR2:
		s.log.Warn("no upgrade while ending")
	case syscall.SIGUSR1:
		s.reopen()
	default:
		s.log.Warn("ending at once", slog.String("signal", sig.String()), slog.Int("sessions", s.proxy.Active()))
		return true
	}
	return false
}

// drain waits for sessions to end: until the drain timeout, or a further signal.
func (s *Server) drain(ctx context.Context, sig os.Signal, signals <-chan os.Signal) {
	s.mu.Lock()
	wait, delay := s.plan.config.Timeouts.Drain, s.plan.config.Timeouts.ShutdownDelay
	s.mu.Unlock()
	s.notify(notifyStopping)
	if delay > 0 && !s.delay(ctx, delay, sig, signals) {
		wait = 0
	}
	s.enter(draining)
	s.draining, s.drained = true, drainedSessions(s.proxy.Counters())
	s.log.Info("draining", slog.String("signal", sig.String()), slog.Int("sessions", s.proxy.Active()), slog.String("timeout", wait.String()))
	s.awaitDrain(ctx, wait, signals)
}

// awaitDrain waits until no session is left: for wait at most, or until a signal.
func (s *Server) awaitDrain(ctx context.Context, wait time.Duration, signals <-chan os.Signal) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	done := make(chan struct{})
	go func() { // out before drain returns
		defer close(done)
		s.proxy.Drain(ctx)
	}()
	for {
		select {
		case <-done:
			return
		case r := <-s.upgrades:
			r.refuse()
		case sig := <-signals:
			if s.endsAtOnce(sig) {
				cancel()
				<-done
				return
			}
		}
	}
}
