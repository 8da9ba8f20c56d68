package proxy

import (
	"slices"

	"github.com/snicketlb/snicket/pkg/web"
)

// Owns reports whether a request for host may come over the connection of c, which
// this package has given to its route's Site: whether a hello of that client for that
// name would have taken the same route. Browsers send requests for every host that a
// certificate covers over one connection (RFC 9113 §9.1.1); what one route demands,
// such as a client certificate, must not be got around by the connection of another, nor
// by one from before the host was given to it.
// host is as of sni.CheckName. It is what [web.SiteOptions] calls Owns.
func Owns(c *web.Client, host string) bool {
	g := c.Conn.(*guestConn).g
	if g.plain {
		return SiteFor(c, host) != nil
	}
	if g.sorry && host == g.caller.sni { // whoever has the host now, none of its backends is asked
		return true
	}
	table, listener := g.p.table(g.socks)
	if g.caller.sni == "" && !table.has(listener, host) {
		return true // a route for clients that name no host is for any that no other has
	}
	r, outcome := table.lookup(listener, host, g.caller.client.Addr(), g.offers)
	return outcome == OK && (r.Site == g.by || host == g.caller.sni && r.follows(g.route))
}

// follows reports whether r is what former has become by a reload, with the same demands
// on clients beside their addresses. Whose connection was made before is asked to come
// again, but what it says first, or had said already, was promised an answer.
func (r *Route) follows(former *Route) bool {
	if former == nil || r.Name != former.Name || r.Site == nil || former.TLS == nil {
		return false
	}
	return r.TLS.Demands == former.TLS.Demands && (r.TLS.Clients == nil) == (former.TLS.Clients == nil)
}

// SiteFor is what serves requests for host on the http listener of c: the Site of the
// route that names the listener and has the host, if it admits the client; else nil. It
// is what [web.PlainOptions] calls Site.
func SiteFor(c *web.Client, host string) *web.Site {
	g := c.Conn.(*guestConn).g
	table, listener := g.p.table(g.socks)
	if r, outcome := table.lookup(listener, host, g.caller.client.Addr(), g.offers); outcome == OK {
		return r.Site
	}
	return nil
}

// Known reports whether a route of now serves host by TLS on any listener. It is what
// [web.PlainOptions] calls Known.
func Known(c *web.Client, host string) bool {
	live := c.Conn.(*guestConn).g.p.live.Load()
	for _, l := range live.listeners {
		if l.Plain == nil && live.table.serves(l.Name, host) {
			return true
		}
	}
	return false
}

func (t *Table) serves(listener, host string) bool {
	m := t.listeners[listener]
	if m == nil {
		return false
	}
	_, candidates, ok := m.Lookup(host)
	return ok && slices.ContainsFunc(candidates, func(r *Route) bool { return r.Mode != Reject })
}

// has reports whether a route of the listener has the host.
func (t *Table) has(listener, host string) bool {
	m := t.listeners[listener]
	if m == nil {
		return false
	}
	_, _, ok := m.Lookup(host)
	return ok
}
