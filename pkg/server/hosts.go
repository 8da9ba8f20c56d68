package server

import (
	"context"
	"crypto/tls"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/snicketlb/snicket/health"
	"github.com/snicketlb/snicket/pkg/config"
	"github.com/snicketlb/snicket/pkg/registry"
)

const (
	// hostsMost is how many hosts a passthrough backend is asked for, and shakesMost
	// how many handshakes a round takes: of more backends some, drawn by lot.
	hostsMost  = 64
	shakesMost = 2000
	// hostsAtOnce bounds the handshakes at one time.
	hostsAtOnce = 8
	// hostsPause is the least time from one round to the next.
	hostsPause = 10 * time.Second
)

// watchHosts looks at the certificates that passthrough backends show for each host of
// their routes, until ctx is done: their probes ask for one, and a backend may have a
// certificate for each. It does so after a reload, when a certificate has changed, and
// every hour.
func (s *Server) watchHosts(ctx context.Context) error {
	said := map[string]bool{}
	for {
		select {
		case <-s.hostsDue:
		case <-time.After(certificatesEvery):
		case <-ctx.Done():
			return nil
		}
		questions := hostQuestions(s.registry.View())
		if len(questions) == 0 && len(said) == 0 {
			continue
		}
		said = s.askHosts(ctx, questions, said)
		select {
		case <-time.After(hostsPause):
		case <-ctx.Done():
			return nil
		}
	}
}

// hostQuestion is one backend to be asked for the certificates of hosts.
type hostQuestion struct {
	pool    *config.Pool
	backend *registry.Backend
	hosts   []string
	known   health.Certificate // what its probe was shown
}

// askHosts makes one round, logs what is news against said, and returns what holds now.
func (s *Server) askHosts(ctx context.Context, questions []hostQuestion, said map[string]bool) map[string]bool {
	var (
		mu      sync.Mutex // guards the two below
		now     = map[string]bool{}
		covered = map[string][]string{}
		wg      sync.WaitGroup
		turn    = make(chan struct{}, hostsAtOnce)
	)
	questions, others := drawn(questions)
	for key := range said { // what was said of them stands
		if id, _, _ := strings.Cut(key, " "); others[id] {
			now[key] = true
		}
	}
	for _, q := range questions {
		turn <- struct{}{}
		wg.Go(func() {
			defer func() { <-turn }()
			warnings, names := q.ask(ctx)
			mu.Lock()
			defer mu.Unlock()
			covered[q.pool.Name] = append(covered[q.pool.Name], names...)
			for _, why := range warnings {
				key := targetID(q.pool.Name, q.backend.ID) + " " + withoutCount(why)
				if now[key] = true; !said[key] {
					s.log.Warn("backend certificate", slog.String("pool", q.pool.Name), slog.String("backend", q.backend.ID), slog.String("why", why))
				}
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return said
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(others) > 0 {
		for pool, names := range s.covered {
			covered[pool] = slices.Compact(slices.Sorted(slices.Values(append(covered[pool], names...))))
		}
	}
	if len(covered) > 0 || len(s.covered) > 0 {
		s.covered = covered
		s.warnAgainLocked(s.registry.View())
	}
	return now
}

// exactHosts are, by pool, the first exact hosts of its passthrough routes: one more than
// are asked for, as the probe's own may be among them.
func exactHosts(v *registry.View) map[string][]string {
	hosts := map[string][]string{}
	for r := range v.Routes() {
		if r.Mode != config.Passthrough {
			continue
		}
		for _, h := range r.Hosts {
			if len(hosts[r.Pool]) > hostsMost { // of a table of a million
				break
			}
			if !strings.HasPrefix(h.Pattern, "*") && h.Pattern != "-" && !slices.Contains(hosts[r.Pool], h.Pattern) {
				hosts[r.Pool] = append(hosts[r.Pool], h.Pattern)
			}
		}
	}
	return hosts
}

// hostQuestions are the backends of passthrough routes that showed a certificate, with
// the exact hosts that no probe asks for.
func hostQuestions(v *registry.View) []hostQuestion {
	shown := shownCertificates(v)
	if len(shown) == 0 {
		return nil
	}
	hosts := exactHosts(v)
	var out []hostQuestion
	for _, pool := range v.Pools() {
		if len(shown[pool.Name]) == 0 {
			continue
		}
		further := slices.DeleteFunc(hosts[pool.Name], func(h string) bool { return h == pool.Health.ServerName })
		if len(further) == 0 {
			continue
		}
		for _, b := range v.Backends(pool.Name) {
			status := v.Status(pool.Name, b.ID)
			if known, ok := status.Certificate.Unpack(); ok && status.State == health.Up {
				out = append(out, hostQuestion{pool, b, further[:min(len(further), hostsMost)], known})
			}
		}
	}
	return out
}

// drawn takes as many of questions as one round may hold, and returns the targets of
// those left out.
func drawn(questions []hostQuestion) (now []hostQuestion, others map[string]bool) {
	rand.Shuffle(len(questions), func(i, j int) { questions[i], questions[j] = questions[j], questions[i] })
	shakes := 0
	others = map[string]bool{}
	for _, q := range questions {
		if shakes += len(q.hosts); shakes > shakesMost {
			others[targetID(q.pool.Name, q.backend.ID)] = true
			continue
		}
		now = append(now, q)
	}
	return now, others
}

// ask returns what is wrong with the certificates shown for the hosts, and the names in
// them. A handshake that fails says nothing here.
func (q *hostQuestion) ask(ctx context.Context) (warnings, names []string) {
	shown := map[string]health.Certificate{} // by fingerprint
	hosts := map[string][]string{}
	for _, host := range q.hosts {
		probe := health.TLS{TCP: connector(q.pool, q.backend), Config: &tls.Config{
			ServerName: host, InsecureSkipVerify: true, //nolint:gosec // it is the client who verifies
		}}
		seen, _ := health.Try(ctx, probe, q.pool.Health.Timeout)
		if c, ok := seen.Certificate(); ok {
			shown[c.Fingerprint] = c
			hosts[c.Fingerprint] = append(hosts[c.Fingerprint], host)
		}
	}
	for fingerprint, c := range shown {
		names = append(names, c.Names...)
		notice := certificateNotice
		if fingerprint == q.known.Fingerprint { // its age is told already
			c.NotBefore, c.NotAfter, notice = time.Time{}, time.Now().Add(time.Hour), 0
		}
		for _, why := range c.Warnings(time.Now(), notice, hosts[fingerprint]) {
			if strings.HasPrefix(why, "certificate expire") {
				why += " (shown for " + strings.Join(hosts[fingerprint], ", ") + ")"
			}
			warnings = append(warnings, why)
		}
	}
	return warnings, names
}
