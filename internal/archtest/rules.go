// Package archtest holds the module's import rules: which package may know which.
//
// The rules are data ([House]); [Check] applies them to a package graph as `go list -deps` prints it. The test of this
// package runs both over the module, so a forbidden import fails `go test ./...` with the chain that caused it.
//
// A new package must be given its room in [House] before it may exist: where it stands is a decision, not an accident.
package archtest

import (
	"fmt"
	"slices"
	"strings"
)

// Module is the path of the module whose rules these are.
const Module = "github.com/snicketlb/snicket"

// Package is what the rules need to know of one package: a subset of what `go list -json` prints.
type Package struct {
	ImportPath string
	Standard   bool
	Imports    []string // direct imports, tests excluded
}

// Room says what one package of the module may import.
type Room struct {
	// Own lists the packages of the module it may import directly, relative to the module.
	Own []string
	// Never lists packages of the module that must not be reached even through others.
	Never []string
	// Doors lists the third-party import paths it may import directly; a package below one of them counts too.
	Doors []string
	// Pure says that nothing outside the standard library may be reached at all, not even through others.
	Pure bool
}

// libraries are the packages that anyone may import, inside and outside the module.
func libraries(more ...string) []string {
	return append([]string{"sni", "balancer", "health"}, more...)
}

// control lists the packages the data plane must never reach: a connection's way touches no configuration, no
// registry, no metrics and no administration.
func control() []string {
	return []string{
		"pkg/config", "pkg/registry", "pkg/discover", "pkg/metrics", "pkg/admin", "pkg/upgrade", "pkg/server",
	}
}

// House returns the rules, by package path relative to the module. Imports run downward only: cmd, server, then
// admin, metrics and upgrade, then registry and discover, then config; and from server to proxy and what it is made of.
func House() map[string]Room {
	dataPlane := []string{"pkg/proxy", "pkg/relay", "pkg/terminate", "pkg/web", "pkg/proxyheader", "pkg/certs", "pkg/loop", "pkg/pace"}
	declared := []string{"pkg/registry", "pkg/discover", "pkg/config", "pkg/watch"}
	operations := libraries(slices.Concat(declared, dataPlane)...)
	everything := append(slices.Clone(operations), "health/grpc", "pkg/certs/acme", "pkg/admin", "pkg/admin/client", "pkg/metrics", "pkg/upgrade")
	return map[string]Room{
		"sni":           {Pure: true},
		"balancer":      {Pure: true},
		"health":        {Pure: true},
		"health/grpc":   {Own: []string{"health"}, Doors: []string{"google.golang.org/grpc"}},
		"sni/hellotest": {Own: []string{"sni"}, Pure: true},

		"pkg/pace":        {Pure: true},
		"pkg/loop":        {Never: control(), Doors: []string{"golang.org/x/sys"}},
		"pkg/relay":       {Own: []string{"pkg/loop"}, Never: control(), Doors: []string{"golang.org/x/sys"}},
		"pkg/proxyheader": {Own: libraries(), Never: control(), Doors: []string{"github.com/pires/go-proxyproto"}},
		"pkg/certs":       {Own: libraries(), Never: control()},
		"pkg/certs/acme": {
			Own:   []string{"pkg/certs"},
			Never: control(), Doors: []string{"github.com/caddyserver/certmagic", "github.com/mholt/acmez/v3", "go.uber.org/zap"},
		},
		"pkg/terminate": {
			Own:   libraries("pkg/loop", "pkg/relay", "pkg/proxyheader", "pkg/certs"),
			Never: control(), Doors: []string{"golang.org/x/sys"},
		},
		"pkg/web": {
			Own:   libraries("pkg/loop", "pkg/relay", "pkg/proxyheader", "pkg/certs", "pkg/terminate"),
			Never: control(),
		},
		"pkg/proxy": {
			Own:   libraries(dataPlane[1:]...),
			Never: control(), Doors: []string{"golang.org/x/sys"},
		},

		"pkg/watch":    {Doors: []string{"github.com/fsnotify/fsnotify"}},
		"pkg/config":   {Own: libraries("pkg/pace"), Doors: []string{"github.com/BurntSushi/toml"}},
		"pkg/registry": {Own: libraries("pkg/config", "pkg/pace"), Doors: []string{"github.com/hashicorp/go-memdb"}},
		"pkg/discover": {
			Own:   libraries("pkg/config", "pkg/registry", "pkg/watch"),
			Doors: []string{"github.com/miekg/dns"},
		},
		"pkg/metrics":      {Own: operations, Doors: []string{"github.com/prometheus/client_golang"}},
		"pkg/admin":        {Own: operations, Doors: []string{"golang.org/x/sys"}},
		"pkg/admin/client": {Own: []string{"pkg/admin"}},
		"pkg/upgrade":      {Own: operations, Doors: []string{"golang.org/x/sys"}},
		"pkg/server":       {Own: everything, Doors: []string{"golang.org/x/sys", "github.com/rogpeppe/go-internal/diff", "github.com/coreos/go-systemd"}},
		"pkg/server/demo":  {Own: append(slices.Clone(everything), "pkg/server")},
		"cmd/snicket": {
			Own:   append(slices.Clone(everything), "pkg/server", "pkg/server/demo"),
			Doors: []string{"github.com/urfave/cli/v2", "charm.land/bubbletea/v2", "github.com/charmbracelet/x"},
		},

		"internal/archtest": {},
		"internal/lab":      {Own: libraries("pkg/certs"), Doors: []string{"golang.org/x/sys"}},
		"internal/lab/pebble": {
			Own:   []string{"internal/lab"},
			Doors: []string{"github.com/letsencrypt/pebble/v2", "github.com/miekg/dns", "golang.org/x/crypto/ocsp"},
		},
		"internal/lab/successor": {Own: []string{"pkg/upgrade"}},
		"internal/lab/load":      {Own: []string{"internal/lab"}, Doors: []string{"golang.org/x/sys"}},
		"e2e":                    {},
	}
}

