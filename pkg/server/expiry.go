package server

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"slices"
	"strings"
	"time"
)

const day = 24 * time.Hour

// expiryEvery is how often certificates are looked at that nobody told of.
const expiryEvery = time.Hour

// notices are how long before its end a certificate is spoken of, the longest first:
// 30, 14 and 3 days, but no more than a third of its life, and a sixth of it for one of
// ACME, which renews before; of one that lives so briefly that none of them is left, then.
func notices(v *CertificateView) []time.Duration {
	part := v.NotAfter.Sub(v.NotBefore) / 3
	if v.ACME {
		part /= 2
	}
	list := []time.Duration{30 * day, 14 * day, 3 * day}
	list = slices.DeleteFunc(list, func(notice time.Duration) bool { return notice > part })
	if len(list) == 0 {
		return []time.Duration{part}
	}
	return list
}

// expiries remember what was said of certificates that end: the notice, by fingerprint.
type expiries map[[sha256.Size]byte]time.Duration

// look calls say with each certificate of which something is to be said at time now, and
// returns how long until there is more; at most a day. Of one that had ended when it was
// first seen nothing is said, as that was told when it was loaded.
func (e expiries) look(now time.Time, views []CertificateView, say func(*CertificateView)) time.Duration {
	wait := day
	seen := map[[sha256.Size]byte]bool{}
	for i := range views {
		v := &views[i]
		if v.Superseded || seen[v.SHA256] {
			continue
		}
		seen[v.SHA256] = true
		left := v.NotAfter.Sub(now)
		reached := time.Duration(-1) // the last notice that is due
		for _, notice := range append(notices(v), 0) {
			if left > notice {
				wait = min(wait, left-notice)
				break
			}
			reached = notice
		}
		said, known := e[v.SHA256]
		if reached < 0 || known && said <= reached {
			continue
		}
		e[v.SHA256] = reached
		if known || reached > 0 {
			say(v)
		}
	}
	for fingerprint := range e {
		if !seen[fingerprint] {
			delete(e, fingerprint)
		}
	}
	return wait
}

// watchExpiry warns of certificates in force that are about to end, until ctx is done.
func (s *Server) watchExpiry(ctx context.Context) error {
	warnOfExpiry(ctx, s.Certificates, s.expiryDue, s.log)
	return nil
}

// warnOfExpiry looks at views when their time has come, when due tells of new ones, and
// from time to time.
func warnOfExpiry(ctx context.Context, views func() []CertificateView, due <-chan struct{}, log *slog.Logger) {
	said := expiries{}
	for {
		now := time.Now()
		wait := said.look(now, views(), func(v *CertificateView) { sayExpiry(log, v, now) })
		timer := time.NewTimer(min(wait, expiryEvery))
		select {
		case <-timer.C:
		case <-due:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

func sayExpiry(log *slog.Logger, v *CertificateView, now time.Time) {
	left := v.NotAfter.Sub(now)
	file := v.File
	if v.ACME {
		file = "acme"
	}
	log = log.With(
		slog.String("names", strings.Join(v.Names, ", ")), slog.String("file", file),
		slog.String("not_after", v.NotAfter.UTC().Format(time.RFC3339)), slog.Int("days_left", int(left/day)),
		slog.String("routes", strings.Join(v.Routes, ", ")),
	)
	if left <= 0 {
		log.Warn("certificate has expired, clients refuse it")
		return
	}
	log.Warn("certificate expires soon")
}
