package server

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/snicketlb/snicket/health"
	"github.com/snicketlb/snicket/pkg/config"
	"github.com/snicketlb/snicket/pkg/registry"
)

const (
	// certificateNotice is how long before its end a backend's certificate is spoken of.
	certificateNotice = 14 * 24 * time.Hour
	// certificatesEvery is how often certificates that did not change are looked at.
	certificatesEvery = time.Hour
)

// watched is what is known of the certificates that backends showed to probes.
type watched struct {
	seen map[string]registry.Certificate // by targetID
	// said holds the warnings that stand, so that each is said once.
	said       map[string]bool
	at         time.Time // of the last look
	generation uint64
}

// watchCertificates warns of the certificates that backends show to probes: what
// changed, is out of date or soon will be, or does not cover the name that was asked
// for; and of those that lead HTTP/2 clients to the wrong pool. None of it takes a
// backend down. A warning is said once, and again after it was not true for a while.
// The caller holds mu.
func (s *Server) watchCertificates(v *registry.View, now time.Time) {
	w := &s.watched
	seen := map[string]registry.Certificate{}
	changed := v.Meta().Generation != w.generation || now.Sub(w.at) >= certificatesEvery
	for _, status := range v.AllStatuses() {
		if status.Certificate == (registry.Certificate{}) {
			continue
		}
		id := targetID(status.Pool, status.ID)
		seen[id] = status.Certificate
		former, was := w.seen[id]
		if was && former == status.Certificate {
			continue
		}
		changed = true
		if was {
			s.sayChanged(status, former)
		}
	}
	if !changed && len(seen) == len(w.seen) {
		return
	}
	w.seen, w.at, w.generation = seen, now, v.Meta().Generation
	s.warnAgainLocked(v)
	select {
	case s.hostsDue <- struct{}{}:
	default:
	}
}

// warnAgainLocked logs those warnings of now that did not stand before. The caller holds
// mu.
func (s *Server) warnAgainLocked(v *registry.View) {
	said := map[string]bool{}
	warn := func(key string, attrs ...slog.Attr) {
		if said[key] = true; !s.watched.said[key] {
			s.log.LogAttrs(context.Background(), slog.LevelWarn, "backend certificate", attrs...)
		}
	}
	shown := shownCertificates(v)
	warnOfBackends(v, shown, time.Now(), warn)
	warnOfCoalescing(v, shown, s.covered, warn)
	s.watched.said = said
}

func (s *Server) sayChanged(status *registry.Status, former registry.Certificate) {
	old, _ := former.Unpack()
	now, _ := status.Certificate.Unpack()
	s.log.Warn("backend certificate", slog.String("pool", status.Pool), slog.String("backend", status.ID), slog.String("why", now.Changed(&old)))
}

// shownCertificates are, by pool, the statuses of backends that showed a certificate.
func shownCertificates(v *registry.View) map[string][]*registry.Status {
	shown := map[string][]*registry.Status{}
	for _, status := range v.AllStatuses() {
		if status.Certificate.Fingerprint != "" {
			shown[status.Pool] = append(shown[status.Pool], status)
		}
	}
	return shown
}

// warnOfBackends warns of each certificate by itself.
func warnOfBackends(v *registry.View, shown map[string][]*registry.Status, now time.Time, warn func(key string, attrs ...slog.Attr)) {
	leading := sync.OnceValue(func() map[string][]string { // names of routes by pool, for the few that are warned of
		names := map[string][]string{}
		for r := range v.Routes() {
			names[r.Pool] = append(names[r.Pool], r.Name)
		}
		return names
	})
	for _, pool := range v.Pools() {
		asked := askedFor(pool)
		for _, b := range shown[pool.Name] {
			c, _ := b.Certificate.Unpack()
			for _, why := range c.Warnings(now, certificateNotice, asked) {
				warn(targetID(pool.Name, b.ID)+" "+c.Fingerprint+" "+withoutCount(why),
					slog.String("pool", pool.Name), slog.String("backend", b.ID),
					slog.String("routes", strings.Join(leading()[pool.Name], " ")), slog.String("why", why))
			}
		}
	}
}

// askedFor is the host that the probes of a pool ask for. A backend may have a certificate
// for each: what it shows tells of that one. Of the others watchHosts tells.
func askedFor(pool *config.Pool) []string {
	if pool.Health.ServerName == "" {
		return nil
	}
	return []string{pool.Health.ServerName}
}

// withoutCount takes the numbers out of a length of time, so that a warning is not said
// anew each day but when days have become hours.
func withoutCount(why string) string {
	if !strings.HasPrefix(why, "certificate expire") {
		return why
	}
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, why)
}

// warnOfCoalescing warns of certificates of passthrough backends that cover a host
// which goes to another pool, listener by listener.
func warnOfCoalescing(v *registry.View, shown map[string][]*registry.Status, covered map[string][]string, warn func(key string, attrs ...slog.Attr)) {
	if len(shown) == 0 && len(covered) == 0 {
		return
	}
	for _, l := range v.Listeners() {
		names := map[string][]string{}
		looked := map[string]bool{} // pools: of a million routes, many go to one
		for r := range v.Routes() {
			if looked[r.Pool] || r.Mode != config.Passthrough || !slices.Contains(r.Listeners, l.Name) ||
				len(r.ALPN) > 0 && !slices.Contains(r.ALPN, "h2") {
				continue
			}
			looked[r.Pool] = true
			if of := namesShown(shown[r.Pool], covered[r.Pool]); len(of) > 0 {
				names[r.Pool] = of
			}
		}
		if len(names) == 0 {
			continue
		}
		for _, o := range health.Coalescing(names, hostsOf(v, l.Name)) {
			warn(l.Name+" "+o.String(), slog.String("listener", l.Name), slog.String("pool", o.Pool), slog.String("why", o.String()))
		}
	}
}

// namesShown are those in the certificates that the backends of a pool show, and further
// ones that they cover.
func namesShown(shown []*registry.Status, covered []string) []string {
	var names []string
	for _, status := range shown {
		if c, ok := status.Certificate.Unpack(); ok {
			names = append(names, c.Names...)
		}
	}
	return append(names, covered...)
}

// hostsOf are the hosts that a listener routes to a pool.
func hostsOf(v *registry.View, listener string) []health.HostPool {
	var hosts []health.HostPool
	for r := range v.Routes() {
		if !slices.Contains(r.Listeners, listener) || r.Mode == config.Reject {
			continue
		}
		for _, h := range r.Hosts {
			hosts = append(hosts, health.HostPool{Host: h.Pattern, Pool: r.Pool})
		}
	}
	return hosts
}