// Check applies rooms to packages, which must hold the whole graph, dependencies included. It returns one line per
// broken rule, in the order of packages, and nil when all hold. Packages below examples/ and benchmarks/ stand for
// users of the module and are free.
func Check(packages []Package, rooms map[string]Room) []string {
	byPath := make(map[string]Package, len(packages))
	for _, p := range packages {
		byPath[p.ImportPath] = p
	}
	var broken []string
	for _, p := range packages {
		name, own := relative(p.ImportPath)
		if !own || strings.HasPrefix(name, "examples/") || strings.HasPrefix(name, "benchmarks") {
			continue
		}
		room, ok := rooms[name]
		if !ok {
			broken = append(broken, fmt.Sprintf("%s: no room of this name in the house: add its rules to House", name))
			continue
		}
		broken = append(broken, checkDirect(p, name, room, byPath)...)
		broken = append(broken, checkReached(p, name, room, byPath)...)
	}
	return broken
}

func checkDirect(p Package, name string, room Room, byPath map[string]Package) []string {
	var broken []string
	for _, path := range p.Imports {
		imported, known := byPath[path]
		if path == "C" || known && imported.Standard {
			continue
		}
		if other, own := relative(path); own {
			if !slices.Contains(room.Own, other) {
				broken = append(broken, fmt.Sprintf("%s imports %s: not downward", name, other))
			}
			continue
		}
		if !slices.ContainsFunc(room.Doors, func(door string) bool { return within(path, door) }) {
			broken = append(broken, fmt.Sprintf("%s imports %s: it is not the door of that module", name, path))
		}
	}
	return broken
}

func checkReached(p Package, name string, room Room, byPath map[string]Package) []string {
	var broken []string
	via := map[string]string{} // package reached: the one that imports it
	queue := slices.Clone(p.Imports)
	for _, path := range queue {
		via[path] = p.ImportPath
	}
	for len(queue) > 0 {
		path := queue[0]
		queue = queue[1:]
		reached, known := byPath[path]
		if path == "C" || known && reached.Standard {
			continue
		}
		other, own := relative(path)
		switch {
		case own && slices.Contains(room.Never, other):
			broken = append(broken, fmt.Sprintf("%s must never reach %s: %s", name, other, chain(p.ImportPath, path, via)))
		case !own && room.Pure:
			broken = append(broken, fmt.Sprintf("%s is standard library only: %s", name, chain(p.ImportPath, path, via)))
		}
		for _, next := range reached.Imports {
			if _, seen := via[next]; !seen {
				via[next] = path
				queue = append(queue, next)
			}
		}
	}
	return broken
}

// chain writes the imports that lead from one package to another.
func chain(from, to string, via map[string]string) string {
	names := []string{to}
	for to != from {
		to = via[to]
		names = append(names, to)
	}
	slices.Reverse(names)
	return strings.ReplaceAll(strings.Join(names, " → "), Module+"/", "")
}

// relative returns a package's path below the module, and whether it belongs to it.
func relative(path string) (string, bool) {
	if path == Module {
		return ".", true
	}
	return strings.CutPrefix(path, Module+"/")
}

// within reports whether path is the package root or one below it.
func within(path, root string) bool {
	return path == root || strings.HasPrefix(path, root+"/")
}
