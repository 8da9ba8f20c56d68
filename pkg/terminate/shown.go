package terminate

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
)

// Shown is what a client was shown to prove who the server is; zero in a session
// that was resumed, where nothing is.
type Shown struct {
	// Certificate is the server's. It belongs to its store.
	Certificate *tls.Certificate
	// Scheme is how its key has signed the handshake; 0 if that is not known.
	Scheme tls.SignatureScheme
}

// Shown returns what the client was shown.
func (h *Handshake) Shown() Shown {
	switch {
	case h.resumed || h.shown.Certificate == nil:
		return Shown{}
	case h.shown.Scheme != 0:
		return h.shown
	case h.version == tls.VersionTLS12:
		return Shown{Certificate: h.shown.Certificate, Scheme: h.early}
	}
	return Shown{Certificate: h.shown.Certificate, Scheme: lateScheme(h.shown.Certificate)}
}

// present notes the certificate that answers hello. How its key will sign is told
// by the key itself if it is slow ([slowKey]); a fast one is used as it is, and what
// it does follows from the hello. In TLS 1.3 its kind alone decides; in TLS 1.2 it
// is the first scheme of the client's that goes with ECDSA, whatever the curve
// (RFC 5246 §7.4.1.4.1).
func (h *Handshake) present(cert *tls.Certificate, hello *tls.ClientHelloInfo) {
	h.shown.Certificate = cert
	if _, ok := cert.PrivateKey.(*ecdsa.PrivateKey); !ok {
		h.early = lateScheme(cert)
		return
	}
	for _, scheme := range hello.SignatureSchemes {
		switch scheme {
		case tls.ECDSAWithP256AndSHA256, tls.ECDSAWithP384AndSHA384, tls.ECDSAWithP521AndSHA512:
			h.early = scheme
			return
		}
	}
}

// lateScheme is how the fast key of a certificate signs in TLS 1.3 (RFC 8446 §4.2.3).
func lateScheme(c *tls.Certificate) tls.SignatureScheme {
	switch c.PrivateKey.(type) {
	case *ecdsa.PrivateKey:
		return tls.ECDSAWithP256AndSHA256
	case ed25519.PrivateKey:
		return tls.Ed25519
	}
	return 0
}

// schemeOf is the scheme of a signature that crypto/tls asks key for.
func schemeOf(key crypto.PublicKey, opts crypto.SignerOpts) tls.SignatureScheme {
	size := 0
	switch opts.HashFunc() {
	case crypto.SHA256:
		size = 0
	case crypto.SHA384:
		size = 1
	case crypto.SHA512:
		size = 2
	default:
		return 0
	}
	switch key.(type) {
	case *ecdsa.PublicKey:
		return [...]tls.SignatureScheme{tls.ECDSAWithP256AndSHA256, tls.ECDSAWithP384AndSHA384, tls.ECDSAWithP521AndSHA512}[size]
	case *rsa.PublicKey:
		if _, pss := opts.(*rsa.PSSOptions); pss {
			return [...]tls.SignatureScheme{tls.PSSWithSHA256, tls.PSSWithSHA384, tls.PSSWithSHA512}[size]
		}
		return [...]tls.SignatureScheme{tls.PKCS1WithSHA256, tls.PKCS1WithSHA384, tls.PKCS1WithSHA512}[size]
	}
	return 0
}
