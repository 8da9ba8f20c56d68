package web_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"testing"

	"github.com/snicketlb/snicket/balancer"
	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/web"
)

// BenchmarkRequest is one request of 100 bytes of answer, from a client that keeps
// its connection, to a backend by plain HTTP and by TLS: over a connection that is
// kept, and over one made for each request, by a full handshake or a resumed one.
// cpu-µs/op is the processor time of client, edge and backend together; "direct",
// without an edge, is what of it is theirs.
func BenchmarkRequest(b *testing.B) {
	ca := lab.NewAuthority(b, "backends")
	answer := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = w.Write(make([]byte, 100))
	})
	for _, bb := range []struct {
		name              string
		secure, kept, res bool
		alpn              []string
	}{
		{"direct", false, true, false, nil},
		{"plain/kept", false, true, false, nil},
		{"plain/new", false, false, false, nil},
		{"tls/kept", true, true, false, []string{"http/1.1"}},
		{"tls/kept-h2", true, true, false, []string{"h2"}},
		{"tls/new-resumed", true, false, true, []string{"http/1.1"}},
		{"tls/new", true, false, false, []string{"http/1.1"}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			address := serveBackend(b, answer, ca, bb.secure)
			if bb.name != "direct" {
				address = serveEdge(b, address, ca, bb.secure, bb.kept, bb.res, bb.alpn)
			}
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			url := "http://" + address + "/"
			b.ReportAllocs()
			before := cpuTime()
			for b.Loop() {
				res, err := client.Get(url)
				if err != nil {
					b.Fatal(err)
				}
				if n, err := io.Copy(io.Discard, res.Body); n != 100 || err != nil {
					b.Fatal(res.Status, n, err)
				}
				res.Body.Close()
			}
			b.ReportMetric(float64(cpuTime()-before)/1e3/float64(b.N), "cpu-µs/op")
		})
	}
}

// cpuTime returns the processor time of this process so far, in nanoseconds.
func cpuTime() int64 {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return u.Utime.Nano() + u.Stime.Nano()
}

func serveBackend(b *testing.B, h http.Handler, ca *lab.Authority, secure bool) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s := &http.Server{Handler: h}
	b.Cleanup(func() { s.Close() })
	if secure {
		s.TLSConfig = ca.Server(b, "backend.test")
		go s.ServeTLS(l, "", "")
	} else {
		go s.Serve(l)
	}
	return l.Addr().String()
}

func serveEdge(b *testing.B, backend string, ca *lab.Authority, secure, kept, resume bool, alpn []string) string {
	config := ca.Client("backend.test")
	config.NextProtos = alpn
	if resume {
		config.ClientSessionCache = tls.NewLRUClientSessionCache(16)
	}
	bal := balancer.New("web")
	bal.Update([]balancer.Spec{{ID: "b1", Weight: 1}})
	pool := web.NewPool(web.PoolOptions{
		Balancer: bal, Shared: true, ALPN: alpn,
		Dial: func(ctx context.Context, _ *balancer.Backend, _ *web.Client, _ []string) (net.Conn, string, error) {
			var d net.Dialer
			c, err := d.DialContext(ctx, "tcp", backend)
			if err != nil || !secure {
				return c, "", err
			}
			tc := tls.Client(c, config)
			if err := tc.HandshakeContext(ctx); err != nil {
				return nil, "", err
			}
			return tc, tc.ConnectionState().NegotiatedProtocol, nil
		},
	})
	if !kept {
		pool.Close() // it still serves, and keeps nothing
	}
	b.Cleanup(pool.Close)
	site := web.NewSite(web.SiteOptions{Forwarded: true, Pool: pool})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go site.Serve(context.Background(), &web.Client{Conn: c, Addr: c.RemoteAddr().(*net.TCPAddr).AddrPort()})
		}
	}()
	return l.Addr().String()
}

// BenchmarkVisit is what a client connection costs that asks for one thing, which the
// edge answers itself.
func BenchmarkVisit(b *testing.B) {
	site := web.NewSite(web.SiteOptions{})
	request := []byte("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
	b.ReportAllocs()
	for b.Loop() {
		client, edge := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			site.Serve(context.Background(), &web.Client{Conn: edge})
		}()
		if _, err := client.Write(request); err != nil {
			b.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, client); n == 0 || err != nil {
			b.Fatal(strconv.Itoa(int(n)), fmt.Sprint(err))
		}
		<-done
	}
}
