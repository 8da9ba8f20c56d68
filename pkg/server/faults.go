package server

import (
	"cmp"
	"log/slog"
	"maps"
	"slices"
	"time"
)

// settle is how long what is wrong with a file must last to be spoken of, and how
// long one must be missing to be gone: a certificate and its key are written one
// after the other, and some remove a file before they write it anew.
const settle = 2 * time.Second

// Fault is something that is wrong with the files of secrets as they are now: one that
// has changed into what cannot be used, or what follows from it. The program runs on with
// what it had before.
type Fault struct {
	// What has it: "certificate", "host", or the key in the configuration that names the
	// files, such as "client_ca".
	What string
	// File is that of a certificate, as [CertificateView] has it; empty for all others.
	File string
	// Why is what is wrong, in one line: the file, what it lacks, and what to do.
	Why string
	// So is what holds as long as that lasts, such as "the one before stays".
	So string
	// Since is when it was seen first.
	Since time.Time
}

// Faults returns what is wrong with files of certificates, authorities, keys and secrets
// that the configuration names, and has been for some seconds: what was wrong at start is
// not among it, as nothing starts or reloads with files that cannot be used. Sorted by
// what has the fault; the caller may keep it. It may be called by any goroutine.
func (s *Server) Faults() []Fault {
	s.mu.Lock()
	held := s.plan.secrets
	s.mu.Unlock()
	if of := held.faults.Load(); of != nil {
		return slices.Clone(*of)
	}
	return nil
}

// publish makes what is wrong now the answer of Faults.
func (s *secrets) publish() {
	var all []Fault
	for of, at := range s.troubles.standing {
		if at.said {
			all = append(all, Fault{What: of.what, File: of.file, Why: of.why, So: of.so, Since: at.since})
		}
	}
	for _, t := range s.trusts {
		for why, since := range t.stands {
			all = append(all, Fault{What: "client_ca", Why: why, So: "clients are refused", Since: since})
		}
	}
	slices.SortFunc(all, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.What, b.What), cmp.Compare(a.Why, b.Why), cmp.Compare(a.So, b.So))
	})
	s.faults.Store(&all)
}

// troubles are what is wrong with files, from one look to the next.
type troubles struct {
	standing map[trouble]*stand
}

// trouble is what to say of it.
type trouble struct {
	kind                troubleKind
	what, file, why, so string // as of a Fault
}

// troubleKind is what has the trouble.
type troubleKind int

const (
	fileTrouble troubleKind = iota
	certificateTrouble
	hostTrouble
)

// say logs it.
func (t trouble) say(log *slog.Logger) {
	why, so := slog.String("why", t.why), slog.String("so", t.so)
	switch t.kind {
	case fileTrouble:
		log.Warn("file is not taken", slog.String("why", t.what+": "+t.why), so)
	case certificateTrouble:
		log.Warn("certificate is not taken", why, so)
	case hostTrouble:
		log.Warn("host is no longer covered by a certificate", why, so)
	}
}

type stand struct {
	since     time.Time
	met, said bool
}

// meet notes what is wrong at this look.
func (t *troubles) meet(now time.Time, what trouble) {
	if t.standing == nil {
		t.standing = map[trouble]*stand{}
	}
	if t.standing[what] == nil {
		t.standing[what] = &stand{since: now}
	}
	t.standing[what].met = true
}

// over ends a look: what was not met is forgotten. It returns what has stood for a while
// and is to be said, each once, and how long to wait for what has not; 0 for nothing.
func (t *troubles) over(now time.Time) (say []trouble, wait time.Duration) {
	inOrder := func(a, b trouble) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.what, b.what), cmp.Compare(a.why, b.why), cmp.Compare(a.so, b.so), cmp.Compare(a.file, b.file))
	}
	for _, of := range slices.SortedFunc(maps.Keys(t.standing), inOrder) {
		at := t.standing[of]
		switch left := settle - now.Sub(at.since); {
		case !at.met:
			delete(t.standing, of)
			continue
		case at.said:
		case left <= 0:
			at.said = true
			say = append(say, of)
		default:
			wait = sooner(wait, left)
		}
		at.met = false
	}
	return say, wait
}
