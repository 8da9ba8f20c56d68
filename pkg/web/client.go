package web

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"

	"github.com/snicketlb/snicket/balancer"
)

// Client is one client connection whose TLS, if any, is done.
type Client struct {
	// Conn carries plain text; it must have deadlines. Whoever serves the
	// connection owns it and closes it. If it has a CloseWrite, an upgraded
	// connection (WebSocket) ends its two directions one by one.
	Conn net.Conn

	// Context is done when the connection has been cut from outside: requests under way
	// end at once. Closing Conn alone does not tell of it while nobody reads from the
	// client, as when a backend takes no more of an upload. Nil: that never happens.
	Context context.Context

	// TLS is what the handshake agreed on, and nil on a listener of plain HTTP.
	// NegotiatedProtocol "h2" means HTTP/2; all else is HTTP/1.1.
	TLS *tls.ConnectionState

	// Addr is the client's address, as an accepted PROXY header gave it, and Local
	// the one it connected to. Either may be invalid, as on a Unix socket.
	Addr, Local netip.AddrPort

	// ID is the session's, for the log. SNI is the server name of the hello, in
	// lower case and without a dot at its end; "" without one.
	ID, SNI string

	// Left tells whether the client has left, without reading from it: nobody does while
	// a backend takes no more of an upload. It is called about once a second then, from
	// any goroutine, and may be told of what it does not know by Here. Nil: nobody knows.
	Left func() Presence

	// Switched is told when the connection has become one of WebSocket, from any
	// goroutine. It may be nil.
	Switched func()

	// Picked is told of each backend that a request goes to, from any goroutine.
	// It may be nil.
	Picked func(*balancer.Backend)
}

// Presence is whether a client is still there.
type Presence uint8

// How a client is present.
const (
	Here  Presence = iota
	Ended          // it sends no more than it has sent, and may still read
	Gone           // its connection is broken
)

// Result is what became of a client connection.
type Result struct {
	Requests int // that were taken, whatever their answers
	Retries  int // further backends and connections tried for them

	// Err is the first failure that was not the client's: why a request was
	// answered with 502, 503 or 504, or [ErrIdle]. Nil if there was none.
	Err error
}
