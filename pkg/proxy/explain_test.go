package proxy

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/snicketlb/snicket/sni"
)

func TestExplain(t *testing.T) {
	ten := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	route := func(name string, hosts ...string) *Route {
		return &Route{Name: name, Hosts: hosts, Listeners: []string{"l"}}
	}
	plain, h2, inside := route("plain", "a.x.test"), route("h2", "a.x.test"), route("inside", "a.x.test")
	h2.ALPN, inside.From = []string{"h2"}, ten
	both := route("both", "a.x.test", "*.x.test")
	both.From = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	gone := route("gone", "*.x.test")
	gone.Mode = Reject
	shut := route("shut", "**.x.test")
	shut.DenyFrom = ten
	table, err := NewTable([]*Route{plain, h2, inside, both, gone, shut, route("any", "*"), route("none", "-")}, []string{"l"})
	if err != nil {
		t.Fatal(err)
	}
	const decides = ` is less specific: "a.x.test" decides alone`
	less := []string{
		`gone lost: its host "*.x.test"` + decides, `shut lost: its host "**.x.test"` + decides, `any lost: its host "*"` + decides,
	}
	const notFrom, notOffered = " lost: the client is not in its from", " lost: the hello offers none of its alpn"
	for _, tc := range []struct {
		what, name, from string
		alpn             []string
		want             []string
	}{
		{"a lone one", "a.x.test", "", nil, append([]string{
			"plain won: the only route that takes the hello", "h2" + notOffered, "inside" + notFrom, "both" + notFrom,
		}, less...)},
		{"alpn", "a.x.test", "", []string{"h2"}, append([]string{
			"plain lost: the winner asks for an alpn that the hello offers",
			"h2 won: of those that take the hello, it asks for an alpn that is offered", "inside" + notFrom, "both" + notFrom,
		}, less...)},
		{"from goes before alpn", "a.x.test", "10.1.1.1", []string{"h2"}, append([]string{
			"plain lost: the winner's from is longer", "h2 lost: the winner's from is longer",
			"inside won: of those that take the hello, its from is the longest", "both" + notFrom,
		}, less...)},
		{"rejected", "b.x.test", "", nil, []string{
			"both" + notFrom, "gone won: it is chosen, and its mode is reject",
			`shut lost: its host "**.x.test" is less specific: "*.x.test" decides alone`,
			`any lost: its host "*" is less specific: "*.x.test" decides alone`,
		}},
		{"denied", "c.b.x.test", "10.1.1.1", nil, []string{
			"shut won: it is chosen, and its deny_from holds the client",
			`any lost: its host "*" is less specific: "**.x.test" decides alone`,
		}},
		{"any", "test", "", nil, []string{"any won: the only route that takes the hello"}},
		{"nameless", "", "", nil, []string{"none won: the only route that takes the hello"}},
	} {
		t.Run(tc.what, func(t *testing.T) {
			var from netip.Addr
			if tc.from != "" {
				from = netip.MustParseAddr(tc.from)
			}
			var got []string
			for _, v := range table.Explain("l", tc.name, tc.alpn, from).Verdicts {
				word := " lost: "
				if v.Won {
					word = " won: "
				}
				got = append(got, v.Route.Name+word+v.Why)
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("got  %q\nwant %q", got, tc.want)
			}
		})
	}
	if got := table.Explain("nowhere", "a.x.test", nil, netip.Addr{}); got.Pattern != "" || got.Outcome != NoRoute {
		t.Errorf("got %+v on a listener that is not there, want no route", got)
	}
}

// patternsFor has the order in which a map decides: without the first, the next wins.
func TestPatternsFor(t *testing.T) {
	for _, name := range []string{"", "test", "x.test", "a.b.x.test"} {
		patterns := patternsFor(name)
		for i := range patterns {
			m, err := sni.NewMap(func(yield func(string, int) bool) {
				for j, p := range patterns[i:] {
					if !yield(p, j) {
						return
					}
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			if got, _, ok := m.Lookup(name); !ok || got != patterns[i] {
				t.Errorf("%q without %q: got %q, want %q", name, patterns[:i], got, patterns[i])
			}
		}
	}
}
