package proxy

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/snicketlb/snicket/sni"

	"github.com/snicketlb/snicket/pkg/pace"
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
		first := make(map[string]int32, len(routes)) // by host; most have one route
		further := map[string][]*Route{}
		for i, r := range pace.All(routes) {
			if !slices.Contains(r.Listeners, name) {
				continue
			}
			for _, h := range r.Hosts {
				if _, known := first[h]; known {
					further[h] = append(further[h], r)
				} else {
					first[h] = int32(i)
				}
			}
		}
		m, err := sni.NewMap(func(yield func(string, []*Route) bool) {
			var walk pace.Walk
			for h, i := range first {
				walk.Step()
				if !yield(h, append(routes[i:i+1:i+1], further[h]...)) {
					return
				}
			}
		})
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
