package web

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/snicketlb/snicket/balancer"
)

var (
	// ErrLocal marks a failed dial that is not the backend's fault, such as being
	// out of descriptors: [PoolOptions].Dial wraps it.
	ErrLocal = errors.New("not by the backend's fault")

	// ErrQueueTimeout says that no backend had a place within the queue timeout.
	ErrQueueTimeout = errors.New("no place at a backend within the queue timeout")

	// ErrResponseTimeout says that the backend's answer did not begin in time.
	ErrResponseTimeout = errors.New("no answer within the response timeout")
)

// PoolOptions of a [Pool].
type PoolOptions struct {
	// Balancer picks a backend for each request and counts requests. It is the
	// caller's.
	Balancer *balancer.Pool

	Retries      int           // further backends tried when a dial fails
	QueueTimeout time.Duration // how long a request waits in the balancer's queue

	// Dial connects to b for a request of c, TLS handshake and PROXY header
	// included; with TLS it offers alpn and returns what was agreed on. It keeps to
	// its own timeouts and to ctx. Connections of a shared Pool serve other clients
	// too. An error that wraps [ErrLocal] is not held against b.
	Dial func(ctx context.Context, b *balancer.Backend, c *Client, alpn []string) (conn net.Conn, proto string, err error)

	// ALPN is what to offer: h2 and http/1.1 with TLS, nothing without.
	ALPN []string

	// Shared says that connections outlive the client they were made for and serve
	// others. It must be false where a PROXY header tells of the client.
	Shared bool

	// Failed is told of each dial that failed by the backend's fault, from any
	// goroutine. May be nil.
	Failed func(b *balancer.Backend, err error)
}

// A Pool sends requests to backends and keeps the connections to them alive. It may
// be used from any goroutine.
type Pool struct {
	o PoolOptions
}

// NewPool returns a Pool. The options must not be changed any more.
func NewPool(o PoolOptions) *Pool { return &Pool{o: o} }

// Close closes the connections that are idle, and those in use as soon as they
// are. Requests under way finish, and later ones are served, each over a connection
// of its own: a Site of a former configuration may still use the Pool.
func (p *Pool) Close() {}
