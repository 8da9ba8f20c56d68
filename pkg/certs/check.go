package certs

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"slices"
	"time"
)

// minRSA is the smallest RSA key accepted, in bits; clients refuse smaller ones.
const minRSA = 2048

// Check says what is wrong with the chain at time now, every problem at once: those of
// [Certificate.CheckAge], then those of [Certificate.CheckForm].
func (c *Certificate) Check(now time.Time, roots *x509.CertPool) []Problem {
	return append(c.CheckAge(now), c.CheckForm(now, roots)...)
}

// CheckAge says which certificates of the chain are expired or not yet valid at time
// now. All problems are errors, and time alone mends or makes them.
func (c *Certificate) CheckAge(now time.Time) []Problem {
	var problems []Problem
	add := func(hint, format string, args ...any) {
		problems = append(problems, Problem{File: c.File, Text: fmt.Sprintf(format, args...), Hint: hint})
	}
	chain, err := c.parse()
	if err != nil {
		return nil // of its form
	}
	for i, x := range chain {
		switch {
		case now.After(x.NotAfter):
			add("renew it", "%s expired on %s", what(i, x), x.NotAfter.UTC().Format(time.RFC3339))
		case now.Before(x.NotBefore):
			add("check the clock of this machine", "%s is not valid before %s", what(i, x), x.NotBefore.UTC().Format(time.RFC3339))
		}
	}
	return problems
}

// what names the certificate at place i of a chain.
func what(i int, x *x509.Certificate) string {
	if i > 0 {
		return fmt.Sprintf("chain certificate %q", x.Subject)
	}
	return fmt.Sprintf("certificate for %s", Names(x))
}

// CheckForm says what is wrong with the chain whatever the time.
//
// Errors: a SHA-1 or MD5 signature (a self-signed root's counts for nothing and is
// spared), an RSA key under 2048 bits, a chain in the wrong order, and a chain whose
// intermediate is missing. Warnings: no host name, a certificate in the file that is no
// part of the chain, an issuer that is unknown, an extended key usage without server
// authentication: every client refuses it of a server, so that a [Set] leaves it
// out, and of a client it is as it should be.
//
// Whether an intermediate is missing can be known only if something tells of
// the issuer. When the leaf stands alone, is not self-signed and its issuer is
// not among roots (nil: the system's), it is an error if the leaf says itself
// that an intermediate issued it: it names the issuer's own issuer (RFC 5280
// §4.2.1.1), or it comes from a public CA, by its certificate transparency
// stamps (RFC 6962 §3.3) or its CA/Browser Forum policy, and those issue from
// intermediates alone; or the file brings certificates of authorities of which
// none issued it. If it names a self-issued issuer there is nothing to
// say. Else it may come straight from a private root, as is common, and only
// a warning says that the issuer is unknown; appending the root to the file
// quiets it.
//
// Of now it is only asked whether roots, and the system's, are still good.
func (c *Certificate) CheckForm(now time.Time, roots *x509.CertPool) []Problem {
	chain, err := c.parse()
	if err != nil {
		return []Problem{{File: c.File, Text: err.Error()}}
	}
	var problems []Problem
	add := func(warning bool, hint, format string, args ...any) {
		problems = append(problems, Problem{File: c.File, Warning: warning, Text: fmt.Sprintf(format, args...), Hint: hint})
	}
	for i, x := range chain {
		if weak(x.SignatureAlgorithm) && !selfSigned(x) {
			add(false, "have it issued anew with SHA-256", "%s is signed with %s", what(i, x), x.SignatureAlgorithm)
		}
		if key, ok := x.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() < minRSA {
			add(false, "use ECDSA P-256 or RSA 2048", "%s has an RSA key of %d bits, at least %d are needed", what(i, x), key.N.BitLen(), minRSA)
		}
	}
	if len(chain[0].DNSNames) == 0 {
		add(true, "names belong into subjectAltName", "certificate %q carries no host name, so no server name selects it", chain[0].Subject)
	}
	if !forServers(chain[0]) {
		add(true, "have it issued with the extended key usage serverAuth",
			"certificate for %s is not for servers (extended key usage), so it is shown to nobody", Names(chain[0]))
	}
	disorder, whole := c.checkOrder(chain)
	problems = append(problems, disorder...)
	if whole {
		return problems
	}
	if p := c.checkIssuer(chain, now, roots); p != nil {
		problems = append(problems, *p)
	}
	return problems
}

// Expired says which certificates of authorities, read from file, are not valid at time
// now. Who is held against them is refused.
func Expired(file string, bundle []*x509.Certificate, now time.Time) []Problem {
	var problems []Problem
	for _, c := range bundle {
		switch {
		case now.After(c.NotAfter):
			problems = append(problems, Problem{
				File: file, Hint: "replace it by that of its successor",
				Text: fmt.Sprintf("authority %q expired on %s", c.Subject, c.NotAfter.UTC().Format(time.RFC3339)),
			})
		case now.Before(c.NotBefore):
			problems = append(problems, Problem{
				File: file, Hint: "check the clock of this machine",
				Text: fmt.Sprintf("authority %q is not valid before %s", c.Subject, c.NotBefore.UTC().Format(time.RFC3339)),
			})
		}
	}
	return problems
}

// forServers reports whether clients take c from a server: it says nothing of its use,
// or that this is one (RFC 5280 §4.2.1.12).
func forServers(c *x509.Certificate) bool {
	if len(c.ExtKeyUsage) == 0 && len(c.UnknownExtKeyUsage) == 0 {
		return true
	}
	return slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth) || slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny)
}

