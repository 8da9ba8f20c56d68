package server

import (
	"fmt"
	"strings"

	"github.com/snicketlb/snicket/balancer"
	"github.com/snicketlb/snicket/pkg/registry"
)

// changedWords says in words what a reload changed, or would, one sentence each: "2
// routes added: a, b", "pool web: backend b3 removed, drains 14 sessions". sessions are
// those of a backend before; nil leaves them out.
func changedWords(old, now *plan, ch registry.Changes, sessions func(pool, id string) int) []string {
	words := []string{}
	words = append(words, differenceWords("listener", ch.Listeners)...)
	words = append(words, differenceWords("route", ch.Routes)...)
	words = append(words, differenceWords("pool", ch.Pools)...)
	words = append(words, backendWords(ch, sessions)...)
	if text := differenceText(renewed(old.secrets, now.secrets), "renewed"); text != "" {
		words = append(words, "certificates "+text)
	}
	if names := settingsChanged(old.config, now.config); len(names) > 0 {
		words = append(words, "settings changed: "+strings.Join(names, ", "))
	}
	return words
}

// differenceWords are the sentences for the rows of one kind.
func differenceWords(kind string, d registry.Difference) []string {
	var words []string
	for _, part := range []struct {
		rows []string
		verb string
	}{{d.Added, "added"}, {d.Changed, "changed"}, {d.Removed, "removed"}} {
		switch n := len(part.rows); n {
		case 0:
		case 1:
			words = append(words, fmt.Sprintf("%s %s %s", kind, part.rows[0], part.verb))
		default:
			words = append(words, fmt.Sprintf("%d %ss %s: %s", n, kind, part.verb, listed(part.rows)))
		}
	}
	return words
}

// backendWords are the sentences for backends: pool by pool, but for pools that came or
// went as a whole.
func backendWords(ch registry.Changes, sessions func(pool, id string) int) []string {
	whole := map[string]bool{}
	for _, pool := range append(append([]string{}, ch.Pools.Added...), ch.Pools.Removed...) {
		whole[pool] = true
	}
	byPool := map[string]*registry.Difference{}
	var order []string
	sort := func(rows []string, into func(*registry.Difference) *[]string) {
		for _, row := range rows {
			pool, id := cutTarget(row)
			if whole[pool] {
				continue
			}
			if byPool[pool] == nil {
				byPool[pool] = &registry.Difference{}
				order = append(order, pool)
			}
			list := into(byPool[pool])
			*list = append(*list, id)
		}
	}
	sort(ch.Backends.Added, func(d *registry.Difference) *[]string { return &d.Added })
	sort(ch.Backends.Changed, func(d *registry.Difference) *[]string { return &d.Changed })
	sort(ch.Backends.Removed, func(d *registry.Difference) *[]string { return &d.Removed })
	var words []string
	for _, pool := range order {
		d := byPool[pool]
		for _, text := range differenceWords("backend", *d) {
			if sessions != nil && strings.Contains(text, " removed") && len(d.Removed) > 0 {
				text += drainsText(pool, d.Removed, sessions)
			}
			words = append(words, fmt.Sprintf("pool %s: %s", pool, text))
		}
	}
	return words
}

// drainsText says how many sessions the backends that are gone had.
func drainsText(pool string, ids []string, sessions func(pool, id string) int) string {
	n := 0
	for _, id := range ids {
		n += sessions(pool, id)
	}
	switch n {
	case 0:
		return ""
	case 1:
		return ", drains 1 session"
	}
	return fmt.Sprintf(", drains %d sessions", n)
}

// sessionsOf returns how to ask for the sessions of a backend after it has left, by
// what stood in the pools now.
func (s *shared) sessionsOf() func(pool, id string) int {
	handles := map[string]*balancer.Backend{}
	for name, p := range s.pools {
		for _, b := range p.balancer.Backends() {
			handles[targetID(name, b.ID())] = b
		}
	}
	return func(pool, id string) int {
		if b := handles[targetID(pool, id)]; b != nil {
			return b.Active()
		}
		return 0
	}
}
