package health

import (
	"context"
	"net"
	"net/netip"
)

// TCP is the probe of kind tcp: the backend passes if it accepts a connection.
// The connection is closed by a reset, so that the backend has nothing to serve
// and nothing to log; on Linux that reset mostly takes the place of the handshake's
// last segment, so that there is not even a connection to accept. The other kinds
// connect by a TCP too.
//
// On Linux a [Checker] makes the probes of this kind without a goroutine for each,
// unless Address holds a name, or Preface or Dial is set.
type TCP struct {
	// Network is "tcp" (the default), "tcp4", "tcp6" or "unix".
	Network string

	// Address is "host:port", or a path if Network is "unix".
	Address string

	// Source is the local address to connect from; the zero Addr leaves the
	// choice to the kernel.
	Source netip.Addr

	// Dial connects instead of the fields above if it is set.
	Dial func(ctx context.Context) (net.Conn, error)

	// Preface is written first, before a TLS handshake or a request: the PROXY
	// header of a backend that wants one.
	Preface []byte
}

// Probe connects and writes the Preface.
func (p TCP) Probe(ctx context.Context) (Observation, error) {
	if len(p.Preface) > 0 {
		conn, err := p.connect(ctx)
		if err != nil {
			return Observation{}, err
		}
		reset(conn)
		return Observation{}, nil
	}
	conn, err := p.dial(ctx, true)
	if err != nil {
		return Observation{}, explain("connect", err)
	}
	reset(conn)
	return Observation{}, nil
}
