package certs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"strings"
	"time"
)

// Authority is a certificate authority in memory, for demonstrations and
// tests: it keeps no record and forgets its key when the process ends. It is safe for concurrent use.
type Authority struct {
	chain []*x509.Certificate // its own certificate first, the root last
	key   crypto.Signer
}

// IssueOptions describes a certificate to issue. The zero value gives an ECDSA
// server certificate without names, valid from an hour ago for a year.
type IssueOptions struct {
	// Names are its host names, wildcards and IP addresses.
	Names []string
	// CommonName is its subject; the first of Names if empty.
	CommonName string
	// RSA asks for a key of 2048 bits, or RSABits, instead of ECDSA P-256.
	RSA bool
	// RSABits is the size of the RSA key; 0 for 2048.
	RSABits int
	// NotBefore and NotAfter bound its validity; zero for an hour ago and a
	// year from now.
	NotBefore, NotAfter time.Time
	// Client asks for a certificate that identifies a client, not a server.
	Client bool
}

// NewAuthority makes a root authority of the given name, valid for ten years.
func NewAuthority(name string) (*Authority, error) {
	return newAuthority(name, nil)
}

// Intermediate makes an authority of the given name whose certificate a issues.
func (a *Authority) Intermediate(name string) (*Authority, error) {
	return newAuthority(name, a)
}

func newAuthority(name string, parent *Authority) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("key of authority %q: %w", name, err)
	}
	template, err := newTemplate(name, time.Time{}, time.Now().AddDate(10, 0, 0))
	if err != nil {
		return nil, err
	}
	template.IsCA = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	a := &Authority{key: key}
	issuer, signer := template, crypto.Signer(key)
	if parent != nil {
		issuer, signer = parent.chain[0], parent.key
		a.chain = parent.chain
	}
	c, err := sign(template, issuer, key.Public(), signer)
	if err != nil {
		return nil, err
	}
	a.chain = append([]*x509.Certificate{c}, a.chain...)
	return a, nil
}

// Issue issues a certificate with a new key. Its chain goes up to the root and
// includes it, so that it is whole by itself.
func (a *Authority) Issue(o IssueOptions) (*Certificate, error) {
	if o.CommonName == "" && len(o.Names) > 0 {
		o.CommonName = o.Names[0]
	}
	template, err := newTemplate(o.CommonName, o.NotBefore, o.NotAfter)
	if err != nil {
		return nil, err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	if o.Client {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	for _, name := range o.Names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	key, err := newKey(o)
	if err != nil {
		return nil, fmt.Errorf("key of certificate %q: %w", o.CommonName, err)
	}
	leaf, err := sign(template, a.chain[0], key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	c := &Certificate{Facts: factsOf(leaf)}
	c.Leaf, c.PrivateKey = leaf, key
	c.Certificate.Certificate = [][]byte{leaf.Raw}
	for _, x := range a.chain {
		c.Certificate.Certificate = append(c.Certificate.Certificate, x.Raw)
	}
	return c, nil
}

// RevokeOptions describe a certificate revocation list.
type RevokeOptions struct {
	// Revoked are the certificates that it names.
	Revoked []*x509.Certificate
	// ThisUpdate and NextUpdate bound its time; zero for an hour ago and a week from
	// now.
	ThisUpdate, NextUpdate time.Time
}

// Revoke issues a certificate revocation list in DER (RFC 5280 §5). The authority
// keeps no record: a further list names what it is told alone.
func (a *Authority) Revoke(o RevokeOptions) ([]byte, error) {
	template := &x509.RevocationList{Number: big.NewInt(time.Now().UnixNano()), ThisUpdate: o.ThisUpdate, NextUpdate: o.NextUpdate}
	if template.ThisUpdate.IsZero() {
		template.ThisUpdate = time.Now().Add(-time.Hour)
	}
	if template.NextUpdate.IsZero() {
		template.NextUpdate = time.Now().AddDate(0, 0, 7)
	}
	for _, c := range o.Revoked {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: template.ThisUpdate})
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, a.chain[0], a.key)
	if err != nil {
		return nil, fmt.Errorf("CRL of %q: %w", a.chain[0].Subject, err)
	}
	return der, nil
}

// PEM returns the certificate of the authority's root, for clients to trust.
func (a *Authority) PEM() []byte {
	return encode("CERTIFICATE", a.root().Raw)
}

// Pool returns a new pool that holds the authority's root.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.root())
	return pool
}

func (a *Authority) root() *x509.Certificate { return a.chain[len(a.chain)-1] }

// PEM returns the chain and the private key (PKCS #8) of c in PEM.
func (c *Certificate) PEM() (chain, key []byte, err error) {
	var b bytes.Buffer
	for _, der := range c.Certificate.Certificate {
		b.Write(encode("CERTIFICATE", der))
	}
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		return nil, nil, fmt.Errorf("key of certificate %q: %w", strings.Join(c.Names, ", "), err)
	}
	return b.Bytes(), encode("PRIVATE KEY", der), nil
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func newKey(o IssueOptions) (crypto.Signer, error) {
	if !o.RSA {
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	bits := o.RSABits
	if bits == 0 {
		bits = 2048
	}
	return rsa.GenerateKey(rand.Reader, bits)
}

func newTemplate(name string, notBefore, notAfter time.Time) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("serial number of %q: %w", name, err)
	}
	if notBefore.IsZero() {
		notBefore = time.Now().Add(-time.Hour) // clocks differ
	}
	if notAfter.IsZero() {
		notAfter = time.Now().AddDate(1, 0, 0)
	}
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: notBefore, NotAfter: notAfter, BasicConstraintsValid: true,
	}, nil
}

func sign(template, issuer *x509.Certificate, public crypto.PublicKey, signer crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, public, signer)
	if err != nil {
		return nil, fmt.Errorf("certificate %q: %w", template.Subject.CommonName, err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("certificate %q: %w", template.Subject.CommonName, err)
	}
	return c, nil
}
