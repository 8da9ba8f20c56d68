package web_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/snicketlb/snicket/balancer"
	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/web"
)

// backends is a pool of real servers with what was dialled of it.
type backends struct {
	t        testing.TB
	balancer *balancer.Pool
	roots    *x509.CertPool // nil: plain

	mu     sync.Mutex
	specs  []balancer.Spec
	dials  map[string]int
	failed map[string]int // dials, by backend
	open   int            // connections
	closed *sync.Cond     // of mu; open has changed
}

func newBackends(t testing.TB) *backends {
	b := &backends{t: t, balancer: balancer.New("web"), dials: map[string]int{}, failed: map[string]int{}}
	b.closed = sync.NewCond(&b.mu)
	return b
}

// add serves by h under that name, by TLS with h2 if the pool has it.
func (b *backends) add(name string, h http.Handler, secure bool) *httptest.Server {
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	if secure {
		s.EnableHTTP2 = true
		s.StartTLS()
		if b.roots == nil {
			b.roots = x509.NewCertPool()
		}
		b.roots.AddCert(s.Certificate())
	} else {
		s.Start()
	}
	b.t.Cleanup(s.Close)
	b.addAddress(name, s.Listener.Addr().String())
	return s
}

// addAddress adds a backend at an address.
func (b *backends) addAddress(name, address string) {
	b.specs = append(b.specs, balancer.Spec{ID: name, Weight: 1, Value: address})
	b.balancer.Update(b.specs)
}

// pool returns a Pool of the backends.
func (b *backends) pool(o web.PoolOptions) *web.Pool {
	o.Balancer, o.Dial = b.balancer, b.dial
	o.Failed = func(k *balancer.Backend, _ error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.failed[k.ID()]++
	}
	if b.roots != nil && o.ALPN == nil {
		o.ALPN = []string{"h2", "http/1.1"}
	}
	p := web.NewPool(o)
	b.t.Cleanup(p.Close)
	return p
}

func (b *backends) dial(ctx context.Context, k *balancer.Backend, _ *web.Client, alpn []string) (net.Conn, string, error) {
	b.mu.Lock()
	b.dials[k.ID()]++
	b.mu.Unlock()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", k.Value().(string))
	if err != nil {
		return nil, "", err
	}
	b.mu.Lock()
	b.open++
	b.mu.Unlock()
	counted := &counted{Conn: c, b: b}
	if b.roots == nil {
		return counted, "", nil
	}
	tc := tls.Client(counted, &tls.Config{RootCAs: b.roots, ServerName: "example.com", NextProtos: alpn})
	if err := tc.HandshakeContext(ctx); err != nil {
		counted.Close()
		return nil, "", err
	}
	return tc, tc.ConnectionState().NegotiatedProtocol, nil
}

// dialed returns how often a backend was dialled.
func (b *backends) dialed(name string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.dials[name]
}

// waitNone waits until no connection to a backend is open.
func (b *backends) waitNone() {
	b.t.Helper()
	late := false
	timer := time.AfterFunc(lab.Patience, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		late = true
		b.closed.Broadcast()
	})
	defer timer.Stop()
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.open > 0 && !late {
		b.closed.Wait()
	}
	if b.open > 0 {
		b.t.Errorf("%d connections to backends are open", b.open)
	}
}

// counted is a connection to a backend that is counted while it is open. It can
// end one direction, as those of the data plane can.
type counted struct {
	net.Conn
	b    *backends
	once sync.Once
}

func (c *counted) Close() error {
	c.once.Do(func() {
		c.b.mu.Lock()
		defer c.b.mu.Unlock()
		c.b.open--
		c.b.closed.Broadcast()
	})
	return c.Conn.Close()
}

func (c *counted) CloseWrite() error { return c.Conn.(*net.TCPConn).CloseWrite() }
