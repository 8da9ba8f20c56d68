package certs

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"slices"
	"time"
	"unique"
)

// Facts are what a certificate says, in the forms that people compare.
type Facts struct {
	// Names are its host names, as it has them; none for one that carries none.
	Names []string
	// Issuer is the distinguished name of who issued it (RFC 2253).
	Issuer string
	// Serial is its serial number in hexadecimal, as openssl prints it.
	Serial string
	// NotBefore and NotAfter bound its validity.
	NotBefore, NotAfter time.Time
	// Key is the kind of its key: "ECDSA P-256", "RSA 2048", "Ed25519".
	Key string
	// SHA256 is its fingerprint: the digest of its DER.
	SHA256 [sha256.Size]byte

	kind       kind
	forClients bool // its extended key usage keeps servers from showing it
}

// factsOf takes the facts from a certificate. Nothing of it is kept.
func factsOf(leaf *x509.Certificate) Facts {
	f := Facts{
		Names: slices.Clone(leaf.DNSNames), Issuer: unique.Make(leaf.Issuer.String()).Value(),
		Serial: fmt.Sprintf("%X", leaf.SerialNumber.Bytes()), NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter,
		Key: unique.Make(keyText(leaf)).Value(), SHA256: sha256.Sum256(leaf.Raw), kind: kindOf(leaf), forClients: !forServers(leaf),
	}
	return f
}

func keyText(leaf *x509.Certificate) string {
	switch key := leaf.PublicKey.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", key.N.BitLen())
	case *ecdsa.PublicKey:
		return "ECDSA " + key.Curve.Params().Name
	case ed25519.PublicKey:
		return "Ed25519"
	}
	return leaf.PublicKeyAlgorithm.String()
}
