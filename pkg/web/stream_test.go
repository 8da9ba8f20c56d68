package web_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/web"
)

// TestStreamBothWays: what either side sends reaches the other while both messages
// are still open, over each protocol to either side.
func TestStreamBothWays(t *testing.T) {
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		_ = c.EnableFullDuplex()
		w.WriteHeader(http.StatusOK)
		_ = c.Flush()
		buf := make([]byte, 100)
		for {
			n, err := r.Body.Read(buf)
			if _, werr := w.Write(buf[:n]); werr != nil || c.Flush() != nil || err != nil {
				return
			}
		}
	})
	for _, h2 := range []bool{false, true} {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprintf("h2 %v to h2 %v", h2, secure), func(t *testing.T) {
				lab.Leaks(t)
				b := newBackends(t)
				b.add("b1", echo, secure)
				e := newEdge(t, web.NewSite(web.SiteOptions{Pool: b.pool(web.PoolOptions{Shared: true})}))
				in, out := io.Pipe()
				r, err := http.NewRequestWithContext(t.Context(), "POST", "https://www.example.com/", in)
				if err != nil {
					t.Fatal(err)
				}
				res, err := e.client(h2).Do(r)
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				answer := bufio.NewReader(res.Body)
				for i := range 10 {
					want := fmt.Sprintf("line %d\n", i)
					if _, err := io.WriteString(out, want); err != nil {
						t.Fatal(err)
					}
					if got, err := answer.ReadString('\n'); got != want || err != nil {
						t.Fatalf("answer %q, %v, want %q", got, err, want)
					}
				}
				out.Close()
				if rest, err := io.ReadAll(answer); len(rest) != 0 || err != nil {
					t.Errorf("behind the end: %q, %v", rest, err)
				}
			})
		}
	}
}

// TestWebSocket: an upgraded connection carries bytes both ways until both have
// ended, also with the rest of a drain behind it. The frames are of no concern.
func TestWebSocket(t *testing.T) {
	lab.Leaks(t)
	b := newBackends(t)
	b.add("b1", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "WebSocket" || r.Header.Get("Connection") != "Upgrade" || r.Header.Get("Sec-Websocket-Key") == "" {
			w.WriteHeader(http.StatusUpgradeRequired)
			return
		}
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\nhello\n")
		io.Copy(c, rw)
		io.WriteString(c, "bye\n")
	}), false)
	e := newEdge(t, web.NewSite(web.SiteOptions{HSTS: "max-age=1", Pool: b.pool(web.PoolOptions{Shared: true})}))
	c := e.raw("http/1.1")
	io.WriteString(c, "GET /chat HTTP/1.1\r\nHost: www.example.com\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Key: k\r\n\r\nearly\n")
	answer := bufio.NewReader(c)
	res, err := http.ReadResponse(answer, nil)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusSwitchingProtocols || res.Header.Get("Sec-Websocket-Accept") != "x" || res.Header.Get("Strict-Transport-Security") == "" {
		t.Fatalf("%s %v, want 101 with the backend's header and HSTS", res.Status, res.Header)
	}
	expect := func(want string) {
		t.Helper()
		if got, err := answer.ReadString('\n'); got != want || err != nil {
			t.Fatalf("%q, %v, want %q", got, err, want)
		}
	}
	expect("hello\n")
	expect("early\n")
	e.stop() // a drain leaves it alone
	io.WriteString(c, "ping\n")
	expect("ping\n")
	if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	expect("bye\n")
	if rest, err := io.ReadAll(answer); len(rest) != 0 || err != nil {
		t.Errorf("behind the end: %q, %v", rest, err)
	}
	if got := e.result(); got.Requests != 1 || got.Err != nil {
		t.Errorf("%+v, want one request and no failure", got)
	}
}

