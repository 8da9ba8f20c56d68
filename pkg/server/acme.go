package server

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/snicketlb/snicket/pkg/certs"
	"github.com/snicketlb/snicket/pkg/certs/acme"
	"github.com/snicketlb/snicket/pkg/config"
)

// An authority keeps the certificates that come from ACME. It outlives reloads: as long
// as [acme] says the same, so does its Manager, and hosts come and go without a new
// account or order.
type authority struct {
	log   *slog.Logger
	every time.Duration  // how often certificates are looked at; 0: the default
	certs *certs.Managed // of all hosts
	// manager is nil while no route has acme = true.
	manager atomic.Pointer[acme.Manager]
	ending  sync.WaitGroup // managers that were replaced

	mu      sync.Mutex // guards current
	current *acmePlan  // whose manager delivers

	settings acmeSettings // of manager; of whoever reloads
}

// acmeSettings are what a Manager is made of.
type acmeSettings struct {
	config config.ACME
	roots  *x509.CertPool
	http   bool // a listener answers http-01
}

// acmePlan is what a plan wants of the authority.
type acmePlan struct {
	settings acmeSettings
	hosts    []string // sorted, each once; none: no manager
}

func newAuthority(log *slog.Logger, every time.Duration) *authority {
	return &authority{log: log, every: every, certs: new(certs.Managed)}
}

// managed holds the certificates; nil without an authority.
func (a *authority) managed() *certs.Managed {
	if a == nil {
		return nil
	}
	return a.certs
}

// managedFor is where a route finds those of its hosts.
func (s *secrets) managedFor(r *config.Route) *certs.Managed {
	if !r.TLS.ACME {
		return nil
	}
	return s.managed
}

// challengeOf answers the challenges of a route; nil for one that has none.
func (b *builder) challengeOf(r *config.Route) func(host string) *tls.Config {
	if !r.TLS.ACME || b.authority == nil {
		return nil
	}
	return b.authority.challenge
}

// acme collects the hosts whose certificates are to come from ACME.
func (b *builder) acme() {
	p := &b.plan.acme
	for _, r := range b.config.Routes {
		if r.Mode == config.Terminate && r.TLS.ACME {
			for _, h := range r.Hosts {
				p.hosts = append(p.hosts, h.Pattern)
			}
		}
	}
	slices.Sort(p.hosts)
	p.hosts = slices.Compact(p.hosts)
	c := b.config.ACME
	p.settings = acmeSettings{
		config: placelessACME(c), roots: b.secrets.roots(c.CA),
		http: slices.ContainsFunc(b.config.Listeners, func(l config.Listener) bool { return l.Kind == config.ListenHTTP }),
	}
	if b.authority != nil {
		b.state.ChallengeOpen = b.authority.open
	}
}

// equal reports whether one Manager serves both.
func (s *acmeSettings) equal(o *acmeSettings) bool {
	return s.config == o.config && s.http == o.http && (s.roots == o.roots || s.roots.Equal(o.roots))
}

// acmeChange is a plan for the authority, made ready.
type acmeChange struct {
	a       *authority
	plan    *acmePlan
	manager *acme.Manager // nil: none is wanted
	fresh   bool
}

// prepare makes what p wants and leaves what is served as it is.
func (a *authority) prepare(p *acmePlan) (*acmeChange, error) {
	c := &acmeChange{a: a, plan: p, manager: a.manager.Load()}
	switch {
	case len(p.hosts) == 0:
		c.manager = nil
		return c, nil
	case c.manager != nil && a.settings.equal(&p.settings):
		return c, nil
	}
	s := &p.settings
	m, err := acme.New(acme.Options{
		Directory: s.config.Directory, Roots: s.roots, Email: s.config.Email, Storage: s.config.Storage,
		KeyID: s.config.ExternalAccount.KeyID, HMACKey: s.config.ExternalAccount.HMACKey,
		HTTP: s.http, Former: a.certs.Certificates(), CheckEvery: a.every, Log: a.log,
		Deliver: func(all []*certs.Certificate) { a.deliver(p, all) },
	})
	if err != nil {
		return nil, err
	}
	c.manager, c.fresh = m, true
	return c, nil
}

// deliver takes the certificates of the manager that p was made for.
func (a *authority) deliver(p *acmePlan, all []*certs.Certificate) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.current == p {
		a.certs.Swap(all)
	}
}

// abort gives up a change.
func (c *acmeChange) abort() {
	if c.fresh {
		c.manager.Close()
	}
}

// begin has the certificates of new hosts at hand before they are served, as far as
// there are any. An authority is asked for more once they are, as it looks at that.
func (c *acmeChange) begin() {
	a := c.a
	if c.manager == nil {
		return
	}
	if c.fresh {
		a.mu.Lock()
		a.current = c.plan
		a.mu.Unlock()
		c.end(a.manager.Swap(c.manager))
	}
	c.manager.Preload(c.plan.hosts)
}

// done puts the change into force: the new hosts are served, and the old no more.
func (c *acmeChange) done() {
	a := c.a
	a.settings = c.plan.settings
	if c.manager == nil {
		a.mu.Lock()
		a.current = nil
		a.mu.Unlock()
		a.certs.Swap(nil)
		c.end(a.manager.Swap(nil))
		return
	}
	c.manager.Manage(c.plan.hosts)
	if missing := c.manager.Missing(); len(missing) > 0 {
		a.log.Info("certificates are asked for", slog.String("hosts", few(missing)),
			slog.String("until_then", "clients of these hosts get the alert unrecognized_name"))
	}
}

// end has a manager end that was replaced, without waiting for its authority.
func (c *acmeChange) end(m *acme.Manager) {
	if m != nil {
		c.a.ending.Go(m.Close)
	}
}

// close ends the manager, and waits for those that were.
func (a *authority) close() {
	if m := a.manager.Swap(nil); m != nil {
		m.Close()
	}
	a.ending.Wait()
}

// challenge is what a client that validates host is answered by; nil if no challenge is
// open.
func (a *authority) challenge(host string) *tls.Config {
	m := a.manager.Load()
	if m == nil {
		return nil
	}
	cert := m.TLSALPN(host)
	if cert == nil {
		return nil
	}
	return &tls.Config{
		Certificates: []tls.Certificate{*cert}, NextProtos: []string{acme.Protocol},
		MinVersion: tls.VersionTLS12, SessionTicketsDisabled: true,
	}
}

// open reports whether a challenge of this process is open.
func (a *authority) open() bool {
	m := a.manager.Load()
	return m != nil && m.Open()
}

// http01 answers /.well-known/acme-challenge/TOKEN of host, if that challenge is open.
func (a *authority) http01(host, token string) (keyAuth string, ok bool) {
	m := a.manager.Load()
	if m == nil {
		return "", false
	}
	return m.HTTP01(host, token)
}

// few is a list of names that stays short.
func few(names []string) string {
	const most = 5
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
