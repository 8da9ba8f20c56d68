package server

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/rogpeppe/go-internal/diff"

	"github.com/snicketlb/snicket/pkg/admin"
	"github.com/snicketlb/snicket/pkg/config"
	"github.com/snicketlb/snicket/pkg/proxy"
)

// Check reads the configuration in path and all it names, as a start would, and
// returns every problem at once, those of certificates included, in order of file
// and line. It binds and resolves nothing, and connects to nothing but syslog, if records
// are to go there. The Config is never nil, and whole if the problems' Err is nil.
func Check(path string) (*config.Config, config.Problems) { return check(path, systemSyslog) }

func check(path, syslog string) (*config.Config, config.Problems) {
	pl := build(path, nil, buildOptions{syslog: syslog})
	return pl.config, pl.problems
}

// Difference is between running, a configuration in force as its Effective, and the file in
// path. What a reload would do, its Changes, only a running server knows. The error is a
// *[ConfigError] if the file cannot be put into force.
func Difference(path, running string) (admin.Difference, error) {
	file, problems := Check(path)
	if problems.Err() != nil {
		return admin.Difference{}, &ConfigError{problems}
	}
	return admin.Difference{
		Changes: []string{}, Warnings: texts(problems.Warnings()),
		Diff: string(diff.Diff("running", []byte(running), path, file.Effective())),
	}, nil
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
	Looked   []string // the routes of that listener, where no host matches
	Others   []Other  // where one does, in that case
}

// Other is a listener that has a host for the name.
type Other struct{ Listener, Pattern string }

// NoListenerError says that a query names a listener that the configuration does not
// have.
type NoListenerError struct {
	Name     string
	Declared []string
}

// Error names the listener alone.
func (e *NoListenerError) Error() string { return fmt.Sprintf("no listener %q", e.Name) }

// Explain says which route of the configuration in path a hello would take. The
// error is a *[ConfigError] or a *[NoListenerError].
func Explain(path string, q Query) (Explained, error) {
	pl := build(path, nil, buildOptions{serving: true})
	if pl.problems.Err() != nil {
		return Explained{}, &ConfigError{pl.problems}
	}
	var names []string
	for _, l := range pl.state.Listeners {
		names = append(names, l.Name)
	}
	return explain(pl.state.Table, names, pl.state.Routes, q)
}

// explain answers by a table of routes on the listeners of these names.
func explain(table *proxy.Table, names []string, routes []*proxy.Route, q Query) (Explained, error) {
	if q.Listener == "" && len(names) > 0 {
		q.Listener = names[0]
	}
	if !slices.Contains(names, q.Listener) {
		return Explained{}, &NoListenerError{q.Listener, names}
	}
	e := Explained{Explanation: table.Explain(q.Listener, q.Name, q.ALPN, q.From), Listener: q.Listener}
	if e.Pattern != "" {
		return e, nil
	}
	for _, r := range routes {
		if slices.Contains(r.Listeners, q.Listener) {
			e.Looked = append(e.Looked, r.Name)
		}
	}
	for _, name := range names {
		if other := table.Explain(name, q.Name, q.ALPN, q.From); other.Pattern != "" {
			e.Others = append(e.Others, Other{name, other.Pattern})
		}
	}
	return e, nil
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
