package server

import (
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/snicketlb/snicket/pkg/certs"
	"github.com/snicketlb/snicket/pkg/config"
	"github.com/snicketlb/snicket/pkg/terminate"
	"github.com/snicketlb/snicket/pkg/watch"
)

// trust is what the clients of some routes are held against: all that name the same
// files share it, and get what they hold from it when it changes.
type trust struct {
	files   trustFiles
	held    [2]content // of the files, as they were when the plan was made
	now     *terminate.Trust
	bundle  []*x509.Certificate
	clients []*terminate.Clients
	stands  map[string]time.Time // what is said to be out of time, since when
}

// trustFiles are the paths of client_ca and crl; the latter may be empty.
type trustFiles struct{ ca, crl string }

// load reads the files. It returns nil and the problems, of each file apart, if one of
// them cannot be used.
func (f trustFiles) load() (now *terminate.Trust, bundle []*x509.Certificate, ofCA, ofCRL []certs.Problem) {
	bundle, ofCA = certs.Bundle(f.ca)
	if bundle == nil {
		return nil, nil, ofCA, nil
	}
	now = &terminate.Trust{Authorities: x509.NewCertPool()}
	for _, c := range bundle {
		now.Authorities.AddCert(c)
	}
	if f.crl == "" {
		return now, bundle, ofCA, nil
	}
	if now.Revocations, ofCRL = certs.LoadRevocations(f.crl, bundle); now.Revocations == nil {
		return nil, nil, ofCA, ofCRL
	}
	return now, bundle, ofCA, ofCRL
}

// policy makes what a route demands of handshakes of what its configuration says.
func (s *secrets) policy(p *config.TLSPolicy) terminate.Policy {
	return terminate.Policy{
		MinVersion: p.MinVersion, MaxVersion: p.MaxVersion, Curves: slices.Clone(p.Curves), Clients: s.clients(p),
	}
}

// clients says whose certificates a route accepts; nil if it asks for none. Where files
// cannot be used that is reported, and nobody's are.
func (s *secrets) clients(p *config.TLSPolicy) *terminate.Clients {
	o := terminate.ClientsOptions{Names: p.ClientNames}
	switch p.ClientAuth {
	case config.ClientAuthRequire:
		o.Auth = terminate.RequireCertificate
	case config.ClientAuthRequest:
		o.Auth = terminate.RequestCertificate
	default:
		return nil
	}
	t := s.trust(p)
	clients, err := terminate.NewClients(t.now, o)
	if err != nil {
		s.report(config.Problem{Pos: p.Pos, Text: "client_names: " + err.Error()})
		return nil
	}
	t.clients = append(t.clients, clients)
	return clients
}

// demands tells what a route demands of the certificates of its clients, in a form to
// compare; "" for nothing.
func (s *secrets) demands(p *config.TLSPolicy) string {
	if p.ClientAuth == config.ClientAuthNone {
		return ""
	}
	held := s.trust(p).held
	return fmt.Sprintf("%q %q %x %x", p.ClientAuth, p.ClientNames, held[0].sum, held[1].sum)
}

// trust loads the files of a policy, once for all that have the same.
func (s *secrets) trust(p *config.TLSPolicy) *trust {
	files := trustFiles{p.ClientCA.Path, p.CRL.Path}
	for _, t := range s.trusts {
		if t.files == files {
			return t
		}
	}
	t := &trust{files: files, stands: map[string]time.Time{}}
	s.trusts = append(s.trusts, t)
	patterns := []string{watch.Quote(files.ca)}
	if files.crl != "" {
		patterns = append(patterns, watch.Quote(files.crl))
	}
	if files.ca == "" { // it cannot be read, which is told of the key; nobody is let in
		t.now = &terminate.Trust{Authorities: x509.NewCertPool()}
		return t
	}
	for i, file := range []string{files.ca, files.crl} {
		if file != "" {
			t.held[i] = s.eye.look(file)
		}
	}
	s.follow("client_ca", patterns, t.reload)
	now, bundle, ofCA, ofCRL := files.load()
	s.reportAt(p.ClientCA.Pos, ofCA)
	s.reportAt(p.CRL.Pos, ofCRL)
	if now == nil {
		now = &terminate.Trust{Authorities: x509.NewCertPool()} // nobody: the plan will not run
	}
	t.now, t.bundle = now, bundle
	for _, problem := range t.late(s.now) { // it is said by the look that follows, and by check
		problem.Warning = true
		pos := p.ClientCA.Pos
		if problem.File == files.crl {
			pos = p.CRL.Pos
		}
		s.report(problemAt(pos, problem))
		t.stands[problem.String()] = s.now
	}
	return t
}

// reload puts into force what the files hold now.
func (t *trust) reload() error {
	now, bundle, ofCA, ofCRL := t.files.load()
	if now == nil {
		return joined(slices.Concat(ofCA, ofCRL))
	}
	t.now, t.bundle = now, bundle
	for _, c := range t.clients {
		c.Swap(now)
	}
	return nil
}

// late says what is out of time: clients are refused for it.
func (t *trust) late(now time.Time) []certs.Problem {
	problems := certs.Expired(t.files.ca, t.bundle, now)
	if t.now.Revocations != nil {
		problems = append(problems, t.now.Revocations.Problems(now)...)
	}
	return problems
}

// lateTrusts returns what is out of time of authorities and lists, each once: whether it
// was so from the beginning or has become so.
func (s *secrets) lateTrusts(now time.Time) (say []string) {
	for _, t := range s.trusts {
		stands := map[string]time.Time{}
		for _, p := range t.late(now) {
			why := p.String()
			since, said := t.stands[why]
			if !said {
				since = now
				say = append(say, why)
			}
			stands[why] = since
		}
		t.stands = stands
	}
	return say
}
