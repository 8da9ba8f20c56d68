package lab

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"github.com/snicketlb/snicket/pkg/certs"
)

// Authority is a certificate authority for the length of a test: that of package certs, ready for crypto/tls and for
// files, failing the test instead of returning errors.
type Authority struct{ ca *certs.Authority }

// Certificate describes a leaf to [Authority.Issue]. Names alone suffices.
type Certificate = certs.IssueOptions

// NewAuthority makes an authority of that common name.
func NewAuthority(t testing.TB, name string) *Authority {
	t.Helper()
	ca, err := certs.NewAuthority(name)
	if err != nil {
		t.Fatal(err)
	}
	return &Authority{ca}
}

// Issue makes a certificate and its key, ready for crypto/tls.
func (a *Authority) Issue(t testing.TB, c Certificate) tls.Certificate {
	t.Helper()
	issued, err := a.ca.Issue(c)
	if err != nil {
		t.Fatal(err)
	}
	return issued.Certificate
}

// Revoke returns a list, in DER, that revokes leaves of the authority's.
func (a *Authority) Revoke(t testing.TB, leaves ...tls.Certificate) []byte {
	t.Helper()
	var o certs.RevokeOptions
	for _, c := range leaves {
		leaf, err := x509.ParseCertificate(c.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		o.Revoked = append(o.Revoked, leaf)
	}
	list, err := a.ca.Revoke(o)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// Server returns a server's TLS configuration with one ECDSA certificate for names.
func (a *Authority) Server(t testing.TB, names ...string) *tls.Config {
	t.Helper()
	return &tls.Config{Certificates: []tls.Certificate{a.Issue(t, Certificate{Names: names})}}
}

// Client returns a client's TLS configuration that trusts the authority alone and asks for name.
func (a *Authority) Client(name string) *tls.Config {
	return &tls.Config{RootCAs: a.Pool(), ServerName: name}
}

// Pool returns a pool that holds the authority alone.
func (a *Authority) Pool() *x509.CertPool { return a.ca.Pool() }

// PEM returns the authority's certificate.
func (a *Authority) PEM() []byte { return a.ca.PEM() }

// WriteCA writes the authority's certificate to a file of the test's own and returns its path.
func (a *Authority) WriteCA(t testing.TB) string {
	t.Helper()
	return WriteFile(t, filepath.Join(t.TempDir(), "ca.pem"), a.PEM())
}

// WriteServer writes a fresh ECDSA certificate for names, and its key, to files of the test's own.
func (a *Authority) WriteServer(t testing.TB, names ...string) (certFile, keyFile string) {
	t.Helper()
	return WriteCertificate(t, a.Issue(t, Certificate{Names: names}))
}

// WriteCertificate writes a certificate with its chain, and its key, to files of the test's own.
func WriteCertificate(t testing.TB, c tls.Certificate) (certFile, keyFile string) {
	t.Helper()
	dir := t.TempDir()
	var chain []byte
	for _, der := range c.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	return WriteFile(t, filepath.Join(dir, "cert.pem"), chain), WriteFile(t, filepath.Join(dir, "key.pem"), key)
}

// WriteFile writes a file that only its owner may read and returns its path.
func WriteFile(t testing.TB, path string, content []byte) string {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
