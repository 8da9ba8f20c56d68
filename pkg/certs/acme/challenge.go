package acme

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"path"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
)

// solution is the certificate that answers a challenge.
type solution struct {
	challenge string // its key authorization
	cert      *tls.Certificate
}

// Open reports whether a challenge of this Manager's own is open. It costs an atomic
// load.
func (m *Manager) Open() bool { return m.storage.open.Load() > 0 }

// TLSALPN returns the certificate that answers the tls-alpn-01 challenge which is open
// for a managed name, here or at an instance that shares the storage; nil if none is. It
// may read a file, so no loop calls it. The certificate goes to a client that offers
// acme-tls/1 alone, and to nobody else.
func (m *Manager) TLSALPN(host string) *tls.Certificate {
	host = normal(host)
	c, ok := m.challenge(host)
	m.mu.Lock()
	defer m.mu.Unlock()
	if !ok || c.Type != acme.ChallengeTypeTLSALPN01 {
		delete(m.solved, host)
		return nil
	}
	if s := m.solved[host]; s.cert != nil && s.challenge == c.KeyAuthorization {
		return s.cert
	}
	cert, err := acmez.TLSALPN01ChallengeCert(c)
	if err != nil {
		return nil
	}
	if m.names[host] != nil {
		m.solved[host] = solution{challenge: c.KeyAuthorization, cert: cert}
	}
	return cert
}

// HTTP01 returns the answer to a request for /.well-known/acme-challenge/TOKEN of a
// managed host, if that challenge is open here or at an instance that shares the
// storage. It may read a file.
func (m *Manager) HTTP01(host, token string) (keyAuth string, ok bool) {
	c, ok := m.challenge(normal(host))
	if !ok || c.Type != acme.ChallengeTypeHTTP01 || c.Token != token {
		return "", false
	}
	return c.KeyAuthorization, true
}

// challenge is the one that is open for a managed name: of this process, or in the
// storage, where the one that has it open keeps it for the others.
func (m *Manager) challenge(host string) (acme.Challenge, bool) {
	if !m.manages(host) {
		return acme.Challenge{}, false
	}
	if c, ok := certmagic.GetACMEChallenge(host); ok {
		return c.Challenge, true
	}
	if !m.room() {
		return acme.Challenge{}, false
	}
	defer func() { <-m.looking }()
	b, err := m.storage.Load(context.Background(), path.Join(tokens(m.issuer), certmagic.StorageKeys.Safe(host)+".json"))
	var c acme.Challenge
	if err != nil || json.Unmarshal(b, &c) != nil || c.Identifier.Value != host {
		return acme.Challenge{}, false
	}
	return c, true
}

// patience is how long a look at the storage waits for others that are under way.
const patience = time.Second

// room waits for room to look at the storage. One that hangs must not gather a thread
// for everybody who asks.
func (m *Manager) room() bool {
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case m.looking <- struct{}{}:
		return true
	case <-late.C:
		return false
	}
}
