package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/snicketlb/snicket/pkg/pace"
)

// check holds routes, pools and listeners against one another.
func (d *decoder) check(c *Config, routes []*routeSource) {
	used := map[string]bool{}
	warned := map[string]bool{}
	for i, r := range pace.All(c.Routes) {
		src := routes[i]
		if src != nil { // else it is plain
			d.checkDefaultCertificate(r, src)
			d.checkPlainListeners(c, r, src)
		}
		if r.Mode == Reject {
			continue
		}
		p := d.poolOf(c, r.Pool)
		if p == nil {
			d.missingPool(c, r, src.of(d, r))
			continue
		}
		used[r.Pool] = true
		if src != nil {
			d.checkTold(r, src, p)
		}
		switch {
		case p.TLS != nil && r.Mode == Passthrough:
			d.problem(src.of(d, r).table.pos("pool"), `add mode = "terminate" to the route, or send it to a pool without tls`,
				"passthrough route %q goes to pool %q, which re-encrypts", r.Name, p.Name)
		case p.TLS != nil:
			d.checkVerifiable(r, p)
		case r.Mode == Terminate:
			d.checkPlain(r, p, warned)
		}
	}
	d.checkTies(contested(c.Routes, routes))
	d.checkACME(c, routes)
	if len(c.Routes) > 0 && !d.problems.bad() && !d.references.bad() {
		d.checkUnused(c, used)
	}
}

// checkUnused warns of what no route names. It waits until all routes are read well:
// a misspelled name would show twice.
func (d *decoder) checkUnused(c *Config, used map[string]bool) {
	const hint = "drop it, or name it in a route"
	for _, p := range c.Pools {
		if !used[p.Name] {
			d.warning(p.Pos, hint, "no route uses pool %q", p.Name)
		}
	}
	listens := map[string]bool{}
	for _, r := range c.Routes {
		for _, name := range r.Listeners {
			listens[name] = true
		}
	}
	for _, l := range c.Listeners {
		if !listens[l.Name] && l.Kind != ListenHTTP { // which has a use of its own
			d.warning(l.Pos, hint, "no route listens on %q", l.Name)
		}
	}
}

func (d *decoder) missingPool(c *Config, r *Route, src *routeSource) {
	v := src.table.get("pool")
	if v == nil && r.Pool == "" || v != nil && v.kind != kindString { // refused where it was read
		return
	}
	var known []string
	for _, p := range c.Pools {
		known = append(known, p.Name)
	}
	hint := fmt.Sprintf("declare [pools.%s]", bareOrQuoted(r.Pool))
	if r.Pool == "" {
		hint = "name one"
	}
	if near := Nearest(r.Pool, known); near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
	}
	d.reference(src.table.pos("pool"), hint, "no pool %q", r.Pool)
}

// checkDefaultCertificate wants a host that can have use for one.
func (d *decoder) checkDefaultCertificate(r *Route, src *routeSource) {
	catchAll := slices.ContainsFunc(r.Hosts, func(h Host) bool { return h.Pattern == "*" || h.Pattern == "-" })
	if r.TLS.DefaultCertificate && !catchAll {
		d.problem(src.tls.pos("default_certificate"), `it is for hosts = ["*"] or ["-"]; drop it`,
			"default_certificate in route %q, which knows its names", r.Name)
	}
}

// checkPlainListeners refuses a route on a listener of kind http that has no use for
// it, or that would lead around what the route asks of its clients.
func (d *decoder) checkPlainListeners(c *Config, r *Route, src *routeSource) {
	v := src.table.get("listeners")
	if v == nil || r.Mode == "" {
		return
	}
	for _, l := range c.Listeners {
		i := slices.IndexFunc(v.array, func(item *value) bool { return item.scalar == l.Name })
		if l.Kind != ListenHTTP || i < 0 {
			continue
		}
		at := v.array[i].pos()
		switch {
		case r.HTTP == nil && src.table.missing("http"):
			d.problem(at, `drop it: http listeners redirect every host to https; or add mode = "terminate" and [routes.http] to serve it in plain text`,
				"listener %q is of kind http, and route %q speaks no HTTP", l.Name, r.Name)
		case r.TLS.Policy.ClientAuth == ClientAuthRequire:
			d.problem(at, `drop it, or write client_auth = "none"`,
				"route %q requires certificates of its clients, and listener %q cannot ask for them", r.Name, l.Name)
		case len(r.ALPN) > 0:
			d.problem(at, "drop it, or the route's alpn", "route %q wants an alpn of its clients, and listener %q has none", r.Name, l.Name)
		}
	}
}

// checkVerifiable refuses a pool that verifies the client's SNI where the client may
// send none, or any.
func (d *decoder) checkVerifiable(r *Route, p *Pool) {
	if r.Mode == "" || p.TLS.InsecureSkipVerify || p.TLS.ServerName != "" {
		return
	}
	for _, h := range r.Hosts {
		if h.Pattern == "*" || h.Pattern == "-" {
			d.problem(h.Pos, fmt.Sprintf(`add server_name = "…" to [pools.%s.tls] in line %d`, bareOrQuoted(p.Name), p.TLS.Pos.Line),
				"host %q leads to pool %q, which has no name to verify its backends by", h.Pattern, p.Name)
		}
	}
}

