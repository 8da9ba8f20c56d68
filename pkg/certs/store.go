package certs

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/tls"
	"slices"
	"strings"
)

// Store is an immutable set of certificates, safe for concurrent use.
type Store struct {
	sets     [2]set // the route's own, then the shared ones
	fallback *tls.Certificate
}

// StoreOptions are the choices of a [Store]; the zero value never serves a
// certificate for another name.
type StoreOptions struct {
	// Default serves the first certificate, the route's own before the shared
	// ones, to names that none covers and to hellos without a name.
	Default bool
}

// set maps the names in certificates to those that carry them, the best first.
type set struct {
	exact    map[string][]entry // "a.example.com"
	wildcard map[string][]entry // "example.com" for "*.example.com"
}

type entry struct {
	cert *tls.Certificate
	kind kind
}

// kind is what a client must support to be served a certificate.
type kind uint8

const (
	kindRSA kind = iota
	kindP256
	kindP384
	kindP521
	kindEd25519
)

// NewStore makes a store of a route's own certificates and the shared ones, but for
// those that are not for servers by their extended key usage. The slices are not
// kept, the certificates are.
func NewStore(own, shared []*Certificate, o StoreOptions) *Store {
	own, shared = usable(own), usable(shared)
	s := &Store{sets: [2]set{newSet(own), newSet(shared)}}
	if all := slices.Concat(own, shared); o.Default && len(all) > 0 {
		s.fallback = &all[0].Certificate
	}
	return s
}

// usable returns those of certs that clients take from a server.
func usable(certs []*Certificate) []*Certificate {
	return slices.DeleteFunc(slices.Clone(certs), func(c *Certificate) bool { return !forServers(c.Leaf) })
}

func newSet(certs []*Certificate) set {
	s := set{exact: map[string][]entry{}, wildcard: map[string][]entry{}}
	for _, c := range certs {
		e := entry{cert: &c.Certificate, kind: kindOf(c)}
		for _, name := range c.Leaf.DNSNames {
			name = strings.ToLower(strings.TrimSuffix(name, "."))
			if parent, ok := strings.CutPrefix(name, "*."); ok {
				s.wildcard[parent] = append(s.wildcard[parent], e)
			} else {
				s.exact[name] = append(s.exact[name], e)
			}
		}
	}
	for _, m := range [...]map[string][]entry{s.exact, s.wildcard} {
		for _, entries := range m {
			slices.SortStableFunc(entries, better)
		}
	}
	return s
}

// better orders entries of one name: RSA last, then by the latest expiry.
func better(a, b entry) int {
	if rsaA, rsaB := a.kind == kindRSA, b.kind == kindRSA; rsaA != rsaB {
		if rsaA {
			return 1
		}
		return -1
	}
	return b.cert.Leaf.NotAfter.Compare(a.cert.Leaf.NotAfter)
}

func kindOf(c *Certificate) kind {
	switch key := c.Leaf.PublicKey.(type) {
	case *rsa.PublicKey:
		return kindRSA
	case ed25519.PublicKey:
		return kindEd25519
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P384():
			return kindP384
		case elliptic.P521():
			return kindP521
		}
	}
	return kindP256
}

// Select returns the certificate for name, a server name in lower case without
// a trailing dot, "" for none: the route's own before a shared one, in each one
// that carries the name before one whose wildcard covers it, then one with
// ECDSA if hello can, then the one that expires last. One that hello cannot
// use is passed over while another fits; if no key fits, the first by name is
// returned and the handshake fails by itself. A nil hello can do everything.
//
// It returns nil if no certificate covers name; answer with the alert
// unrecognized_name. Select allocates nothing. The certificate belongs to the
// store.
func (s *Store) Select(name string, hello *tls.ClientHelloInfo) *tls.Certificate {
	if name == "" {
		return s.fallback
	}
	can := capable(hello)
	_, parent, _ := strings.Cut(name, ".")
	var first *tls.Certificate
	for i := range s.sets {
		for _, entries := range [...][]entry{s.sets[i].exact[name], s.sets[i].wildcard[parent]} {
			for _, e := range entries {
				if can&(1<<e.kind) != 0 {
					return e.cert
				}
				if first == nil {
					first = e.cert
				}
			}
		}
	}
	if first != nil {
		return first
	}
	return s.fallback
}

// Covers reports whether every name that the host pattern of a route matches
// gets a certificate. An exact host needs one that carries it or a wildcard
// above it, "*.x" one for "*.x". "**.x", "*" and "-" match names that no
// certificate can carry and are covered only by [StoreOptions.Default].
func (s *Store) Covers(host string) bool {
	if host == "*" || host == "-" || strings.HasPrefix(host, "**.") {
		return s.fallback != nil
	}
	_, parent, _ := strings.Cut(host, ".")
	wild := strings.HasPrefix(host, "*.")
	for i := range s.sets {
		if len(s.sets[i].wildcard[parent]) > 0 || !wild && len(s.sets[i].exact[host]) > 0 {
			return true
		}
	}
	return false
}

// capable returns the kinds that hello can use, as a bit set. In TLS 1.3 the
// signature scheme names the curve (RFC 8446 §4.2.3); in TLS 1.2 the cipher
// suite names the key and the groups hold the curve (RFC 8422 §5.1).
func capable(hello *tls.ClientHelloInfo) uint {
	if hello == nil {
		return ^uint(0)
	}
	if slices.Contains(hello.SupportedVersions, tls.VersionTLS13) {
		return capable13(hello)
	}
	return capable12(hello)
}

func capable13(hello *tls.ClientHelloInfo) uint {
	var can uint
	for _, scheme := range hello.SignatureSchemes {
		switch scheme {
		case tls.PSSWithSHA256, tls.PSSWithSHA384, tls.PSSWithSHA512:
			can |= 1 << kindRSA
		case tls.ECDSAWithP256AndSHA256:
			can |= 1 << kindP256
		case tls.ECDSAWithP384AndSHA384:
			can |= 1 << kindP384
		case tls.ECDSAWithP521AndSHA512:
			can |= 1 << kindP521
		case tls.Ed25519:
			can |= 1 << kindEd25519
		}
	}
	return can
}

func capable12(hello *tls.ClientHelloInfo) uint {
	var can, curves uint
	for _, curve := range hello.SupportedCurves {
		switch curve {
		case tls.CurveP256:
			curves |= 1 << kindP256
		case tls.CurveP384:
			curves |= 1 << kindP384
		case tls.CurveP521:
			curves |= 1 << kindP521
		}
	}
	var suiteRSA, suiteECDSA bool
	for _, suite := range hello.CipherSuites {
		switch suite {
		case tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256:
			suiteRSA = true
		case tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256:
			suiteECDSA = true
		}
	}
	if suiteRSA {
		can |= 1 << kindRSA
	}
	if !suiteECDSA {
		return can
	}
	for _, scheme := range hello.SignatureSchemes {
		switch scheme {
		case tls.ECDSAWithP256AndSHA256, tls.ECDSAWithP384AndSHA384, tls.ECDSAWithP521AndSHA512, tls.ECDSAWithSHA1:
			can |= curves
		case tls.Ed25519:
			can |= 1 << kindEd25519
		}
	}
	return can
}