// TestOnlyWebSocket: no other protocol is switched to, asked for or not.
func TestOnlyWebSocket(t *testing.T) {
	lab.Leaks(t)
	b := newBackends(t)
	b.add("b1", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/unasked" {
			c, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n")
				c.Close()
			}
			return
		}
		tell(w, r)
	}), false)
	e := newEdge(t, web.NewSite(web.SiteOptions{Pool: b.pool(web.PoolOptions{Shared: true})}))
	client := e.client(false)
	for _, upgrade := range []string{"h2c", "websocket, h2c", "TLS/1.0", "h2c, websocket"} {
		r := request(t, "GET", "https://www.example.com/", "")
		r.Header.Set("Connection", "Upgrade, HTTP2-Settings")
		r.Header.Set("Upgrade", upgrade)
		r.Header.Set("HTTP2-Settings", "AAMAAABkAAQAAP__")
		if res, h := ask(t, client, r); res.StatusCode != http.StatusOK || h.Header["Upgrade"] != nil || h.Header["Connection"] != nil || h.Header["Http2-Settings"] != nil {
			t.Errorf("%s: %s, the backend heard %v", upgrade, res.Status, h.Header)
		}
	}
	r := request(t, "GET", "https://www.example.com/unasked", "")
	res, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusBadGateway {
		t.Errorf("an unasked upgrade: %s, want 502", res.Status)
	}
}

// healthServer answers with an error that trailers carry, or streams.
type healthServer struct {
	healthgrpc.UnimplementedHealthServer
}

func (healthServer) Check(ctx context.Context, r *healthgrpc.HealthCheckRequest) (*healthgrpc.HealthCheckResponse, error) {
	_ = grpc.SetTrailer(ctx, metadata.Pairs("x-who", r.Service))
	if r.Service == "none" {
		return nil, status.Error(codes.NotFound, "no such service: 100%")
	}
	return &healthgrpc.HealthCheckResponse{Status: healthgrpc.HealthCheckResponse_SERVING}, nil
}

func (healthServer) Watch(_ *healthgrpc.HealthCheckRequest, s healthgrpc.Health_WatchServer) error {
	for i := range 100 {
		if err := s.Send(&healthgrpc.HealthCheckResponse{Status: healthgrpc.HealthCheckResponse_ServingStatus(i%2 + 1)}); err != nil {
			return err
		}
	}
	return status.Error(codes.Aborted, "enough")
}

// TestGRPC: a real client and a real server, with their trailers.
func TestGRPC(t *testing.T) {
	lab.Leaks(t)
	g := grpc.NewServer()
	healthgrpc.RegisterHealthServer(g, healthServer{})
	b := newBackends(t)
	b.add("b1", g, true)
	e := newEdge(t, web.NewSite(web.SiteOptions{Pool: b.pool(web.PoolOptions{Shared: true})}))
	cc, err := grpc.NewClient("passthrough:///www.example.com", grpc.WithTransportCredentials(credentials.NewTLS(e.ca.Client("www.example.com"))),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", e.listener.Addr().String())
		}))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	client := healthgrpc.NewHealthClient(cc)
	var trailer metadata.MD
	if _, err := client.Check(t.Context(), &healthgrpc.HealthCheckRequest{Service: "a"}, grpc.Trailer(&trailer)); err != nil || strings.Join(trailer["x-who"], "") != "a" {
		t.Errorf("Check: %v, trailer %v", err, trailer)
	}
	if _, err := client.Check(t.Context(), &healthgrpc.HealthCheckRequest{Service: "none"}); status.Code(err) != codes.NotFound || status.Convert(err).Message() != "no such service: 100%" {
		t.Errorf("Check of none: %v, want the backend's NotFound", err)
	}
	w, err := client.Watch(t.Context(), &healthgrpc.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for ; err == nil; n++ {
		_, err = w.Recv()
	}
	if n != 101 || status.Code(err) != codes.Aborted {
		t.Errorf("Watch: %d messages and %v, want 100 and Aborted", n-1, err)
	}
}
