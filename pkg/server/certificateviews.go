package server

import (
	"maps"
	"slices"
	"strings"

	"github.com/snicketlb/snicket/pkg/certs"
	"github.com/snicketlb/snicket/pkg/config"
)

// CertificateView is one certificate that clients are shown.
type CertificateView struct {
	certs.Facts
	// File is where it was read from, KeyFile where its key was; both are empty for one
	// of ACME.
	File, KeyFile string
	// ACME says that it was obtained and is renewed by ACME.
	ACME bool
	// Routes are those that have a host which it covers, by name, sorted.
	Routes []string
	// Superseded says that others of its kind carry all its names and expire later, so
	// that it is shown to nobody.
	Superseded bool
}

// Certificates returns the certificates in force: those of [tls], then those of the
// routes in order of declaration, then those of ACME. It may be called by any goroutine.
func (s *Server) Certificates() []CertificateView {
	s.mu.Lock()
	held := s.plan.secrets
	s.mu.Unlock()
	return held.views()
}

// views are the certificates in force. Any goroutine may call it.
func (s *secrets) views() []CertificateView {
	var out []CertificateView
	at := map[*certs.Certificate]int{}
	add := func(set *certs.Set, acme bool, routes func(c *certs.Certificate) []string) {
		for _, c := range set.Certificates() {
			i, seen := at[c]
			if !seen {
				i, at[c] = len(out), len(out)
				out = append(out, CertificateView{Facts: c.Facts, File: c.File, KeyFile: c.KeyFile, ACME: acme, Superseded: true})
			}
			v := &out[i]
			v.Routes = append(v.Routes, routes(c)...)
			v.Superseded = v.Superseded && len(c.Names) > 0 && !set.Leads(c)
		}
	}
	all, acme := hostIndex{}, hostIndex{}
	for _, v := range s.serves {
		all.add(v.route)
		if v.options.Managed != nil {
			acme.add(v.route)
		}
	}
	common, own := s.sets()
	add(common, false, func(c *certs.Certificate) []string { return all.routes(c.Names) })
	for i, v := range s.serves {
		add(own[i], false, func(*certs.Certificate) []string { return []string{v.route.Name} })
	}
	if s.managed != nil {
		add(certs.NewSet(s.managed.Certificates()), true, func(c *certs.Certificate) []string { return acme.routes(c.Names) })
	}
	for i := range out {
		slices.Sort(out[i].Routes)
		out[i].Routes = slices.Compact(out[i].Routes)
	}
	return out
}

// sets are those in force: that of [tls], and those of the routes in serves.
func (s *secrets) sets() (common *certs.Set, own []*certs.Set) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.serves {
		own = append(own, v.own.set)
	}
	return s.common.set, own
}

// hostIndex finds the routes that have a host which a name in a certificate covers, by
// keys that hosts and names have in common.
type hostIndex map[string][]string

func (x hostIndex) add(r *config.Route) {
	for _, h := range r.Hosts {
		_, parent, _ := strings.Cut(h.Pattern, ".")
		keys := []string{h.Pattern}
		if !strings.HasPrefix(h.Pattern, "*") {
			keys = append(keys, "below "+parent) // for the wildcard that covers it
		}
		for _, key := range keys {
			x[key] = append(x[key], r.Name)
		}
	}
}

// routes returns the names of the routes, in no order.
func (x hostIndex) routes(names []string) []string {
	found := map[string]bool{}
	add := func(key string) {
		for _, route := range x[key] {
			found[route] = true
		}
	}
	for _, name := range names {
		name = strings.ToLower(strings.TrimSuffix(name, "."))
		_, parent, _ := strings.Cut(name, ".")
		add(name)
		add("*." + parent)
		add("*")
		if strings.HasPrefix(name, "*.") {
			add("below " + parent)
		}
		for rest := parent; rest != ""; _, rest, _ = strings.Cut(rest, ".") {
			add("**." + rest)
		}
	}
	return slices.Collect(maps.Keys(found))
}