// checkTold warns of clients that are let in whatever they show, where nobody behind is
// told what that was.
func (d *decoder) checkTold(r *Route, src *routeSource, p *Pool) {
	told := p.ProxyProtocol == 2 && slices.Contains(p.ProxyTLVs, TLVSSL)
	if r.TLS.Policy.ClientAuth == ClientAuthRequest && !told {
		d.warning(src.tls.pos("client_auth"), `write client_auth = "require", or proxy_protocol = "v2" in the pool, whose "ssl" TLV tells it`,
			"route %q lets in whoever shows no good certificate, and pool %q is not told", r.Name, p.Name)
	}
}

// checkPlain warns of plain text where it can be read, or where TLS is expected: of each
// backend of a pool, once where several routes lead there.
func (d *decoder) checkPlain(r *Route, p *Pool, warned map[string]bool) {
	if warned[p.Name] {
		return
	}
	warned[p.Name] = true
	for _, b := range p.Backends {
		tls := fmt.Sprintf("add [pools.%s.tls]", bareOrQuoted(p.Name))
		if r.Pool == r.Name {
			tls = "make it a pool with a tls table"
		}
		if !b.Address.Private() {
			d.warning(b.Pos, tls+" to re-encrypt", "route %q sends plain text to %s, which is not a private address", r.Name, b.Address)
		}
		if b.Address.Port == 443 || b.Address.Port == 8443 {
			d.warning(b.Pos, tls+" if it speaks TLS", "route %q sends plain text to port %d of %s", r.Name, b.Address.Port, b.Address)
		}
	}
}

// contested returns the routes that two of may tie: those that were read, and those with
// a host of one of them. The others did not tie before, and are where they were.
func contested(routes []*Route, sources []*routeSource) []*Route {
	if !slices.Contains(sources, nil) {
		return routes
	}
	hosts := map[string]bool{}
	for i, r := range pace.All(routes) {
		if sources[i] != nil {
			for _, h := range r.Hosts {
				hosts[h.Pattern] = true
			}
		}
	}
	var out []*Route
	for i, r := range pace.All(routes) {
		if sources[i] != nil || slices.ContainsFunc(r.Hosts, func(h Host) bool { return hosts[h.Pattern] }) {
			out = append(out, r)
		}
	}
	return out
}

// claim is what one route wants of a host on a listener: which hellos, with which rank.
type claim struct {
	route *Route
	host  int32 // of its Hosts
	next  int32 // the next claim to the same; 0: none
}

// checkTies refuses two routes between which the rules of matching do not decide.
func (d *decoder) checkTies(routes []*Route) {
	type key struct {
		host     string
		listener int32
	}
	first := make(map[key]int32, len(routes)) // in claims, which are as many as there are routes, or more
	claims := make([]claim, 1, len(routes)+1)
	listeners := map[string]int32{}
	for _, r := range pace.All(routes) {
		for at, h := range r.Hosts {
			said := false // of several listeners, one is enough to tell
			for _, l := range r.Listeners {
				if _, ok := listeners[l]; !ok {
					listeners[l] = int32(len(listeners))
				}
				k := key{h.Pattern, listeners[l]}
				last := int32(0)
				for i := first[k]; i != 0; i = claims[i].next {
					last = i
					c := &claims[i]
					if c.route == r || said {
						continue
					}
					if why := tie(c.route, r); why != "" {
						said = true
						d.problem(h.Pos, "give one of them from, alpn or listeners of its own, or join them",
							"host %q is also that of route %q at %s, and %s", h.Pattern, c.route.Name, c.route.Hosts[c.host].Pos, why)
					}
				}
				if claims = append(claims, claim{route: r, host: int32(at)}); last == 0 {
					first[k] = int32(len(claims) - 1)
				} else {
					claims[last].next = int32(len(claims) - 1)
				}
			}
		}
	}
}

// tie says why a hello may fit a and b equally well, or "" if none does: the longest
// from prefix decides, then that a route asks for alpn.
func tie(a, b *Route) string {
	if (len(a.ALPN) == 0) != (len(b.ALPN) == 0) {
		return ""
	}
	why := "neither asks for more than the other"
	if len(a.ALPN) > 0 {
		why = "a client may offer the alpn of both"
	}
	if len(a.From) == 0 && len(b.From) == 0 {
		return why
	}
	if i := slices.IndexFunc(a.From, func(p netip.Prefix) bool { return slices.Contains(b.From, p) }); i >= 0 {
		return fmt.Sprintf("both are for clients from %s", strings.TrimSuffix(a.From[i].String(), "/32"))
	}
	return ""
}
