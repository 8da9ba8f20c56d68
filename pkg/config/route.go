package config

import (
	"slices"
	"strings"
	"time"

	"github.com/snicketlb/snicket/sni"

	"github.com/snicketlb/snicket/pkg/pace"
)

// routeSource is what is needed of a route's text once the route is read: parallel
// to Config.Routes, and nil of one that is known from before.
type routeSource struct {
	table    table
	tls      table
	http     table
	backends *value // of an anonymous pool; nil: none
}

// routes reads [[routes]] into c, but for what depends on pools.
func (d *decoder) routes(root table, c *Config) []*routeSource {
	v := root.get("routes")
	if v == nil || len(v.array) == 0 {
		if d.problems.bad() { // they may stand where the file could not be read
			return nil
		}
		d.warning(root.at, `begin with [[routes]], hosts = ["…"], backends = ["…"]`, "no routes, so every client is refused")
		return nil
	}
	n := 0
	for _, item := range v.array {
		n++
		if item.kind == kindKnown {
			n += len(item.scalar.([]gap)) - 1
		}
	}
	sources := make([]*routeSource, 0, n)
	c.Routes, c.texts = make([]*Route, 0, n), make([]string, 0, n)
	add := func(r *Route, src *routeSource, text string) {
		c.Routes, c.texts, sources = append(c.Routes, r), append(c.texts, text), append(sources, src)
	}
	var around *surroundings
	for _, item := range pace.All(v.array) {
		if item.kind == kindKnown {
			for _, g := range pace.All(item.scalar.([]gap)) {
				at := Position{item.src.name, int(g.line)}
				if around == nil {
					around = d.surroundings(c, at)
				}
				add(around.again(d.known.routes[g.route], at), nil, d.known.texts[g.route])
			}
			continue
		}
		t := d.table(item, routeTable, v.pos())
		if t.v == nil {
			continue
		}
		told := len(d.problems) + len(d.references)
		r, src := d.route(t, c)
		text := ""
		if plain(item, r) && told == len(d.problems)+len(d.references) {
			if text = item.src.text[item.from:item.to]; len(item.src.text) > largeText {
				text = strings.Clone(text)
			}
		}
		add(r, src, text)
	}
	d.checkNames(c.Routes, sources)
	return sources
}

// checkNames refuses two routes of one name. Known ones have names of their own; of one that
// a route was given which was read, all are read anew to tell.
func (d *decoder) checkNames(routes []*Route, sources []*routeSource) {
	names := make(map[string]int, len(routes)-countKnown(sources)) // of those that were read
	for i, r := range pace.All(routes) {
		if sources[i] == nil || r.Name == "" {
			continue
		}
		if first, ok := names[r.Name]; ok {
			d.problem(sources[i].table.pos("name"), `give it a name of its own: name = "…"`, "route %q has the name of the one at %s",
				r.Name, sources[first].table.pos("name"))
		}
		names[r.Name] = i
	}
	for i, r := range pace.All(routes) {
		if first, ok := names[r.Name]; ok && sources[i] == nil {
			d.problem(r.Pos, "", "route %q has the name of the one at %s", r.Name, routes[first].Pos)
		}
	}
}

// countKnown is how many routes were not read.
func countKnown(sources []*routeSource) (n int) {
	for _, src := range sources {
		if src == nil {
			n++
		}
	}
	return n
}

// of returns what there is of a route r that is known from before: none of its keys. Where
// one is needed, to tell of a problem, all is read anew.
func (s *routeSource) of(d *decoder, r *Route) *routeSource {
	if s != nil {
		return s
	}
	return &routeSource{
		table: d.absent(routeTable, r.Pos), tls: d.absent(routeTLSTable, r.Pos), http: d.absent(httpTable, r.Pos),
	}
}

func (d *decoder) route(t table, c *Config) (*Route, *routeSource) {
	r := &Route{
		Hosts:          d.hosts(t),
		ALPN:           d.alpn(t),
		From:           t.prefixes("from"),
		DenyFrom:       t.prefixes("deny_from"),
		Listeners:      d.routeListeners(t, c.Listeners),
		Mode:           d.mode(t),
		Pool:           t.string("pool", ""),
		MaxConnections: t.int("max_connections", 0, 0, maxCount),
		Sorry:          t.bool("sorry", false),
		TLS:            d.noTLS,
		Timeouts:       routeTimeouts(t.sub("timeouts", routeTimesTable), c.Timeouts),
		Pos:            t.at,
		reading:        new(reading),
	}
	if len(r.Hosts) > 0 {
		r.Name = r.Hosts[0].Pattern
	}
	if r.Name = t.string("name", r.Name); r.Name != "" || t.get("name") != nil && t.get("name").kind == kindString {
		d.checkName(t.pos("name"), "route", r.Name)
	}
	src := &routeSource{table: t, tls: t.sub("tls", routeTLSTable), http: t.sub("http", httpTable)}
	ownTLS, ownHTTP := d.routeTLS(src.tls), d.http(src.http) // in any mode, so that a wrong one hides nothing
	if r.Mode == Terminate || r.Mode == "" {
		r.TLS, r.HTTP = &ownTLS, ownHTTP
	} else {
		for _, sub := range []table{src.tls, src.http} {
			if sub.v != nil {
				d.problem(sub.at, `add mode = "terminate" to the route, or drop the table`, "[%s] in a %s route", sub.place, r.Mode)
			}
		}
	}
	if r.HTTP != nil {
		d.checkHTTP(r, src)
		if src.tls.get("alpn") == nil {
			r.TLS.ALPN = httpProtocols()
		}
	}
	if r.Sorry && r.Mode == Reject {
		d.problem(t.pos("sorry"), "drop it, or the mode", "sorry in a reject route, which answers nobody")
	}
	src.backends = d.destination(t, r)
	return r, src
}

