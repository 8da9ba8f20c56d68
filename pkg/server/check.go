package server

import (
	"errors"
	"net/netip"

	"github.com/snicketlb/snicket/pkg/config"
	"github.com/snicketlb/snicket/pkg/proxy"
)

// Check reads the configuration in path and all it names, as a start would, and
// returns every problem at once, those of certificates included, in order of file
// and line. It binds, dials and resolves nothing. The Config is never nil, and whole
// if the problems' Err is nil.
func Check(path string) (*config.Config, config.Problems) {
	pl := build(path, nil, nil)
	return pl.config, pl.problems
}

// Query is a hello to explain. From may be invalid, for a client without an address.
type Query struct {
	Listener string // empty: the first one
	Name     string // as of sni.CheckName, or empty for a hello without
	ALPN     []string
	From     netip.Addr
}

// Explain says which route of the configuration in path a hello would take. The
// error is a *[ConfigError], or one about the query.
func Explain(path string, q Query) (proxy.Explanation, error) {
	pl := build(path, nil, nil)
	if pl.problems.Err() != nil {
		return proxy.Explanation{}, &ConfigError{pl.problems}
	}
	var names []string
	for _, l := range pl.state.Listeners {
		names = append(names, l.Name)
	}
	if q.Listener == "" {
		q.Listener = names[0]
	}
	table, err := proxy.NewTable(pl.state.Routes, names)
	if err != nil {
		return proxy.Explanation{}, err
	}
	for _, name := range names {
		if name == q.Listener {
			return table.Explain(q.Listener, q.Name, q.ALPN, q.From), nil
		}
	}
	return proxy.Explanation{}, errors.New("no listener of that name")
}

// ConfigError is a configuration that cannot be run.
type ConfigError struct {
	Problems config.Problems // warnings included
}

// Error returns every problem that is no warning, one a line.
func (e *ConfigError) Error() string {
	if err := e.Problems.Err(); err != nil {
		return err.Error()
	}
	return "configuration"
}
