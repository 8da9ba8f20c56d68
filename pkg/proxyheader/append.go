package proxyheader

import (
	"encoding/binary"
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

// SSL describes the TLS connection that was terminated (§2.2.6).
type SSL struct {
	// Version is the protocol as in "TLSv1.3", Cipher the suite, CommonName
	// that of the client's certificate. Empty ones are left out.
	Version, Cipher, CommonName string
	// ClientCertificate says that the client presented a certificate, Resumed
	// that it did so in an earlier connection of the same TLS session,
	// Verified that it was presented and verified.
	ClientCertificate, Resumed, Verified bool
}

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
		return dst, fmt.Errorf("PROXY header of %d bytes, limit %d", len(b), maxV2)
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
	client, verify := byte(clientSSL), uint32(1)
	if s.ClientCertificate {
		client |= clientCertSess
		if !s.Resumed {
			client |= clientCertConn
		}
	}
	if s.ClientCertificate && s.Verified {
		verify = 0
	}
	value := binary.BigEndian.AppendUint32([]byte{client}, verify)
	for _, sub := range [...]struct {
		kind proxyproto.PP2Type
		text string
	}{
		{proxyproto.PP2_SUBTYPE_SSL_VERSION, s.Version},
		{proxyproto.PP2_SUBTYPE_SSL_CN, s.CommonName},
		{proxyproto.PP2_SUBTYPE_SSL_CIPHER, s.Cipher},
	} {
		if sub.text == "" {
			continue
		}
		b, err := proxyproto.JoinTLVs([]proxyproto.TLV{{Type: sub.kind, Value: []byte(sub.text)}})
		if err != nil {
			return nil, fmt.Errorf("PROXY header: %w", err)
		}
		value = append(value, b...)
	}
	return value, nil
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
