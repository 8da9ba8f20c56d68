package proxy

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// An Explanation tells which route a hello takes, and why the others whose hosts
// hold its name lose.
type Explanation struct {
	Route    *Route // nil: none
	Outcome  Outcome
	Pattern  string // the host that decides; empty: none matches
	Verdicts []Verdict
}

// A Verdict is what became of one route that has a host for the name.
type Verdict struct {
	Route *Route
	Won   bool
	Why   string
}

type offered []string

func (o offered) OffersALPN(proto string) bool { return slices.Contains(o, proto) }

// Explain decides as for a hello of that name, which offers alpn, from that
// client, on that listener. The verdicts are those of the deciding host first, then
// those of less and less specific ones. It takes time in proportion to the hosts.
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
	takers := takersOf(candidates, offered(alpn), from)
	for _, r := range candidates {
		e.Verdicts = append(e.Verdicts, Verdict{Route: r, Won: r == e.Route, Why: e.why(r, takers, offered(alpn), from)})
	}
	others := maps.Collect(m.All())
	for _, less := range patternsFor(name) {
		if less == pattern {
			continue
		}
		for _, r := range others[less] {
			if !slices.ContainsFunc(e.Verdicts, func(v Verdict) bool { return v.Route == r }) {
				why := fmt.Sprintf("its host %q is less specific: %q decides alone", less, pattern)
				e.Verdicts = append(e.Verdicts, Verdict{Route: r, Why: why})
			}
		}
	}
	return e
}

// A taker is a route that takes a hello, if no other is preferred to it.
type taker struct {
	route *Route
	bits  int // as of prefixFor
}

// takersOf are the candidates that take a hello, by rank, the chosen one first.
func takersOf(candidates []*Route, o offer, from netip.Addr) []taker {
	var takers []taker
	for _, r := range candidates {
		if bits, admitted := prefixFor(r.From, from); admitted && r.offered(o) {
			takers = append(takers, taker{r, bits})
		}
	}
	slices.SortStableFunc(takers, func(a, b taker) int {
		return rank(b.bits, len(b.route.ALPN) > 0) - rank(a.bits, len(a.route.ALPN) > 0)
	})
	return takers
}

// why says what became of a route of the deciding host.
func (e *Explanation) why(r *Route, takers []taker, o offer, from netip.Addr) string {
	_, admitted := prefixFor(r.From, from)
	i := slices.IndexFunc(takers, func(t taker) bool { return t.route == r })
	switch {
	case !admitted:
		return "the client is not in its from"
	case !r.offered(o):
		return "the hello offers none of its alpn"
	case i == 0 && e.Outcome == Denied:
		return "it is chosen, and its deny_from holds the client"
	case i == 0 && e.Outcome == Rejected:
		return "it is chosen, and its mode is reject"
	case i == 0 && len(takers) == 1:
		return "the only route that takes the hello"
	case i == 0 && takers[0].bits > takers[1].bits:
		return "of those that take the hello, its from is the longest"
	case i == 0:
		return "of those that take the hello, it asks for an alpn that is offered"
	case takers[0].bits > takers[i].bits:
		return "the winner's from is longer"
	}
	return "the winner asks for an alpn that the hello offers"
}

// patternsFor are all patterns that hold a name, the most specific first: the order
// of [sni.Map.Lookup].
func patternsFor(name string) []string {
	if name == "" {
		return []string{"-"}
	}
	patterns := []string{name}
	for kind, rest := "*.", name; ; kind = "**." {
		_, parent, ok := strings.Cut(rest, ".")
		if !ok {
			return append(patterns, "*")
		}
		if kind == "*." {
			patterns = append(patterns, kind+parent)
		}
		patterns = append(patterns, "**."+parent)
		rest = parent
	}
}
