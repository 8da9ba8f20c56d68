package health

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"
)

// Try makes one attempt of at most timeout. If it fails for lack of time, its
// error says how long that was: "connect: i/o timeout after 1s".
func Try(ctx context.Context, p Prober, timeout time.Duration) (Observation, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return try(ctx, p, timeout)
}

// try makes an attempt in a context that ends after timeout.
func try(ctx context.Context, p Prober, timeout time.Duration) (Observation, error) {
	o, err := p.Probe(ctx)
	return o, timed(err, timeout)
}

// timed adds to the error of a probe that ran out of time how much it had.
func timed(err error, timeout time.Duration) error {
	switch {
	case errors.Is(err, ErrNoAnswer):
		return fmt.Errorf("%w within %v", err, timeout)
	case isTimeout(err):
		return fmt.Errorf("%w after %v", err, timeout)
	}
	return err
}

// Connect dials and writes the Preface: the first step of every kind of probe, for
// those that are made elsewhere. The caller closes the connection.
func (p TCP) Connect(ctx context.Context) (net.Conn, error) { return p.connect(ctx) }

// connect dials and writes the preface.
func (p *TCP) connect(ctx context.Context) (net.Conn, error) {
	conn, err := p.dial(ctx, false)
	if err != nil {
		return nil, explain("connect", err)
	}
	if len(p.Preface) == 0 {
		return conn, nil
	}
	defer guard(ctx, conn, 0)()
	if _, err := conn.Write(p.Preface); err != nil {
		reset(conn)
		return nil, explain("connect", err)
	}
	return conn, nil
}

// dial connects, quietly if nothing is to come of it.
func (p *TCP) dial(ctx context.Context, quiet bool) (net.Conn, error) {
	if p.Dial != nil {
		return p.Dial(ctx)
	}
	// A probe is too short for keepalive, and wants the plain TCP that a session
	// gets.
	d := net.Dialer{KeepAlive: -1}
	d.SetMultipathTCP(false)
	if quiet {
		quietly(&d)
	}
	network := p.Network
	if network == "" {
		network = "tcp"
	}
	if p.Source.IsValid() && network != "unix" {
		d.LocalAddr = &net.TCPAddr{IP: p.Source.AsSlice(), Zone: p.Source.Zone()}
	}
	return d.DialContext(ctx, network, p.Address)
}

// guard makes what is done with conn end when the context does, or after limit
// if that is sooner and not 0. The caller calls stop when it has done it.
func guard(ctx context.Context, conn net.Conn, limit time.Duration) (stop func() bool) {
	deadline, ok := ctx.Deadline()
	if limit > 0 {
		if end := time.Now().Add(limit); !ok || end.Before(deadline) {
			deadline = end
		}
	}
	// It fails on a closed conn only, where what follows fails as well.
	_ = conn.SetDeadline(deadline)
	return context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
}

// handshake starts TLS on conn and completes the handshake.
func handshake(ctx context.Context, raw net.Conn, config *tls.Config) (*tls.Conn, Observation, error) {
	conn := tls.Client(raw, config)
	defer guard(ctx, raw, 0)()
	err := conn.Handshake()
	state := conn.ConnectionState()
	o := Observation{ALPN: state.NegotiatedProtocol, TLSVersion: state.Version, Certificates: state.PeerCertificates}
	if err != nil {
		if refused := unverified(err); refused != nil {
			o.Certificates = refused
		}
		return nil, o, explain("handshake", err)
	}
	return conn, o, nil
}

// reset closes a connection by RST if it is one of TCP: nothing is left to wait
// for on either side, and no error matters any more.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
