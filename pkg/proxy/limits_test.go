package proxy_test

import (
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/proxy"
	"github.com/snicketlb/snicket/pkg/proxyheader"
)

// TestFullProcessLetsClientsWait holds max_connections: further clients wait in
// the kernel's queues, of both loops, and are served as places become free.
func TestFullProcessLetsClientsWait(t *testing.T) {
	const limit, clients = 4, 40
	srv := lab.Serve(t, lab.Announce("a", nil), lab.Options{})
	s := state(t, route("a.test", srv.Addr()))
	s.Limits.MaxConnections = limit
	h := start(t, s)
	var wg sync.WaitGroup
	served := make(chan net.Conn, clients)
	for range clients {
		c := h.hello("a.test")
		wg.Go(func() {
			b := make([]byte, 2)
			if _, err := c.Read(b); err != nil || string(b) != "a\n" {
				t.Errorf("read %q, %v", b, err)
			}
			served <- c
		})
	}
	for left := range clients {
		c := <-served
		if n := srv.Accepted(); n > limit+left {
			t.Errorf("%d clients at a backend while %d have left, limit %d", n, left, limit)
		}
		_ = c.Close()
	}
	wg.Wait()
	for range clients {
		h.record()
	}
}

// TestRaisedLimitWakesWaitingLoops is a reload that makes room.
func TestRaisedLimitWakesWaitingLoops(t *testing.T) {
	srv := lab.Serve(t, lab.Announce("a", nil), lab.Options{})
	s := state(t, route("a.test", srv.Addr()))
	s.Limits.MaxConnections = 1
	h := start(t, s)
	first := h.hello("a.test")
	line(t, first)
	var rest []*net.TCPConn
	for range 16 {
		rest = append(rest, h.hello("a.test"))
	}
	s.Limits.MaxConnections = 0 // none
	h.apply(s)
	for _, c := range rest {
		line(t, c)
	}
}

func TestMaxHellos(t *testing.T) {
	srv := lab.Serve(t, lab.Announce("a", nil), lab.Options{})
	s := state(t, route("a.test", srv.Addr()))
	s.Limits.MaxHellos = 2
	h := start(t, s)
	slow := []*net.TCPConn{h.dial(), h.dial()}
	eventually(t, "two unfinished hellos", func() bool { return h.p.Counters().Hellos == 2 })
	h.refusedAtOnce()
	if r := h.want(proxy.OverLimit); r.Error == "" || r.SNI != "" {
		t.Errorf("error %q, name %q", r.Error, r.SNI)
	}
	h.send(slow[0], lab.Hello("a.test"))
	line(t, slow[0])
	if got := line(t, h.hello("a.test")); got != "a" {
		t.Errorf("a place is free, read %q", got)
	}
}

// TestLingeringGivesWay fills the room for hellos with refused clients that do
// not close: they make room for new ones.
func TestLingeringGivesWay(t *testing.T) {
	srv := lab.Serve(t, lab.Announce("a", nil), lab.Options{})
	s := state(t, route("a.test", srv.Addr()))
	s.Limits.MaxHellos = 2
	h := startLoops(t, 1, s)
	for range 6 {
		c := h.hello("b.test")
		if _, err := c.Read(make([]byte, 7)); err != nil { // the alert, and not the end behind it
			t.Errorf("the alert: %v", err)
		}
	}
	if got := line(t, h.hello("a.test")); got != "a" {
		t.Errorf("read %q, want a", got)
	}
	for range 5 {
		h.want(proxy.NoRoute)
	}
}

