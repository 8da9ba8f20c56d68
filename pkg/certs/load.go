package certs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A Loader loads many certificates: the upper parts of their chains, which are mostly the
// same, are parsed and held in memory once. It is not safe for concurrent use.
type Loader struct {
	read        func(name string) ([]byte, error)
	authorities map[[sha256.Size]byte]*x509.Certificate
}

// NewLoader makes a Loader that reads files by read; nil for one that reads
// regular files alone, as opening a pipe would wait for its writer.
func NewLoader(read func(name string) ([]byte, error)) *Loader {
	if read == nil {
		read = readFile
	}
	return &Loader{read: read, authorities: map[[sha256.Size]byte]*x509.Certificate{}}
}

// readFile is os.ReadFile for what is a file.
func readFile(name string) ([]byte, error) {
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("not a regular file")}
	}
	return os.ReadFile(name)
}

// Load is [Loader.Load] of a Loader of its own.
func Load(certFile, keyFile string) (*Certificate, []Problem) {
	return NewLoader(nil).Load(certFile, keyFile)
}

// Load reads the chain in certFile, PEM with the leaf first, and its private
// key in keyFile. An empty keyFile means that the key is in certFile too or
// else in NAME.key beside NAME.pem.
//
// It returns nil and the problems if the two cannot be used: a file that cannot
// be read or holds no certificate or key, an encrypted key, a key that does not
// match the leaf. Otherwise the problems are warnings: a key that users other
// than its owner and group can read. What depends on the time is left to
// [Certificate.Check].
func (l *Loader) Load(certFile, keyFile string) (*Certificate, []Problem) {
	blocks, problem := l.readPEM(certFile, "CERTIFICATE")
	if problem != nil {
		return nil, []Problem{*problem}
	}
	chain, problem := l.parseChain(certFile, blocks)
	if problem != nil {
		if !holdsCertificate(blocks) {
			problem.Hint = noCertificateHint(certFile, blocks)
		}
		return nil, []Problem{*problem}
	}
	if keyFile == "" {
		keyFile = certFile
		if keyBlock(blocks) == nil {
			keyFile = KeyBeside(certFile)
		}
	}
	if keyFile != certFile {
		if blocks, problem = l.readPEM(keyFile, "PRIVATE KEY"); problem != nil {
			if problem.Hint == "" {
				problem.Hint = "the key of " + certFile + " is looked for here"
			}
			return nil, []Problem{*problem}
		}
	}
	key, problem := parseKey(keyFile, keyBlock(blocks))
	if problem != nil {
		if keyBlock(blocks) == nil {
			problem.Hint = noKeyHint(certFile, keyFile, blocks)
		}
		return nil, []Problem{*problem}
	}
	if problem := matchKey(certFile, keyFile, chain, key); problem != nil {
		return nil, []Problem{*problem}
	}
	c := &Certificate{File: certFile, KeyFile: keyFile, Facts: factsOf(chain[0])}
	c.PrivateKey = key
	for i, x := range chain {
		c.Certificate.Certificate = append(c.Certificate.Certificate, x.Raw)
		if i > 0 {
			c.authorities = append(c.authorities, x) // not a part of chain, which would keep the leaf
		}
	}
	return c, c.CheckKeyFile()
}

// KeyBeside is where the key of a certificate is looked for that is not in the same
// file: NAME.key beside NAME.pem.
func KeyBeside(certFile string) string {
	return strings.TrimSuffix(certFile, filepath.Ext(certFile)) + ".key"
}

// Pool reads a bundle of CA certificates in PEM. It returns nil and a problem
// if the file cannot be read or holds none.
func Pool(file string) (*x509.CertPool, []Problem) {
	bundle, problems := Bundle(file)
	if bundle == nil {
		return nil, problems
	}
	pool := x509.NewCertPool()
	for _, c := range bundle {
		pool.AddCert(c)
	}
	return pool, problems
}

// Bundle reads the CA certificates that [Pool] makes a pool of, in their order.
func Bundle(file string) ([]*x509.Certificate, []Problem) {
	l := NewLoader(nil)
	blocks, problem := l.readPEM(file, "CERTIFICATE")
	if problem != nil {
		return nil, []Problem{*problem}
	}
	chain, problem := l.parseChain(file, blocks)
	if problem != nil {
		if !holdsCertificate(blocks) {
			problem.Hint = "name a file with the certificates of authorities in PEM"
		}
		return nil, []Problem{*problem}
	}
	return chain, nil
}

// readPEM returns the PEM blocks of a file, at least one; want is the type of block
// that the file is meant to hold.
func (l *Loader) readPEM(file, want string) ([]*pem.Block, *Problem) {
	b, problem := l.readFile(file)
	if problem != nil {
		return nil, problem
	}
	return decodePEM(file, want, b)
}

func (l *Loader) readFile(file string) ([]byte, *Problem) {
	b, err := l.read(file)
	if err != nil {
		if e, ok := errors.AsType[*fs.PathError](err); ok {
			err = e.Err // the problem names the file
		}
		return nil, &Problem{File: file, Text: fmt.Sprintf("cannot be read: %v", err)}
	}
	return b, nil
}

// decodePEM is readPEM of the content b.
func decodePEM(file, want string, b []byte) ([]*pem.Block, *Problem) {
	var blocks []*pem.Block
	for rest := b; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		blocks = append(blocks, block)
	}
	if len(blocks) == 0 {
		return nil, noPEM(file, want, b)
	}
	return blocks, nil
}

