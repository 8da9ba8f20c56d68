package server

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os/user"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/diff"

	"github.com/snicketlb/snicket/pkg/admin"
	"github.com/snicketlb/snicket/pkg/config"
	"github.com/snicketlb/snicket/pkg/metrics"
)

// operation is what operators see and change of a Server, beside what it runs on.
type operation struct {
	started     time.Time
	phase       currentPhase
	reloads     reloads
	events      *admin.Events
	refusals    refusals
	probeCounts *probeCounts
	admin       *admin.Server
	upgrades    chan upgradeRequest
	changing    sync.Mutex    // of what operators wish, and while another process takes over; taken before mu
	configDue   chan struct{} // 1 deep: another configuration may want to be watched
	socketless  bool          // it was said that there is no socket; of reloads, one at a time
}

func newOperation() operation {
	return operation{started: time.Now(), upgrades: make(chan upgradeRequest), configDue: make(chan struct{}, 1), events: admin.NewEvents(), probeCounts: newProbeCounts()}
}

// newAdmin makes the admin API of s.
func (s *Server) newAdmin() *admin.Server {
	return admin.New(admin.Options{
		Log: s.log, Metrics: metrics.New(s.o.Version, s.snapshot), Events: s.events, NotReady: s.notReady,
		Status: s.status, Routes: s.routeViews, Backends: s.backendViews, Sessions: s.sessionViews,
		Certificates: s.certificateViews, Refused: s.refusals.views, Explain: s.explainRunning,
		Config: s.runningConfig, Difference: s.difference,
		Reload: s.reloadForOperator, Upgrade: s.upgradeForOperator, SetState: s.setState, SetWeight: s.setWeight, Kill: s.killSession,
	})
}

// adminSettings are where a configuration wants the API.
func (b *builder) adminSettings() admin.Settings {
	a := &b.config.Admin
	out := admin.Settings{Socket: admin.SocketSettings{Path: a.Socket, Mode: a.Mode, GID: -1}}
	if a.HasAddress() {
		out.Address = a.Address.String()
	}
	if a.Group == "" {
		return out
	}
	group, err := user.LookupGroup(a.Group)
	if err != nil {
		b.problem(config.Problem{Pos: a.GroupPos, Text: "admin: " + strings.TrimPrefix(err.Error(), "group: "), Hint: "getent group lists those there are"})
		return out
	}
	out.Socket.GID, _ = strconv.Atoi(group.Gid) // a number on this platform
	return out
}

// prepareAdmin binds what the API needs anew. A default place that cannot be had is left
// alone, with a warning.
func (s *Server) prepareAdmin(pl *plan) (*admin.Change, error) {
	settings := pl.admin
	byDefault := false
	switch settings.Socket.Path {
	case config.AdminOff:
		settings.Socket.Path = ""
	case "":
		if byDefault = s.o.AdminSocket != ""; byDefault {
			settings.Socket.Path, settings.Socket.MakeDir = s.o.AdminSocket, true
		} else {
			s.sayNoSocket("the environment has no place for it")
		}
	}
	change, err := s.admin.Prepare(settings)
	place, ok := errors.AsType[*admin.PlaceError](err)
	switch {
	case !ok:
		return change, err
	case place.Socket && byDefault:
		s.sayNoSocket(err.Error())
		settings.Socket = admin.SocketSettings{}
		if change, err = s.admin.Prepare(settings); err == nil {
			return change, nil
		}
	}
	return nil, adminProblem(&pl.config.Admin, err)
}

// sayNoSocket warns, once, that the commands will not find this process.
func (s *Server) sayNoSocket(why string) {
	if s.socketless {
		return
	}
	s.socketless = true
	s.log.Warn("no admin socket", slog.String("why", why), slog.String("hint", `name one in [admin] socket, or write "off"`))
}

// adminProblem is that the API cannot answer where it should.
func adminProblem(a *config.Admin, err error) error {
	p := config.Problem{Pos: a.AddressPos, Text: "admin: " + err.Error()}
	if place, ok := errors.AsType[*admin.PlaceError](err); ok && place.Socket {
		p.Pos = a.Pos
	}
	switch {
	case errors.Is(err, admin.ErrAnswered), errors.Is(err, syscall.EADDRINUSE):
		p.Hint = "another process has it; name another"
	case errors.Is(err, fs.ErrNotExist):
		p.Hint = "create the directory"
	case errors.Is(err, fs.ErrPermission):
		p.Hint = "let the user that runs snicket write into the directory, and belong to the group"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		p.Hint = "no interface of this machine has the address"
	}
	return &ConfigError{config.Problems{p}}
}

// runningConfig is the configuration in force, with every default written out.
func (s *Server) runningConfig() string {
	s.mu.Lock()
	c := s.plan.config
	s.mu.Unlock()
	return string(c.Effective())
}

// difference is what a reload would change now.
func (s *Server) difference(context.Context) (admin.Difference, error) {
	s.reloading.Lock() // a build takes over from the secrets in force
	defer s.reloading.Unlock()
	s.mu.Lock()
	old := s.plan
	s.mu.Unlock()
	pl := s.build(old)
	if pl.problems.Err() != nil {
		return admin.Difference{}, refusedConfig("the file cannot be put into force", &ConfigError{pl.problems})
	}
	s.mu.Lock()
	rows := backendRows(pl.config, s.names, s.found)
	s.mu.Unlock()
	return admin.Difference{
		Changes:  changedWords(old, pl, s.registry.Compare(pl.config, rows), old.shared.sessionsOf()),
		Warnings: texts(pl.problems.Warnings()),
		Diff:     string(diff.Diff("running", old.config.Effective(), "file", pl.config.Effective())),
	}, nil
}

// reloadForOperator is Reload with what it did in words.
func (s *Server) reloadForOperator(ctx context.Context) (admin.Reloaded, error) {
	done, err := s.reloadNow(context.WithoutCancel(ctx)) // half of it is worth nothing
	switch {
	case errors.Is(err, errEnding):
		return done, admin.Conflict(err.Error(), "", nil)
	case err != nil:
		return admin.Reloaded{}, refusedConfig("reload failed, the old configuration runs on", err)
	}
	return done, nil
}

// refusedConfig is an error of a configuration as operators get it.
func refusedConfig(text string, err error) error {
	var problems []string
	if c, ok := errors.AsType[*ConfigError](err); ok {
		problems = texts(c.Problems)
	} else {
		problems = []string{err.Error()}
	}
	return admin.Conflict(text, "snicket check says the same of the file; mend it and try again", problems)
}

// texts are problems as lines.
func texts(problems []config.Problem) []string {
	out := make([]string, len(problems))
	for i, p := range problems {
		out[i] = p.String()
	}
	return out
}
