package server

import (
	"context"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/snicketlb/snicket/pkg/certs"
	"github.com/snicketlb/snicket/pkg/watch"
)

const (
	// secretsEvery is how often files are looked at although no change was seen, and
	// secretsUnwatched the same where they cannot be watched.
	secretsEvery     = 30 * time.Second
	secretsUnwatched = 5 * time.Second
)

// A follower is a part of a plan that was made of files and is made anew when they
// change.
type follower struct {
	what  string
	files []string // patterns
	load  func() error
	held  map[string]content
	err   error // of the last load
}

// follow has load called whenever one of files has changed, once the plan is in force and
// as long as it is. Call it before the files are read the first time: what changes from
// then on is not missed. files are absolute patterns; [watch.Quote] makes one of a path.
//
// load reads the files anew and puts what they hold into force, or leaves everything as
// it is and says in its error what is wrong with which file. It runs off the loops, one
// load at a time, and may not reload the server. What a load does is logged under what,
// the key in the configuration: "client_ca".
func (s *secrets) follow(what string, files []string, load func() error) {
	s.followers = append(s.followers, &follower{what: what, files: files, load: load, held: s.holding(files)})
}

// holding returns what files hold now, by path.
func (s *secrets) holding(files []string) map[string]content {
	held := map[string]content{}
	for _, pattern := range files {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			held[pattern] = content{why: "not there"}
			continue
		}
		for _, path := range found {
			held[path] = s.eye.look(path)
		}
	}
	return held
}

// refresh loads those followers' parts anew whose files have changed.
func (s *secrets) refresh(now time.Time, log *slog.Logger) {
	for _, f := range s.followers {
		if held := s.holding(f.files); !maps.Equal(held, f.held) {
			f.held, f.err = held, f.load()
			if f.err == nil {
				log.Info("reloaded", slog.String("what", f.what), slog.String("files", baseNames(slices.Sorted(maps.Keys(held)))))
			}
		}
		if f.err != nil {
			s.troubles.meet(now, trouble{kind: fileTrouble, what: f.what, why: f.err.Error(), so: "what was loaded before stays"})
		}
	}
}

// patterns are those of all files that are followed.
func (s *secrets) patterns() []string {
	all := s.certificatePatterns()
	for _, f := range s.followers {
		all = append(all, f.files...)
	}
	return all
}

// baseNames lists files by their base names, ten at most.
func baseNames(files []string) string {
	const most = 10
	var names []string
	for _, file := range files[:min(len(files), most)] {
		names = append(names, filepath.Base(file))
	}
	if len(files) > most {
		names = append(names, "…")
	}
	return strings.Join(names, ", ")
}

// watchSecrets puts into force what files outside of the configuration hold, as they
// change, until ctx is done: nothing else is touched, and no session notices.
func (s *Server) watchSecrets(ctx context.Context) error {
	w := watch.New()
	defer w.Close()
	var said error
	for {
		wait, err := s.lookAtSecrets(w)
		if err != nil {
			wait = min(wait, secretsUnwatched)
			if said == nil || said.Error() != err.Error() {
				s.log.Warn("files are looked at from time to time, as they cannot be watched", slog.String("every", secretsUnwatched.String()), slog.Any("why", err))
			}
		}
		said = err
		timer := time.NewTimer(wait)
		select {
		case <-w.Changed():
		case <-s.secretsDue:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// lookAtSecrets makes one look and returns when the next is due. The error says why
// changes may go unseen.
func (s *Server) lookAtSecrets(w *watch.Watcher) (time.Duration, error) {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	s.mu.Lock()
	held := s.plan.secrets
	s.mu.Unlock()
	// First watched, then read: what changes between the two is seen twice, not never.
	err := w.Watch(held.patterns())
	now := time.Now()
	held.refresh(now, s.log)
	late := held.lateTrusts(now)
	wait := s.renewCertificates(held, now)
	of, left := held.troubles.over(now)
	wait = sooner(wait, left)
	held.publish() // before it is said: who reads of a fault finds it
	for _, why := range late {
		s.log.Warn("clients are refused", slog.String("why", why))
	}
	for _, t := range of {
		t.say(s.log)
	}
	held.eye.next()
	if wait == 0 {
		wait = secretsEvery
	}
	return wait, err
}

// renewCertificates puts certificates into force whose files have changed, and returns
// when to look again; 0: when something has changed. The caller holds reloading.
func (s *Server) renewCertificates(held *secrets, now time.Time) time.Duration {
	r := held.renew(now)
	held.meetUncovered(now)
	if !r.files.Empty() {
		poke(s.expiryDue)
		attrs := []slog.Attr{slog.String("files", differenceText(r.files, "renewed"))}
		if len(r.certs) > 0 {
			attrs = append(attrs, slog.String("names", someNames(r.certs)))
		}
		s.log.LogAttrs(context.Background(), slog.LevelInfo, "certificates reloaded", attrs...)
	}
	for _, c := range r.certs {
		for _, p := range c.CheckAge(now) {
			s.log.Warn("certificate is not valid now, clients will refuse it", slog.String("warning", p.String()))
		}
		for _, p := range append(c.CheckKeyFile(), c.CheckForm(now, nil)...) {
			if !held.heardOf(p) {
				s.log.Warn("certificate", slog.String("warning", p.String()))
			}
		}
	}
	return r.wait
}

// poke wakes whoever waits on c, which is 1 deep.
func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// someNames lists the host names of certificates, ten at most.
func someNames(list []*certs.Certificate) string {
	const most = 10
	var names []string
	for _, c := range list {
		for _, name := range c.Names {
			if slices.Contains(names, name) {
				continue
			}
			if len(names) == most {
				return strings.Join(append(names, "…"), ", ")
			}
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}
