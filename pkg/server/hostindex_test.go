package server

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/snicketlb/snicket/pkg/config"
)

// TestHostIndex compares the index with what a name in a certificate and a host mean: they
// meet if some server name is covered by the one and matched by the other.
func TestHostIndex(t *testing.T) {
	labels := []string{"a", "b", "test"}
	random := rand.New(rand.NewPCG(1, 2))
	name := func() string {
		parts := make([]string, 1+random.IntN(3))
		for i := range parts {
			parts[i] = labels[random.IntN(len(labels))]
		}
		return strings.Join(parts, ".")
	}
	met := 0
	for range 20_000 {
		host := []string{"", "*.", "**."}[random.IntN(3)] + name()
		if random.IntN(20) == 0 {
			host = "*"
		}
		cert := []string{"", "*."}[random.IntN(2)] + name()
		index := hostIndex{}
		index.add(&config.Route{Name: "r", Hosts: []config.Host{{Pattern: host}}})
		got, want := len(index.routes([]string{cert})) > 0, meet(cert, host)
		if got != want {
			t.Fatalf("certificate %q, host %q: got %t, want %t", cert, host, got, want)
		}
		if want {
			met++
		}
	}
	if met < 1000 {
		t.Errorf("only %d pairs met, too few to tell", met)
	}
}

// meet tries server names that either may mean.
func meet(cert, host string) bool {
	var names []string
	for _, pattern := range []string{cert, host} {
		base := strings.TrimLeft(pattern, "*.")
		names = append(names, base, "a."+base, "z."+base, "z.z."+base)
	}
	return slices.ContainsFunc(names, func(name string) bool { return covers(cert, name) && matches(host, name) })
}

func covers(cert, name string) bool {
	label, parent, _ := strings.Cut(name, ".")
	return cert == name || label != "" && parent != "" && cert == "*."+parent
}

func matches(host, name string) bool {
	switch {
	case host == "*":
		return name != ""
	case strings.HasPrefix(host, "**."):
		return strings.HasSuffix(name, host[2:]) && name != host[3:]
	}
	return covers(host, name)
}
