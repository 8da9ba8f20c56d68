package sni

import "slices"

// Versions of TLS as they stand in [Hello.Versions] and in record headers.
const (
	VersionSSL30 = 0x0300
	VersionTLS10 = 0x0301
	VersionTLS11 = 0x0302
	VersionTLS12 = 0x0303
	VersionTLS13 = 0x0304
)

// Hello is what a ClientHello says. All lists are in the order of the wire and
// keep the GREASE values of RFC 8701; [IsGREASE] tells them.
//
// The slices belong to the [Parser] that returned the Hello and hold until its
// next Reset; none aliases the bytes that were parsed. The strings may be kept.
// A Hello is safe for concurrent reading, its methods included.
type Hello struct {
	// ServerName is the host_name of server_name (RFC 6066 §3) in lower case and
	// without a trailing dot; empty if the client named none.
	ServerName string
	// ALPN lists the protocols offered (RFC 7301 §3.1), as sent.
	ALPN []string
	// RecordVersion is the version of the first record, which means nothing more
	// (RFC 8446 §5.1); LegacyVersion is that of the message.
	RecordVersion, LegacyVersion uint16
	// Versions is the content of supported_versions (RFC 8446 §4.2.1). It is empty
	// for a hello without it, which offers LegacyVersion and below.
	Versions []uint16
	// CipherSuites holds at least one value.
	CipherSuites []uint16
	// Groups is the content of supported_groups; KeyShares lists the groups for
	// which key_share holds a share (RFC 8446 §4.2.7, §4.2.8).
	Groups, KeyShares []uint16
	// SignatureSchemes is the content of signature_algorithms (RFC 8446 §4.2.3).
	SignatureSchemes []uint16
	// Extensions lists the types of all extensions; no value comes twice.
	Extensions []uint16
	// SessionID is the legacy_session_id, 0 to 32 bytes.
	SessionID []byte
	// ECH says that encrypted_client_hello (0xfe0d) is present. Nobody but the
	// holder of the key can tell a real outer hello from GREASE: in both cases
	// ServerName is the outer name.
	ECH bool
	// Len counts the bytes of the stream that the records of the hello take.
	// What follows is not part of it and was not looked at.
	Len int
}

// OffersALPN reports whether the client offers the protocol proto, byte by byte
// the same (RFC 7301 §3.1).
func (h *Hello) OffersALPN(proto string) bool {
	return slices.Contains(h.ALPN, proto)
}

// SupportsTLS13 reports whether the client offers TLS 1.3.
func (h *Hello) SupportsTLS13() bool {
	return slices.Contains(h.Versions, VersionTLS13)
}

// MaxVersion is the highest version the client offers, GREASE left out: from
// Versions, or LegacyVersion for a hello without supported_versions.
func (h *Hello) MaxVersion() uint16 {
	if len(h.Versions) == 0 {
		return h.LegacyVersion
	}
	var highest uint16
	for _, v := range h.Versions {
		if !IsGREASE(v) {
			highest = max(highest, v)
		}
	}
	return highest
}

// HasExtension reports whether the hello has an extension of the given type.
func (h *Hello) HasExtension(typ uint16) bool {
	return slices.Contains(h.Extensions, typ)
}

// IsGREASE reports whether v is one of the sixteen values that clients send to
// keep servers tolerant of unknown ones: 0x0a0a, 0x1a1a to 0xfafa (RFC 8701 §2).
func IsGREASE(v uint16) bool {
	return v&0x0f0f == 0x0a0a && v>>8 == v&0xff
}
