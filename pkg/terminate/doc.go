// Package terminate ends the TLS of a client with crypto/tls and passes its
// bytes on, in plain text or in fresh TLS.
//
// The life of a session: [NewConn] takes a socket and the bytes already peeked,
// [Handshake] speaks to the client by a [ServerConfig], the caller picks and
// dials a backend, [Backend.Client] speaks TLS to it if need be, and [Relay]
// copies both ways until both have ended and closes both.
//
// What the package is for is told by Relay: the end of one side reaches the
// other as what it was. An orderly end stays one and leaves the other direction
// open; a stream that was cut is never passed on as if it were whole.
//
// It knows nothing of routes, pools or logs.
package terminate
