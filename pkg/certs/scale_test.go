package certs_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/snicketlb/snicket/pkg/certs"
)

// BenchmarkLoadMany loads 10,000 certificates from files as a public authority issues
// them, two names each, with the issuer in the file and the key beside it, checks
// them and indexes them by name. It tells the time and the memory that each takes.
func BenchmarkLoadMany(b *testing.B) {
	const n = 10_000
	for _, kind := range []string{"ecdsa", "rsa"} {
		b.Run(kind, func(b *testing.B) {
			files := writeMany(b, kind, n)
			var held []*certs.Certificate
			var set *certs.Set
			before := heap()
			for b.Loop() {
				held, set = nil, nil
				before = heap()
				loader := certs.NewLoader(nil)
				for _, file := range files {
					c, problems := loader.Load(file, "")
					if c == nil {
						b.Fatal(problems)
					}
					c.Check(time.Now(), nil)
					held = append(held, c)
				}
				set = certs.NewSet(held)
			}
			b.ReportMetric(float64(heap()-before)/n, "B/cert")
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/n, "µs/cert")
			runtime.KeepAlive(set)
		})
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// writeMany writes n certificates, and returns their files. RSA keys take long to make,
// so all RSA certificates have the same one.
func writeMany(b *testing.B, kind string, n int) []string {
	b.Helper()
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	issuerKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	issuer := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{Organization: []string{"Some Authority"}, CommonName: "I1"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(5, 0, 0),
		SubjectKeyId: make([]byte, 20), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, issuer, issuer, issuerKey.Public(), issuerKey)
	must(err)
	issuerPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	must(err)
	dir := b.TempDir()
	var files []string
	for i := range n {
		leaf := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i) + 1<<40), Subject: pkix.Name{CommonName: fmt.Sprintf("host-%05d.example.com", i)},
			DNSNames:  []string{fmt.Sprintf("host-%05d.example.com", i), fmt.Sprintf("www.host-%05d.example.com", i)},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 3, 0),
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
			OCSPServer: []string{"http://o.example.net"}, IssuingCertificateURL: []string{"http://i.example.net/"},
			PolicyIdentifiers: []asn1.ObjectIdentifier{{2, 23, 140, 1, 2, 1}},
			// Two signed certificate timestamps.
			ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}, Value: append([]byte{0x04, 0x81, 0xf2}, make([]byte, 0xf2)...)}},
		}
		var key any = rsaKey
		public := any(rsaKey.Public())
		if kind == "ecdsa" {
			k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			must(err)
			key, public = k, k.Public()
		}
		der, err := x509.CreateCertificate(rand.Reader, leaf, issuer, public, issuerKey)
		must(err)
		keyDER, err := x509.MarshalPKCS8PrivateKey(key)
		must(err)
		file := filepath.Join(dir, fmt.Sprintf("host-%05d", i))
		must(os.WriteFile(file+".pem", append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), issuerPEM...), 0o600))
		must(os.WriteFile(file+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600))
		files = append(files, file+".pem")
	}
	return files
}
