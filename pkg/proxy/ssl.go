package proxy

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"unicode/utf8"
	"weak"

	"github.com/snicketlb/snicket/pkg/certs"
	"github.com/snicketlb/snicket/pkg/proxyheader"
	"github.com/snicketlb/snicket/pkg/terminate"
)

// secured is what backends are told of a client's TLS. It is immutable.
type secured struct {
	state *tls.ConnectionState
	who   terminate.Verdict
	shown shownName
	how   tls.SignatureScheme
}

// secured is the session's. Of what the server has shown it holds nothing where a
// session was resumed: nothing was.
func (t *terminal) secured(state *tls.ConnectionState) *secured {
	c := &secured{state: state, who: t.who, how: t.shown.Scheme}
	if t.shown.Certificate != nil {
		c.shown = t.s.w.p.shown.of(t.shown.Certificate)
	}
	return c
}

// told is the SSL TLV of the client's connection (PROXY protocol §2.2.6). Names are
// OpenSSL's, as the specification's examples and other senders have them; those of
// groups and of signature schemes are of the TLS registries.
func (c *secured) told() *proxyheader.SSL {
	ssl := &proxyheader.SSL{
		Version:            strings.Replace(tls.VersionName(c.state.Version), "TLS ", "TLSv", 1),
		Cipher:             opensslCipher(tls.CipherSuiteName(c.state.CipherSuite)),
		SignatureAlgorithm: c.shown.signature,
		KeyAlgorithm:       c.shown.key,
		Group:              groupName(c.state.CurveID),
		SignatureScheme:    schemeName(c.how),
		Resumed:            c.state.DidResume,
	}
	if x := c.who.Certificate; x != nil {
		ssl.ClientCertificate, ssl.Verified = true, c.who.Verified()
		ssl.CommonName, ssl.Certificate = x.Subject.CommonName, x.Raw
		ssl.Why = opensslWhy(c.who.Err)
	}
	return ssl
}

// shownNames remembers what the SSL TLV tells of the certificates that clients are
// shown: nobody else has a use for their parsed form, so it is not kept with them. One
// that is replaced goes, with its key: it is not held by being remembered.
type shownNames struct {
	mu    sync.Mutex // guards names
	names map[weak.Pointer[tls.Certificate]]shownName
}

type shownName struct{ signature, key string }

// keepShown bounds the certificates remembered.
const keepShown = 1024

// of returns what is told of c.
func (n *shownNames) of(c *tls.Certificate) shownName {
	n.mu.Lock()
	defer n.mu.Unlock()
	key := weak.Make(c)
	if name, ok := n.names[key]; ok {
		return name
	}
	if n.names == nil || len(n.names) >= keepShown {
		n.names = map[weak.Pointer[tls.Certificate]]shownName{}
	}
	var name shownName
	if leaf, err := x509.ParseCertificate(c.Certificate[0]); err == nil { // it is the one that was loaded
		name = shownName{opensslSignature(leaf.SignatureAlgorithm), keyName(leaf)}
	}
	n.names[key] = name
	return name
}

// appendHeader appends the header out. If it is too long the client's certificate is
// left out, and then its name too.
func (p *Proxy) appendHeader(b []byte, out proxyheader.Out) ([]byte, error) {
	header, err := proxyheader.Append(b, out)
	if !errors.Is(err, proxyheader.ErrTooLong) || out.SSL == nil {
		return header, err
	}
	p.largeClient.Do(func() {
		p.o.Log.Warn("client certificate left out of a PROXY header, as it does not fit; further ones are not told of",
			slog.String("client_cn", shorten(out.SSL.CommonName, 64)), slog.Int("bytes", len(out.SSL.Certificate)))
	})
	out.SSL.Certificate = nil
	if header, err = proxyheader.Append(b, out); errors.Is(err, proxyheader.ErrTooLong) {
		out.SSL.CommonName = ""
		header, err = proxyheader.Append(b, out)
	}
	return header, err
}

// shorten returns s, or its first n bytes and a sign that there is more: a client may
// show a certificate of 64 KiB whose name is all of it, and no log should hold that. A
// common name has 64 bytes at most (RFC 5280 §A.1).
func shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

// opensslCipher turns the IANA name of a TLS 1.2 suite into OpenSSL's; those of
// TLS 1.3 are the same.
func opensslCipher(name string) string {
	before, after, ok := strings.Cut(name, "_WITH_")
	if !ok {
		return name
	}
	after = strings.Replace(after, "AES_", "AES", 1)
	after = strings.Replace(after, "POLY1305_SHA256", "POLY1305", 1)
	return strings.ReplaceAll(strings.TrimPrefix(before, "TLS_")+"-"+after, "_", "-")
}

