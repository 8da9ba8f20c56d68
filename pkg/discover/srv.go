package discover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/snicketlb/snicket/pkg/config"
)

// targetsAtOnce bounds the questions for targets of SRV records at one time.
const targetsAtOnce = 16

// srvLooker asks for SRV records and the addresses of their targets.
type srvLooker struct {
	name     string
	resolver resolver
	last     map[string]addresses // by target, the last good ones
}

func newSRVLooker(name string, r resolver) *srvLooker {
	return &srvLooker{name: name, resolver: r}
}

func (l *srvLooker) look(ctx context.Context) (found, error) {
	s, note := l.resolver.session()
	f := found{note: note}
	var (
		records []*dns.SRV
		extra   []dns.RR
		ttl     time.Duration
	)
	for _, name := range s.candidates(l.name) {
		reply, err := s.ask(ctx, name, dns.TypeSRV)
		if err != nil {
			return f, err
		}
		records, extra, ttl = srvOf(reply.records), reply.extra, reply.ttl
		if len(records) > 0 {
			break
		}
	}
	switch {
	case len(records) == 0:
		return f, errors.New("no such name or no SRV records")
	case len(records) == 1 && records[0].Target == ".":
		return f, errors.New(`the records say that there is no such service (target ".")`)
	}
	targets := l.targets(ctx, s, records, extra)
	var failed []string
	for _, name := range slices.Sorted(maps.Keys(targets)) {
		t := targets[name]
		if err := t.err(); err != nil {
			failed = append(failed, fmt.Sprintf("target %s: %v", strings.TrimSuffix(name, "."), err))
		}
		if t, fresh := t.ttl(); fresh {
			ttl = min(ttl, t)
		}
	}
	f.backends = weigh(records, targets)
	if len(failed) > 0 {
		f.err = errors.New(failed[0])
		if len(failed) > 1 {
			f.err = fmt.Errorf("%s (and %d more)", failed[0], len(failed)-1)
		}
	}
	if len(f.backends) == 0 {
		return f, cmp.Or(f.err, errors.New("no target has an address"))
	}
	f.ttl, f.wait = ttl, holdFor(ttl)
	l.last = targets
	return f, nil
}

// targets returns the addresses of all targets, by name in lower case; of those that
// fail, the last good ones.
func (l *srvLooker) targets(ctx context.Context, s *session, records []*dns.SRV, extra []dns.RR) map[string]addresses {
	out := map[string]addresses{}
	for _, r := range records {
		out[targetOf(r)] = addresses{}
	}
	if additional(out, extra) {
		return out
	}
	var (
		mu   sync.Mutex
		wg   sync.WaitGroup
		turn = make(chan struct{}, targetsAtOnce)
	)
	for _, name := range slices.Sorted(maps.Keys(out)) {
		turn <- struct{}{}
		wg.Go(func() {
			defer func() { <-turn }()
			now := ask(ctx, s, name).merge(l.last[name])
			mu.Lock()
			defer mu.Unlock()
			out[name] = now
		})
	}
	wg.Wait()
	return out
}

// additional fills targets from the additional section, and reports whether that had
// addresses of every one. One that has them of some was cut to fit, perhaps elsewhere
// at the next time, so that none of it is taken: a set must not depend on that.
func additional(targets map[string]addresses, extra []dns.RR) bool {
	filled := map[string]addresses{}
	for _, rr := range extra {
		name := strings.ToLower(rr.Header().Name)
		a, ok := addrOf(rr)
		if _, wanted := targets[name]; !ok || !wanted {
			continue
		}
		t := filled[name]
		f := &t[0]
		if rr.Header().Rrtype == dns.TypeAAAA {
			f = &t[1]
		}
		if ttl := seconds(rr.Header().Ttl); len(f.addrs) == 0 || ttl < f.ttl {
			f.ttl = ttl
		}
		f.addrs = append(f.addrs, a)
		filled[name] = t
	}
	if len(filled) < len(targets) {
		return false
	}
	maps.Copy(targets, filled)
	return true
}

func (l *srvLooker) events() <-chan struct{} { return nil }

func (l *srvLooker) close() {}

func srvOf(records []dns.RR) []*dns.SRV {
	var out []*dns.SRV
	for _, rr := range records {
		if srv, ok := rr.(*dns.SRV); ok && (srv.Port != 0 || srv.Target == ".") {
			out = append(out, srv)
		}
	}
	return out
}

func targetOf(r *dns.SRV) string { return strings.ToLower(r.Target) }

// weigh makes backends of records: priorities become tiers, weights ours.
func weigh(records []*dns.SRV, targets map[string]addresses) []Backend {
	heaviest := map[uint16]int{} // by priority
	for _, r := range records {
		heaviest[r.Priority] = max(heaviest[r.Priority], int(r.Weight))
	}
	priorities := slices.Sorted(maps.Keys(heaviest))
	var out []Backend
	for _, r := range records {
		weight := int(r.Weight)
		if most := heaviest[r.Priority]; most > config.MaxWeight {
			weight = (weight*config.MaxWeight + most/2) / most
		}
		tier, _ := slices.BinarySearch(priorities, r.Priority)
		for _, ip := range targets[targetOf(r)].usable() {
			b := backendAt(ip, r.Port)
			b.Weight, b.Tier = max(weight, 1), tier
			out = append(out, b)
		}
	}
	return out
}
