package certs_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/snicketlb/snicket/pkg/certs"
)

// noon is when the tests check; certificates are valid from a day before to a
// day after unless said otherwise.
var noon = time.Date(2030, 6, 1, 12, 0, 0, 0, time.UTC)

// node is a certificate that a test makes by hand.
type node struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// make issues a certificate from parent, nil for a self-signed one.
func (parent *node) issue(t *testing.T, name string, edit func(*x509.Certificate), key crypto.Signer) *node {
	t.Helper()
	if key == nil {
		var err error
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: noon.AddDate(0, 0, -1), NotAfter: noon.AddDate(0, 0, 1),
		BasicConstraintsValid: true, IsCA: name != "a.test",
	}
	if edit != nil {
		edit(template)
	}
	issuer, signer := template, key
	if parent != nil {
		issuer, signer = parent.cert, parent.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &node{c, key}
}

func chain(nodes ...*node) *certs.Certificate {
	c := &certs.Certificate{File: "c.pem"}
	c.Leaf, c.PrivateKey = nodes[0].cert, nodes[0].key
	for _, n := range nodes {
		c.Certificate.Certificate = append(c.Certificate.Certificate, n.cert.Raw)
	}
	return c
}

// issuedBy is an authority key identifier that names the issuer of the issuer.
func issuedBy(t *testing.T, grand *x509.Certificate) func(*x509.Certificate) {
	t.Helper()
	name, err := asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: grand.RawSubject})
	if err != nil {
		t.Fatal(err)
	}
	id, err := asn1.Marshal(struct {
		Issuer asn1.RawValue
		Serial *big.Int `asn1:"tag:2"`
	}{asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 1, IsCompound: true, Bytes: name}, big.NewInt(1)})
	if err != nil {
		t.Fatal(err)
	}
	return func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 35}, Value: id}}
	}
}

