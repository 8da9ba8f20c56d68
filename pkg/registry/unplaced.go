package registry

import (
	"slices"

	"github.com/snicketlb/snicket/pkg/config"
)

// What follows takes the positions from a copy of a declaration, and changes nothing that
// the copy shares with it.

func placelessListener(l *config.Listener) { l.Pos = config.Position{} }

func placelessRoute(r *config.Route) {
	r.Pos = config.Position{}
	r.Hosts = slices.Clone(r.Hosts)
	for i := range r.Hosts {
		r.Hosts[i].Pos = config.Position{}
	}
	if r.Mode == config.Terminate { // else it says nothing
		r.TLS = placelessTLS(*r.TLS)
	}
	if r.HTTP != nil {
		h := *r.HTTP
		h.Pos = config.Position{}
		h.Deny, h.Redirects = slices.Clone(h.Deny), slices.Clone(h.Redirects)
		for i := range h.Deny {
			h.Deny[i].Pos = config.Position{}
		}
		for i := range h.Redirects {
			h.Redirects[i].Pos = config.Position{}
		}
		r.HTTP = &h
	}
}

func placelessTLS(t config.RouteTLS) *config.RouteTLS {
	t.Certificates = slices.Clone(t.Certificates)
	for i := range t.Certificates {
		t.Certificates[i].Pos = config.Position{}
	}
	t.CertificateEntries = nil // the same files in other words
	p := &t.Policy
	p.Pos, p.ClientCA.Pos, p.CRL.Pos, t.KeyLog.Pos = config.Position{}, config.Position{}, config.Position{}, config.Position{}
	return &t
}

func placelessPool(p *config.Pool) {
	p.Pos = config.Position{}
	p.Health.CA.Pos = config.Position{}
	p.Backends = slices.Clone(p.Backends)
	for i := range p.Backends {
		p.Backends[i].Pos = config.Position{}
	}
	if p.Discover != nil {
		d := *p.Discover
		d.Pos = config.Position{}
		p.Discover = &d
	}
	if p.TLS != nil {
		t := *p.TLS
		t.Pos, t.CA.Pos, t.Certificate.Pos = config.Position{}, config.Position{}, config.Position{}
		p.TLS = &t
	}
}
