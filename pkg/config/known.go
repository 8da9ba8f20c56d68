package config

import (
	"slices"

	"github.com/snicketlb/snicket/pkg/pace"
)

// LoadAfter is [Load] that spares itself the routes which former, a configuration without
// errors, has read from the same text: of a large file that changes in a few places most
// is not read again. The result is that of Load, but that it shares with former each route
// that stands where it stood. former may be nil.
func LoadAfter(path string, former *Config) (*Config, Problems) {
	text, err := readText(path)
	if err == nil && text == "" {
		err = errEmpty
	}
	if err != nil {
		return unreadable(path, err)
	}
	return parseAfter(path, text, former)
}

// parseAfter reads all anew where there are problems: of a known route it has not the
// place of each key.
func parseAfter(name, text string, former *Config) (*Config, Problems) {
	if known := former.known(); known != nil {
		if c, problems := parse(name, text, known); !problems.bad() {
			return c, problems
		}
	}
	return parse(name, text, nil)
}

// known are the plain routes of a former configuration, each of which is found once.
type known struct {
	routes []*Route
	texts  []string // parallel to routes; empty of one that is not plain
	found  []bool   // parallel to routes
	next   int      // the route that was found last, plus one
	missed int
	index  map[string]int32 // of texts; nil: there was no need for it
}

// known returns the plain routes of c; nil if there are none.
func (c *Config) known() *known {
	if c == nil || !slices.ContainsFunc(c.texts, func(text string) bool { return text != "" }) {
		return nil
	}
	return &known{routes: c.Routes, texts: c.texts, found: make([]bool, len(c.texts))}
}

// find returns the index of the route with that text, or -1. k may be nil.
func (k *known) find(text string) int32 {
	if k == nil {
		return -1
	}
	i := k.look(text)
	if i < 0 || k.found[i] {
		return -1
	}
	k.found[i], k.next = true, i+1
	return int32(i)
}

// look is find without its memory. Routes mostly follow one another as they did: there is
// no index of them until that has misled some times.
func (k *known) look(text string) int {
	const ahead, patience = 8, 16
	for i := k.next; i < min(k.next+ahead, len(k.texts)); i++ {
		if k.texts[i] == text {
			return i
		}
	}
	if k.index == nil {
		if k.missed++; k.missed < patience {
			return -1
		}
		k.index = make(map[string]int32, len(k.texts))
		for i, text := range pace.All(k.texts) {
			k.index[text] = int32(i)
		}
	}
	if i, ok := k.index[text]; ok {
		return int(i)
	}
	return -1
}

// A reading tells readings of routes apart. It takes a byte, as an address of its own is
// all there is to it: copies of a route that differ in their places alone share it, and
// routes with different ones may well be equal.
type reading byte

// Same reports that r and o are one route read once, or from one text in like
// surroundings: they differ at most in their places. Of routes of which it reports false
// nothing is said.
func (r *Route) Same(o *Route) bool { return r.reading != nil && r.reading == o.reading }

// plain says that a route, read from v, is made of its own text, of the timeouts and of
// the listeners, and of nothing else, on disk or in the configuration.
func plain(v *value, r *Route) bool {
	return (r.Mode == Passthrough || r.Mode == Reject) && !slices.ContainsFunc(v.keys(), func(key string) bool {
		switch key {
		case "name", "hosts", "alpn", "from", "deny_from", "mode", "pool", "max_connections", "sorry":
			return false
		}
		return true
	})
}

// surroundings are what a plain route takes from elsewhere.
type surroundings struct {
	listeners []string
	timeouts  RouteTimeouts
}

// surroundings returns those of all plain routes of c, the first of which is known and at
// at.
func (d *decoder) surroundings(c *Config, at Position) *surroundings {
	return &surroundings{
		listeners: d.routeListeners(d.absent(routeTable, at), c.Listeners),
		timeouts:  RouteTimeouts{Idle: c.Timeouts.Idle, Fin: c.Timeouts.Fin, Handshake: c.Timeouts.Handshake},
	}
}

// again returns a route of the former configuration that stands at at now.
func (s *surroundings) again(r *Route, at Position) *Route {
	like := r.Timeouts == s.timeouts && slices.Equal(r.Listeners, s.listeners)
	if like && r.Pos == at {
		return r
	}
	now := *r
	if !like {
		now.Timeouts, now.Listeners, now.reading = s.timeouts, s.listeners, new(reading)
	}
	now.Hosts = slices.Clone(r.Hosts)
	for i := range now.Hosts {
		now.Hosts[i].Pos = Position{at.File, at.Line + now.Hosts[i].Pos.Line - r.Pos.Line}
	}
	now.Pos = at
	return &now
}
