package server

import (
	"fmt"
	"slices"

	"github.com/snicketlb/snicket/pkg/config"
	"github.com/snicketlb/snicket/pkg/proxy"
	"github.com/snicketlb/snicket/pkg/terminate"
	"github.com/snicketlb/snicket/pkg/web"
)

// sorry gives a route the page for the time when none of its backends is ready. One that
// speaks HTTP has it in its Site.
func (b *builder) sorry(route *proxy.Route, r *config.Route) {
	if !r.Sorry || route.Mode == proxy.Reject || route.Site != nil {
		return
	}
	t := route.TLS
	if t == nil {
		t = b.secrets.pageFor(r, &b.config.TLS.Policy)
		b.checkSorry(r, t)
	}
	route.Sorry = &proxy.Sorry{TLS: t, Site: web.NewSite(web.SiteOptions{
		Name: r.Name, Owns: proxy.Owns, MaxHeader: plainMaxHeader, HeaderTimeout: b.config.Timeouts.Hello,
		Keepalive: plainKeepalive, Idle: r.Timeouts.Idle, Log: b.log,
	})}
}

// pageFor is TLS for the page of a route that passes it through: by the certificates of
// [tls], and without asking for the client's.
func (s *secrets) pageFor(r *config.Route, p *config.TLSPolicy) *proxy.Terminator {
	how := *r
	how.TLS = &config.RouteTLS{}
	t := &proxy.Terminator{Store: s.served(&how).live}
	t.Page = terminate.ServerConfig(terminate.ServerOptions{
		Store: t.Store, ALPN: []string{"h2", "http/1.1"},
		Policy: terminate.Policy{MinVersion: p.MinVersion, MaxVersion: p.MaxVersion, Curves: slices.Clone(p.Curves)},
	})
	t.Page.SessionTicketsDisabled = true // nobody comes to resume that
	return t
}

// checkSorry warns of hosts that are passed through, and for which there is no certificate
// to say sorry by.
func (b *builder) checkSorry(r *config.Route, t *proxy.Terminator) {
	if b.secrets.broken || b.config.TLS.Incomplete {
		return // that is told already
	}
	for _, h := range r.Hosts {
		if !t.Store.Store().Covers(h.Pattern) {
			b.problem(config.Problem{
				Pos: h.Pos, Warning: true, Text: fmt.Sprintf("sorry cannot be said to %q: no certificate of [tls] covers it", h.Pattern),
				Hint: "add one to certificates in [tls], or clients get an alert when no backend is ready",
			})
		}
	}
}