// parse returns the chain, parsed as far as it is not.
func (c *Certificate) parse() ([]*x509.Certificate, error) {
	leaf, err := parseLeaf(c.Certificate.Certificate)
	if err != nil {
		return nil, err
	}
	chain := []*x509.Certificate{leaf}
	if c.authorities != nil {
		return append(chain, c.authorities...), nil
	}
	for i, der := range c.Certificate.Certificate[1:] {
		x, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("certificate %d cannot be parsed: %w", i+2, err)
		}
		chain = append(chain, x)
	}
	return chain, nil
}

// checkOrder checks that each certificate issued the one before it, as TLS 1.2
// demands (RFC 5246 §7.4.2). whole says that the chain holds who issued the leaf.
func (c *Certificate) checkOrder(chain []*x509.Certificate) (problems []Problem, whole bool) {
	at, rest := chain[0], chain[1:]
	whole = selfSigned(at)
	for len(rest) > 0 && !selfSigned(at) {
		i := slices.IndexFunc(rest, func(x *x509.Certificate) bool { return issued(x, at) })
		if i < 0 {
			break
		}
		whole = true
		if i > 0 {
			return []Problem{{
				File: c.File, Text: fmt.Sprintf("chain is in the wrong order: %q does not follow what it issued, %q", rest[i].Subject, at.Subject),
				Hint: "put the server's own certificate first, then the one that issued it, and so on",
			}}, true
		}
		at, rest = rest[0], rest[1:]
	}
	for _, x := range rest {
		problems = append(problems, Problem{
			File: c.File, Warning: true, Text: fmt.Sprintf("chain certificate %q issued none of the others", x.Subject),
			Hint: "take it out of the file",
		})
	}
	return problems, whole
}

// checkIssuer looks for a missing intermediate; see [Certificate.CheckForm].
func (c *Certificate) checkIssuer(chain []*x509.Certificate, now time.Time, roots *x509.CertPool) *Problem {
	leaf := chain[0]
	// The time is one at which the leaf is valid: its age is reported elsewhere.
	if now.After(leaf.NotAfter) || now.Before(leaf.NotBefore) {
		now = leaf.NotBefore
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err == nil {
		return nil
	}
	hint := fmt.Sprintf("append the certificate of %q", leaf.Issuer)
	if grand := issuersIssuer(leaf); grand != nil {
		if bytes.Equal(grand, leaf.RawIssuer) {
			return nil
		}
		return &Problem{File: c.File, Text: "chain is incomplete: the certificate was issued by an intermediate that is missing", Hint: hint}
	}
	if public(leaf) {
		return &Problem{File: c.File, Text: "chain is incomplete: the certificate comes from a public CA and its intermediate is missing", Hint: hint}
	}
	if slices.ContainsFunc(chain[1:], func(x *x509.Certificate) bool { return x.IsCA }) {
		return &Problem{File: c.File, Text: "chain is incomplete: it does not hold the certificate that issued the first one", Hint: hint}
	}
	return &Problem{
		File: c.File, Warning: true, Text: fmt.Sprintf("issuer %q is unknown; if it is no root that the clients have, they will refuse the certificate", leaf.Issuer),
		Hint: hint, OfIssuer: true,
	}
}

// issued reports whether issuer signed c.
func issued(issuer, c *x509.Certificate) bool {
	if !bytes.Equal(issuer.RawSubject, c.RawIssuer) {
		return false
	}
	if weak(c.SignatureAlgorithm) {
		return true // crypto/x509 no longer verifies it, and it is reported anyway
	}
	return issuer.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

func selfSigned(c *x509.Certificate) bool {
	return bytes.Equal(c.RawSubject, c.RawIssuer) && issued(c, c)
}

func weak(a x509.SignatureAlgorithm) bool {
	switch a {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1:
		return true
	default:
		return false
	}
}

// public reports whether a publicly trusted CA issued c: it carries signed
// certificate timestamps (1.3.6.1.4.1.11129.2.4.2) or a policy of the
// CA/Browser Forum (2.23.140.1).
func public(c *x509.Certificate) bool {
	stamps := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}
	for _, e := range c.Extensions {
		if e.Id.Equal(stamps) {
			return true
		}
	}
	forum := asn1.ObjectIdentifier{2, 23, 140, 1}
	return slices.ContainsFunc(c.PolicyIdentifiers, func(id asn1.ObjectIdentifier) bool {
		return len(id) > len(forum) && id[:len(forum)].Equal(forum)
	})
}

// issuersIssuer returns the name, in DER, of the authority that issued the
// issuer of c, if c tells (authorityCertIssuer, RFC 5280 §4.2.1.1), else nil.
func issuersIssuer(c *x509.Certificate) []byte {
	for _, e := range c.Extensions {
		if !e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 35}) {
			continue
		}
		var id struct {
			KeyID  []byte          `asn1:"optional,tag:0"`
			Issuer []asn1.RawValue `asn1:"optional,tag:1"`
			Serial asn1.RawValue   `asn1:"optional,tag:2"`
		}
		if _, err := asn1.Unmarshal(e.Value, &id); err != nil {
			return nil
		}
		for _, name := range id.Issuer {
			if name.Class == asn1.ClassContextSpecific && name.Tag == 4 { // directoryName
				return name.Bytes
			}
		}
	}
	return nil
}
