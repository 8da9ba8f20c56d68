package web

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
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
	// too, but for a [Single]. An error that wraps [ErrLocal] is not held against b.
	Dial func(ctx context.Context, b *balancer.Backend, c *Client, alpn []string) (conn net.Conn, proto string, err error)

	// ALPN is what to offer: h2 and http/1.1 with TLS, nothing without.
	ALPN []string

	// Shared says that connections outlive the client they were made for and serve
	// others. It must be false where a PROXY header tells of the client.
	Shared bool

	// PerName says that connections serve only clients whose hellos have the same
	// server name. It must be true where a shared Pool passes that name on: a
	// backend answers 421 to requests for hosts its connection was not made for, and
	// its certificate was checked for that name alone.
	PerName bool

	// Failed is told of each dial that failed by the backend's fault, from any
	// goroutine. May be nil.
	Failed func(b *balancer.Backend, err error)
}

// A Single is a connection to a backend that serves the one request it was dialled for:
// it is not what others of the Pool would expect.
type Single struct{ net.Conn }

// A Pool sends requests to backends and keeps the connections to them alive. It may
// be used from any goroutine.
//
// A request is sent again only if no backend can have seen it: the dial failed, or
// the connection failed before a byte of the request was written. One on a kept
// connection that the backend closed without a byte of an answer is sent again, on
// a fresh one, if its method is safe and it has no body, as net/http does (RFC 9110
// §9.2.2). Nothing is sent again of which the body has been touched.
type Pool struct {
	o            PoolOptions
	http1, http2 *http.Transport
	shared       *shelf // nil: each client has its own
	buffers      buffers
}

// NewPool returns a Pool. The options must not be changed any more.
func NewPool(o PoolOptions) *Pool {
	p := &Pool{o: o}
	p.http1, p.http2 = newTransport(), newTransport()
	p.http1.Protocols.SetHTTP1(true)
	p.http2.Protocols.SetUnencryptedHTTP2(true) // what there is of TLS, is below
	p.http2.HTTP2 = &http.HTTP2Config{
		MaxReceiveBufferPerStream: 256 << 10, // what a client that reads slowly makes us hold
		SendPingTimeout:           pingAfter, PingTimeout: pingWithin,
	}
	if o.Shared {
		p.shared = newShelf(p)
	}
	return p
}

func newTransport() *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return ctx.Value(dialed{}).(net.Conn), nil
		},
		Protocols:              new(http.Protocols),
		DisableCompression:     true, // what the client takes is for the client to say
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: 1 << 20,
	}
}

// dialed is the context's key of a connection on its way to net/http.
type dialed struct{}

// Close closes the connections that are idle, and those in use as soon as they
// are. Requests under way finish, and later ones are served, each over a connection
// of its own: a Site of a former configuration may still use the Pool.
func (p *Pool) Close() {
	if p.shared != nil {
		p.shared.close()
	}
}

// acquire picks a backend, or waits for one in the balancer's queue.
func (p *Pool) acquire(ctx context.Context, pick balancer.Pick) (*balancer.Backend, error) {
	b, err := p.o.Balancer.Acquire(pick)
	if !errors.Is(err, balancer.ErrFull) {
		return b, err
	}
	given := make(chan *balancer.Backend, 1)
	cancel, err := p.o.Balancer.Wait(pick, func(b *balancer.Backend) { given <- b })
	if err != nil {
		return nil, err
	}
	timer := time.NewTimer(p.o.QueueTimeout)
	defer timer.Stop()
	select {
	case b = <-given:
	case <-timer.C:
		err = ErrQueueTimeout
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		if cancel() {
			return nil, err
		}
		b = <-given // it came at the same instant
	}
	if b == nil {
		return nil, balancer.ErrNoBackend
	}
	return b, nil
}

// buffers are what bodies are copied through.
type buffers struct{ pool sync.Pool }

const bufferSize = 32 << 10

// Get returns a buffer, which httputil gives back with Put.
func (b *buffers) Get() []byte {
	if p, ok := b.pool.Get().(*[bufferSize]byte); ok {
		return p[:]
	}
	return make([]byte, bufferSize)
}

// Put takes back what Get has returned.
func (b *buffers) Put(p []byte) { b.pool.Put((*[bufferSize]byte)(p)) }
