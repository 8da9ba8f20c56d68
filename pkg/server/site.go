package server

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/snicketlb/snicket/balancer"
	"github.com/snicketlb/snicket/pkg/config"
	"github.com/snicketlb/snicket/pkg/proxy"
	"github.com/snicketlb/snicket/pkg/terminate"
	"github.com/snicketlb/snicket/pkg/web"
)

// What http listeners are bounded by beside the hello timeout; what they answer is
// small.
const (
	plainMaxHeader = 16 << 10
	plainKeepalive = 15 * time.Second
)

// A sharedSite is what serves the requests of a route, and what it was made of. A
// reload that changes nothing of that leaves the site's clients, and the connections
// that are kept to its backends, alone.
type sharedSite struct {
	of   siteSource
	site *web.Site
	pool *web.Pool
}

// siteSource is all that a site depends on, without places in files. How a backend is
// dialled is not among it: that travels with the backend.
type siteSource struct {
	route         string
	http          config.RouteHTTP
	idle          time.Duration
	balancer      *balancer.Pool
	tls           *terminate.Backend // the same for as long as it says the same
	proxyProtocol int
	retries       int
	queue         time.Duration
	byName        bool // the backends' TLS is for the name that the client asked for
	admits        admission
}

// admission is which clients a route lets in. Who was let in by other rules is asked to
// come again: a connection of HTTP may bring requests for as long as its client likes.
type admission struct {
	from, denyFrom []netip.Prefix
	auth           config.ClientAuth
	ca, crl        string
	names          []string
}

func admissionOf(r *config.Route) admission {
	p := &r.TLS.Policy
	return admission{r.From, r.DenyFrom, p.ClientAuth, p.ClientCA.Path, p.CRL.Path, p.ClientNames}
}

func (s *siteSource) equal(o *siteSource) bool {
	a, b := *s, *o
	a.tls, b.tls, a.balancer, b.balancer = nil, nil, nil, nil
	return s.tls == o.tls && s.balancer == o.balancer && reflect.DeepEqual(a, b)
}

// site has a route that speaks HTTP do so.
func (b *builder) site(route *proxy.Route, r *config.Route) {
	p := b.poolOf(r)
	if r.HTTP == nil || p == nil {
		return
	}
	of := siteSource{
		route: r.Name, http: placelessHTTP(r.HTTP), idle: r.Timeouts.Idle, balancer: route.Pool.Balancer,
		tls: route.Pool.TLS, proxyProtocol: p.ProxyProtocol, retries: p.Retries, queue: route.Pool.QueueTimeout,
		byName: p.TLS != nil && p.TLS.ServerName == "", admits: admissionOf(r),
	}
	b.checkPlainName(r, p)
	now := b.shared.formerSites[r.Name]
	if now == nil || !now.of.equal(&of) {
		now = b.newSite(of, route)
	}
	b.shared.sites[r.Name] = now
	route.Site = now.site
}

// checkPlainName refuses what could never be verified: a client in plain text says no
// server name that its backend could be asked for.
func (b *builder) checkPlainName(r *config.Route, p *config.Pool) {
	if p.TLS == nil || p.TLS.ServerName != "" || p.TLS.InsecureSkipVerify {
		return
	}
	for _, l := range b.config.Listeners {
		if l.Kind == config.ListenHTTP && slices.Contains(r.Listeners, l.Name) {
			b.problem(config.Problem{
				Pos:  r.Pos,
				Text: fmt.Sprintf("route %q serves the http listener %q from pool %q, which verifies its backends by the client's server name, and there is none", r.Name, l.Name, p.Name),
				Hint: "set server_name in [pools." + p.Name + ".tls], or let the listener redirect to https",
			})
		}
	}
}

// poolOf is the pool of a route as it is configured, or nil.
func (b *builder) poolOf(r *config.Route) *config.Pool {
	i := slices.IndexFunc(b.config.Pools, func(p config.Pool) bool { return p.Name == r.Pool })
	if i < 0 {
		return nil
	}
	return &b.config.Pools[i]
}

func (b *builder) newSite(of siteSource, route *proxy.Route) *sharedSite {
	o := web.PoolOptions{
		Balancer: of.balancer, Retries: of.retries, QueueTimeout: of.queue, Dial: route.Pool.Dial,
		Shared: of.proxyProtocol == 0, PerName: of.byName, // else a connection tells of one client
	}
	if of.tls != nil {
		o.ALPN = []string{"h2", "http/1.1"}
	}
	pool := web.NewPool(o)
	h := &of.http
	site := web.SiteOptions{
		Name: of.route, Owns: proxy.Owns, HSTS: h.HSTS, Forwarded: h.Forwarded, TrustFrom: h.TrustFrom,
		MaxHeader: int(h.MaxHeader), HeaderTimeout: h.HeaderTimeout, Keepalive: min(h.Keepalive, of.idle),
		ResponseTimeout: h.ResponseTimeout, Idle: of.idle, Pool: pool, Log: b.log,
	}
	for _, d := range h.Deny {
		site.Deny = append(site.Deny, web.Rule{Path: d.Path, Methods: d.Methods})
	}
	for _, r := range h.Redirects {
		site.Redirects = append(site.Redirects, web.Redirect{Path: r.Path, To: r.To, Status: r.Status})
	}
	return &sharedSite{of: of, site: web.NewSite(site), pool: pool}
}

// placelessHTTP is h without the places that it was read from.
func placelessHTTP(h *config.RouteHTTP) config.RouteHTTP {
	c := *h
	c.Pos = config.Position{}
	c.Deny, c.Redirects = slices.Clone(c.Deny), slices.Clone(c.Redirects)
	for i := range c.Deny {
		c.Deny[i].Pos = config.Position{}
	}
	for i := range c.Redirects {
		c.Redirects[i].Pos = config.Position{}
	}
	return c
}

// closeFormer closes the connections kept for sites that are no more.
func (s *shared) closeFormer() {
	for name, was := range s.formerSites {
		if s.sites[name] != was {
			was.pool.Close()
		}
	}
	s.formerSites, s.formerPlain = nil, nil
}

// closeSites closes all connections kept to backends.
func (s *shared) closeSites() {
	for _, site := range s.sites {
		site.pool.Close()
	}
}

// A plainSource is what the work of an http listener is made of. Listeners with the
// same share it, and keep it over a reload.
type plainSource struct {
	port         uint16 // of https
	header, idle time.Duration
}

// httpListener is what an http listener does.
func (b *builder) httpListener(l *config.Listener) *web.Plain {
	of := plainSource{port: l.HTTPSPort, header: b.config.Timeouts.Hello, idle: b.config.Timeouts.Idle}
	now := b.shared.plain[of]
	if now == nil {
		now = b.shared.formerPlain[of]
	}
	if now == nil {
		now = web.NewPlain(web.PlainOptions{
			Challenge: b.authority.http01, Known: proxy.Known, HTTPSPort: strconv.Itoa(int(of.port)), Site: proxy.SiteFor,
			MaxHeader: plainMaxHeader, HeaderTimeout: of.header, Keepalive: min(plainKeepalive, of.idle), Log: b.log,
		})
	}
	b.shared.plain[of] = now
	return now
}
