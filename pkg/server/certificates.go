package server

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/snicketlb/snicket/pkg/certs"
	"github.com/snicketlb/snicket/pkg/config"
	"github.com/snicketlb/snicket/pkg/registry"
	"github.com/snicketlb/snicket/pkg/watch"
)

// pairFiles are those of a certificate and of its key, which may be one.
type pairFiles struct{ cert, key string }

// pair is what the two hold.
type pair struct {
	held     [2]content
	cert     *certs.Certificate // nil: they cannot be used
	problems []certs.Problem    // whatever the time
}

// fault is why the pair must not be served, or nil.
func (p *pair) fault() *certs.Problem {
	for i := range p.problems {
		if !p.problems[i].Warning {
			return &p.problems[i]
		}
	}
	return nil
}

// certificateList is one list of certificates in the configuration: that of [tls], or a
// route's own.
type certificateList struct {
	entries []config.CertificateEntry
	held    []heldCertificate
	set     *certs.Set
}

// heldCertificate is one certificate of a list.
type heldCertificate struct {
	file    string
	cert    *certs.Certificate
	missing time.Time // since when no entry names the file; zero: one does
}

// served is a route that ends TLS.
type served struct {
	route   *config.Route
	own     *certificateList
	live    *certs.Live
	options certs.StoreOptions
	covered []bool // those of the route's hosts
}

// pairOf loads the certificate in two files, unless they hold what they held before.
func (s *secrets) pairOf(files pairFiles) *pair {
	known := s.pairs[files]
	if known == nil && s.before != nil {
		known = s.before.pairs[files]
	}
	if known != nil && known.held == [2]content{s.eye.look(files.cert), s.eye.look(files.key)} {
		s.pairs[files] = known
		return known
	}
	p := &pair{}
	p.cert, p.problems = s.loader.Load(files.cert, files.key)
	p.held = [2]content{s.eye.last(files.cert), s.eye.last(files.key)}
	if p.cert != nil {
		p.problems = p.cert.CheckForm(s.now, nil)
	}
	s.pairs[files] = p
	return p
}

// list loads the certificates of one list. Those that cannot be used are left out and
// reported.
func (s *secrets) list(entries []config.CertificateEntry, certificates []config.Certificate) *certificateList {
	l := &certificateList{entries: entries}
	for _, c := range certificates {
		if loaded := s.load(c, true); loaded != nil {
			l.held = append(l.held, heldCertificate{file: c.Cert, cert: loaded})
		}
	}
	l.set = l.index()
	s.lists = append(s.lists, l)
	return l
}

func (l *certificateList) index() *certs.Set {
	all := make([]*certs.Certificate, len(l.held))
	for i := range l.held {
		all[i] = l.held[i].cert
	}
	return certs.NewSet(all)
}

// serve makes what the TLS server of a route selects certificates from, and reports
// hosts that none covers.
func (s *secrets) serve(r *config.Route, incomplete bool) *certs.Live {
	v := s.served(r)
	for i, h := range r.Hosts {
		v.covered[i] = v.live.Store().Covers(h.Pattern)
		// One that could not be loaded may well cover it: that is told already. One that
		// will be obtained covers it later.
		if !v.covered[i] && !s.broken && !incomplete && !r.TLS.Incomplete && !r.TLS.ACME {
			s.report(uncovered(h, r.TLS.DefaultCertificate))
		}
	}
	return v.live
}

// served makes what a route's TLS selects certificates from, which follows their files.
func (s *secrets) served(r *config.Route) *served {
	v := &served{
		route: r, own: s.list(r.TLS.CertificateEntries, r.TLS.Certificates), covered: make([]bool, len(r.Hosts)),
		options: certs.StoreOptions{Managed: s.managedFor(r), Default: r.TLS.DefaultCertificate},
	}
	v.live = certs.NewLive(certs.NewStore(v.own.set, s.common.set, v.options))
	s.serves = append(s.serves, v)
	return v
}

func uncovered(h config.Host, byDefault bool) config.Problem {
	hint := "add one to certificates in [routes.tls] or [tls]"
	if !strings.HasPrefix(h.Pattern, "*") {
		hint += ", or write acme = true in [routes.tls] to have one issued"
	}
	broad := h.Pattern == "*" || h.Pattern == "-" || strings.HasPrefix(h.Pattern, "**.")
	if broad && !byDefault {
		hint = "name the hosts, or set default_certificate = true in [routes.tls] to show one that does not fit"
	}
	return config.Problem{Pos: h.Pos, Text: fmt.Sprintf("no certificate covers %q", h.Pattern), Hint: hint}
}

