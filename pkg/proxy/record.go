package proxy

import (
	"net/netip"
	"time"
)

// A Record is one session as the access log tells it, once, at its end. Strings
// are immutable; empty and zero values are what never came to pass.
type Record struct {
	Time       time.Time // when the session ended
	ID         SessionID
	Listener   string
	Client     netip.AddrPort // from an accepted PROXY header, else Peer; invalid: a Unix socket
	Peer       netip.AddrPort
	SNI        string
	ALPN       string // negotiated where terminated, else what the client offered, joined by ","
	JA4        [36]byte
	Route      string
	Mode       Mode
	Routed     bool // Route and Mode hold
	Pool       string
	Backend    string
	Outcome    Outcome
	Error      string
	BytesIn    int64 // client to backend, without PROXY header; plain text where terminated
	BytesOut   int64
	Hello      time.Duration // accept to whole ClientHello; negative: never
	Dial       time.Duration // first dial to connected; negative: never
	Handshake  time.Duration // with the client; negative: never
	Duration   time.Duration
	TLSVersion uint16
	Cipher     uint16
	ClientCN   string
	Resumed    bool
	Retries    int
	Queue      time.Duration // negative: never queued
	EndedBy    Party
	Requests   int // of HTTP; negative: nobody looked for any
	// ClientVerify is what became of the client's certificate: "ok", why it is not
	// accepted, or empty if it has shown none.
	ClientVerify string
	// Bytes tells whether the client sent any byte: a no-hello without one is
	// counted and not logged.
	Bytes bool
}

// Party is who ended a session.
type Party uint8

// The parties; Nobody is for sessions that ended before there were two sides.
const (
	Nobody Party = iota
	ByClient
	ByBackend
	BySnicket
)

// String is the party's word in the log, empty for Nobody.
func (p Party) String() string {
	switch p {
	case ByClient:
		return "client"
	case ByBackend:
		return "backend"
	case BySnicket:
		return "snicket"
	case Nobody:
	}
	return ""
}

// A SessionID names a session within a fleet for as long as its logs are kept:
// 16 bits drawn at the start of the process, 8 of the loop, 40 of a sequence.
type SessionID uint64

// Append appends the id as 16 hexadecimal digits, the form of the log and of
// the unique-id TLV.
func (id SessionID) Append(b []byte) []byte {
	const digits = "0123456789abcdef"
	for shift := 60; shift >= 0; shift -= 4 {
		b = append(b, digits[id>>shift&15])
	}
	return b
}

// String is the id as Append writes it.
func (id SessionID) String() string { return string(id.Append(make([]byte, 0, 16))) }
