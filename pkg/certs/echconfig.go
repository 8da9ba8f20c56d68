package certs

import (
	"crypto/hpke"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/snicketlb/snicket/sni"
)

// echConfigBlock is the type of the PEM block with an ECHConfigList (RFC 9934 §2).
const echConfigBlock = "ECHCONFIG"

// echVersion is the one version of ECHConfig there is (RFC 9849 §4).
const echVersion = 0xfe0d

// maxNameLength is the length of names up to which clients hide how long a name is,
// at the price of as many bytes in a hello (RFC 9849 §6.1.3).
const maxNameLength = 64

// echConfig is an ECHConfig:
//
//	uint16 version; uint16 length;
//	uint8 config_id; uint16 kem_id; opaque public_key<1..2^16-1>;
//	struct { uint16 kdf_id; uint16 aead_id; } cipher_suites<4..2^16-4>;
//	uint8 maximum_name_length; opaque public_name<1..255>;
//	struct { uint16 type; opaque data<0..2^16-1>; } extensions<0..2^16-1>;
type echConfig struct {
	raw        []byte
	kem        uint16
	publicKey  []byte
	publicName string
	mandatory  bool // has an extension that all must understand
}

// parseECHConfigList returns the ECHConfigs of the version known (RFC 9849 §4).
func parseECHConfigList(b []byte) ([]*echConfig, error) {
	list, b, ok := cut16(b)
	if !ok || len(b) > 0 || len(list) == 0 {
		return nil, errors.New("the length of the list is wrong")
	}
	var out []*echConfig
	for len(list) > 0 {
		if len(list) < 2 {
			return nil, errECHCut
		}
		contents, rest, ok := cut16(list[2:])
		if !ok {
			return nil, errECHCut
		}
		raw := list[:len(list)-len(rest)]
		list = rest
		if binary.BigEndian.Uint16(raw) != echVersion {
			continue
		}
		c, err := parseECHConfig(contents)
		if err != nil {
			return nil, err
		}
		c.raw = raw
		out = append(out, c)
	}
	return out, nil
}

var errECHCut = errors.New("an ECHConfig is cut short")

func parseECHConfig(b []byte) (*echConfig, error) {
	if len(b) < 3 { // config_id, which is a hint for the server alone, and kem_id
		return nil, errECHCut
	}
	c := &echConfig{kem: binary.BigEndian.Uint16(b[1:])}
	var suites, extensions []byte
	var ok bool
	if c.publicKey, b, ok = cut16(b[3:]); !ok {
		return nil, errECHCut
	}
	if suites, b, ok = cut16(b); !ok || len(b) < 2 || len(suites) == 0 || len(suites)%4 != 0 {
		return nil, errECHCut
	}
	n := int(b[1])
	if len(b) < 2+n {
		return nil, errECHCut
	}
	c.publicName = string(b[2 : 2+n])
	if extensions, b, ok = cut16(b[2+n:]); !ok || len(b) > 0 {
		return nil, errECHCut
	}
	for len(extensions) > 0 {
		if len(extensions) < 2 {
			return nil, errECHCut
		}
		c.mandatory = c.mandatory || extensions[0]&0x80 != 0
		if _, extensions, ok = cut16(extensions[2:]); !ok {
			return nil, errECHCut
		}
	}
	return c, nil
}

// cut16 cuts a vector off b, whose length two bytes tell.
func cut16(b []byte) (vector, rest []byte, ok bool) {
	if len(b) < 2 || len(b)-2 < int(binary.BigEndian.Uint16(b)) {
		return nil, nil, false
	}
	n := 2 + int(binary.BigEndian.Uint16(b))
	return b[2:n:n], b[n:], true
}

// newECHConfig writes an ECHConfig, with an identifier drawn by lot.
func newECHConfig(publicName string, kem uint16, publicKey []byte) []byte {
	id := make([]byte, 1)
	_, _ = rand.Read(id) // never fails
	suites := []uint16{
		hpke.HKDFSHA256().ID(), hpke.AES128GCM().ID(),
		hpke.HKDFSHA256().ID(), hpke.ChaCha20Poly1305().ID(),
	}
	c := append(id, 0, 0)
	binary.BigEndian.PutUint16(c[1:], kem)
	c = append16(c, publicKey)
	c = binary.BigEndian.AppendUint16(c, uint16(2*len(suites)))
	for _, v := range suites {
		c = binary.BigEndian.AppendUint16(c, v)
	}
	c = append(c, maxNameLength, byte(len(publicName)))
	c = append(c, publicName...)
	c = append16(c, nil) // extensions
	return append16(binary.BigEndian.AppendUint16(nil, echVersion), c)
}

func append16(dst, vector []byte) []byte {
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(vector))), vector...)
}

// echConfigList is the list of one ECHConfig.
func echConfigList(config []byte) []byte { return append16(nil, config) }

// checkPublicName says why clients would not take a public name (RFC 9849 §4, §6.1.7).
func checkPublicName(name string) error {
	if err := sni.CheckName(name); err != nil {
		return fmt.Errorf("public name: %w", err)
	}
	last := name[strings.LastIndexByte(name, '.')+1:]
	switch {
	case len(last) == len(name):
		return fmt.Errorf("public name %q of one label, clients want two or more", name)
	case strings.Trim(last, "0123456789") == "" || strings.HasPrefix(last, "0x"):
		return fmt.Errorf("public name %q looks like an IP address", name)
	case strings.Contains(name, "_"), strings.HasSuffix(name, "-"), strings.Contains(name, "-."):
		return fmt.Errorf("public name %q is no host name: its labels are of letters, digits and hyphens within", name)
	}
	return nil
}
