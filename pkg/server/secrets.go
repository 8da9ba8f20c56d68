package server

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"sync"
	"sync/atomic"
	"time"

	"github.com/snicketlb/snicket/pkg/certs"
	"github.com/snicketlb/snicket/pkg/config"
	"github.com/snicketlb/snicket/pkg/proxy"
	"github.com/snicketlb/snicket/pkg/terminate"
)

// secrets loads certificates and roots, each file once, and tells what is wrong with
// them at the place that names them. It belongs to one goroutine at a time: the one that
// builds a plan, and then, while the plan is in force, whoever holds reloading.
type secrets struct {
	now    time.Time
	report func(config.Problem)
	// bundles are the authorities that backends are verified by, by file.
	bundles map[string]*authorities
	broken  bool // a certificate could not be loaded
	// strangers are the warnings of issuers that nobody here knows: of each one is told,
	// with the first file, as thousands of certificates may have the same.
	strangers map[certs.Problem]bool
	aged      config.Problems
	// managed holds the certificates of ACME; nil: nothing is served.
	managed *certs.Managed

	before *secrets // those of the plan before, while this one is built; nil: none
	loader *certs.Loader
	pairs  map[pairFiles]*pair
	used   map[pairFiles]bool // those that are shown to clients
	shown  map[pairFiles]bool // those that are shown to backends
	lists  []*certificateList
	common *certificateList // that of [tls]
	serves []*served

	mu sync.Mutex // guards the sets in lists, which others look at

	tickets *tickets
	ech     *certs.LiveECH // nil: none

	trusts  []*trust
	keyLogs keyLogs

	eye       *eye
	followers []*follower // what is made anew when files change
	troubles  troubles
	faults    atomic.Pointer[[]Fault] // as of the last look; nil: there was none
}

func newSecrets(now time.Time, report func(config.Problem)) *secrets {
	e := newEye()
	return &secrets{
		now: now, report: report, bundles: map[string]*authorities{}, strangers: map[certs.Problem]bool{},
		eye: e, loader: certs.NewLoader(e.ReadFile),
		pairs: map[pairFiles]*pair{}, used: map[pairFiles]bool{}, shown: map[pairFiles]bool{},
	}
}

// succeed makes s take over from what former has loaded; former may be nil. Files are
// read anew, and those that hold the same are not parsed again.
func (s *secrets) succeed(former *secrets) {
	if former != nil {
		s.before, s.loader, s.eye = former, former.loader, former.eye
		s.eye.forget()
	}
}

// client loads the certificate shown to backends, if there is one, and reports what is
// wrong with it once.
func (s *secrets) client(c config.Certificate) {
	if c.Cert != "" {
		s.load(c, false)
	}
}

// load loads a certificate, and reports what is wrong with it once. What is only a
// warning about the chain of a server, such as that it has no host name, says nothing of a
// client's.
func (s *secrets) load(c config.Certificate, forServer bool) *certs.Certificate {
	files := pairFiles{c.Cert, c.Key}
	known := s.used[files] || s.shown[files]
	if forServer {
		s.used[files] = true
	} else {
		s.shown[files] = true
	}
	if known {
		return s.pairs[files].cert
	}
	p := s.pairOf(files)
	problems := p.problems
	if p.cert != nil {
		problems = p.cert.CheckKeyFile()
		for _, at := range p.cert.CheckAge(s.now) {
			s.aged = append(s.aged, problemAt(c.Pos, at))
		}
		for _, at := range p.problems {
			if (forServer || !at.Warning) && !s.heardOf(at) {
				problems = append(problems, at)
			}
		}
	}
	s.reportAt(c.Pos, problems)
	s.broken = s.broken || p.cert == nil
	return p.cert
}

// heardOf reports whether the same was told of another certificate of the issuer.
func (s *secrets) heardOf(p certs.Problem) bool {
	if !p.OfIssuer {
		return false
	}
	p.File = ""
	told := s.strangers[p]
	s.strangers[p] = true
	return told
}

// contents tells, by file, what is in force of it; values of two secrets are equal if
// that is the same. A certificate that was seen without its key is not: the one before
// serves on.
func (s *secrets) contents() map[string][sha256.Size]byte {
	held := map[string][sha256.Size]byte{}
	hold := func(file string, c *certs.Certificate) {
		held[file] = sha256.Sum256(bytes.Join(c.Certificate.Certificate, nil))
	}
	for files, p := range s.pairs {
		if p.cert != nil {
			hold(files.cert, p.cert)
		}
	}
	for _, l := range s.lists {
		for i := range l.held {
			hold(l.held[i].file, l.held[i].cert)
		}
	}
	return held
}

func (s *secrets) reportAt(pos config.Position, problems []certs.Problem) {
	for _, p := range problems {
		s.report(problemAt(pos, p))
	}
}

func problemAt(pos config.Position, p certs.Problem) config.Problem {
	return config.Problem{Pos: pos, Warning: p.Warning, Text: p.File + ": " + p.Text, Hint: p.Hint}
}

// terminator makes the TLS server of a route, and reports hosts that no certificate
// covers. Its session tickets are its own: a session of one route never resumes on
// another, and does behind a reload.
func (s *secrets) terminator(r *config.Route, incomplete bool) *proxy.Terminator {
	o := terminate.ServerOptions{Store: s.serve(r, incomplete), Policy: s.policy(&r.TLS.Policy), ECH: s.ech}
	if r.TLS.KeyLog.Path != "" {
		o.KeyLog = s.keyLogs.of(r)
	}
	t := &proxy.Terminator{Store: o.Store, Clients: o.Policy.Clients, Demands: s.demands(&r.TLS.Policy), ECH: s.ech != nil}
	config := func(alpn ...string) *tls.Config {
		o.ALPN = alpn
		return terminate.ServerConfig(o)
	}
	if !r.TLS.ALPNFromBackends {
		t.Fixed = config(r.TLS.ALPN...)
	} else {
		t.Offers[proxy.OfferNone] = config()
		t.Offers[proxy.OfferHTTP1] = config("http/1.1")
		t.Offers[proxy.OfferH2] = config("h2", "http/1.1")
	}
	if r.Sorry {
		t.Page = config("h2", "http/1.1")
	}
	s.tickets.serve(s.ticketPolicy(r), t, s.now)
	return t
}