func TestPerIP(t *testing.T) {
	srv := lab.Serve(t, lab.Announce("a", nil), lab.Options{})
	tests := []struct {
		name    string
		limits  func(*proxy.Limits)
		clients []string // of the sessions kept open, or rather their hellos
		hold    bool     // without a hello
		next    string
		part    int // of the next one's hello; all of it if 0
		want    proxy.Outcome
	}{
		{
			name: "connections", clients: []string{"192.0.2.1", "192.0.2.1"}, next: "192.0.2.1", want: proxy.OverLimit,
			limits: func(l *proxy.Limits) { l.PerIPConnections = 2 },
		},
		{
			name: "connections of another", clients: []string{"192.0.2.1", "192.0.2.1"}, next: "192.0.2.2",
			limits: func(l *proxy.Limits) { l.PerIPConnections = 2 },
		},
		{
			name: "rate", clients: []string{"192.0.2.1"}, next: "192.0.2.1", want: proxy.RateLimited,
			limits: func(l *proxy.Limits) { l.PerIPRate = proxy.Rate{N: 1, Per: time.Hour} },
		},
		{
			name: "rate of another", clients: []string{"192.0.2.1"}, next: "192.0.2.2",
			limits: func(l *proxy.Limits) { l.PerIPRate = proxy.Rate{N: 1, Per: time.Hour} },
		},
		{
			name: "hellos", clients: []string{"192.0.2.1"}, hold: true, next: "192.0.2.1", part: 20, want: proxy.OverLimit,
			limits: func(l *proxy.Limits) { l.MaxHellosPerIP = 1 },
		},
		{
			name: "a whole hello beside", clients: []string{"192.0.2.1"}, hold: true, next: "192.0.2.1",
			limits: func(l *proxy.Limits) { l.MaxHellosPerIP = 1 },
		},
		{
			name: "hellos, finished", clients: []string{"192.0.2.1"}, next: "192.0.2.1",
			limits: func(l *proxy.Limits) { l.MaxHellosPerIP = 1 },
		},
		{
			name: "one /64", clients: []string{"2001:db8::1"}, next: "2001:db8::ffff:1", want: proxy.OverLimit,
			limits: func(l *proxy.Limits) { l.PerIPConnections = 1 },
		},
		{
			name: "another /64", clients: []string{"2001:db8::1"}, next: "2001:db8:0:1::1",
			limits: func(l *proxy.Limits) { l.PerIPConnections = 1 },
		},
		{
			name: "spared", clients: []string{"192.0.2.1"}, next: "192.0.2.1",
			limits: func(l *proxy.Limits) { l.PerIPConnections, l.Except = 1, prefixes("192.0.2.0/24") },
		},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			s := state(t, route("a.test", srv.Addr()))
			s.Listeners[0].AcceptProxyFrom = prefixes("127.0.0.0/8")
			tc.limits(&s.Limits)
			h := start(t, s)
			from := func(client string, hello []byte) *net.TCPConn {
				c := h.dial()
				header, err := proxyheader.Append(nil, proxyheader.Out{
					Version:     2,
					Source:      netip.AddrPortFrom(netip.MustParseAddr(client), 1),
					Destination: netip.AddrPortFrom(netip.MustParseAddr(client), 443),
				})
				if err != nil {
					t.Fatal(err)
				}
				h.send(c, append(header, hello...))
				return c
			}
			for _, client := range tc.clients {
				if !tc.hold {
					line(t, from(client, lab.Hello("a.test")))
					continue
				}
				c := from(client, lab.Hello("a.test")[:20])
				eventually(t, "the hello is begun", func() bool { return h.p.Active() == 1 && unread(t, h, c) == 0 })
			}
			hello := lab.Hello("a.test")
			if tc.part > 0 {
				hello = hello[:tc.part]
			}
			c := from(tc.next, hello)
			if tc.want == proxy.OK {
				line(t, c)
				return
			}
			reset(t, c)
			if r := h.want(tc.want); r.Client.Addr().String() != tc.next {
				t.Errorf("client %v, want %s", r.Client, tc.next)
			}
		})
	}
}

// TestSilentClientsCountAsHellos is clients that connect and send nothing.
func TestSilentClientsCountAsHellos(t *testing.T) {
	srv := lab.Serve(t, lab.Announce("a", nil), lab.Options{})
	s := state(t, route("a.test", srv.Addr()))
	s.Limits.MaxHellosPerIP = 3
	h := start(t, s)
	for range 5 {
		h.dial()
	}
	for range 2 {
		h.want(proxy.OverLimit)
	}
	if got := h.p.Active(); got != 3 {
		t.Errorf("%d sessions wait for a hello, want 3", got)
	}
	line(t, h.hello("a.test")) // a good client of the same address
}

// TestPerIPCountsPeers is the same limit where no PROXY header is spoken.
func TestPerIPCountsPeers(t *testing.T) {
	srv := lab.Serve(t, lab.Announce("a", nil), lab.Options{})
	s := state(t, route("a.test", srv.Addr()))
	s.Limits.PerIPConnections = 1
	h := start(t, s)
	first := h.hello("a.test")
	line(t, first)
	h.refusedAtOnce()
	h.want(proxy.OverLimit)
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 9)}}
	other, err := d.Dial("tcp", h.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	h.send(other, lab.Hello("a.test"))
	line(t, other)
	_ = first.CloseWrite()
	closed(t, first)
	h.want(proxy.OK)
	if got := line(t, h.hello("a.test")); got != "a" {
		t.Errorf("read %q, want a", got)
	}
}

// TestLingeringIsBounded refuses clients that do not close, after their hello:
// no more of them are waited for than there may be unfinished hellos.
func TestLingeringIsBounded(t *testing.T) {
	s := state(t, route("a.test")) // no backend
	s.Limits.MaxHellos, s.Limits.MaxHellosPerIP = 2, 2
	h := startLoops(t, 1, s)
	for range 8 {
		c := h.hello("a.test")
		if b := make([]byte, 7); true {
			if _, err := io.ReadFull(c, b); err != nil || b[6] != 80 {
				t.Errorf("the alert: % x, %v", b, err)
			}
		}
		if n := h.p.Counters().Hellos; n > 2 {
			t.Errorf("%d unfinished hellos and lingering sessions, limit 2", n)
		}
	}
	for range 8 {
		h.want(proxy.NoBackend)
	}
}

// TestFullProcessRests is about loops that wait for a place: they must not keep
// each other awake.
func TestFullProcessRests(t *testing.T) {
	srv := lab.Serve(t, lab.Announce("a", nil), lab.Options{})
	s := state(t, route("a.test", srv.Addr()))
	s.Limits.MaxConnections = 1
	h := startLoops(t, 6, s)
	first := h.hello("a.test")
	line(t, first)
	var rest []*net.TCPConn
	for range 64 { // all loops have some in their queues
		rest = append(rest, h.hello("a.test"))
	}
	const watch = 400 * time.Millisecond
	used := func() time.Duration {
		var u unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := used()
	<-time.After(watch)
	if got := used() - before; got > watch/10 { // at rest: under 1 ms
		t.Errorf("a full process used %v of processor time in %v", got, watch)
	}
	var wg sync.WaitGroup
	for _, c := range rest { // the order in which they are served is the queues'
		wg.Go(func() {
			if _, err := io.ReadFull(c, make([]byte, 2)); err != nil {
				t.Error(err)
			}
			_ = c.Close()
		})
	}
	_ = first.Close()
	wg.Wait()
}