// opensslSignature is the short name that OpenSSL has for a signature algorithm.
func opensslSignature(a x509.SignatureAlgorithm) string {
	switch a { //nolint:exhaustive // the others have no certificate that clients take
	case x509.SHA256WithRSA:
		return "RSA-SHA256"
	case x509.SHA384WithRSA:
		return "RSA-SHA384"
	case x509.SHA512WithRSA:
		return "RSA-SHA512"
	case x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS:
		return "RSASSA-PSS"
	case x509.ECDSAWithSHA256:
		return "ecdsa-with-SHA256"
	case x509.ECDSAWithSHA384:
		return "ecdsa-with-SHA384"
	case x509.ECDSAWithSHA512:
		return "ecdsa-with-SHA512"
	case x509.PureEd25519:
		return "ED25519"
	}
	return a.String()
}

// keyName names the key of a certificate with its size, as HAProxy does.
func keyName(c *x509.Certificate) string {
	switch key := c.PublicKey.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA%d", key.N.BitLen())
	case *ecdsa.PublicKey:
		return fmt.Sprintf("EC%d", key.Curve.Params().BitSize)
	case ed25519.PublicKey:
		return "ED25519"
	}
	return ""
}

// groupName is the name of a group in the registry of TLS Supported Groups.
func groupName(id tls.CurveID) string {
	switch id {
	case 0:
		return ""
	case tls.CurveP256:
		return "secp256r1"
	case tls.CurveP384:
		return "secp384r1"
	case tls.CurveP521:
		return "secp521r1"
	case tls.X25519:
		return "x25519"
	case tls.SecP256r1MLKEM768:
		return "SecP256r1MLKEM768"
	case tls.X25519MLKEM768:
		return "X25519MLKEM768"
	case tls.SecP384r1MLKEM1024:
		return "SecP384r1MLKEM1024"
	}
	return id.String()
}

// schemeName is the name of a scheme in the registry of TLS SignatureScheme.
func schemeName(s tls.SignatureScheme) string {
	switch s {
	case 0:
		return ""
	case tls.PKCS1WithSHA256:
		return "rsa_pkcs1_sha256"
	case tls.PKCS1WithSHA384:
		return "rsa_pkcs1_sha384"
	case tls.PKCS1WithSHA512:
		return "rsa_pkcs1_sha512"
	case tls.PSSWithSHA256:
		return "rsa_pss_rsae_sha256"
	case tls.PSSWithSHA384:
		return "rsa_pss_rsae_sha384"
	case tls.PSSWithSHA512:
		return "rsa_pss_rsae_sha512"
	case tls.ECDSAWithP256AndSHA256:
		return "ecdsa_secp256r1_sha256"
	case tls.ECDSAWithP384AndSHA384:
		return "ecdsa_secp384r1_sha384"
	case tls.ECDSAWithP521AndSHA512:
		return "ecdsa_secp521r1_sha512"
	case tls.Ed25519:
		return "ed25519"
	case tls.PKCS1WithSHA1, tls.ECDSAWithSHA1: // which crypto/tls no longer makes
	}
	return s.String()
}

// opensslWhy is the number that OpenSSL has for the reason to refuse a certificate
// (X509_V_ERR_…, x509_vfy.h).
func opensslWhy(err error) uint32 {
	const (
		unspecified       = 1
		noCRL             = 3
		expired           = 10
		crlExpired        = 12
		unknownIssuer     = 20
		revoked           = 23
		invalidCA         = 24
		invalidPurpose    = 26
		refusedByApp      = 50
		nameNotAllowed    = 62
		tooManyIssuers    = 22
		constrainedByName = 47
	)
	if err == nil {
		return 0
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return unknownIssuer
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		switch invalid.Reason { //nolint:exhaustive // the others have no number of their own
		case x509.Expired:
			return expired
		case x509.NotAuthorizedToSign:
			return invalidCA
		case x509.IncompatibleUsage:
			return invalidPurpose
		case x509.TooManyIntermediates:
			return tooManyIssuers
		case x509.CANotAuthorizedForThisName:
			return constrainedByName
		}
		return unspecified
	}
	switch {
	case errors.Is(err, certs.ErrRevoked):
		return revoked
	case errors.Is(err, certs.ErrNoCRL):
		return noCRL
	case errors.Is(err, certs.ErrCRLTime):
		return crlExpired
	case errors.Is(err, terminate.ErrClientName):
		return nameNotAllowed
	}
	return refusedByApp
}