// certificatePatterns are those of all files of certificates and their keys.
func (s *secrets) certificatePatterns() []string {
	var all []string
	for _, l := range s.lists {
		for _, e := range l.entries {
			if e.Pattern != "" {
				all = append(all, e.Pattern, certs.KeyBeside(e.Pattern))
			} else {
				all = append(all, watch.Quote(e.Cert), watch.Quote(e.Key))
			}
		}
	}
	return all
}

// renewal is what a look has changed about certificates.
type renewal struct {
	files registry.Difference  // by base name
	certs []*certs.Certificate // those that are new
	wait  time.Duration        // until a file that vanished is given up; 0: none has
}

// renew takes certificates whose files have changed, come or gone: what cannot be used
// is passed over, and what was held instead stays.
func (s *secrets) renew(now time.Time) (r renewal) {
	changed := map[*certificateList]bool{}
	clear(s.used)
	for _, l := range s.lists {
		held := s.renewList(l, now, &r)
		same := func(a, b heldCertificate) bool { return a.cert == b.cert }
		changed[l] = !slices.EqualFunc(held, l.held, same)
		l.held = held
	}
	maps.DeleteFunc(s.pairs, func(files pairFiles, _ *pair) bool { return !s.used[files] && !s.shown[files] })
	for _, l := range s.lists {
		if changed[l] {
			set := l.index()
			s.mu.Lock()
			l.set = set
			s.mu.Unlock()
		}
	}
	for _, v := range s.serves {
		if changed[v.own] || changed[s.common] {
			v.live.Swap(certs.NewStore(v.own.set, s.common.set, v.options))
		}
	}
	return r
}

// renewList returns what a list holds now.
func (s *secrets) renewList(l *certificateList, now time.Time, r *renewal) []heldCertificate {
	was := map[string]heldCertificate{}
	for _, h := range l.held {
		was[h.file] = h
	}
	var held []heldCertificate
	named := map[string]bool{}
	for _, e := range l.entries {
		for _, c := range e.Files() {
			if named[c.Cert] {
				continue
			}
			named[c.Cert] = true
			former, had := was[c.Cert]
			files := pairFiles{c.Cert, c.Key}
			s.used[files] = true
			p := s.pairOf(files)
			switch fault := p.fault(); {
			case fault == nil:
				if former.cert != p.cert {
					r.note(former.cert, p.cert)
				}
				held = append(held, heldCertificate{file: c.Cert, cert: p.cert})
			case had:
				s.troubles.meet(now, trouble{certificateTrouble, "certificate", c.Cert, fault.String(), "the one before stays"})
				former.missing = time.Time{}
				held = append(held, former)
			default:
				s.troubles.meet(now, trouble{certificateTrouble, "certificate", c.Cert, fault.String(), "it is left out"})
			}
		}
	}
	for _, h := range l.held {
		if named[h.file] {
			continue
		}
		if h.missing.IsZero() {
			h.missing = now
		}
		if left := settle - now.Sub(h.missing); left > 0 {
			held = append(held, h)
			r.wait = sooner(r.wait, left)
			continue
		}
		r.note(h.cert, nil)
	}
	return held
}

// note takes down that now is held and not former any more; either may be nil.
func (r *renewal) note(former, now *certs.Certificate) {
	switch {
	case former == nil:
		r.files.Added = append(r.files.Added, filepath.Base(now.File))
	case now == nil:
		r.files.Removed = append(r.files.Removed, filepath.Base(former.File))
	default:
		r.files.Changed = append(r.files.Changed, filepath.Base(now.File))
	}
	if now != nil {
		r.certs = append(r.certs, now)
	}
}

// meetUncovered notes hosts that a certificate covered and none does any more.
func (s *secrets) meetUncovered(now time.Time) {
	for _, v := range s.serves {
		store := v.live.Store()
		for i, h := range v.route.Hosts {
			switch {
			case store.Covers(h.Pattern):
				v.covered[i] = true
			case v.covered[i]:
				why := fmt.Sprintf("route %q: no certificate covers %q", v.route.Name, h.Pattern)
				s.troubles.meet(now, trouble{kind: hostTrouble, what: "host", why: why, so: "its clients are refused"})
			}
		}
	}
}

// sooner is the shorter of two waits, of which 0 is none.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}
