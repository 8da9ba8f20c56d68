package proxyheader

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"net/netip"

	proxyproto "github.com/pires/go-proxyproto"
)

// maxUniqueID bounds a unique-id (PROXY protocol §2.2.5).
const maxUniqueID = 128

// Out is a header to send. The fields from Authority on are TLVs, which only
// version 2 has; version 1 drops them.
type Out struct {
	// Version is 1 or 2.
	Version int
	// Source is the client, Destination the address it connected to. If either
	// is zero, as for a client on a Unix socket, the header gives no addresses:
	// UNKNOWN in version 1, PROXY with family UNSPEC in version 2. If only one
	// is IPv4 it travels mapped into IPv6. Zones are dropped.
	Source, Destination netip.AddrPort
	// Authority is the server name of the client's hello (§2.2.2); "" for none.
	Authority string
	// ALPN is the application protocol (§2.2.1); "" for none.
	ALPN string
	// UniqueID identifies the session (§2.2.5), at most 128 bytes; empty for
	// none.
	UniqueID []byte
	// SSL tells of the client's TLS (§2.2.6); nil where it was not terminated.
	SSL *SSL
	// CRC32C adds a checksum of the whole header (§2.2.3).
	CRC32C bool
}

// SSL describes the TLS connection that was terminated (§2.2.6). Empty fields are
// left out.
type SSL struct {
	// Version is the protocol as in "TLSv1.3", Cipher the suite, CommonName
	// that of the client's certificate.
	Version, Cipher, CommonName string
	// SignatureAlgorithm is what the server's certificate is signed with, as in
	// "RSA-SHA256", KeyAlgorithm that of its key, as in "RSA2048".
	SignatureAlgorithm, KeyAlgorithm string
	// Group is that of the key exchange, as in "secp256r1", SignatureScheme how the
	// server signed it, as in "rsa_pss_rsae_sha256".
	Group, SignatureScheme string
	// Certificate is the client's, in DER. It may make a header too long for
	// [Append], or for who reads it.
	Certificate []byte
	// ClientCertificate says that the client presented a certificate, Resumed
	// that it did so in an earlier connection of the same TLS session,
	// Verified that it was presented and verified.
	ClientCertificate, Resumed, Verified bool
	// Why tells why a certificate is not Verified: the number that OpenSSL has for
	// that (X509_V_ERR_…), 0 for 1, the one without a reason.
	Why uint32
}

// ErrTooLong is wrapped by the error of [Append] for a header over 4 KiB. One that
// carries a certificate may do without it.
var ErrTooLong = errors.New("too long")

// Bits of the client field of the SSL TLV (§2.2.6).
const (
	clientSSL      = 0x01
	clientCertConn = 0x02
	clientCertSess = 0x04
)

// Append appends the header o to dst and returns the extended slice. The error
// says what of o no header can carry; dst is then returned as it was.
func Append(dst []byte, o Out) ([]byte, error) {
	h := proxyproto.Header{Version: byte(o.Version), Command: proxyproto.PROXY, TransportProtocol: proxyproto.UNSPEC}
	if o.Source.IsValid() && o.Destination.IsValid() {
		h.TransportProtocol = proxyproto.TCPv6
		if o.Source.Addr().Unmap().Is4() && o.Destination.Addr().Unmap().Is4() {
			h.TransportProtocol = proxyproto.TCPv4
		}
		h.SourceAddr, h.DestinationAddr = tcpAddr(o.Source), tcpAddr(o.Destination)
	}
	switch o.Version {
	case 1:
	case 2:
		tlvs, err := o.tlvs()
		if err != nil {
			return dst, err
		}
		if err := h.SetTLVs(tlvs); err != nil {
			return dst, fmt.Errorf("PROXY header: %w", err)
		}
	default:
		return dst, fmt.Errorf("PROXY header version %d, want 1 or 2", o.Version)
	}
	b, err := h.Format()
	if err != nil {
		return dst, fmt.Errorf("PROXY header: %w", err)
	}
	if len(b) > maxV2 {
		return dst, fmt.Errorf("PROXY header %w: %d bytes, limit %d", ErrTooLong, len(b), maxV2)
	}
	if o.Version == 2 && o.CRC32C {
		// The checksum is the first TLV: its value lies behind the addresses
		// and its own three bytes of type and length.
		at := fixedV2 + addressLength(b[13]) + 3
		binary.BigEndian.PutUint32(b[at:], checksum(b, at))
	}
	return append(dst, b...), nil
}

