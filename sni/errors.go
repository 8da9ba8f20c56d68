package sni

import "errors"

// ErrMore says that b is the beginning of a ClientHello and ends too early: read
// more and call Parse again. It is returned bare, and costs nothing.
var ErrMore = errors.New("sni: more bytes needed")

// The reasons for which a hello is refused. Parse wraps them with the facts; find
// them with errors.Is. None can be healed by reading on.
//
// ErrNotTLS, ErrSSLv2 and ErrDTLS mean that the peer does not speak TLS over
// TCP and would not understand an alert. For all others an alert is the answer.
var (
	// ErrNotTLS: the first record is no TLS handshake record.
	ErrNotTLS = errors.New("sni: not TLS")
	// ErrSSLv2: an SSLv2-compatible hello (RFC 5246 Appendix E.2), which RFC 6176
	// forbids and which has no place for a server name.
	ErrSSLv2 = errors.New("sni: SSLv2 hello")
	// ErrDTLS: a handshake record with a DTLS version (RFC 6347 §4.1).
	ErrDTLS = errors.New("sni: DTLS record")
	// ErrRecordVersion: a further record whose major version is not 3.
	ErrRecordVersion = errors.New("sni: bad record version")
	// ErrEmptyRecord: a handshake record without payload (RFC 8446 §5.1).
	ErrEmptyRecord = errors.New("sni: empty record")
	// ErrRecordTooLarge: a record with more than 2^14 bytes (RFC 8446 §5.1).
	ErrRecordTooLarge = errors.New("sni: record too large")
	// ErrInterleaved: a record that is not a handshake record between those of
	// the ClientHello (RFC 8446 §5.1).
	ErrInterleaved = errors.New("sni: foreign record inside the ClientHello")
	// ErrTrailing: handshake bytes behind the ClientHello in its last record. No
	// client sends them: TLS 1.3 wants a record to end where keys may change (RFC
	// 8446 §5.1), and in TLS 1.2 it is the server's turn.
	ErrTrailing = errors.New("sni: handshake bytes behind the ClientHello")
	// ErrNotClientHello: the first handshake message is another one.
	ErrNotClientHello = errors.New("sni: not a ClientHello")
	// ErrTooLarge: the ClientHello says it is larger than the limit.
	ErrTooLarge = errors.New("sni: ClientHello too large")
	// ErrLength: a length that lies: a vector that runs over the end of what holds
	// it, leaves bytes behind it, or ends within an element.
	ErrLength = errors.New("sni: length does not fit")
	// ErrBounds: a vector with fewer or more bytes than its definition allows,
	// such as a session id of 33 bytes or no cipher suite at all (RFC 8446 §4.1.2).
	ErrBounds = errors.New("sni: vector out of bounds")
	// ErrDuplicateExtension: an extension that comes twice (RFC 8446 §4.2).
	ErrDuplicateExtension = errors.New("sni: duplicate extension")
	// ErrPreSharedKey: pre_shared_key is not the last extension (RFC 8446 §4.2.11).
	ErrPreSharedKey = errors.New("sni: pre_shared_key is not the last extension")
	// ErrServerName: the host_name is no DNS name: an IP literal, empty, too long,
	// or with a byte that names do not have (RFC 6066 §3).
	ErrServerName = errors.New("sni: bad server name")
	// ErrServerNames: several names of one type in server_name (RFC 6066 §3).
	ErrServerNames = errors.New("sni: several server names")
)
