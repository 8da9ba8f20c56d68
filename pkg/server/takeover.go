package server

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/pkg/admin"
	"github.com/snicketlb/snicket/pkg/proxy"
	"github.com/snicketlb/snicket/pkg/upgrade"
)

// freezeTime is how long the old process may take until its sessions begin to come.
const freezeTime = 10 * time.Second

// inherit takes the sockets that this process is given: by the one that it follows, or
// by the service manager.
func (s *Server) inherit() (map[string]proxy.Inherited, error) {
	from := s.o.From
	if from == nil {
		return activated(), nil
	}
	if err := from.Greet(&upgrade.Greeting{Protocol: upgrade.Protocol, PID: os.Getpid(), Version: s.o.Version}); err != nil {
		return nil, err
	}
	all := map[string]proxy.Inherited{}
	var operators admin.Inherited
	var err error
	for {
		var next upgrade.Sockets
		var fds []int
		if next, fds, err = from.Sockets(); err != nil || next.Last {
			break
		}
		switch {
		case next.For == upgrade.ForListener:
			all[next.Text] = proxy.Inherited{Sockets: append(all[next.Text].Sockets, fds...), Kept: next.Kept}
		case next.For == upgrade.ForAdminSocket && len(fds) == 1:
			operators.Path, operators.SocketFD, operators.Inode = next.Text, fds[0], next.Inode
		case next.For == upgrade.ForAdminAddress && len(fds) == 1:
			operators.Address, operators.TCPFD = next.Text, fds[0]
		default: // of a later version's making
			closeAll(fds)
		}
	}
	if err != nil {
		operators.Close()
		for _, given := range all {
			closeAll(given.Sockets)
		}
		return nil, err
	}
	s.admin.Inherit(operators)
	return all, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

// takeOver receives the sessions of the process that this one follows, and what that
// knows, once all is ready for them; the commit goes on with both. On an error they are
// that one's, and what was prepared is given up.
func (s *Server) takeOver(ready *prepared) (sessions int, err error) {
	from := s.o.From
	if from == nil {
		return 0, nil
	}
	var arrived []proxy.Transfer
	defer func() {
		if err != nil {
			proxy.CloseAll(arrived)
			ready.abort()
		}
	}()
	if err := from.SendAble(); err != nil {
		return 0, err
	}
	arrived, with, err := from.Sessions(freezeTime)
	if err != nil {
		return 0, err
	}
	if err := from.SendHave(len(arrived)); err != nil {
		return 0, err
	}
	if err := from.Go(2 * upgrade.Silence); err != nil { // the old one has one to say it
		return 0, err
	}
	s.state = &with.State
	s.proxy.Inherit(&proxy.Arrival{Heritage: with.Heritage, Sessions: arrived, Pools: ready.plan.pools})
	return len(arrived), nil
}

// abort gives up what only had to be committed.
func (r *prepared) abort() {
	r.change.Abort()
	r.acme.abort()
	r.admin.Abort()
	r.plan.secrets.keyLogs.end(time.Now())
	r.access.end(time.Now())
}

// tookOver tells the process that this one follows that it may go, and waits until the
// service manager knows.
func (s *Server) tookOver(ctx context.Context, sessions int) {
	from := s.o.From
	if from == nil {
		return
	}
	err := from.SendServing()
	if err == nil {
		err = from.Main()
	}
	from.Close()
	s.log.LogAttrs(ctx, slog.LevelInfo, "took over", slog.Int("sessions", sessions))
	if err != nil {
		s.log.Warn("the process before has not said its last word", slog.Any("error", err))
	}
}

// Refuse tells the process that this one was to follow why it will not.
func Refuse(from *upgrade.Conn, err error) {
	if from == nil || err == nil {
		return
	}
	problems := []string{err.Error()}
	if c, ok := errors.AsType[*ConfigError](err); ok {
		problems = nil
		for _, p := range c.Problems {
			if !p.Warning {
				problems = append(problems, p.String())
			}
		}
	}
	from.Refuse(problems...)
	from.Close()
}