// tlvs lists the TLVs of o, the checksum first and still zero.
func (o *Out) tlvs() ([]proxyproto.TLV, error) {
	if len(o.UniqueID) > maxUniqueID {
		return nil, fmt.Errorf("PROXY header: unique-id of %d bytes, limit %d", len(o.UniqueID), maxUniqueID)
	}
	var tlvs []proxyproto.TLV
	add := func(kind proxyproto.PP2Type, value []byte) {
		if len(value) > 0 {
			tlvs = append(tlvs, proxyproto.TLV{Type: kind, Value: value})
		}
	}
	if o.CRC32C {
		add(proxyproto.PP2_TYPE_CRC32C, make([]byte, crc32.Size))
	}
	add(proxyproto.PP2_TYPE_ALPN, []byte(o.ALPN))
	add(proxyproto.PP2_TYPE_AUTHORITY, []byte(o.Authority))
	add(proxyproto.PP2_TYPE_UNIQUE_ID, o.UniqueID)
	if o.SSL != nil {
		value, err := o.SSL.value()
		if err != nil {
			return nil, err
		}
		add(proxyproto.PP2_TYPE_SSL, value)
	}
	return tlvs, nil
}

// value encodes s as the value of an SSL TLV: the client field, the result of
// the verification, zero being success, and the sub-TLVs (§2.2.6).
func (s *SSL) value() ([]byte, error) {
	client, verify := byte(clientSSL), max(s.Why, 1)
	if s.ClientCertificate {
		client |= clientCertSess
		if !s.Resumed {
			client |= clientCertConn
		}
	}
	if s.ClientCertificate && s.Verified {
		verify = 0
	}
	if n := len(s.Certificate) + len(s.CommonName); n > maxV2 { // nor could a TLV hold more than 64 KiB
		return nil, fmt.Errorf("PROXY header %w: client certificate of %d bytes, limit %d", ErrTooLong, n, maxV2)
	}
	value := make([]byte, 0, 256+len(s.Certificate))
	value = binary.BigEndian.AppendUint32(append(value, client), verify)
	value = appendSub(value, proxyproto.PP2_SUBTYPE_SSL_VERSION, s.Version)
	value = appendSub(value, proxyproto.PP2_SUBTYPE_SSL_CN, s.CommonName)
	value = appendSub(value, proxyproto.PP2_SUBTYPE_SSL_CIPHER, s.Cipher)
	value = appendSub(value, proxyproto.PP2_SUBTYPE_SSL_SIG_ALG, s.SignatureAlgorithm)
	value = appendSub(value, proxyproto.PP2_SUBTYPE_SSL_KEY_ALG, s.KeyAlgorithm)
	value = appendSub(value, proxyproto.PP2_SUBTYPE_SSL_GROUP, s.Group)
	value = appendSub(value, proxyproto.PP2_SUBTYPE_SSL_SIG_SCHEME, s.SignatureScheme)
	return appendSub(value, proxyproto.PP2_SUBTYPE_SSL_CLIENT_CERT, s.Certificate), nil
}

// appendSub appends a sub-TLV unless it is empty. None is longer than maxV2.
func appendSub[T string | []byte](b []byte, kind proxyproto.PP2Type, value T) []byte {
	if len(value) == 0 {
		return b
	}
	return append(append(b, byte(kind), byte(len(value)>>8), byte(len(value))), value...)
}

// Local returns the header of a connection that the proxy makes on its own
// account, such as a probe: LOCAL in version 2, "PROXY UNKNOWN" in version 1.
// It panics on any other version.
func Local(version int) []byte {
	h := proxyproto.Header{Version: byte(version), Command: proxyproto.LOCAL, TransportProtocol: proxyproto.UNSPEC}
	b, err := h.Format()
	if err != nil {
		panic(fmt.Sprintf("proxyheader: version %d, want 1 or 2", version))
	}
	return b
}

func tcpAddr(a netip.AddrPort) *net.TCPAddr {
	return &net.TCPAddr{IP: a.Addr().Unmap().AsSlice(), Port: int(a.Port())}
}
