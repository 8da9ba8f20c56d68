package acme

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/snicketlb/snicket/pkg/certs"
)

// How often the cache is looked at: soon after news, then less and less.
const (
	lookSoon   = 20 * time.Millisecond
	lookSeldom = time.Minute
)

// follow hands out what the cache holds whenever that has changed. certmagic tells that
// it has obtained a certificate before that is in its cache, and of a new staple not at
// all: so the cache is looked at, often behind news and once a minute else.
func (m *Manager) follow(ctx context.Context) {
	pause := lookSeldom
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.news:
			pause = lookSoon
		case <-timer.C:
			pause = min(2*pause, lookSeldom)
		}
		m.deliver.Lock()
		if changes := m.look(); len(changes) > 0 {
			m.hand()
			m.tell(changes)
		}
		m.deliver.Unlock()
		timer.Reset(pause)
	}
}

// change is another certificate, or another staple, of a host.
type change struct {
	host     string
	from, to *certs.Certificate // from is nil for the first one
}

// look takes over what the cache holds for the names, and returns what of that is new.
// The caller holds deliver.
func (m *Manager) look() []change {
	m.mu.Lock()
	defer m.mu.Unlock()
	var changes []change
	for host, n := range m.names {
		c := best(m.cache.AllMatchingCertificates(host))
		if c == nil || c.Hash() == n.hash && string(c.OCSPStaple) == n.staple {
			continue
		}
		n.hash, n.staple = c.Hash(), string(c.OCSPStaple)
		if cert, err := certs.New(c.Certificate); err == nil { // certmagic has parsed it
			changes = append(changes, change{host: host, from: n.cert, to: cert})
			n.cert = cert
		}
	}
	return changes
}

// tell logs certificates that are served from now on, whichever instance has had them
// issued.
func (m *Manager) tell(changes []change) {
	for _, c := range changes {
		host, until := slog.String("host", c.host), slog.String("until", c.to.NotAfter.UTC().Format(time.RFC3339))
		switch {
		case c.from == nil:
			m.log.Info("certificate obtained", host, until)
		case c.from.SHA256 != c.to.SHA256:
			m.log.Info("certificate renewed", host, until)
		}
	}
}

// best is the certificate that expires last, nil of none.
func best(all []certmagic.Certificate) *certmagic.Certificate {
	var found *certmagic.Certificate
	for i := range all {
		if c := &all[i]; c.Leaf != nil && (found == nil || c.Leaf.NotAfter.After(found.Leaf.NotAfter)) {
			found = c
		}
	}
	return found
}

// hand delivers all certificates. The caller holds deliver.
func (m *Manager) hand() {
	m.mu.Lock()
	var all []*certs.Certificate
	for _, host := range slices.Sorted(maps.Keys(m.names)) {
		if c := m.names[host].cert; c != nil {
			all = append(all, c)
		}
	}
	closed := m.stop == nil
	m.mu.Unlock()
	if !closed {
		m.o.Deliver(all)
	}
}

// Missing returns those of the managed names that have no certificate yet, sorted.
func (m *Manager) Missing() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var missing []string
	for host, n := range m.names {
		if n.cert == nil {
			missing = append(missing, host)
		}
	}
	slices.Sort(missing)
	return missing
}

// event takes what certmagic tells of its work.
func (m *Manager) event(ctx context.Context, event string, data map[string]any) error {
	host, _ := data["identifier"].(string)
	renewal, _ := data["renewal"].(bool)
	switch event {
	case "cached_managed_cert", "cert_obtained":
		poke(m.news)
	case "cert_failed":
		err, _ := data["error"].(error)
		m.failed(host)
		if m.storage.isClosed() || ctx.Err() != nil {
			return nil
		}
		attrs := []slog.Attr{slog.String("host", host), slog.Any("error", err), slog.String("hint", hintFor(err))}
		if tries, ok := ctx.Value(certmagic.AttemptsCtxKey).(*int); ok {
			attrs = append(attrs, slog.Int("tries", *tries+1))
		}
		what := "certificate not obtained"
		if renewal {
			what = "certificate not renewed"
		}
		m.log.LogAttrs(ctx, slog.LevelWarn, what, attrs...) //nolint:sloglint // one of two words
	case "cert_ocsp_revoked":
		m.log.Warn("certificate revoked by its authority, a new one is asked for", slog.Any("hosts", data["subjects"]))
	}
	return nil
}
