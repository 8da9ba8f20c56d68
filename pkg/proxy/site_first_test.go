package proxy_test

import (
	"testing"

	"github.com/snicketlb/snicket/pkg/proxy"
	"github.com/snicketlb/snicket/pkg/terminate"
)

// TestSiteReloadBeforeTheFirst: a client that has connected and not asked yet gets its
// answer, and not that the host is another's, if its route does something else now. Where
// the route wants other certificates of its clients, or the host is another's, it does not.
func TestSiteReloadBeforeTheFirst(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(h *siteHarness, r *proxy.Route)
		status int
	}{
		"other rules": {func(*siteHarness, *proxy.Route) {}, 200},
		"other name":  {func(_ *siteHarness, r *proxy.Route) { r.Name = "other" }, 421},
		"other certificates": {func(_ *siteHarness, r *proxy.Route) {
			how := *r.TLS
			how.Clients = new(terminate.Clients)
			r.TLS = &how
		}, 421},
	} {
		t.Run(name, func(t *testing.T) {
			h := newSite(t)
			c, from := h.client()
			eventually(t, "it is served", func() bool {
				views, err := h.p.Sessions(t.Context(), proxy.SessionFilter{})
				return err == nil && len(views) == 1 && views[0].Phase == proxy.PhaseRelay
			})
			changed, other := h.state, *h.route
			other.Site = h.newSite(&other)
			tt.change(h, &other)
			changed.Routes = []*proxy.Route{&other}
			h.apply(changed)
			if res, _ := get(t, c, from, asked); res.StatusCode != tt.status {
				t.Errorf("%s, want %d", res.Status, tt.status)
			}
			closed(t, from)
			h.want(proxy.OK)
		})
	}
}
