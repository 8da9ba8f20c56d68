package terminate

import (
	"crypto/tls"
	"time"
)

// Side is one side of a session.
type Side struct {
	// TLS is the connection after its handshake; nil if the side is plain.
	TLS *tls.Conn
	// Conn is the transport, the one under TLS.
	Conn *Conn
}

// RelayOptions bound a relay; zero for no bound.
type RelayOptions struct {
	// Idle is how long no byte may pass in either direction.
	Idle time.Duration
	// Fin is how long no byte may pass in the direction still open after the
	// other has ended. Any byte restarts it.
	Fin time.Duration
}

// Status is how a relay stands.
type Status uint8

// The states of a relay, as its caller sees them.
const (
	// Waiting relays need the next event, or the time of [Relay.Due].
	Waiting Status = iota
	// More says that the turn's budget is spent: pump again without an event.
	More
	// Over relays have their Result.
	Over
)

// Reason says why a relay ended.
type Reason uint8

// The reasons. Those that name a side say which one cut the session.
const (
	// Clean: both directions ended in order.
	Clean Reason = iota
	// ClientReset: the client's connection was reset or broke, or its TLS
	// failed.
	ClientReset
	// ClientTruncated: the client closed its connection without close_notify
	// while it was still owed an answer or still sending.
	ClientTruncated
	// BackendReset: as ClientReset, of the backend.
	BackendReset
	// BackendTruncated: the backend closed without close_notify.
	BackendTruncated
	// IdleTimeout: no byte passed for [RelayOptions.Idle].
	IdleTimeout
	// FinTimeout: one direction had ended and the other was silent for
	// [RelayOptions.Fin].
	FinTimeout
	// Canceled: by [Relay.Cancel]; Err is its cause. Nobody can know whether the
	// streams were whole, so both sides are reset.
	Canceled
)

// String returns the reason in words.
func (r Reason) String() string {
	switch r {
	case Clean:
		return "clean"
	case ClientReset:
		return "client reset"
	case ClientTruncated:
		return "client truncated"
	case BackendReset:
		return "backend reset"
	case BackendTruncated:
		return "backend truncated"
	case IdleTimeout:
		return "idle timeout"
	case FinTimeout:
		return "fin timeout"
	case Canceled:
		return "canceled"
	default:
		return "unknown"
	}
}

// Party is who ended a session.
type Party uint8

// The parties.
const (
	ByBalancer Party = iota // a timeout, or Cancel
	ByClient
	ByBackend
)

// String returns "client", "backend" or "balancer".
func (p Party) String() string {
	switch p {
	case ByClient:
		return "client"
	case ByBackend:
		return "backend"
	default:
		return "balancer"
	}
}

// Result is how a relay ended.
type Result struct {
	Reason Reason
	// EndedBy is the side that ended its direction first if the reason is
	// Clean, else the side that cut the session, or the balancer.
	EndedBy Party
	// Err tells more. If Clean it is nil, or a flaw of the last moment that cost
	// nobody anything, see [Relay].
	Err error
	// In counts the bytes passed from client to backend, Out those from backend
	// to client, in plain text.
	In, Out uint64
}
