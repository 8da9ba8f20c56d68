package sni

import "strconv"

// Alert is the description of a TLS alert (RFC 8446 §6).
type Alert uint8

// The alerts a balancer has a use for.
const (
	AlertCloseNotify           Alert = 0
	AlertUnexpectedMessage     Alert = 10
	AlertRecordOverflow        Alert = 22
	AlertHandshakeFailure      Alert = 40
	AlertIllegalParameter      Alert = 47
	AlertAccessDenied          Alert = 49
	AlertDecodeError           Alert = 50
	AlertProtocolVersion       Alert = 70
	AlertInsufficientSecurity  Alert = 71
	AlertInternalError         Alert = 80
	AlertUserCanceled          Alert = 90
	AlertUnrecognizedName      Alert = 112
	AlertNoApplicationProtocol Alert = 120
)

// String returns the name of the alert in the RFCs, such as "unrecognized_name",
// or "alert(N)" for one that this package does not name.
func (a Alert) String() string {
	switch a {
	case AlertCloseNotify:
		return "close_notify"
	case AlertUnexpectedMessage:
		return "unexpected_message"
	case AlertRecordOverflow:
		return "record_overflow"
	case AlertHandshakeFailure:
		return "handshake_failure"
	case AlertIllegalParameter:
		return "illegal_parameter"
	case AlertAccessDenied:
		return "access_denied"
	case AlertDecodeError:
		return "decode_error"
	case AlertProtocolVersion:
		return "protocol_version"
	case AlertInsufficientSecurity:
		return "insufficient_security"
	case AlertInternalError:
		return "internal_error"
	case AlertUserCanceled:
		return "user_canceled"
	case AlertUnrecognizedName:
		return "unrecognized_name"
	case AlertNoApplicationProtocol:
		return "no_application_protocol"
	}
	return "alert(" + strconv.Itoa(int(a)) + ")"
}

// AppendAlert appends a fatal alert to dst: one plain record of 7 bytes, as a
// server answers a ClientHello it will not serve.
//
//	type(1)=21 version(2) length(2)=2 level(1)=2 description(1)
//
// The record version is the highest the client of h offers, at most TLS 1.2,
// beyond which records do not go (RFC 8446 §5.1), so that a client that compares
// it with its own versions still reads the alert. A nil h, when no hello could be
// read, gets TLS 1.2.
func AppendAlert(dst []byte, h *Hello, a Alert) []byte {
	const fatal = 2
	version := uint16(VersionTLS12)
	if h != nil && !h.SupportsTLS13() && VersionSSL30 <= h.MaxVersion() && h.MaxVersion() < VersionTLS12 {
		version = h.MaxVersion()
	}
	return append(dst, 21, byte(version>>8), byte(version), 0, 2, fatal, byte(a))
}
