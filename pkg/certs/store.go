package certs

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"slices"
	"strings"
	"time"
)

// Store chooses among the certificates of a route. It is immutable, but for what
// [StoreOptions.Managed] holds, and safe for concurrent use; a [Live] replaces it as a
// whole.
type Store struct {
	own, shared *Set
	managed     *Managed
	byDefault   bool
}

// StoreOptions are the choices of a [Store]; the zero value never serves a
// certificate for another name.
type StoreOptions struct {
	// Managed holds certificates that are asked for after the route's own and before
	// the shared ones; nil for none.
	Managed *Managed
	// Default serves the first certificate, the route's own before the managed and
	// those before the shared ones, to names that none covers and to hellos without a
	// name.
	Default bool
}

// NewStore makes a store of a route's own certificates and the shared ones. A nil Set
// is an empty one.
func NewStore(own, shared *Set, o StoreOptions) *Store {
	return &Store{own: own, shared: shared, managed: o.Managed, byDefault: o.Default}
}

// Set is an index of certificates by the names in them. It is immutable and safe for
// concurrent use; many stores may share one. A nil Set is empty.
type Set struct {
	certs    []*Certificate
	exact    map[string][]entry // "a.example.com", the best first
	wildcard map[string][]entry // "example.com" for "*.example.com"
}

type entry struct {
	cert  *tls.Certificate
	kind  kind
	until time.Time
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

// NewSet makes a set of certificates, but for those that are not for servers by their
// extended key usage. The slice is not kept, the certificates are.
func NewSet(certs []*Certificate) *Set {
	certs = slices.DeleteFunc(slices.Clone(certs), func(c *Certificate) bool { return c.forClients })
	s := &Set{certs: certs, exact: map[string][]entry{}, wildcard: map[string][]entry{}}
	for _, c := range certs {
		e := entry{cert: &c.Certificate, kind: c.kind, until: c.NotAfter}
		for _, name := range c.Names {
			name = normalName(name)
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

// Certificates returns those of the set, in the order they were given. The slice is the
// caller's, the certificates are shared.
func (s *Set) Certificates() []*Certificate {
	if s == nil {
		return nil
	}
	return slices.Clone(s.certs)
}

// Leads reports whether c, one of the set, is shown to anybody: it is the first of its
// kind for one of its names.
func (s *Set) Leads(c *Certificate) bool {
	for _, name := range c.Names {
		name = normalName(name)
		entries := s.exact[name]
		if parent, ok := strings.CutPrefix(name, "*."); ok {
			entries = s.wildcard[parent]
		}
		i := slices.IndexFunc(entries, func(e entry) bool { return e.kind == c.kind })
		if i >= 0 && entries[i].cert == &c.Certificate {
			return true
		}
	}
	return false
}

// normalName is a name of a certificate as names are compared.
func normalName(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// named returns the entries that carry name and those whose wildcard covers it.
func (s *Set) named(name, parent string) [2][]entry {
	if s == nil {
		return [2][]entry{}
	}
	return [2][]entry{s.exact[name], s.wildcard[parent]}
}

// better orders entries of one name: RSA last, then by the latest expiry.
func better(a, b entry) int {
	if rsaA, rsaB := a.kind == kindRSA, b.kind == kindRSA; rsaA != rsaB {
		if rsaA {
			return 1
		}
		return -1
	}
	return b.until.Compare(a.until)
}

func kindOf(leaf *x509.Certificate) kind {
	switch key := leaf.PublicKey.(type) {
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
// a trailing dot, "" for none: the route's own before a managed one, and that before a
// shared one; in each, one that carries the name before one whose wildcard covers it,
// then one with ECDSA if hello can, then the one that expires last. One that hello
// cannot use is passed over while another fits; if no key fits, the first by name is
// returned and the handshake fails by itself. A nil hello can do everything.
//
// It returns nil if no certificate covers name; answer with the alert
// unrecognized_name. Select allocates nothing. The certificate belongs to the
// store.
func (s *Store) Select(name string, hello *tls.ClientHelloInfo) *tls.Certificate {
	if name == "" {
		return s.first()
	}
	can := capable(hello)
	_, parent, _ := strings.Cut(name, ".")
	var first *tls.Certificate
	for _, set := range s.sets() {
		for _, entries := range set.named(name, parent) {
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
	return s.first()
}

// sets are those of the store, the first to be asked first.
func (s *Store) sets() [3]*Set { return [3]*Set{s.own, s.managed.load(), s.shared} }

// first is the certificate served to names that none covers, or nil.
func (s *Store) first() *tls.Certificate {
	if !s.byDefault {
		return nil
	}
	for _, set := range s.sets() {
		if set != nil && len(set.certs) > 0 {
			return &set.certs[0].Certificate
		}
	}
	return nil
}

// Covers reports whether every name that the host pattern of a route matches
// gets a certificate. An exact host needs one that carries it or a wildcard
// above it, "*.x" one for "*.x". "**.x", "*" and "-" match names that no
// certificate can carry and are covered only by [StoreOptions.Default].
func (s *Store) Covers(host string) bool {
	if host == "*" || host == "-" || strings.HasPrefix(host, "**.") {
		return s.first() != nil
	}
	_, parent, _ := strings.Cut(host, ".")
	wild := strings.HasPrefix(host, "*.")
	for _, set := range s.sets() {
		named := set.named(host, parent)
		if len(named[1]) > 0 || !wild && len(named[0]) > 0 {
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
