package terminate

import (
	"crypto/tls"
	"slices"
)

// Policy is what a route demands of the handshakes of its clients. The zero Policy
// is the profile "intermediate" without client certificates.
//
// Whatever it says, the key exchange is ephemeral and the ciphers are AEADs, so what
// was recorded cannot be read later with the certificate's key; nothing is compressed
// and nothing renegotiated.
type Policy struct {
	// MinVersion and MaxVersion are tls.VersionTLS12 or tls.VersionTLS13; 0 for the
	// first as the least and the second as the most. TLS 1.3 alone is the profile
	// "modern".
	MinVersion, MaxVersion uint16
	// Curves are the groups of the key exchange; none for [DefaultCurves]. They are a
	// set: crypto/tls has an order of its own, the hybrids of ML-KEM first.
	Curves []tls.CurveID
	// Clients says who must show a certificate; nil: none is asked for.
	Clients *Clients
}

// DefaultCurves returns the groups of a [Policy] that names none: what browsers and
// common libraries offer, the hybrid that withstands quantum computers first.
func DefaultCurves() []tls.CurveID {
	return []tls.CurveID{tls.X25519MLKEM768, tls.X25519, tls.CurveP256, tls.CurveP384}
}

// apply writes the policy into cfg, but for the certificates of clients.
func (p *Policy) apply(cfg *tls.Config) {
	cfg.MinVersion = max(p.MinVersion, tls.VersionTLS12)
	cfg.MaxVersion = tls.VersionTLS13
	if p.MaxVersion != 0 {
		cfg.MaxVersion = min(p.MaxVersion, tls.VersionTLS13)
	}
	cfg.CipherSuites = cipherSuites()
	cfg.CurvePreferences = slices.Clone(p.Curves)
	if len(p.Curves) == 0 {
		cfg.CurvePreferences = DefaultCurves()
	}
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