// mode returns "" for one that cannot be read, which says nothing of what belongs to it.
func (d *decoder) mode(t table) Mode {
	if !t.missing("mode") {
		return Mode(t.choice("mode", "", string(Passthrough), string(Terminate), string(Reject)))
	}
	return Passthrough
}

// destination checks that a route has pool or backends as its mode wants, and returns
// the backends.
func (d *decoder) destination(t table, r *Route) *value {
	pool, backends := t.get("pool"), t.get("backends")
	switch {
	case r.Mode == Reject:
		for _, key := range []string{"pool", "backends"} {
			if v := t.get(key); v != nil {
				d.problem(v.pos(), "drop it, or the mode", "%s in a reject route, which has none", key)
			}
		}
		r.Pool = ""
		return nil
	case pool != nil && backends != nil:
		d.problem(backends.pos(), "keep one of them", "route %q has both pool and backends", r.Name)
		return nil
	case pool == nil && backends == nil:
		if r.Mode == "" || !t.missing("pool") || !t.missing("backends") {
			return nil
		}
		d.problem(t.at, `add pool = "NAME" or backends = ["IP:port"], or mode = "reject"`, "route %q has neither pool nor backends", r.Name)
	case backends != nil:
		r.Pool = r.Name
	}
	return backends
}

func (d *decoder) hosts(t table) []Host {
	if t.get("hosts") == nil {
		if !t.missing("hosts") {
			return nil
		}
		d.problem(t.at, `write hosts = ["www.example.com"]; ["*", "-"] catches all`, "route without hosts")
		return nil
	}
	entries := t.entries("hosts")
	out := make([]Host, 0, len(entries))
	seen := map[string]bool{}
	for _, e := range entries {
		normal, err := sni.CheckPattern(e.text)
		if err != nil {
			d.problem(e.at, "", "hosts: %s", oneLine(err.Error()))
			continue
		}
		if seen[normal] {
			d.problem(e.at, "drop one of them", "hosts has %q twice", normal)
			continue
		}
		if len(entries) > 1 { // of very many routes, most have one
			seen[normal] = true
		}
		out = append(out, Host{normal, e.at})
	}
	if v := t.get("hosts"); v.kind == kindArray && len(v.array) == 0 {
		d.problem(v.pos(), `write hosts = ["www.example.com"]; ["*", "-"] catches all`, "hosts is empty")
	}
	return out
}

// alpn reads a list of protocol names (RFC 7301 §3.1: 1 to 255 bytes).
func (d *decoder) alpn(t table) []string {
	var out []string
	for _, e := range t.entries("alpn") {
		if len(e.text) == 0 || len(e.text) > 255 || printable(e.text) != nil {
			d.problem(e.at, `write names such as "h2" or "http/1.1"`, "alpn has %q, which is no protocol", e.text)
			continue
		}
		out = append(out, e.text)
	}
	return out
}

func (d *decoder) routeListeners(t table, all []Listener) []string {
	v := t.get("listeners")
	if v == nil {
		if len(d.forTLS) == 0 && t.missing("listeners") {
			d.reference(t.at, "add [listeners.https], which is on port 443 unless it says otherwise", "no listener is for TLS, and the route names no other")
		}
		return d.forTLS
	}
	var known, out []string
	for _, l := range all {
		known = append(known, l.Name)
	}
	for _, e := range t.entries("listeners") {
		if slices.Contains(known, e.text) {
			out = append(out, e.text)
			continue
		}
		hint := "declare [listeners." + bareOrQuoted(e.text) + "], or write one of " + quotedList(known)
		if near := Nearest(e.text, known); near != "" {
			hint = `did you mean "` + near + `"?`
		}
		d.reference(e.at, hint, "no listener %q", e.text)
	}
	if v.kind == kindArray && len(v.array) == 0 {
		d.problem(v.pos(), "drop the key for all of kind tls", "listeners is empty")
	}
	return out
}

func (d *decoder) routeTLS(t table) RouteTLS {
	if t.v == nil && d.bareTLS != nil { // as most of very many routes
		r := *d.bareTLS
		r.Policy.Pos = t.at
		return r
	}
	r := RouteTLS{
		ACME:               t.bool("acme", false),
		DefaultCertificate: t.bool("default_certificate", false),
		ALPN:               d.alpn(t),
		KeyLog:             d.keyLog(t),
	}
	r.Policy, _ = d.policy(t, d.policyBase)
	r.Certificates, r.CertificateEntries, r.Incomplete = d.certificates(t)
	if t.v == nil {
		d.bareTLS = new(r)
	}
	return r
}

func routeTimeouts(t table, all Timeouts) RouteTimeouts {
	const least = time.Millisecond
	return RouteTimeouts{
		Idle:      t.duration("idle", all.Idle, least, maxDuration),
		Fin:       t.duration("fin", all.Fin, least, maxDuration),
		Handshake: t.duration("handshake", all.Handshake, least, maxDuration),
	}
}
