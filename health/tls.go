package health

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"
)

// TLS is the probe of kind tls: the backend passes if it completes a handshake.
type TLS struct {
	TCP

	// Config is the configuration of the handshake; it must be set and is not
	// changed. Its ServerName is sent and verified; InsecureSkipVerify accepts
	// every certificate; NextProtos is offered, and what the backend selects is
	// in the Observation.
	Config *tls.Config
}

// Probe connects, completes a handshake and says goodbye. The Observation holds
// the certificates also if they are what failed.
func (p TLS) Probe(ctx context.Context) (Observation, error) {
	conn, o, err := p.Connect(ctx)
	if err != nil {
		return o, err
	}
	defer reset(conn.NetConn())
	return o, goodbye(ctx, conn)
}

// Connect connects and completes a handshake: the first step of every kind of
// probe over TLS, for those that are made elsewhere. The caller closes the
// connection; the Observation counts also beside an error.
func (p TLS) Connect(ctx context.Context) (*tls.Conn, Observation, error) {
	raw, err := p.connect(ctx)
	if err != nil {
		return nil, Observation{}, err
	}
	conn, o, err := handshake(ctx, raw, p.Config)
	if err != nil {
		reset(raw)
		return nil, o, err
	}
	return conn, o, nil
}

// patience is how long a backend may take to answer the goodbye of a probe.
const patience = 500 * time.Millisecond

// goodbye ends a session and waits for the backend to do the same. In TLS 1.3
// the client's handshake is over before the backend has looked at the client's
// certificate: only the backend's next words tell whether it accepts it. And a
// reset that overtakes the end of a handshake fills the backend's log.
//
// Nothing but an alert is held against the backend: how it ends a session that
// has served its purpose is its own affair.
func goodbye(ctx context.Context, conn *tls.Conn) error {
	defer guard(ctx, conn.NetConn(), patience)()
	_ = conn.CloseWrite() // what made it fail may have left an alert to read
	_, err := conn.Read(make([]byte, 1))
	if isAlert(err) {
		return explain("handshake", err)
	}
	return nil
}

// isAlert reports whether crypto/tls means an alert that the backend sent.
func isAlert(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "remote error"
}
