package sni

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
)

// JA4 returns the JA4 fingerprint of the hello. See AppendJA4.
func (h *Hello) JA4() string {
	return string(h.AppendJA4(make([]byte, 0, 36)))
}

// AppendJA4 appends the JA4 fingerprint of the hello, as FoxIO defines it, for TLS
// over TCP: 36 bytes such as "t13d1516h2_8daaf6152771_b0da82dd1658". It says which
// software the client probably is, and proves nothing. Its parts are
//
//	t             over TCP
//	13            the highest version offered
//	d             "d" with server_name, "i" without
//	15 16         how many cipher suites and extensions, at most 99
//	h2            first and last byte of the first ALPN protocol, "00" without
//	8daaf6152771  SHA-256, cut, of the cipher suites in order of their value
//	b0da82dd1658  the same of the extensions, without server_name and ALPN,
//	              and of the signature algorithms in order of the wire
//
// GREASE values do not count. It allocates nothing but dst's growth, except for a hello
// with more than 128 cipher suites, extensions or signature algorithms.
func (h *Hello) AppendJA4(dst []byte) []byte {
	name := byte('i')
	if h.HasExtension(extServerName) {
		name = 'd'
	}
	dst = append(dst, 't')
	dst = append(dst, ja4Version(h.MaxVersion())...)
	dst = append(dst, name)
	dst = appendCount(dst, h.CipherSuites)
	dst = appendCount(dst, h.Extensions)
	dst = appendJA4ALPN(dst, h.ALPN)

	var listBuf [128]uint16
	var textBuf [2 * 5 * 128]byte
	list := appendPlain(listBuf[:0], h.CipherSuites)
	slices.Sort(list)
	text := appendHexList(textBuf[:0], list)
	dst = append(dst, '_')
	dst = appendJA4Hash(dst, text)

	list = listBuf[:0]
	for _, e := range h.Extensions {
		if !IsGREASE(e) && e != extServerName && e != extALPN {
			list = append(list, e)
		}
	}
	slices.Sort(list)
	text = appendHexList(textBuf[:0], list)
	if list = appendPlain(listBuf[:0], h.SignatureSchemes); len(list) > 0 {
		text = append(text, '_')
		text = appendHexList(text, list)
	}
	dst = append(dst, '_')
	return appendJA4Hash(dst, text)
}

// AppendJA4Input appends all that the JA4 of the hello depends on, but for its ALPN
// protocols, which [Hello.ALPN] has: hellos that agree in both have the same JA4. It
// costs a third of the fingerprint, and saves it to those who remember what they have
// seen. The form may change from one version of this package to the next.
func (h *Hello) AppendJA4Input(dst []byte) []byte {
	const separator = 0x0a0a // GREASE, which is no value of a list
	dst = appendPlainBytes(dst, h.CipherSuites)
	dst = append(dst, separator>>8, separator&0xff)
	var buf [128]uint16
	list := appendPlain(buf[:0], h.Extensions)
	slices.Sort(list)
	dst = appendPlainBytes(dst, list)
	dst = append(dst, separator>>8, separator&0xff)
	dst = appendPlainBytes(dst, h.SignatureSchemes)
	v := h.MaxVersion()
	return append(dst, byte(v>>8), byte(v))
}

// appendPlainBytes appends the values of list that are no GREASE as on the wire.
func appendPlainBytes(dst []byte, list []uint16) []byte {
	for _, v := range list {
		if !IsGREASE(v) {
			dst = append(dst, byte(v>>8), byte(v))
		}
	}
	return dst
}

func ja4Version(v uint16) string {
	switch v {
	case VersionTLS13:
		return "13"
	case VersionTLS12:
		return "12"
	case VersionTLS11:
		return "11"
	case VersionTLS10:
		return "10"
	case VersionSSL30:
		return "s3"
	case 0x0002:
		return "s2"
	}
	return "00"
}

// appendCount appends how many values of list are no GREASE, with two digits.
func appendCount(dst []byte, list []uint16) []byte {
	n := 0
	for _, v := range list {
		if !IsGREASE(v) {
			n++
		}
	}
	n = min(n, 99)
	return append(dst, byte('0'+n/10), byte('0'+n%10))
}

// appendJA4ALPN appends the first and the last byte of the first protocol; if one of
// them is not alphanumeric, the first and the last digit of its hexadecimal form.
func appendJA4ALPN(dst []byte, alpn []string) []byte {
	if len(alpn) == 0 {
		return append(dst, "00"...)
	}
	first, last := alpn[0][0], alpn[0][len(alpn[0])-1]
	if alphanumeric(first) && alphanumeric(last) {
		return append(dst, first, last)
	}
	const digits = "0123456789abcdef"
	return append(dst, digits[first>>4], digits[last&0xf])
}

func alphanumeric(c byte) bool {
	c = lower(c)
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z'
}

// appendPlain appends the values of list that are no GREASE.
func appendPlain(dst, list []uint16) []uint16 {
	for _, v := range list {
		if !IsGREASE(v) {
			dst = append(dst, v)
		}
	}
	return dst
}

// appendHexList appends list as "1301,1302".
func appendHexList(dst []byte, list []uint16) []byte {
	for i, v := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = hex.AppendEncode(dst, []byte{byte(v >> 8), byte(v)})
	}
	return dst
}

// appendJA4Hash appends the first 12 digits of the SHA-256 of text, zeros for an empty one.
func appendJA4Hash(dst, text []byte) []byte {
	if len(text) == 0 {
		return append(dst, "000000000000"...)
	}
	sum := sha256.Sum256(text)
	return hex.AppendEncode(dst, sum[:6])
}
