package terminate

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
)

// defaultSessions is how many sessions a [Backend] remembers by default.
const defaultSessions = 1024

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
	// SessionCache is how many sessions are remembered for resumption, 0 for
	// 1024, negative for none.
	SessionCache int
}

// Backend speaks TLS to the backends of a pool. It is safe for concurrent use.
type Backend struct {
	o     BackendOptions
	cache tls.ClientSessionCache // nil for none
}

// NewBackend returns a Backend. Make one per pool and configuration: sessions
// are resumed only within it, so a change of roots or names starts anew.
func NewBackend(o BackendOptions) *Backend {
	b := &Backend{o: o}
	if o.SessionCache >= 0 {
		n := o.SessionCache
		if n == 0 {
			n = defaultSessions
		}
		b.cache = tls.NewLRUClientSessionCache(n)
	}
	return b
}

// Client does the client's side of a handshake on conn, TLS 1.2 or later.
// clientSNI is the name in the client's hello, "" for none. alpn is the
// protocol agreed on with the client and the only one offered; "" offers none.
// A backend that selects another is an error, except that one without ALPN
// passes for http/1.1, which is what such a server speaks.
//
// When ctx ends first, conn is closed and ctx's error returned; on any other
// error conn is left open for the caller to close. With TLS 1.3 a backend
// refuses a client certificate only after the handshake; [Relay] reports it.
func (b *Backend) Client(ctx context.Context, conn *Conn, clientSNI, alpn string) (*tls.Conn, error) {
	name := b.o.ServerName
	if name == "" {
		name = clientSNI
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
	}
	if b.o.Certificate != nil {
		cfg.Certificates = []tls.Certificate{*b.o.Certificate}
	}
	if alpn != "" {
		cfg.NextProtos = []string{alpn}
	}
	if b.cache != nil {
		cfg.ClientSessionCache = keyedCache{cache: b.cache, key: alpn + "\x00" + conn.RemoteAddr().String() + "\x00"}
	}
	t := tls.Client(conn, cfg)
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("handshake with the backend: %w", err)
	}
	if got := t.ConnectionState().NegotiatedProtocol; got != alpn && (got != "" || alpn != "http/1.1") {
		return nil, fmt.Errorf("handshake with the backend: ALPN %q selected, %q offered", got, alpn)
	}
	return t, nil
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
