package proxy

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/snicketlb/snicket/sni"
)

// A Table maps the host names of each listener to routes. It is immutable and
// safe for concurrent use; a look-up allocates nothing.
type Table struct {
	listeners map[string]*sni.Map[[]*Route]
}

// NewTable builds the table of routes for the listeners named. Routes of one
// host are told apart by from and alpn; that no two of them tie is for the
// caller to have checked.
func NewTable(routes []*Route, listeners []string) (*Table, error) {
	t := &Table{listeners: make(map[string]*sni.Map[[]*Route], len(listeners))}
	for _, name := range listeners {
		hosts := map[string][]*Route{}
		for _, r := range routes {
			if !slices.Contains(r.Listeners, name) {
				continue
			}
			for _, h := range r.Hosts {
				hosts[h] = append(hosts[h], r)
			}
		}
		m, err := sni.NewMap(maps.All(hosts))
		if err != nil {
			return nil, fmt.Errorf("listener %q: %w", name, err)
		}
		t.listeners[name] = m
	}
	return t, nil
}

// offer is what of a hello the choice of a route depends on, beside the name.
type offer interface{ OffersALPN(proto string) bool }

// lookup finds the route of a hello. The most specific host decides alone; the
// outcome is OK, or says why none of its routes took the hello, NoRoute,
// Denied or Rejected, with the route that refused it where there is one.
func (t *Table) lookup(listener, name string, client netip.Addr, o offer) (*Route, Outcome) {
	m := t.listeners[listener]
	if m == nil {
		return nil, NoRoute
	}
	_, candidates, ok := m.Lookup(name)
	if !ok {
		return nil, NoRoute
	}
	var best *Route
	bestRank, refusal := -1, Denied
	for _, r := range candidates {
		bits, admitted := prefixFor(r.From, client)
		if !admitted {
			continue
		}
		if !r.offered(o) {
			refusal = NoRoute
			continue
		}
		if rank := rank(bits, len(r.ALPN) > 0); rank > bestRank {
			best, bestRank = r, rank
		}
	}
	switch {
	case best == nil:
		return nil, refusal
	case best.denies(client):
		return best, Denied
	case best.Mode == Reject:
		return best, Rejected
	}
	return best, OK
}

// rank orders the routes of one host that would take a hello: the longest from
// prefix, then one with alpn, then one without conditions.
func rank(bits int, alpn bool) int {
	r := 2 * bits
	if alpn {
		r++
	}
	return r
}

// prefixFor is the length of the longest prefix that holds client, plus one, or
// 0 for no prefixes at all; it reports whether client is admitted.
func prefixFor(prefixes []netip.Prefix, client netip.Addr) (int, bool) {
	if len(prefixes) == 0 {
		return 0, true
	}
	best := -1
	for _, p := range prefixes {
		if p.Contains(client.WithZone("")) {
			best = max(best, p.Bits()+1)
		}
	}
	return best, best >= 0
}

func (r *Route) offered(o offer) bool {
	return len(r.ALPN) == 0 || slices.ContainsFunc(r.ALPN, o.OffersALPN)
}

func (r *Route) denies(client netip.Addr) bool {
	if len(r.DenyFrom) == 0 {
		return false
	}
	_, in := prefixFor(r.DenyFrom, client)
	return in
}

// An Explanation tells which route a hello takes, and why the others of its
// host lose.
type Explanation struct {
	Route    *Route // nil: none
	Outcome  Outcome
	Pattern  string // the host that decides; empty: none matches
	Verdicts []Verdict
}

// A Verdict is what became of one route that holds the deciding host.
type Verdict struct {
	Route *Route
	Won   bool
	Why   string
}

type offered []string

func (o offered) OffersALPN(proto string) bool { return slices.Contains(o, proto) }

// Explain decides as for a hello of that name, which offers alpn, from that
// client, on that listener.
func (t *Table) Explain(listener, name string, alpn []string, from netip.Addr) Explanation {
	var e Explanation
	e.Route, e.Outcome = t.lookup(listener, name, from, offered(alpn))
	m := t.listeners[listener]
	if m == nil {
		return e
	}
	pattern, candidates, ok := m.Lookup(name)
	if !ok {
		return e
	}
	e.Pattern = pattern
	for _, r := range candidates {
		v := Verdict{Route: r, Won: r == e.Route}
		_, admitted := prefixFor(r.From, from)
		switch {
		case !admitted:
			v.Why = "the client is not in its from"
		case !r.offered(offered(alpn)):
			v.Why = "the hello offers none of its alpn"
		case v.Won && e.Outcome == Denied:
			v.Why = "it is chosen, and its deny_from holds the client"
		case v.Won && e.Outcome == Rejected:
			v.Why = "it is chosen, and its mode is reject"
		case v.Won:
			v.Why = "it is the most specific that takes the hello"
		default:
			v.Why = "another has a longer from, or an alpn that fits"
		}
		e.Verdicts = append(e.Verdicts, v)
	}
	return e
}
