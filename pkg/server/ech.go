package server

import (
	"fmt"
	"strings"

	"github.com/snicketlb/snicket/pkg/certs"
	"github.com/snicketlb/snicket/pkg/config"
	"github.com/snicketlb/snicket/pkg/watch"
	"github.com/snicketlb/snicket/sni"
)

// ech loads the keys that open hellos within hellos, and follows them; nil without any.
func (b *builder) ech() *certs.LiveECH {
	files := b.config.TLS.ECHKeys
	if len(files) == 0 {
		return nil
	}
	fronts, err := b.fronts()
	if err != nil {
		return nil // hosts are at fault, which is told of them
	}
	live := new(certs.LiveECH)
	load := func() (*certs.ECH, []config.Problem) {
		var keys []*certs.ECHKey
		var all []config.Problem
		for _, f := range files {
			loaded, problems := certs.LoadECH(f.Path)
			keys = append(keys, loaded...)
			for _, p := range problems {
				all = append(all, problemAt(f.Pos, p))
			}
			for _, k := range loaded {
				if _, served, found := fronts.Lookup(strings.ToLower(k.PublicName)); !found || !served {
					all = append(all, config.Problem{
						Pos: f.Pos, Text: fmt.Sprintf("%s: no route terminates its public name %q, so no hello for it is opened", f.Path, k.PublicName),
						Hint: fmt.Sprintf("add %q to the hosts of a route with mode = \"terminate\"", k.PublicName),
					})
				}
			}
		}
		return certs.NewECH(keys), all
	}
	var patterns []string
	for _, f := range files {
		patterns = append(patterns, watch.Quote(f.Path))
	}
	b.secrets.follow("ech_keys", patterns, func() error {
		keys, problems := load()
		if len(problems) == 0 {
			live.Swap(keys)
		}
		return joined(problems)
	})
	keys, problems := load()
	for _, p := range problems {
		b.problem(p)
	}
	live.Swap(keys)
	return live
}

// fronts tells of each host whether some route terminates it: the outer hello must find
// one.
func (b *builder) fronts() (*sni.Map[bool], error) {
	served := map[string]bool{}
	for _, r := range b.config.Routes {
		for _, h := range r.Hosts {
			served[h.Pattern] = served[h.Pattern] || r.Mode == config.Terminate
		}
	}
	return sni.NewMap(func(yield func(string, bool) bool) {
		for pattern, is := range served {
			if !yield(pattern, is) {
				return
			}
		}
	})
}
