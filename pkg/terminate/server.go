package terminate

import (
	"crypto/tls"
	"io"
	"slices"
	"strings"

	"github.com/snicketlb/snicket/pkg/certs"
)

// ServerOptions describe the TLS that a route speaks to its clients.
type ServerOptions struct {
	// Store holds the certificates; required. What it is swapped for is served from
	// the next handshake on.
	Store *certs.Live
	// ALPN are the application protocols offered, the preferred one first;
	// none if empty, and a client's wishes are then ignored (RFC 7301 §3.2).
	ALPN []string
	// Policy is what is demanded of the handshake.
	Policy Policy
	// ECH opens hellos within hellos, for an [InnerServer]; nil for none.
	ECH *certs.LiveECH
	// KeyLog is written the secrets of every session, with which whoever recorded it
	// can read it (RFC 9850); nil, as it should be, for none. It must not block.
	KeyLog io.Writer
}

// ServerConfig returns the configuration for [Env.Accept]: what the policy says, and
// never a session without forward secrecy. Make one per route: session tickets are
// encrypted with keys of the configuration's own, so no session is resumed on
// another route. It is safe for concurrent use.
func ServerConfig(o ServerOptions) *tls.Config {
	o.ALPN = slices.Clone(o.ALPN)
	cfg := newServerConfig(&o)
	if o.Policy.Clients != nil {
		o.Policy.Clients.ask(cfg, func() *tls.Config { return newServerConfig(&o) })
	}
	if o.ECH != nil {
		serveInner(cfg)
	}
	return cfg
}

// newServerConfig is a configuration that asks for no certificate.
func newServerConfig(o *ServerOptions) *tls.Config {
	store := o.Store
	var cfg *tls.Config
	cfg = &tls.Config{
		NextProtos:   o.ALPN,
		KeyLogWriter: o.KeyLog,
		// Neither a certificate nor an error, and none in Certificates, makes
		// crypto/tls answer unrecognized_name; an error would make it
		// internal_error.
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			c, ok := hello.Conn.(*Conn)
			if !ok {
				return store.Select(strings.ToLower(hello.ServerName), hello), nil
			}
			if err := checkName(hello); err != nil {
				return nil, err
			}
			cert := store.Select(c.shake.name, heldTo(cfg.MaxVersion, hello))
			if cert == nil {
				c.noCert = true
				return nil, nil
			}
			c.shake.present(cert, hello)
			return keyFor(cert, c), nil
		},
	}
	if o.ECH != nil { // also in one that asks for certificates, which tells of the keys
		cfg.GetEncryptedClientHelloKeys = keysOf(o.ECH)
	}
	o.Policy.apply(cfg)
	return cfg
}

// heldTo is hello without what its client could only do in versions above most: the
// ciphers of TLS 1.2 name the kind of key, those of TLS 1.3 do not.
func heldTo(most uint16, hello *tls.ClientHelloInfo) *tls.ClientHelloInfo {
	if most >= tls.VersionTLS13 {
		return hello
	}
	held := *hello
	held.SupportedVersions = []uint16{most}
	return &held
}

// checkName refuses a hello for another name than that by which the session was
// routed: policy and certificate must be of the same one. No hello is known that the
// two who read it, package sni and crypto/tls, take differently.
func checkName(hello *tls.ClientHelloInfo) error {
	c, ok := hello.Conn.(*Conn)
	if !ok {
		return nil
	}
	return c.shake.checkName(hello.ServerName)
}
