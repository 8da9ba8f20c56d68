package server

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"slices"

	"github.com/snicketlb/snicket/pkg/certs"
	"github.com/snicketlb/snicket/pkg/config"
	"github.com/snicketlb/snicket/pkg/terminate"
	"github.com/snicketlb/snicket/pkg/watch"
)

// authorities are the certificates in one file, by which a pool verifies its backends.
type authorities struct {
	held     content
	pool     *x509.CertPool // nil: they cannot be used
	problems []certs.Problem
}

// probeSecrets are those of a pool's probes.
type probeSecrets struct {
	roots       *x509.CertPool // nil: the system's
	certificate *tls.Certificate
	sum         string // of what the files hold; empty: there is none
}

// poolTLS makes how a pool and its probes speak TLS, which follows their files.
func (b *builder) poolTLS(p *config.Pool) (*terminate.Backend, probeSecrets) {
	var backend *terminate.Backend
	if files := poolFiles(p); len(files) > 0 {
		patterns := make([]string, len(files))
		for i, file := range files {
			patterns[i] = watch.Quote(file)
		}
		b.secrets.follow("pools."+p.Name, patterns, func() error {
			o, own, err := b.secrets.pool(p)
			if err != nil {
				return err
			}
			if backend != nil {
				backend.Swap(o)
			}
			b.renewed(b.plan, p.Name, own)
			return nil
		})
	}
	b.secrets.roots(p.Health.CA)
	if p.TLS != nil {
		b.secrets.roots(p.TLS.CA)
		b.secrets.client(p.TLS.Certificate)
	}
	o, own, _ := b.secrets.pool(p) // what is wrong is reported
	if p.TLS != nil {
		backend = b.shared.tls[p.Name].Renew(o)
		b.shared.tls[p.Name] = backend
	}
	return backend, own
}

// poolFiles are those that a pool and its probes verify backends by, and identify
// themselves with.
func poolFiles(p *config.Pool) []string {
	files := []string{p.Health.CA.Path}
	if p.TLS != nil {
		files = append(files, p.TLS.CA.Path, p.TLS.Certificate.Cert, p.TLS.Certificate.Key)
	}
	var named []string
	for _, file := range files {
		if file != "" {
			named = append(named, file)
		}
	}
	return named
}

// pool makes of the files of a pool what they hold now. The error says what is wrong with
// which.
func (s *secrets) pool(p *config.Pool) (terminate.BackendOptions, probeSecrets, error) {
	var all []certs.Problem
	authorities := func(f config.File) *x509.CertPool {
		if f.Path == "" {
			return nil
		}
		a := s.authorities(f.Path)
		if a.pool == nil {
			all = append(all, a.problems...)
		}
		return a.pool
	}
	own := probeSecrets{roots: authorities(p.Health.CA)}
	var o terminate.BackendOptions
	if p.TLS != nil {
		o = terminate.BackendOptions{
			ServerName: p.TLS.ServerName, Roots: authorities(p.TLS.CA),
			InsecureSkipVerify: p.TLS.InsecureSkipVerify, SessionCache: p.TLS.SessionCache,
		}
		if c := p.TLS.Certificate; c.Cert != "" {
			loaded := s.pairOf(pairFiles{c.Cert, c.Key})
			if fault := loaded.fault(); fault != nil {
				all = append(all, *fault)
			} else {
				own.certificate = &loaded.cert.Certificate
				o.Certificate = own.certificate
			}
		}
	}
	if files := poolFiles(p); len(files) > 0 {
		sum := sha256.New()
		for _, file := range files {
			held := s.eye.last(file)
			sum.Write(held.sum[:])
		}
		own.sum = hex.EncodeToString(sum.Sum(nil))
	}
	// Probes and sessions mostly have the same authorities: what is wrong is said once.
	return o, own, joined(slices.Compact(all))
}

// authorities loads a bundle of CA certificates, unless it holds what it held before.
func (s *secrets) authorities(path string) *authorities {
	known := s.bundles[path]
	if known == nil && s.before != nil {
		known = s.before.bundles[path]
	}
	held := s.eye.look(path)
	if known == nil || known.held != held {
		known = &authorities{held: held}
		known.pool, known.problems = certs.Pool(path)
	}
	s.bundles[path] = known
	return known
}

// roots loads a bundle of CA certificates, and reports what is wrong with it once; nil,
// for the system's, without a file.
func (s *secrets) roots(f config.File) *x509.CertPool {
	if f.Path == "" {
		return nil
	}
	if known := s.bundles[f.Path]; known != nil {
		return known.pool
	}
	a := s.authorities(f.Path)
	s.reportAt(f.Pos, a.problems)
	return a.pool
}

// renewPool has what its files hold now probe the backends of a pool, if pl is in force.
func (s *Server) renewPool(pl *plan, pool string, own probeSecrets) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.plan != pl {
		return
	}
	pl.probes[pool] = own
	s.probed = 0 // no generation: the checker is to know of it
	s.reconcileLocked(s.registry.View(), true)
}