func TestCheck(t *testing.T) {
	smallKey, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	var none *node
	root := none.issue(t, "root", nil, nil)
	inter := root.issue(t, "inter", nil, nil)
	sha1 := func(c *x509.Certificate) { c.SignatureAlgorithm = x509.SHA1WithRSA }
	sha1Root := none.issue(t, "old root", sha1, rsaKey)
	leaf := inter.issue(t, "a.test", nil, nil)
	stamps := func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}, Value: []byte{4, 0}}}
	}
	policy := func(c *x509.Certificate) {
		oid, err := x509.OIDFromInts([]uint64{2, 23, 140, 1, 2, 1})
		if err != nil {
			t.Fatal(err)
		}
		c.Policies = []x509.OID{oid}
	}
	usage := func(list ...x509.ExtKeyUsage) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.ExtKeyUsage = list }
	}
	const unknownRoot = `c.pem: issuer "CN=root" is unknown; if it is no root that the clients have, they will refuse the certificate: append the certificate of "CN=root"`
	for _, tt := range []struct {
		name     string
		cert     *certs.Certificate
		roots    []*node
		want     string
		warnings []bool // of each problem, in order
	}{
		{name: "self-signed", cert: chain(none.issue(t, "a.test", nil, nil))},
		{name: "whole chain", cert: chain(leaf, inter)},
		{name: "whole chain with root", cert: chain(leaf, inter, root)},
		{name: "issued by a known root", cert: chain(root.issue(t, "a.test", nil, nil)), roots: []*node{root}},
		{name: "issued by a root in the file", cert: chain(root.issue(t, "a.test", nil, nil), root)},
		{name: "issued by a private root", cert: chain(root.issue(t, "a.test", nil, nil)), want: unknownRoot, warnings: []bool{true}},
		{name: "issued by a root, by its own word", cert: chain(root.issue(t, "a.test", issuedBy(t, root.cert), nil))},
		{
			name: "issued by an intermediate, by its own word", cert: chain(inter.issue(t, "a.test", issuedBy(t, root.cert), nil)), warnings: []bool{false},
			want: `c.pem: chain is incomplete: the certificate was issued by an intermediate that is missing: append the certificate of "CN=inter"`,
		},
		{
			name: "public by its stamps", cert: chain(inter.issue(t, "a.test", stamps, nil)), roots: []*node{root}, warnings: []bool{false},
			want: `c.pem: chain is incomplete: the certificate comes from a public CA and its intermediate is missing: append the certificate of "CN=inter"`,
		},
		{
			name: "public by its policy", cert: chain(inter.issue(t, "a.test", policy, nil)), warnings: []bool{false},
			want: `c.pem: chain is incomplete: the certificate comes from a public CA and its intermediate is missing: append the certificate of "CN=inter"`,
		},
		{
			name: "gap in the chain", cert: chain(leaf, root), warnings: []bool{true, false},
			want: `c.pem: chain certificate "CN=root" issued none of the others: take it out of the file
c.pem: chain is incomplete: it does not hold the certificate that issued the first one: append the certificate of "CN=inter"`,
		},
		{
			name: "wrong order", cert: chain(leaf, root, inter), warnings: []bool{false},
			want: `c.pem: chain is in the wrong order: "CN=inter" does not follow what it issued, "CN=a.test": put the server's own certificate first, then the one that issued it, and so on`,
		},
		{
			name: "stranger in the chain", cert: chain(leaf, inter, sha1Root), warnings: []bool{true},
			want: `c.pem: chain certificate "CN=old root" issued none of the others: take it out of the file`,
		},
		{
			name: "expired", warnings: []bool{false}, want: "c.pem: certificate for a.test expired on 2030-06-01T11:59:59Z: renew it",
			cert: chain(inter.issue(t, "a.test", func(c *x509.Certificate) { c.NotAfter = noon.Add(-time.Second) }, nil), inter),
		},
		{
			name: "not yet valid", warnings: []bool{false},
			want: "c.pem: certificate for a.test is not valid before 2030-06-01T12:00:01Z: check the clock of this machine",
			cert: chain(inter.issue(t, "a.test", func(c *x509.Certificate) { c.NotBefore = noon.Add(time.Second) }, nil), inter),
		},
		{
			name: "SHA-1", cert: chain(sha1Root.issue(t, "a.test", sha1, nil), sha1Root), warnings: []bool{false},
			want: "c.pem: certificate for a.test is signed with SHA1-RSA: have it issued anew with SHA-256",
		},
		{name: "SHA-1 of the root alone", cert: chain(sha1Root.issue(t, "a.test", nil, nil), sha1Root)},
		{
			name: "RSA 1024", cert: chain(inter.issue(t, "a.test", nil, smallKey), inter), warnings: []bool{false},
			want: "c.pem: certificate for a.test has an RSA key of 1024 bits, at least 2048 are needed: use ECDSA P-256 or RSA 2048",
		},
		{name: "RSA 2048", cert: chain(inter.issue(t, "a.test", nil, rsaKey), inter)},
		{
			name: "no name", cert: chain(inter.issue(t, "a.test", func(c *x509.Certificate) { c.DNSNames = nil }, nil), inter), warnings: []bool{true},
			want: `c.pem: certificate "CN=a.test" carries no host name, so no server name selects it: names belong into subjectAltName`,
		},
		{
			name: "for clients", cert: chain(inter.issue(t, "a.test", usage(x509.ExtKeyUsageClientAuth), nil), inter), warnings: []bool{true},
			want: "c.pem: certificate for a.test is not for servers (extended key usage), so it is shown to nobody: have it issued with the extended key usage serverAuth",
		},
		{name: "for clients and servers", cert: chain(inter.issue(t, "a.test", usage(x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth), nil), inter)},
		{name: "for anything", cert: chain(inter.issue(t, "a.test", usage(x509.ExtKeyUsageAny), nil), inter)},
		{
			name: "everything at once", warnings: []bool{false, false, true},
			want: "c.pem: certificate for a.test expired on 2030-06-01T11:59:59Z: renew it\n" +
				"c.pem: certificate for a.test has an RSA key of 1024 bits, at least 2048 are needed: use ECDSA P-256 or RSA 2048\n" + unknownRoot,
			cert: chain(root.issue(t, "a.test", func(c *x509.Certificate) { c.NotAfter = noon.Add(-time.Second) }, smallKey)),
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			roots := x509.NewCertPool()
			for _, n := range tt.roots {
				roots.AddCert(n.cert)
			}
			problems := tt.cert.Check(noon, roots)
			if got := join(problems); got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
			var warnings []bool
			for _, p := range problems {
				warnings = append(warnings, p.Warning)
			}
			if !slices.Equal(warnings, tt.warnings) {
				t.Errorf("warnings %v, want %v", warnings, tt.warnings)
			}
		})
	}
}

// TestAuthorityIsSound holds that what an authority issues has no problem.
func TestAuthorityIsSound(t *testing.T) {
	root := authority(t)
	inter, err := root.Intermediate("test intermediate")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []*certs.Authority{root, inter} {
		c := issue(t, a, certs.IssueOptions{Names: []string{"a.test", "127.0.0.1"}})
		if problems := c.Check(time.Now(), x509.NewCertPool()); len(problems) > 0 {
			t.Error(problems)
		}
		chainPool := x509.NewCertPool()
		for _, der := range c.Certificate.Certificate[1:] {
			x, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			chainPool.AddCert(x)
		}
		for _, name := range []string{"a.test", "127.0.0.1"} {
			if _, err := c.Leaf.Verify(x509.VerifyOptions{Roots: root.Pool(), Intermediates: chainPool, DNSName: name}); err != nil {
				t.Error(err)
			}
		}
	}
	client := issue(t, root, certs.IssueOptions{CommonName: "me", Client: true})
	if _, err := client.Leaf.Verify(x509.VerifyOptions{Roots: root.Pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Error(err)
	}
}