// noPEM says what a file without PEM is instead, as far as its content b tells.
func noPEM(file, want string, b []byte) *Problem {
	p := &Problem{File: file, Text: "is not PEM", Hint: fmt.Sprintf("a PEM file is text that begins with -----BEGIN %s-----", want)}
	switch {
	case len(bytes.TrimSpace(b)) == 0:
		p.Text = "is empty"
	case bytes.Contains(b, []byte("-----BEGIN ")):
		p.Text, p.Hint = "holds PEM that is damaged", "copy it again, with its lines -----BEGIN and -----END and all between"
	case isDER(b) && want == "CERTIFICATE":
		p.Text, p.Hint = "is DER, not PEM", "convert it: openssl x509 -inform der -in FILE; PKCS #12: openssl pkcs12 -in FILE"
	case isDER(b):
		p.Text, p.Hint = "is DER, not PEM", "convert it: openssl pkey -inform der -in FILE; PKCS #12: openssl pkcs12 -in FILE"
	}
	return p
}

// isDER reports whether b begins as DER certificates and keys do: a SEQUENCE of 128
// to 65535 bytes (X.690 §8.1.3). Ed25519 keys are shorter.
func isDER(b []byte) bool {
	return len(b) > 1 && b[0] == 0x30 && (b[1] == 0x81 || b[1] == 0x82 || int(b[1])+2 == len(b))
}

// parseChain returns the certificates among blocks, at least one.
func (l *Loader) parseChain(file string, blocks []*pem.Block) ([]*x509.Certificate, *Problem) {
	var chain []*x509.Certificate
	for _, block := range blocks {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := l.parse(block.Bytes, len(chain) == 0)
		if err != nil {
			return nil, &Problem{File: file, Text: fmt.Sprintf("certificate %d cannot be parsed: %v", len(chain)+1, err)}
		}
		chain = append(chain, c)
	}
	if len(chain) == 0 {
		return nil, &Problem{File: file, Text: "holds no certificate"}
	}
	return chain, nil
}

// parse parses a certificate: the first of a chain, or one that others may share.
func (l *Loader) parse(der []byte, first bool) (*x509.Certificate, error) {
	if first {
		return x509.ParseCertificate(der)
	}
	id := sha256.Sum256(der)
	if c := l.authorities[id]; c != nil {
		return c, nil
	}
	c, err := x509.ParseCertificate(der)
	if err == nil {
		l.authorities[id] = c
	}
	return c, err
}

func holdsCertificate(blocks []*pem.Block) bool {
	return slices.ContainsFunc(blocks, func(b *pem.Block) bool { return b.Type == "CERTIFICATE" })
}

// keyBlock returns the first private key among blocks, or nil.
func keyBlock(blocks []*pem.Block) *pem.Block {
	for _, block := range blocks {
		if block.Type == "PRIVATE KEY" || strings.HasSuffix(block.Type, " PRIVATE KEY") {
			return block
		}
	}
	return nil
}

// parseKey parses a key as PKCS #8, PKCS #1 or SEC 1.
func parseKey(file string, block *pem.Block) (crypto.Signer, *Problem) {
	if block == nil {
		return nil, &Problem{File: file, Text: "holds no private key"}
	}
	if block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "" {
		return nil, &Problem{File: file, Text: "private key is encrypted", Hint: "take the passphrase off with: openssl pkey -in FILE"}
	}
	var key any
	var err error
	switch block.Type {
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if err != nil {
		return nil, &Problem{File: file, Text: fmt.Sprintf("private key cannot be parsed: %v", err)}
	}
	switch key := key.(type) {
	case *rsa.PrivateKey:
		return key, nil
	case *ecdsa.PrivateKey:
		return key, nil
	case ed25519.PrivateKey:
		return key, nil
	default:
		return nil, &Problem{File: file, Text: fmt.Sprintf("private key of type %T cannot be used for TLS", key)}
	}
}

// matchKey checks that key belongs to the first certificate of chain.
func matchKey(certFile, keyFile string, chain []*x509.Certificate, key crypto.Signer) *Problem {
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return &Problem{File: keyFile, Text: fmt.Sprintf("private key cannot be used: %v", err)}
	}
	for i, c := range chain {
		if !bytes.Equal(c.RawSubjectPublicKeyInfo, public) {
			continue
		}
		if i == 0 {
			return nil
		}
		return &Problem{
			File: certFile, Text: fmt.Sprintf("the key belongs to certificate %d, not to the first", i+1),
			Hint: "put the server's own certificate first, then the one that issued it, and so on",
		}
	}
	return &Problem{
		File: certFile, Text: fmt.Sprintf("the key in %s does not match the certificate for %s", keyFile, Names(chain[0])),
		Hint: "use the key that the certificate was requested with",
	}
}

// Names returns the host names of a certificate, or its subject if it has
// none, for messages.
func Names(c *x509.Certificate) string {
	if len(c.DNSNames) == 0 {
		return c.Subject.String()
	}
	return strings.Join(c.DNSNames, ", ")
}

// CheckKeyFile warns of a key file that anybody on the machine can read.
func (c *Certificate) CheckKeyFile() []Problem {
	file := c.KeyFile
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm()&0o004 == 0 {
		return nil // one that vanished since it was read is no longer readable
	}
	return []Problem{{
		File: file, Warning: true, Text: fmt.Sprintf("private key can be read by every user (mode %04o)", info.Mode().Perm()),
		Hint: "chmod o-rwx " + file,
	}}
}
