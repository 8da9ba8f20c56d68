package terminate

import (
	"crypto/tls"
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
	// MinVersion is tls.VersionTLS12 or tls.VersionTLS13; 0 for TLS 1.2.
	MinVersion uint16
	// ECH opens hellos within hellos, for an [InnerServer]; nil for none.
	ECH *certs.LiveECH
}

// ServerConfig returns the configuration for [Env.Accept]: TLS 1.2 and 1.3, key
// exchange by ECDHE alone and in TLS 1.3 by X25519MLKEM768 first, AEAD ciphers,
// no compression or renegotiation. Make one per route: session tickets are
// encrypted with keys of the configuration's own, so no session is resumed on
// another route. It is safe for concurrent use.
func ServerConfig(o ServerOptions) *tls.Config {
	store := o.Store
	cfg := &tls.Config{
		MinVersion:   max(o.MinVersion, tls.VersionTLS12),
		CipherSuites: cipherSuites(),
		NextProtos:   slices.Clone(o.ALPN),
		// Neither a certificate nor an error, and none in Certificates, makes
		// crypto/tls answer unrecognized_name; an error would make it
		// internal_error.
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			cert := store.Select(strings.ToLower(hello.ServerName), hello)
			c, ok := hello.Conn.(*Conn)
			switch {
			case !ok:
				return cert, nil
			case cert == nil:
				c.noCert = true
				return nil, nil
			}
			return keyFor(cert, c), nil
		},
	}
	if o.ECH != nil {
		openHellos(cfg, o.ECH)
	}
	return cfg
}

// cipherSuites are those of TLS 1.2; TLS 1.3 has only such (RFC 8446 §B.4).
func cipherSuites() []uint16 {
	return []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
		tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	}
}
