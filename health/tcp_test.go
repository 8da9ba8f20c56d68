package health_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/snicketlb/snicket/health"
)

const (
	long  = 10 * time.Second // for what does not wait for it
	short = 60 * time.Millisecond

	partly = long + 1 // for an answer that comes in part: see once
)

func TestTCP(t *testing.T) {
	noLeak(t)
	tests := []struct {
		name    string
		prober  func(t *testing.T) health.TCP
		timeout time.Duration
		want    string
	}{
		{name: "accepts", prober: func(t *testing.T) health.TCP {
			return health.TCP{Address: backend(t, listen(t, "tcp"), mute)}
		}},
		{name: "accepts on a path", prober: func(t *testing.T) health.TCP {
			return health.TCP{Network: "unix", Address: backend(t, listen(t, "unix"), mute)}
		}},
		{name: "nothing listens", prober: func(t *testing.T) health.TCP {
			return health.TCP{Address: closedAddress(t)}
		}, want: "connect: connection refused"},
		{name: "no such path", prober: func(*testing.T) health.TCP {
			return health.TCP{Network: "unix", Address: "/nonexistent/backend.sock"}
		}, want: "connect: no such file or directory"},
		{name: "no such name", prober: func(*testing.T) health.TCP {
			return health.TCP{Address: "no name:80"}
		}, want: `resolve: "no name": no such host`},
		{name: "not a port", prober: func(*testing.T) health.TCP {
			return health.TCP{Address: "127.0.0.1:http:80"}
		}, want: "connect: address 127.0.0.1:http:80: too many colons in address"},
		{name: "mute while connecting", prober: func(*testing.T) health.TCP {
			return health.TCP{Dial: func(ctx context.Context) (net.Conn, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}}
		}, timeout: short, want: "connect: i/o timeout after 60ms"},
		{name: "a dial of the caller's", prober: func(*testing.T) health.TCP {
			return health.TCP{Dial: func(context.Context) (net.Conn, error) { return nil, syscall.EMFILE }}
		}, want: "connect: too many open files"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.timeout == 0 {
				tt.timeout = long
			}
			if _, got := probe(t, tt.prober(t), tt.timeout); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestErrorsKeepTheirCause(t *testing.T) {
	_, err := health.TCP{Address: closedAddress(t)}.Probe(t.Context())
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%v is not ECONNREFUSED", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = health.TCP{Address: backend(t, listen(t, "tcp"), mute)}.Probe(ctx)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v is not context.Canceled", err)
	}
}

// The backend has nothing to accept, or where the machine is slow or no Linux a
// connection that was reset: nothing to serve, nothing to log.
func TestTCPLeavesNoTrace(t *testing.T) {
	noLeak(t)
	const probes = 20
	got := make(chan string, probes+1)
	address := backend(t, listen(t, "tcp"), func(conn net.Conn) {
		b, err := io.ReadAll(conn)
		got <- fmt.Sprintf("%s%t", b, errors.Is(err, syscall.ECONNRESET))
	})
	for range probes {
		if _, err := probe(t, health.TCP{Address: address}, long); err != "" {
			t.Fatal(err)
		}
	}
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "a session")
	conn.(*net.TCPConn).CloseWrite()
	accepted := 0
	for seen := ""; seen != "a sessionfalse"; accepted++ {
		if seen = <-got; seen != "true" && seen != "a sessionfalse" {
			t.Errorf("the backend read %q, want a reset or the session", seen)
		}
	}
	if runtime.GOOS == "linux" && accepted > probes {
		t.Errorf("the backend accepted all %d probes, want hardly any", probes)
	}
}

func TestSource(t *testing.T) {
	noLeak(t)
	got := make(chan string, 1)
	address := backend(t, listen(t, "tcp"), func(conn net.Conn) { got <- conn.RemoteAddr().String() })
	source := netip.MustParseAddr("127.0.0.9")
	if _, err := probe(t, health.TCP{Address: address, Source: source, Preface: []byte("x")}, long); err != "" {
		t.Fatal(err)
	}
	if from := <-got; !strings.HasPrefix(from, "127.0.0.9:") {
		t.Errorf("the probe came from %s, want 127.0.0.9", from)
	}
}

func TestPrefaceOfTCP(t *testing.T) {
	noLeak(t)
	const preface = "PROXY UNKNOWN\r\n"
	got := make(chan string, 1)
	address := backend(t, listen(t, "unix"), func(conn net.Conn) {
		b, _ := io.ReadAll(conn)
		got <- string(b)
	})
	p := health.TCP{Network: "unix", Address: address, Preface: []byte(preface)}
	if _, err := probe(t, p, long); err != "" {
		t.Fatal(err)
	}
	if b := <-got; b != preface {
		t.Errorf("the backend read %q, want %q", b, preface)
	}
}
