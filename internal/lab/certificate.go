package lab

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Authority is a certificate authority for the length of a test.
type Authority struct {
	Name string
	cert *x509.Certificate
	key  crypto.Signer
}

// Certificate describes a leaf to [Authority.Issue]. Names alone suffices.
type Certificate struct {
	Names     []string  // DNS names, wildcards too; the first is the common name
	IPs       []net.IP  // further subject alternative names
	RSA       bool      // an RSA 2048 key; default ECDSA P-256
	NotBefore time.Time // default an hour ago
	NotAfter  time.Time // default in a day
	Client    bool      // for client authentication; default for servers
}

// NewAuthority makes an authority of that common name.
func NewAuthority(t testing.TB, name string) *Authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial(t),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &Authority{Name: name, cert: cert, key: key}
}

// Issue makes a certificate and its key, ready for crypto/tls, the authority's own certificate not in the chain.
func (a *Authority) Issue(t testing.TB, c Certificate) tls.Certificate {
	t.Helper()
	var key crypto.Signer
	var err error
	if c.RSA {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial(t), DNSNames: c.Names, IPAddresses: c.IPs,
		NotBefore: c.NotBefore, NotAfter: c.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if len(c.Names) > 0 {
		template.Subject.CommonName = c.Names[0]
	}
	if c.NotBefore.IsZero() {
		template.NotBefore = time.Now().Add(-time.Hour)
	}
	if c.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(24 * time.Hour)
	}
	if c.Client {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
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
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// PEM returns the authority's certificate.
func (a *Authority) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

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

func serial(t testing.TB) *big.Int {
	t.Helper()
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
