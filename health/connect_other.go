//go:build !linux

package health

import (
	"errors"
	"net"
)

// direct is a backend that a connector can probe: none, here.
type direct struct{}

func directTo(Prober) *direct { return nil }

// connector makes direct probes.
type connector struct{}

func newConnector(func(attempt, error)) (*connector, error) { return nil, errors.ErrUnsupported }

func (*connector) close() {}

func (*connector) start(attempt) (bool, error) { return true, errors.ErrUnsupported }

func (*connector) abandon(uint64) {}

// quietly makes d dial so that a backend which is reset at once has no connection
// to accept, where that can be done.
func quietly(*net.Dialer) {}
