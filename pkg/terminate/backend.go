package terminate

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
)

// BackendOptions describe the TLS spoken to the backends of a pool.
type BackendOptions struct {
	// ServerName is sent and verified; "" for the name in the client's hello.
	ServerName string
	// Roots are the authorities trusted; nil for the system's.
	Roots *x509.CertPool
	// InsecureSkipVerify accepts any certificate for any name.
	InsecureSkipVerify bool
	// Certificate identifies the balancer to backends that ask; nil for none.
	Certificate *tls.Certificate
	// SessionCache is how many sessions are remembered for resumption: one for each
	// backend, name and protocol. The oldest gives way; 0 for none.
	SessionCache int
}

// Backend speaks TLS to the backends of a pool. It is safe for concurrent use.
type Backend struct {
	now atomic.Pointer[backendState]
}

// backendState is how a Backend does that for now. It is immutable.
type backendState struct {
	o     BackendOptions
	cache tls.ClientSessionCache // nil for none
}

// NewBackend returns a Backend. Make one per pool: sessions are resumed only within it.
func NewBackend(o BackendOptions) *Backend {
	b := new(Backend)
	b.now.Store(newBackendState(o))
	return b
}

func newBackendState(o BackendOptions) *backendState {
	b := &backendState{o: o}
	if o.Roots == nil && !o.InsecureSkipVerify {
		// The first verification would read the system's files, on a loop. An
		// error is that of each handshake.
		_, _ = x509.SystemCertPool()
	}
	if o.SessionCache > 0 {
		b.cache = tls.NewLRUClientSessionCache(o.SessionCache)
	}
	return b
}

// Renew returns what follows b, which may be nil, when a configuration is read anew: b
// itself, with its sessions, if o says the same as before. A change of authorities, of
// the name or of our certificate starts anew, as a session resumed is not verified by
// them; a nil Backend does too.
func (b *Backend) Renew(o BackendOptions) *Backend {
	if b != nil && b.now.Load().says(&o) {
		return b
	}
	return NewBackend(o)
}

// Swap has handshakes from now on go by o, when the files of a configuration have changed:
// with the sessions of before, as by Renew, if it says the same. Connections that stand
// are left alone.
func (b *Backend) Swap(o BackendOptions) {
	if !b.now.Load().says(&o) {
		b.now.Store(newBackendState(o))
	}
}

// says reports whether b is what o makes.
func (b *backendState) says(o *BackendOptions) bool {
	return b.o.ServerName == o.ServerName && b.o.InsecureSkipVerify == o.InsecureSkipVerify &&
		b.o.SessionCache == o.SessionCache && b.o.Roots.Equal(o.Roots) && sameCertificate(b.o.Certificate, o.Certificate)
}

// sameCertificate compares what is shown: the key belongs to it.
func sameCertificate(a, b *tls.Certificate) bool {
	if a == nil || b == nil {
		return a == b
	}
	return slices.EqualFunc(a.Certificate, b.Certificate, bytes.Equal)
}

// Peer says what is to be agreed on with one backend.
type Peer struct {
	// Address tells the backends of the pool apart.
	Address string
	// ClientSNI is the name in the client's hello, "" for none.
	ClientSNI string
	// ALPN is the protocol agreed on with the client and the only one offered;
	// "" offers none. A backend that selects another is an error, except that one
	// without ALPN passes for http/1.1, which is what such a server speaks.
	ALPN string
	// Offers are the protocols that [Backend.Handshake] offers beside ALPN, for the
	// backend to choose from.
	Offers []string
}

// Connect begins the client's side of a handshake on conn, TLS 1.2 or later. An
// error says that there is no name to verify.
func (b *Backend) Connect(e *Env, conn *Conn, p Peer, w Waker) (*Handshake, error) {
	now := b.now.Load()
	cfg, err := now.config(p)
	if err != nil {
		return nil, err
	}
	if now.o.Certificate != nil {
		cfg.Certificates = []tls.Certificate{*keyFor(now.o.Certificate, conn)}
	}
	return e.begin(&Handshake{conn: conn, tls: tls.Client(conn, cfg), waker: w, with: "backend", alpn: p.ALPN, backend: true}), nil
}

// Handshake is Connect for a goroutine: it waits for the end of the handshake on conn,
// or of ctx. If it fails, conn is the caller's to close. What was agreed on is in the
// ConnectionState; nothing of that is an error.
func (b *Backend) Handshake(ctx context.Context, conn net.Conn, p Peer) (*tls.Conn, error) {
	now := b.now.Load()
	cfg, err := now.config(p)
	if err != nil {
		return nil, err
	}
	if now.o.Certificate != nil {
		cfg.Certificates = []tls.Certificate{*now.o.Certificate}
	}
	c := tls.Client(conn, cfg)
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("handshake with the backend: %w", err)
	}
	return c, nil
}

// config is what is offered to the peer, and asked of it, but for a certificate.
func (b *backendState) config(p Peer) (*tls.Config, error) {
	name := b.o.ServerName
	if name == "" {
		name = p.ClientSNI
	}
	if name == "" && !b.o.InsecureSkipVerify {
		return nil, errors.New("handshake with the backend: no server name to verify: the client sent none and the pool sets none")
	}
	cfg := &tls.Config{
		ServerName:         name,
		RootCAs:            b.o.Roots,
		InsecureSkipVerify: b.o.InsecureSkipVerify, //nolint:gosec // must be written out in the configuration
		MinVersion:         tls.VersionTLS12,
		CipherSuites:       cipherSuites(),
		NextProtos:         p.offers(),
	}
	if b.cache != nil {
		cfg.ClientSessionCache = keyedCache{cache: b.cache, key: strings.Join(cfg.NextProtos, ",") + "\x00" + p.Address + "\x00"}
	}
	return cfg, nil
}

func (p *Peer) offers() []string {
	if p.ALPN == "" {
		return p.Offers
	}
	return append([]string{p.ALPN}, p.Offers...)
}

// keyedCache keeps the sessions of one protocol and backend apart in a cache
// whose keys are server names. Backends of a pool rarely share ticket keys, so
// another's ticket would only spend a slot.
type keyedCache struct {
	cache tls.ClientSessionCache
	key   string
}

func (k keyedCache) Get(name string) (*tls.ClientSessionState, bool) {
	return k.cache.Get(k.key + name)
}

func (k keyedCache) Put(name string, s *tls.ClientSessionState) { k.cache.Put(k.key+name, s) }
