package certs

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/hpke"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// An ECHKey is a key that opens hellos within hellos, with what clients must know to
// make them: an ECHConfig (RFC 9849 §4). It is immutable.
type ECHKey struct {
	// PublicName is the server name in the outer hello, which all can read.
	PublicName string
	// Config is the ECHConfig, as it stands in a list.
	Config []byte
	// PrivateKey is the private key as HPKE serializes it (RFC 9180 §7.1.2).
	PrivateKey []byte
	// File is where both were read from; empty for a key just made.
	File string
}

// LoadECH reads the keys in a file of RFC 9849's PEM format (RFC 9934): a block PRIVATE
// KEY in PKCS #8 and a block ECHCONFIG with a list, in which each ECHConfig of
// that key counts. It returns none and the problem if there is none that can be used.
func LoadECH(file string) ([]*ECHKey, []Problem) {
	blocks, problem := NewLoader(nil).readPEM(file, "PRIVATE KEY")
	if problem != nil {
		return nil, []Problem{*problem}
	}
	fail := func(hint, format string, args ...any) ([]*ECHKey, []Problem) {
		return nil, []Problem{{File: file, Text: fmt.Sprintf(format, args...), Hint: hint}}
	}
	const hint = "snicket ech-keygen writes such a file"
	i := slices.IndexFunc(blocks, func(b *pem.Block) bool { return b.Type == echConfigBlock })
	if i < 0 {
		return fail(hint, "holds no %s", echConfigBlock)
	}
	block := keyBlock(blocks)
	if block == nil {
		return fail(hint, "holds no private key")
	}
	private, err := echPrivate(block)
	if err != nil {
		return fail(hint, "private key cannot be used for ECH: %v", err)
	}
	configs, err := parseECHConfigList(blocks[i].Bytes)
	if err != nil {
		return fail(hint, "%s cannot be parsed: %v", echConfigBlock, err)
	}
	var keys []*ECHKey
	for _, c := range configs {
		if err = c.check(private); err != nil {
			continue
		}
		keys = append(keys, &ECHKey{PublicName: c.publicName, Config: c.raw, PrivateKey: private.Bytes(), File: file})
	}
	switch {
	case len(configs) == 0:
		return fail(hint, "holds no ECHConfig of version 0x%04x", echVersion)
	case len(keys) == 0:
		return fail("make a new key: "+hint, "holds no ECHConfig that can be used with its key: %v", err)
	}
	return keys, nil
}

// echPrivate parses the private key of a block in PKCS #8.
func echPrivate(block *pem.Block) (*ecdh.PrivateKey, error) {
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	switch key := key.(type) {
	case *ecdh.PrivateKey:
		return key, nil
	case *ecdsa.PrivateKey: // the curves of NIST look alike in PKCS #8
		return key.ECDH()
	}
	return nil, fmt.Errorf("it is of type %T", key)
}

// check says why hellos for c cannot be opened with key.
func (c *echConfig) check(key *ecdh.PrivateKey) error {
	private, err := hpke.NewDHKEMPrivateKey(key)
	switch {
	case err != nil:
		return err
	case c.kem != private.KEM().ID():
		return fmt.Errorf("KEM 0x%04x, the key is for 0x%04x", c.kem, private.KEM().ID())
	case !bytes.Equal(c.publicKey, private.PublicKey().Bytes()):
		return errors.New("the public key is another's")
	case c.mandatory:
		return errors.New("a mandatory extension that is not known")
	}
	return checkPublicName(strings.ToLower(c.publicName))
}

// GenerateECH makes a key for a public name, which must be one that clients take: of
// two labels or more, none of them the number of an IPv4 address (RFC 9849 §4).
func GenerateECH(publicName string) (*ECHKey, error) {
	publicName = strings.ToLower(strings.TrimSuffix(publicName, "."))
	if err := checkPublicName(publicName); err != nil {
		return nil, err
	}
	private, err := hpke.DHKEM(ecdh.X25519()).GenerateKey()
	if err != nil {
		return nil, err
	}
	secret, err := private.Bytes()
	if err != nil {
		return nil, err
	}
	config := newECHConfig(publicName, private.KEM().ID(), private.PublicKey().Bytes())
	return &ECHKey{PublicName: publicName, Config: config, PrivateKey: secret}, nil
}

// PEM returns the key as LoadECH reads it, made of X25519 as GenerateECH does.
func (k *ECHKey) PEM() ([]byte, error) {
	private, err := ecdh.X25519().NewPrivateKey(k.PrivateKey)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, err
	}
	out := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	return append(out, pem.EncodeToMemory(&pem.Block{Type: echConfigBlock, Bytes: k.ConfigList()})...), nil
}

// ConfigList returns the ECHConfigList of the key alone: what clients are given, in
// DNS as the value of ech in an HTTPS record (RFC 9848 §3), there in base64.
func (k *ECHKey) ConfigList() []byte { return echConfigList(k.Config) }

// ECH opens hellos within hellos. It is immutable and safe for concurrent use.
type ECH struct {
	keys  map[string][]tls.EncryptedClientHelloKey // by public name, in lower case
	names []string
}

// NewECH makes an ECH of keys. Of each public name the first is the one that clients
// with a key unknown are told of to try again (RFC 9849 §7.1); all of
// them open. One that comes twice counts once.
func NewECH(keys []*ECHKey) *ECH {
	e := &ECH{keys: map[string][]tls.EncryptedClientHelloKey{}}
	for _, k := range keys {
		name := strings.ToLower(k.PublicName)
		same := func(known tls.EncryptedClientHelloKey) bool { return bytes.Equal(known.Config, k.Config) }
		switch {
		case slices.ContainsFunc(e.keys[name], same):
			continue
		case e.keys[name] == nil:
			e.names = append(e.names, name)
		}
		e.keys[name] = append(e.keys[name], tls.EncryptedClientHelloKey{
			Config: k.Config, PrivateKey: k.PrivateKey, SendAsRetry: e.keys[name] == nil,
		})
	}
	return e
}

// Keys returns the keys for an outer hello of that name, in any case of letters: those
// that have it for their public name. A hello for another name costs no decryption,
// though nearly every browser's seems to hold another one (GREASE, RFC 9849 §6.2). The
// result must not be changed.
func (e *ECH) Keys(outer string) []tls.EncryptedClientHelloKey {
	return e.keys[strings.ToLower(outer)]
}

// Names returns the public names, in the order of their first keys.
func (e *ECH) Names() []string { return slices.Clone(e.names) }
