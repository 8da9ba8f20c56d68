// Package grpc is the probe of kind grpc: it asks a backend by the gRPC health
// checking protocol, grpc.health.v1.Health/Check, whether a service of it serves.
//
// It is a package of its own so that health needs the standard library alone.
// [Probe] is a [health.Prober]. The package serves nothing: for the other side of
// the protocol see google.golang.org/grpc/health.
package grpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/snicketlb/snicket/health"
)

// Probe is the probe of kind grpc: the backend passes if it answers that the
// service is SERVING.
type Probe struct {
	health.TCP

	// TLS is the configuration of the handshake, which is not changed; nil is
	// HTTP/2 without TLS. Only "h2" is offered.
	TLS *tls.Config

	// Service is the service asked about; "" is the server as a whole.
	Service string

	// Authority is the :authority of the request. Default TLS.ServerName, else
	// the Address, or "localhost" if that is a path or empty.
	Authority string
}

// maxAnswer bounds the message that is read; an honest one has two bytes.
const maxAnswer = 4 << 10

// Probe connects, completes a handshake if TLS is set, and makes one call.
func (p Probe) Probe(ctx context.Context) (health.Observation, error) {
	conn, o, err := p.open(ctx)
	if err != nil {
		return o, err
	}
	defer conn.Close()
	broken := &noting{Conn: conn}
	client, err := p.client(broken)
	if err != nil {
		return o, fmt.Errorf("request: %w", err)
	}
	defer func() { _ = client.Close() }() // of its one connection, which is done with
	answer, err := healthpb.NewHealthClient(client).Check(ctx, &healthpb.HealthCheckRequest{Service: p.Service})
	if err != nil {
		return o, p.explain(ctx, err, broken.noted())
	}
	if answer.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		return o, fmt.Errorf("%s is %s, want SERVING", p.service(), answer.GetStatus())
	}
	return o, nil
}

// open connects here and not in the library, for the words of its errors and for
// what is seen of the certificate.
func (p *Probe) open(ctx context.Context) (net.Conn, health.Observation, error) {
	if p.TLS == nil {
		conn, err := p.Connect(ctx)
		return conn, health.Observation{}, err
	}
	config := p.TLS.Clone()
	config.NextProtos = []string{"h2"}
	conn, o, err := health.TLS{TCP: p.TCP, Config: config}.Connect(ctx)
	if err != nil {
		return nil, o, err
	}
	if o.ALPN != "h2" {
		conn.Close()
		return nil, o, fmt.Errorf("handshake: the backend selected protocol %q, want %q", o.ALPN, "h2")
	}
	return conn, o, nil
}

// client returns a client that has conn as its one connection.
func (p *Probe) client(conn net.Conn) (*grpc.ClientConn, error) {
	conns := make(chan net.Conn, 1)
	conns <- conn
	transport := insecure.NewCredentials()
	if p.TLS != nil {
		transport = shaken{transport}
	}
	return grpc.NewClient("passthrough:///"+p.authority(),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			select {
			case conn := <-conns:
				return conn, nil
			default:
				return nil, errSpent
			}
		}),
		grpc.WithTransportCredentials(transport),
		grpc.WithAuthority(p.authority()),
		grpc.WithUserAgent("snicket-health"),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(),
		grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)),
	)
}

// errSpent is met by a client whose connection has broken.
var errSpent = errors.New("connection lost")

func (p *Probe) authority() string {
	switch {
	case p.Authority != "":
		return p.Authority
	case p.TLS != nil && p.TLS.ServerName != "":
		return p.TLS.ServerName
	case p.Network == "unix" || p.Address == "":
		return "localhost"
	}
	return p.Address
}

func (p *Probe) service() string {
	if p.Service == "" {
		return "the server"
	}
	return fmt.Sprintf("service %q", p.Service)
}

// explain turns the error of a call, and of its connection if that broke, into the
// operator's words.
func (p *Probe) explain(ctx context.Context, err, broken error) error {
	s := status.Convert(err)
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded), s.Code() == codes.DeadlineExceeded:
		return fmt.Errorf("response: %w", health.ErrNoAnswer)
	case ctx.Err() != nil:
		return fmt.Errorf("response: %w", ctx.Err())
	case s.Code() == codes.NotFound:
		return fmt.Errorf("%s is not known to the backend", p.service())
	case s.Code() == codes.Unimplemented:
		return errors.New("the backend has no grpc.health.v1.Health")
	case errors.Is(broken, io.EOF), errors.Is(broken, syscall.EPIPE):
		return errors.New("response: connection closed by the backend")
	}
	if errno, ok := errors.AsType[syscall.Errno](broken); ok {
		return fmt.Errorf("response: %w", errno)
	}
	return fmt.Errorf("response: %s: %s", s.Code(), brief(s.Message()))
}

// noting is a connection that notes the first error met on it: the library tells of
// it in words only.
type noting struct {
	net.Conn
	mu  sync.Mutex // guards err
	err error
}

// Read implements net.Conn.
func (c *noting) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.note(err)
	return n, err
}

// Write implements net.Conn.
func (c *noting) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.note(err)
	return n, err
}

func (c *noting) note(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
	}
}

func (c *noting) noted() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// brief cuts a text that may quote what a backend sent.
func brief(s string) string {
	const most = 200
	if len(s) > most {
		s = s[:most] + "..."
	}
	quoted := fmt.Sprintf("%q", s)
	return quoted[1 : len(quoted)-1]
}

// shaken are credentials of connections whose handshake is done.
type shaken struct {
	credentials.TransportCredentials
}

// Info makes the scheme of requests https.
func (shaken) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

func (s shaken) Clone() credentials.TransportCredentials { return s }
