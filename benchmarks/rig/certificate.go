package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/snicketlb/snicket/benchmarks/internal/wire"
)

// certificates writes one self-signed certificate for each kind of key, chain and key in one file as every peer reads
// it, and returns the files by kind. give makes them the balancers' own.
func certificates(dir string, give func(path string) error) (map[string]string, error) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	files := make(map[string]string)
	for kind, key := range map[string]crypto.Signer{"ecdsa": ec, "rsa": rs} {
		text, err := selfSigned(key)
		if err != nil {
			return nil, err
		}
		files[kind] = filepath.Join(dir, kind+".pem")
		if err := os.WriteFile(files[kind], text, 0o600); err != nil {
			return nil, err
		}
		if err := give(files[kind]); err != nil {
			return nil, err
		}
	}
	return files, nil
}

func selfSigned(key crypto.Signer) ([]byte, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: wire.Name(0)}, DNSNames: []string{wire.Name(0)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 6, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...), nil
}
