package sni

import (
	"fmt"
	"slices"
)

// The extensions that are read (IANA "TLS ExtensionType Values"). Others are
// listed and not looked into.
const (
	extServerName          = 0      // RFC 6066 §3
	extSupportedGroups     = 10     // RFC 8446 §4.2.7
	extSignatureAlgorithms = 13     // RFC 8446 §4.2.3
	extALPN                = 16     // RFC 7301 §3.1
	extPreSharedKey        = 41     // RFC 8446 §4.2.11
	extSupportedVersions   = 43     // RFC 8446 §4.2.1
	extKeyShare            = 51     // RFC 8446 §4.2.8
	extECH                 = 0xfe0d // RFC 9849 §5
)

// decodeExtensions reads s, a list of type(2) and data<0..2^16-1>: first what
// there is, then what it says, so that no content is read before the list is known
// to be sound.
func (p *Parser) decodeExtensions(s cursor) error {
	start := len(p.words)
	for rest := s; len(rest) > 0; {
		typ, _, err := rest.extension()
		if err != nil {
			return err
		}
		if typ == extPreSharedKey && len(rest) > 0 {
			return ErrPreSharedKey
		}
		p.words = append(p.words, typ)
	}
	list := p.words[start:len(p.words):len(p.words)]
	if typ, twice := duplicate(list); twice {
		return fmt.Errorf("%w: type %d", ErrDuplicateExtension, typ)
	}
	p.hello.Extensions = list
	for len(s) > 0 {
		typ, data, _ := s.extension() // walked above
		if err := p.decodeExtension(typ, data); err != nil {
			return err
		}
	}
	return nil
}

// extension reads one extension.
func (c *cursor) extension() (typ uint16, data cursor, err error) {
	t, err := c.take("extension type", 2)
	if err != nil {
		return 0, nil, err
	}
	data, err = c.vector16("extension")
	return uint16(t[0])<<8 | uint16(t[1]), data, err
}

func (p *Parser) decodeExtension(typ uint16, data cursor) (err error) {
	h := &p.hello
	switch typ {
	case extServerName:
		h.ServerName, err = p.decodeServerName(data)
	case extALPN:
		h.ALPN, err = p.decodeALPN(data)
	case extSupportedVersions:
		h.Versions, err = p.vectorOfUint16("supported_versions", 1, data)
	case extSupportedGroups:
		h.Groups, err = p.vectorOfUint16("supported_groups", 2, data)
	case extSignatureAlgorithms:
		h.SignatureSchemes, err = p.vectorOfUint16("signature_algorithms", 2, data)
	case extKeyShare:
		h.KeyShares, err = p.decodeKeyShares(data)
	case extECH:
		h.ECH = true
	}
	return err
}

// vectorOfUint16 decodes an extension that is one vector of uint16 values, with a length
// of width bytes.
func (p *Parser) vectorOfUint16(what string, width int, data cursor) ([]uint16, error) {
	var list cursor
	var err error
	if width == 1 {
		list, err = data.vector8(what)
	} else {
		list, err = data.vector16(what)
	}
	if err != nil {
		return nil, err
	}
	if err := data.end(what); err != nil {
		return nil, err
	}
	return p.uint16s(what, list)
}

// decodeServerName returns the host_name of a ServerNameList, normalised. Names of other
// types are skipped: RFC 6066 §3 has each begin with a 16-bit length so that
// servers can.
func (p *Parser) decodeServerName(data cursor) (string, error) {
	list, err := data.vector16("server_name")
	if err != nil {
		return "", err
	}
	if err := data.end("server_name"); err != nil {
		return "", err
	}
	if len(list) == 0 {
		return "", fmt.Errorf("%w: the list is empty", ErrServerName)
	}
	var host cursor
	var seen [256]bool
	for len(list) > 0 {
		typ := list[0]
		list = list[1:]
		name, err := list.vector16("server name")
		if err != nil {
			return "", err
		}
		if seen[typ] {
			return "", fmt.Errorf("%w: of type %d", ErrServerNames, typ)
		}
		seen[typ] = true
		if len(name) == 0 {
			return "", fmt.Errorf("%w: empty, of type %d", ErrServerName, typ)
		}
		if typ == 0 {
			host = name
		}
	}
	if host == nil {
		return "", nil
	}
	return p.normalServerName(host)
}

// decodeALPN decodes a ProtocolNameList. Well-known names cost nothing; the
// first other one makes a string of the whole list, of which the others are parts.
func (p *Parser) decodeALPN(data cursor) ([]string, error) {
	list, err := data.vector16("application_layer_protocol_negotiation")
	if err != nil {
		return nil, err
	}
	if err := data.end("application_layer_protocol_negotiation"); err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%w: no application protocol", ErrBounds)
	}
	var all string
	for rest := list; len(rest) > 0; {
		proto, err := rest.vector8("application protocol")
		if err != nil {
			return nil, err
		}
		if len(proto) == 0 {
			return nil, fmt.Errorf("%w: empty application protocol", ErrBounds)
		}
		name, known := wellKnownALPN(proto)
		if !known {
			if all == "" {
				all = string(list)
			}
			end := len(list) - len(rest)
			name = all[end-len(proto) : end]
		}
		p.alpn = append(p.alpn, name)
	}
	return p.alpn, nil
}

// wellKnownALPN returns the constant for a protocol that clients commonly offer (IANA
// "TLS Application-Layer Protocol Negotiation (ALPN) Protocol IDs").
func wellKnownALPN(proto []byte) (name string, known bool) {
	switch string(proto) {
	case "h2":
		return "h2", true
	case "http/1.1":
		return "http/1.1", true
	case "http/1.0":
		return "http/1.0", true
	case "h3":
		return "h3", true
	case "acme-tls/1":
		return "acme-tls/1", true
	case "dot":
		return "dot", true
	case "imap":
		return "imap", true
	case "mqtt":
		return "mqtt", true
	case "postgresql":
		return "postgresql", true
	}
	return "", false
}

// decodeKeyShares returns the groups of a list of group(2) and key_exchange<1..2^16-1>,
// which may be empty (RFC 8446 §4.2.8).
func (p *Parser) decodeKeyShares(data cursor) ([]uint16, error) {
	list, err := data.vector16("key_share")
	if err != nil {
		return nil, err
	}
	if err := data.end("key_share"); err != nil {
		return nil, err
	}
	start := len(p.words)
	for len(list) > 0 {
		group, share, err := list.extension() // the same form
		if err != nil {
			return nil, err
		}
		if len(share) == 0 {
			return nil, fmt.Errorf("%w: empty key share for group %d", ErrBounds, group)
		}
		p.words = append(p.words, group)
	}
	return p.words[start:len(p.words):len(p.words)], nil
}

// duplicate returns the first value of list that comes again. A usual hello has
// some fifteen extensions; a hostile one of 64 KiB can have sixteen thousand, which
// must not cost their square.
func duplicate(list []uint16) (v uint16, found bool) {
	if len(list) > 64 {
		return duplicateOfMany(list)
	}
	for i, v := range list {
		if slices.Contains(list[:i], v) {
			return v, true
		}
	}
	return 0, false
}

func duplicateOfMany(list []uint16) (v uint16, found bool) {
	var seen [1 << 16 / 64]uint64
	for _, v := range list {
		bit := uint64(1) << (v % 64)
		if seen[v/64]&bit != 0 {
			return v, true
		}
		seen[v/64] |= bit
	}
	return 0, false
}
