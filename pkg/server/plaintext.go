package server

import (
	"log/slog"
	"slices"

	"github.com/snicketlb/snicket/pkg/config"

	"github.com/snicketlb/snicket/pkg/pace"
)

// plainPools returns, for each pool that is sent the plain text of terminated sessions,
// the first route that does.
func plainPools(c *config.Config) map[string]string {
	encrypts := map[string]bool{}
	for i := range c.Pools {
		encrypts[c.Pools[i].Name] = c.Pools[i].TLS != nil
	}
	out := map[string]string{}
	for _, r := range pace.All(c.Routes) {
		if r.Mode == config.Terminate && !encrypts[r.Pool] && out[r.Pool] == "" {
			out[r.Pool] = r.Name
		}
	}
	return out
}

// warnOfPlainText tells of the backends of a pool to which plain text leaves the private
// network, each once. Of an address in the configuration a check tells; what a name or a
// source stands for is not known before it is asked.
func (s *Server) warnOfPlainText(a *applied, pool *config.Pool) {
	route, plain := s.plan.plain[pool.Name]
	exposed := map[string]bool{}
	for _, b := range a.backends {
		declared := func(d config.Backend) bool { return d.Address == b.Address }
		if !plain || b.Unresolved != "" || b.Address.Private() || slices.ContainsFunc(pool.Backends, declared) {
			continue
		}
		if exposed[b.ID] = true; !a.exposed[b.ID] {
			s.log.Warn("plain text leaves the private network", slog.String("route", route), slog.String("pool", pool.Name),
				slog.String("backend", b.ID), slog.String("hint", "re-encrypt: [pools."+pool.Name+".tls]"))
		}
	}
	a.exposed = exposed
}
