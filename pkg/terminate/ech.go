package terminate

import (
	"crypto/tls"
	"strings"

	"github.com/snicketlb/snicket/pkg/certs"
)

// An InnerServer is a [Waker] whose handshakes may hold a hello within the hello (RFC
// 9849). The outer one chose a configuration; the inner one, which nobody could read
// before, may deserve another.
type InnerServer interface {
	Waker
	// Inner is called on the loop, in the handshake, with the hello that is to be
	// served: the inner one, or the outer one if it held none that could be opened, as
	// with GREASE. It returns the configuration to serve it by, which must have keys
	// of its own for session tickets; nil to stay. An error ends the handshake, and the
	// client is sent no alert: that is left to the caller. When it is called again in one
	// handshake it is to return nil. The hello must not be kept.
	Inner(*tls.ClientHelloInfo) (*tls.Config, error)
}

// keysOf are the keys for an outer hello, and those that its client is told of if none of
// them opens what is within. None is opened that no InnerServer is there for: it would be
// served as the outer name deserves.
func keysOf(e *certs.LiveECH) func(*tls.ClientHelloInfo) ([]tls.EncryptedClientHelloKey, error) {
	return func(outer *tls.ClientHelloInfo) ([]tls.EncryptedClientHelloKey, error) {
		if _, server := innerServer(outer); server == nil {
			return nil, nil
		}
		return e.Keys(outer.ServerName), nil
	}
}

// serveInner has the handshakes of cfg ask who serves the hello within the hello.
func serveInner(cfg *tls.Config) {
	next := cfg.GetConfigForClient
	cfg.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		inner, err := findInner(hello)
		switch {
		case err != nil:
			return nil, err
		case inner != nil && inner.GetConfigForClient != nil:
			further, err := inner.GetConfigForClient(hello)
			if err != nil || further != nil {
				return further, err
			}
			return inner, nil
		case inner != nil || next == nil:
			return inner, nil
		}
		return next(hello)
	}
}

// findInner asks for the configuration that a hello deserves; nil for the one it has.
func findInner(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	conn, server := innerServer(hello)
	if server == nil {
		return nil, nil
	}
	cfg, err := server.Inner(hello)
	switch {
	case err != nil:
		conn.failed = err // else crypto/tls would send internal_error
	case cfg != nil: // the session is for that name now
		conn.shake.name = strings.ToLower(hello.ServerName)
	}
	return cfg, err
}

// innerServer is who serves a hello, if anybody there cares for inner ones.
func innerServer(hello *tls.ClientHelloInfo) (*Conn, InnerServer) {
	conn, ok := hello.Conn.(*Conn)
	if !ok || conn.shake == nil {
		return nil, nil
	}
	server, _ := conn.shake.waker.(InnerServer)
	return conn, server
}
