package server

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/snicketlb/snicket/pkg/certs"
	"github.com/snicketlb/snicket/pkg/config"
	"github.com/snicketlb/snicket/pkg/proxy"
	"github.com/snicketlb/snicket/pkg/terminate"
)

// secrets loads certificates and roots, each file once, and tells what is wrong with
// them at the place that names them.
type secrets struct {
	now    time.Time
	report func(config.Problem)
	loaded map[[2]string]*certs.Certificate
	pools  map[string]*x509.CertPool
	broken bool // a certificate could not be loaded
	aged   config.Problems
	// managed holds the certificates of ACME; nil: nothing is served.
	managed *certs.Managed

	tickets *tickets

	eye       *eye
	followers []*follower // what is made anew when files change
	troubles  troubles
}

// probeSecrets are those of a pool's probes.
type probeSecrets struct {
	roots       *x509.CertPool // nil: the system's
	certificate *tls.Certificate
}

func newSecrets(now time.Time, report func(config.Problem)) *secrets {
	return &secrets{
		now: now, report: report,
		loaded: map[[2]string]*certs.Certificate{}, pools: map[string]*x509.CertPool{}, eye: newEye(),
	}
}

// servers loads certificates to show to clients. One that cannot be used is left out
// and reported.
func (s *secrets) servers(list []config.Certificate) []*certs.Certificate {
	var out []*certs.Certificate
	for _, c := range list {
		if loaded := s.load(c, true); loaded != nil {
			out = append(out, loaded)
		}
	}
	return out
}

// client loads the certificate shown to backends; nil for none.
func (s *secrets) client(c config.Certificate) *tls.Certificate {
	if c.Cert == "" {
		return nil
	}
	loaded := s.load(c, false)
	if loaded == nil {
		return nil
	}
	return &loaded.Certificate
}

// load loads a certificate once. What is only a warning about the chain of a server,
// such as that it has no host name, says nothing of a client's.
func (s *secrets) load(c config.Certificate, forServer bool) *certs.Certificate {
	key := [2]string{c.Cert, c.Key}
	if loaded, ok := s.loaded[key]; ok {
		return loaded
	}
	loaded, problems := certs.Load(c.Cert, c.Key)
	if loaded != nil {
		always := timeless(loaded)
		for _, p := range loaded.Check(s.now, nil) {
			switch {
			case !p.Warning && !slices.Contains(always, p):
				s.aged = append(s.aged, problemAt(c.Pos, p))
			case forServer || !p.Warning:
				problems = append(problems, p)
			}
		}
	}
	s.reportAt(c.Pos, problems)
	s.loaded[key] = loaded
	s.broken = s.broken || loaded == nil
	return loaded
}

// timeless is what is wrong with a certificate at any time. What Check says beyond
// that is the age of one in the chain, of which it is silent when that one begins.
func timeless(c *certs.Certificate) []certs.Problem {
	var always []certs.Problem
	for i, der := range c.Certificate.Certificate {
		x, err := x509.ParseCertificate(der)
		if err != nil {
			return always
		}
		then := c.Check(x.NotBefore, nil)
		if i == 0 {
			always = then
			continue
		}
		always = slices.DeleteFunc(always, func(p certs.Problem) bool { return !slices.Contains(then, p) })
	}
	return always
}

// roots loads a bundle of CA certificates; nil, for the system's, without a file.
func (s *secrets) roots(f config.File) *x509.CertPool {
	if f.Path == "" {
		return nil
	}
	if pool, ok := s.pools[f.Path]; ok {
		return pool
	}
	pool, problems := certs.Pool(f.Path)
	s.reportAt(f.Pos, problems)
	s.pools[f.Path] = pool
	return pool
}

// contents tells, by file, what was loaded; values of two secrets are equal if the
// files held the same.
func (s *secrets) contents() map[string][sha256.Size]byte {
	held := map[string][sha256.Size]byte{}
	for files, c := range s.loaded {
		if c != nil {
			held[files[0]] = sha256.Sum256(bytes.Join(c.Certificate.Certificate, nil))
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
func (s *secrets) terminator(r *config.Route, common *certs.Set, incomplete bool) *proxy.Terminator {
	incomplete = incomplete || r.TLS.Incomplete
	own := certs.NewSet(s.servers(r.TLS.Certificates))
	store := certs.NewStore(own, common, certs.StoreOptions{Managed: s.managedFor(r), Default: r.TLS.DefaultCertificate})
	t := &proxy.Terminator{Store: certs.NewLive(store)}
	for _, h := range r.Hosts {
		// One that could not be loaded may well cover it: that is told already.
		if !s.broken && !incomplete && !r.TLS.ACME && !store.Covers(h.Pattern) {
			s.report(uncovered(h, r.TLS.DefaultCertificate))
		}
	}
	config := func(alpn ...string) *tls.Config {
		return terminate.ServerConfig(terminate.ServerOptions{
			Store: t.Store, ALPN: alpn, MinVersion: r.TLS.Policy.MinVersion,
		})
	}
	if !r.TLS.ALPNFromBackends {
		t.Fixed = config(r.TLS.ALPN...)
	} else {
		t.Offers[proxy.OfferNone] = config()
		t.Offers[proxy.OfferHTTP1] = config("http/1.1")
		t.Offers[proxy.OfferH2] = config("h2", "http/1.1")
	}
	s.tickets.serve(s.ticketPolicy(r), t, s.now)
	return t
}

func uncovered(h config.Host, byDefault bool) config.Problem {
	hint := "add one to certificates in [routes.tls] or [tls]"
	broad := h.Pattern == "*" || h.Pattern == "-" || strings.HasPrefix(h.Pattern, "**.")
	if broad && !byDefault {
		hint = "name the hosts, or set default_certificate = true in [routes.tls] to show one that does not fit"
	}
	return config.Problem{Pos: h.Pos, Text: fmt.Sprintf("no certificate covers %q", h.Pattern), Hint: hint}
}
