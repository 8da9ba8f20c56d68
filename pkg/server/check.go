package server

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/snicketlb/snicket/pkg/config"
	"github.com/snicketlb/snicket/pkg/proxy"
)

// Check reads the configuration in path and all it names, as a start would, and
// returns every problem at once, those of certificates included, in order of file
// and line. It binds, dials and resolves nothing. The Config is never nil, and whole
// if the problems' Err is nil.
func Check(path string) (*config.Config, config.Problems) {
	pl := build(path, nil, buildOptions{})
	return pl.config, pl.problems
}

// Query is a hello to explain. From may be invalid, for a client without an address.
type Query struct {
	Listener string // empty: the first one
	Name     string // as of sni.CheckName, or empty for a hello without
	ALPN     []string
	From     netip.Addr
}

// Explained is an explanation and the listener that it holds for.
type Explained struct {
	proxy.Explanation
	Listener string
}

// Explain says which route of the configuration in path a hello would take. The
// error is a *[ConfigError], or one about the query.
func Explain(path string, q Query) (Explained, error) {
	pl := build(path, nil, buildOptions{serving: true})
	if pl.problems.Err() != nil {
		return Explained{}, &ConfigError{pl.problems}
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
		return Explained{}, err
	}
	if !slices.Contains(names, q.Listener) {
		return Explained{}, fmt.Errorf("no listener %q: there is %s", q.Listener, strings.Join(names, ", "))
	}
	return Explained{table.Explain(q.Listener, q.Name, q.ALPN, q.From), q.Listener}, nil
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
