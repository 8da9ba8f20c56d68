package web_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/web"
)

// server is what serves client connections: a Site or a Plain.
type server interface {
	Serve(ctx context.Context, c *web.Client) web.Result
}

// edge takes connections as a data plane does, with TLS or without, and has them
// served.
type edge struct {
	t        *testing.T
	ca       *lab.Authority // nil: plain
	names    []string       // of its certificate
	listener *net.TCPListener
	results  chan web.Result // of connections that are over
	stop     context.CancelFunc

	mu     sync.Mutex // guards the fields below
	server server
	addr   netip.AddrPort // if it is valid, it is said to be the client's
}

// newEdge serves by s over TLS for www.example.com, and by HTTP/2 if the client
// offers that.
func newEdge(t *testing.T, s server) *edge {
	e := newPlainEdge(t, nil)
	e.ca = lab.NewAuthority(t, "edge")
	e.start(s)
	return e
}

// newPlainEdge serves by s without TLS; a nil one is to be started.
func newPlainEdge(t *testing.T, s server) *edge {
	e := &edge{t: t, listener: lab.Listen(t, "127.0.0.1:0"), results: make(chan web.Result, 1024), names: []string{"www.example.com"}}
	if s != nil {
		e.start(s)
	}
	return e
}

func (e *edge) start(s server) {
	e.server = s
	ctx, stop := context.WithCancel(context.Background())
	e.stop = stop
	var config *tls.Config
	if e.ca != nil {
		config = e.ca.Server(e.t, e.names...)
		config.NextProtos = []string{"h2", "http/1.1"}
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	conns := map[net.Conn]struct{}{}
	wg.Go(func() {
		for {
			c, err := e.listener.AcceptTCP()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				continue
			}
			mu.Lock()
			conns[c] = struct{}{}
			mu.Unlock()
			wg.Go(func() { e.serve(ctx, c, config) })
		}
	})
	e.t.Cleanup(func() {
		e.listener.Close()
		stop()
		mu.Lock()
		for c := range conns {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
}

// serving is what the next connections are served by, and the address they are said
// to be from.
func (e *edge) serving() (server, netip.AddrPort) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.server, e.addr
}

// from says that the next connections are from there.
func (e *edge) from(addr string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.addr = netip.MustParseAddrPort(addr)
}

func (e *edge) serve(ctx context.Context, c *net.TCPConn, config *tls.Config) {
	defer c.Close()
	client := &web.Client{Conn: c, Addr: c.RemoteAddr().(*net.TCPAddr).AddrPort(), Local: c.LocalAddr().(*net.TCPAddr).AddrPort(), ID: "1"}
	server, addr := e.serving()
	if addr.IsValid() {
		client.Addr = addr
	}
	if config != nil {
		tc := tls.Server(c, config)
		if err := tc.Handshake(); err != nil {
			return
		}
		state := tc.ConnectionState()
		client.Conn, client.TLS, client.SNI = tc, &state, state.ServerName
	}
	r := server.Serve(ctx, client)
	select {
	case e.results <- r:
	default: // a test with so many connections does not look at them
	}
}

// client returns a client that trusts the edge and knows its address by the name
// www.example.com alone; with h2 or without.
func (e *edge) client(h2 bool) *http.Client { return e.clientFor("www.example.com", h2) }

// clientFor is client, with that name in its hello.
func (e *edge) clientFor(name string, h2 bool) *http.Client {
	t := &http.Transport{DisableCompression: true}
	t.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, e.listener.Addr().String())
	}
	if e.ca != nil {
		t.TLSClientConfig = e.ca.Client(name)
		t.ForceAttemptHTTP2 = h2
	}
	e.t.Cleanup(t.CloseIdleConnections)
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// raw returns a connection to the edge, with its TLS done if it has any.
func (e *edge) raw(alpn ...string) net.Conn {
	e.t.Helper()
	c, err := net.Dial("tcp", e.listener.Addr().String())
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { c.Close() })
	if e.ca == nil {
		return c
	}
	config := e.ca.Client("www.example.com")
	config.NextProtos = alpn
	tc := tls.Client(c, config)
	if err := tc.Handshake(); err != nil {
		e.t.Fatal(err)
	}
	return tc
}

// result waits for the end of a connection.
func (e *edge) result() web.Result {
	e.t.Helper()
	timeout, cancel := context.WithTimeout(e.t.Context(), lab.Patience)
	defer cancel()
	select {
	case r := <-e.results:
		return r
	case <-timeout.Done():
		e.t.Fatal("the connection is not over")
		return web.Result{}
	}
}

// answer reads one answer to a request of that method, and its body away.
func answer(t *testing.T, c net.Conn, method string) *http.Response {
	t.Helper()
	res, _ := whole(t, c, method)
	return res
}

// whole reads one answer to a request of that method, with its body.
func whole(t *testing.T, c net.Conn, method string) (*http.Response, string) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(lab.Patience))
	res, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}
