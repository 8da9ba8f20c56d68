package proxy_test

import (
	"testing"

	"github.com/snicketlb/snicket/pkg/proxy"
	"github.com/snicketlb/snicket/pkg/terminate"
)

// demand has a route demand certificates of its clients, as a reload does that makes all
// anew.
func demand(what string) func(r *proxy.Route) {
	return func(r *proxy.Route) {
		how := *r.TLS
		how.Clients, how.Demands = new(terminate.Clients), what
		r.TLS = &how
	}
}

// nobody has it demand none.
func nobody(r *proxy.Route) {
	how := *r.TLS
	how.Clients, how.Demands = nil, ""
	r.TLS = &how
}

// TestSiteReloadBeforeTheFirst: a client that has connected and not asked yet gets its
// answer, and not that the host is another's, if its route does something else now. Where
// the route wants other certificates of its clients, or the host is another's, it does not.
func TestSiteReloadBeforeTheFirst(t *testing.T) {
	for name, tt := range map[string]struct {
		before, change func(r *proxy.Route)
		status         int
	}{
		"other rules":              {nobody, nobody, 200},
		"other name":               {nobody, func(r *proxy.Route) { r.Name = "other" }, 421},
		"certificates":             {nobody, demand("of ann"), 421},
		"no certificates":          {demand("of ann"), nobody, 421},
		"certificates of somebody": {demand("of ann"), demand("of bob"), 421},
		"the same certificates":    {demand("of ann"), demand("of ann"), 200},
	} {
		t.Run(name, func(t *testing.T) {
			h := newSite(t)
			reload := func(change func(r *proxy.Route)) {
				changed, other := h.state, *h.route
				other.Site = h.newSite(&other)
				change(&other)
				changed.Routes = []*proxy.Route{&other}
				h.apply(changed)
			}
			reload(tt.before)
			c, from := h.client()
			eventually(t, "it is served", func() bool {
				views, err := h.p.Sessions(t.Context(), proxy.SessionFilter{})
				return err == nil && len(views) == 1 && views[0].Phase == proxy.PhaseRelay
			})
			reload(tt.change)
			if res, _ := get(t, c, from, asked); res.StatusCode != tt.status {
				t.Errorf("%s, want %d", res.Status, tt.status)
			}
			closed(t, from)
			h.want(proxy.OK)
		})
	}
}
