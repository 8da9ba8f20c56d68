package grpc_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthserver "google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/snicketlb/snicket/health"
	grpcprobe "github.com/snicketlb/snicket/health/grpc"
	"github.com/snicketlb/snicket/internal/lab"
)

const (
	long  = 10 * time.Second // for what does not wait for it
	short = 60 * time.Millisecond
)

// serve runs a gRPC server until the test ends.
func serve(t *testing.T, network string, service healthpb.HealthServer, o ...grpc.ServerOption) (address string) {
	t.Helper()
	where := "127.0.0.1:0"
	if network == "unix" {
		where = t.TempDir() + "/s"
	}
	ln, err := net.Listen(network, where)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(o...)
	if service != nil {
		healthpb.RegisterHealthServer(s, service)
	}
	var wg sync.WaitGroup
	wg.Go(func() { s.Serve(ln) })
	t.Cleanup(func() {
		s.Stop()
		wg.Wait()
	})
	return ln.Addr().String()
}

// raw serves each connection by handle until the test ends.
func raw(t *testing.T, handle func(net.Conn)) (address string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				handle(conn)
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		wg.Wait()
	})
	return ln.Addr().String()
}

// answering is a health service of one answer.
type answering struct {
	healthpb.UnimplementedHealthServer
	answer func(ctx context.Context) (*healthpb.HealthCheckResponse, error)
}

func (a answering) Check(ctx context.Context, _ *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	return a.answer(ctx)
}

func probe(t *testing.T, p health.Prober, timeout time.Duration) (health.Observation, string) {
	t.Helper()
	o, err := health.Try(t.Context(), p, timeout)
	if err != nil {
		return o, err.Error()
	}
	return o, ""
}

func matches(got, want string) bool {
	prefix, cut := strings.CutSuffix(want, "*")
	return got == want || cut && strings.HasPrefix(got, prefix)
}

func TestProbe(t *testing.T) {
	lab.Leaks(t)
	services := healthserver.NewServer()
	services.SetServingStatus("shop", healthpb.HealthCheckResponse_SERVING)
	services.SetServingStatus("stock", healthpb.HealthCheckResponse_NOT_SERVING)
	refusing := answering{answer: func(context.Context) (*healthpb.HealthCheckResponse, error) {
		return nil, status.Error(codes.PermissionDenied, "not \n you")
	}}
	stuck := answering{answer: func(ctx context.Context) (*healthpb.HealthCheckResponse, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	good := serve(t, "tcp", services)
	tests := []struct {
		name, address, service string
		timeout                time.Duration
		want                   string // or its beginning, if it ends in a star
	}{
		{"the server", good, "", long, ""},
		{"a service", good, "shop", long, ""},
		{"not serving", good, "stock", long, `service "stock" is NOT_SERVING, want SERVING`},
		{"unknown service", good, "shoes", long, `service "shoes" is not known to the backend`},
		{"no health service", serve(t, "tcp", nil), "", long, "the backend has no grpc.health.v1.Health"},
		{"an error", serve(t, "tcp", refusing), "", long, `response: PermissionDenied: not \n you`},
		{"stuck", serve(t, "tcp", stuck), "", short, "response: no answer within 60ms"},
		{"closing", raw(t, func(conn net.Conn) {
			conn.(*net.TCPConn).CloseWrite()
			io.Copy(io.Discard, conn)
		}), "", long, "response: connection closed by the backend"},
		{"resetting", raw(t, func(conn net.Conn) {
			conn.Read(make([]byte, 1))
			conn.(*net.TCPConn).SetLinger(0)
		}), "", long, "response: connection *"}, // a write may meet the reset, or the end behind it,
		{"mute", raw(t, func(conn net.Conn) { io.Copy(io.Discard, conn) }), "", short, "response: no answer within 60ms"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := grpcprobe.Probe{TCP: health.TCP{Address: tt.address}, Service: tt.service}
			if _, got := probe(t, p, tt.timeout); !matches(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	t.Run("not gRPC", func(t *testing.T) {
		address := raw(t, func(conn net.Conn) {
			io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
			io.Copy(io.Discard, conn)
		})
		_, got := probe(t, grpcprobe.Probe{TCP: health.TCP{Address: address}}, long)
		if want := "response: Unavailable: "; !strings.HasPrefix(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	t.Run("on a path", func(t *testing.T) {
		p := grpcprobe.Probe{TCP: health.TCP{Network: "unix", Address: serve(t, "unix", services)}}
		if _, got := probe(t, p, long); got != "" {
			t.Errorf("got %q, want a pass", got)
		}
	})
}

func TestProbeTLS(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "grpc")
	services := healthserver.NewServer()
	secure := serve(t, "tcp", services, grpc.Creds(credentials.NewTLS(ca.Server(t, "a.test"))))
	plain := ca.Server(t, "a.test")
	plain.NextProtos = []string{"http/1.1"}
	none := ca.Server(t, "a.test")
	none.NextProtos = nil
	handshaking := func(config *tls.Config) string {
		return raw(t, func(conn net.Conn) {
			s := tls.Server(conn, config)
			if s.Handshake() == nil {
				io.Copy(io.Discard, s)
			}
		})
	}
	for _, tt := range []struct {
		name, address, asks, want string
		wantALPN                  string
	}{
		{"good", secure, "a.test", "", "h2"},
		{"another name", secure, "b.test", "certificate is valid for a.test, not b.test", "h2"},
		{"no h2", handshaking(none), "a.test", `handshake: the backend selected protocol "", want "h2"`, ""},
		{"h2 refused", handshaking(plain), "a.test", "handshake: alert from the backend: no application protocol", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			config := ca.Client(tt.asks)
			p := grpcprobe.Probe{TCP: health.TCP{Address: tt.address}, TLS: config}
			o, got := probe(t, p, long)
			if got != tt.want || o.ALPN != tt.wantALPN {
				t.Errorf("got %q, ALPN %q; want %q, %q", got, o.ALPN, tt.want, tt.wantALPN)
			}
			if tt.want == "" && len(o.Certificates) == 0 {
				t.Error("saw no certificate")
			}
			if len(config.NextProtos) != 0 {
				t.Error("the probe changed the configuration")
			}
		})
	}
}

func TestProbeConnects(t *testing.T) {
	lab.Leaks(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	p := grpcprobe.Probe{TCP: health.TCP{Address: ln.Addr().String()}}
	if _, got := probe(t, p, long); got != "connect: connection refused" {
		t.Errorf("got %q", got)
	}
	headers := make(chan string, 1)
	p.Address = raw(t, func(conn net.Conn) {
		b := make([]byte, len("PROXY UNKNOWN\r\nPRI * HTTP/2.0"))
		io.ReadFull(conn, b)
		headers <- string(b)
	})
	p.Preface = []byte("PROXY UNKNOWN\r\n")
	probe(t, p, long)
	if got, want := <-headers, "PROXY UNKNOWN\r\nPRI * HTTP/2.0"; got != want {
		t.Errorf("the backend read %q, want %q", got, want)
	}
}
