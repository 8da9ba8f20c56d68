package health_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/snicketlb/snicket/health"
)

// checking runs a checker over targets until the test ends and returns where its
// transitions go.
func checking(t *testing.T, targets ...health.Target) (*health.Checker, <-chan health.Transition) {
	t.Helper()
	transitions := make(chan health.Transition, 1024)
	c := health.NewChecker(func(tr health.Transition) { transitions <- tr }, health.CheckerOptions{})
	c.Update(targets)
	ctx, cancel := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() { c.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		run.Wait()
	})
	return c, transitions
}

// fullBacklog returns an address at which connections hang, until accept is called.
func fullBacklog(t *testing.T) (address string, accept func()) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "backend")
	t.Cleanup(func() { f.Close() })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(name.(*syscall.SockaddrInet4).Port)).String()
	conn, err := net.Dial("tcp", address) // a backlog of 0 holds one connection
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return address, func() {
		accepted, _, err := syscall.Accept(fd)
		if err != nil {
			t.Fatal(err)
		}
		syscall.Close(accepted)
	}
}

// hanging returns an address at which connections hang.
func hanging(t *testing.T) string {
	address, _ := fullBacklog(t)
	return address
}

// The checker's own way to make probes of kind tcp has the same results and words
// as the probe by itself.
func TestCheckerConnects(t *testing.T) {
	for _, tt := range []struct {
		name    string
		prober  func(t *testing.T) health.TCP
		timeout time.Duration
		want    string
	}{
		{"accepts", func(t *testing.T) health.TCP {
			return health.TCP{Address: listen(t, "tcp").Addr().String()}
		}, long, "ready <nil>"},
		{"accepts on IPv6", func(t *testing.T) health.TCP {
			ln, err := net.Listen("tcp6", "[::1]:0")
			if err != nil {
				t.Skip("no IPv6:", err)
			}
			t.Cleanup(func() { ln.Close() })
			return health.TCP{Address: ln.Addr().String(), Network: "tcp6"}
		}, long, "ready <nil>"},
		{"from an address", func(t *testing.T) health.TCP {
			return health.TCP{Address: listen(t, "tcp").Addr().String(), Source: netip.MustParseAddr("127.0.0.9")}
		}, long, "ready <nil>"},
		{"from an address that is not ours", func(t *testing.T) health.TCP {
			return health.TCP{Address: closedAddress(t), Source: netip.MustParseAddr("192.0.2.1")}
		}, long, "unknown <nil> connect: cannot assign requested address"},
		{"nothing listens", func(t *testing.T) health.TCP {
			return health.TCP{Address: closedAddress(t)}
		}, long, "down connect: connection refused connect: connection refused"},
		{"hangs", func(t *testing.T) health.TCP {
			return health.TCP{Address: hanging(t)}
		}, short, "down connect: i/o timeout after 60ms connect: i/o timeout after 60ms"},
		{"another family", func(t *testing.T) health.TCP {
			return health.TCP{Address: listen(t, "tcp").Addr().String(), Network: "tcp6"}
		}, long, "down connect: address 127.0.0.1: no suitable address found connect: address 127.0.0.1: no suitable address found"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			noLeak(t)
			c, _ := checking(t, health.Target{
				ID: "a", Prober: tt.prober(t), Options: health.Options{Timeout: tt.timeout, Interval: time.Hour},
			})
			s, _ := c.Status("a")
			for end := time.Now().Add(long); s.LastProbe.IsZero() && time.Now().Before(end); s, _ = c.Status("a") {
				<-time.After(time.Millisecond)
			}
			got := fmt.Sprintf("%v %v", s.State, s.Why)
			if s.LastErr != nil {
				got += " " + s.LastErr.Error()
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// A connection that takes its time is waited for, and ends with its target or with
// Run at the latest.
func TestCheckerConnectsLater(t *testing.T) {
	noLeak(t)
	forever := health.Options{Timeout: time.Hour, Interval: time.Hour}
	late, accept := fullBacklog(t)
	targets := []health.Target{
		{ID: "removed", Prober: health.TCP{Address: hanging(t)}, Options: forever},
		{ID: "left", Prober: health.TCP{Address: hanging(t)}, Options: forever},
		{ID: "late", Prober: health.TCP{Address: late}, Options: forever},
		{ID: "open", Prober: health.TCP{Address: listen(t, "tcp").Addr().String()}, Options: forever},
	}
	c, transitions := checking(t, targets...)
	if tr := <-transitions; tr.ID != "open" || tr.To != health.Up {
		t.Fatalf("got %+v, want open to be ready", tr)
	}
	c.Update(targets[1:])
	accept() // the kernel tries again within a second or so
	if tr := <-transitions; tr.ID != "late" || tr.To != health.Up {
		t.Errorf("got %+v, want late to be ready", tr)
	}
	if s, _ := c.Status("left"); s.State != health.Unknown {
		t.Errorf("got %v of a connection that hangs, want unknown", s.State)
	}
}

// Far more probes at a time than events fit in one wait, all by the
// connector: each has its own result.
func TestCheckerConnectsMany(t *testing.T) {
	noLeak(t)
	up, down := listen(t, "tcp").Addr().String(), closedAddress(t)
	const n = 1000
	var targets []health.Target
	for i := range n {
		address := up
		if i%3 == 0 {
			address = down
		}
		targets = append(targets, health.Target{
			ID: fmt.Sprint(i), Prober: health.TCP{Address: address},
			Options: health.Options{Interval: 5 * time.Millisecond, Timeout: long, Fall: 1, Rise: 1},
		})
	}
	c, transitions := checking(t, targets...)
	var wrong []string
	for range n {
		tr := <-transitions
		var i int
		fmt.Sscan(tr.ID, &i)
		if (tr.To == health.Down) != (i%3 == 0) {
			wrong = append(wrong, fmt.Sprint(tr.ID, " ", tr.To, " ", tr.Err))
		}
	}
	if len(wrong) > 0 {
		t.Errorf("got %q", slices.Sorted(slices.Values(wrong)))
	}
	c.Update(nil)
}

// A backend whose backlog is full lets connections hang: only the timeout tells.
func TestTCPFullBacklog(t *testing.T) {
	noLeak(t)
	if _, got := probe(t, health.TCP{Address: hanging(t)}, short); got != "connect: i/o timeout after 60ms" {
		t.Errorf("got %q, want a timeout", got)
	}
}
