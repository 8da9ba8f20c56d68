package server

import (
	"log/slog"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/snicketlb/snicket/pkg/config"
	"github.com/snicketlb/snicket/pkg/registry"
)

// changedAttrs says in words what a reload changed.
func changedAttrs(old, now *plan, ch registry.Changes) []slog.Attr {
	var attrs []slog.Attr
	add := func(what, text string) {
		if text != "" {
			attrs = append(attrs, slog.String(what, text))
		}
	}
	add("listeners", differenceText(ch.Listeners, "changed"))
	add("routes", differenceText(ch.Routes, "changed"))
	add("pools", differenceText(ch.Pools, "changed"))
	add("backends", differenceText(ch.Backends, "changed"))
	add("certificates", differenceText(renewed(old.secrets, now.secrets), "renewed"))
	add("settings", strings.Join(settingsChanged(old.config, now.config), ", "))
	if attrs == nil {
		add("changes", "none")
	}
	return attrs
}

// settingsChanged names the tables of the whole process that differ.
func settingsChanged(old, now *config.Config) []string {
	var names []string
	before, after := old.Log, now.Log
	before.AccessPos, after.AccessPos = config.Position{}, config.Position{}
	for _, table := range []struct {
		name          string
		before, after any
	}{
		{"watch", old.Watch, now.Watch},
		{"tls", sharedTLS(&old.TLS), sharedTLS(&now.TLS)},
		{"acme", placelessACME(old.ACME), placelessACME(now.ACME)},
		{"timeouts", old.Timeouts, now.Timeouts},
		{"limits", old.Limits, now.Limits},
		{"admin", placeless(old.Admin), placeless(now.Admin)},
		{"log", before, after},
	} {
		if !reflect.DeepEqual(table.before, table.after) {
			names = append(names, table.name)
		}
	}
	return names
}

// renewed compares what the files of certificates and roots held, then and now, by
// the files' base names.
func renewed(old, now *secrets) registry.Difference {
	var d registry.Difference
	before, after := old.contents(), now.contents()
	for file, holds := range after {
		switch held, ok := before[file]; {
		case !ok:
			d.Added = append(d.Added, filepath.Base(file))
		case held != holds:
			d.Changed = append(d.Changed, filepath.Base(file))
		}
	}
	for file := range before {
		if _, ok := after[file]; !ok {
			d.Removed = append(d.Removed, filepath.Base(file))
		}
	}
	for file, now := range now.bundles {
		if was := old.bundles[file]; was != nil && was.pool != nil && now.pool != nil && !now.pool.Equal(was.pool) {
			d.Changed = append(d.Changed, filepath.Base(file))
		}
	}
	slices.Sort(d.Added)
	slices.Sort(d.Changed)
	slices.Sort(d.Removed)
	return d
}

// differenceText is a difference as "changed: a, b; added: c; removed: d", of at most
// ten names each; changed is the word for what has.
func differenceText(d registry.Difference, changed string) string {
	const most = 10
	var parts []string
	for _, part := range []struct {
		word string
		rows []string
	}{{changed, d.Changed}, {"added", d.Added}, {"removed", d.Removed}} {
		if len(part.rows) == 0 {
			continue
		}
		rows, more := part.rows, ""
		if len(rows) > most {
			rows, more = rows[:most], ", …"
		}
		parts = append(parts, part.word+": "+strings.Join(rows, ", ")+more)
	}
	return strings.Join(parts, "; ")
}

// placeless is a without where it stands.
func placeless(a config.Admin) config.Admin {
	a.Pos, a.GroupPos, a.AddressPos = config.Position{}, config.Position{}, config.Position{}
	return a
}

// processTLS is what [tls] says for the process, and for no route or file of its own.
type processTLS struct {
	secret string
	rotate time.Duration
	ech    []string
}

func sharedTLS(t *config.TLS) processTLS {
	own := processTLS{secret: t.Tickets.Secret.Path, rotate: t.Tickets.Rotate}
	for _, f := range t.ECHKeys {
		own.ech = append(own.ech, f.Path)
	}
	return own
}

func placelessACME(a config.ACME) config.ACME {
	a.Pos, a.CA.Pos = config.Position{}, config.Position{}
	return a
}
