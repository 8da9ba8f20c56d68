package proxy_test

import (
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/snicketlb/snicket/balancer"
	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/proxy"
	"github.com/snicketlb/snicket/pkg/terminate"
)

// cutter is a client's transport that ends behind a number of bytes sent.
type cutter struct {
	*net.TCPConn
	left  int
	reset bool
}

func (c *cutter) Write(b []byte) (int, error) {
	if c.left >= len(b) {
		c.left -= len(b)
		return c.TCPConn.Write(b)
	}
	n, _ := c.TCPConn.Write(b[:c.left])
	if c.reset {
		_ = c.SetLinger(0)
	}
	_ = c.Close()
	return n, net.ErrClosed
}

// TestAllIsGivenBack has clients leave at any point of their way, or be thrown out
// there: in the hello, at the gate, in either handshake, in the queue for a backend,
// in the relay. Whatever was counted or kept for them is given back, once.
func TestAllIsGivenBack(t *testing.T) {
	const clients, each = 24, 40
	ca := authority(t)
	var backends []string
	for range 2 {
		backends = append(backends, lab.Serve(t, lab.Echo(), lab.Options{TLS: ca.server(t, "a.test")}).Addr())
	}
	sealed := limited("a.test", clients, 20*time.Millisecond, backends...)
	sealed.Pool.TLS = terminate.NewBackend(terminate.BackendOptions{Roots: ca.a.Pool()})
	sealed.Pool.Balancer.Configure(balancer.Options{QueueSize: clients, Policy: balancer.LeastTime})
	sealed.Handshake = 50 * time.Millisecond
	ca.terminate(t, sealed)
	through := limited("b.test", clients, 20*time.Millisecond, backends...)
	routes := []*proxy.Route{sealed, through}
	s := state(t, routes...)
	s.Limits.MaxHandshakes = 3
	h := start(t, s)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	play := func(rng *rand.Rand) {
		c, err := net.Dial("tcp", h.addr)
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(lab.Patience))
		cut := &cutter{c.(*net.TCPConn), rng.IntN(3000), rng.IntN(2) == 0}
		if rng.IntN(2) == 0 {
			cut.left = 1 << 20
		}
		if rng.IntN(4) == 0 { // a hello that nothing follows
			name := []string{"a.test", "b.test", "nobody.test"}[rng.IntN(3)]
			if _, err := cut.Write(lab.Hello(name)); err == nil && rng.IntN(2) == 0 {
				_, _ = c.Read(make([]byte, 1))
			}
			return
		}
		cfg := ca.client([]string{"a.test", "b.test"}[rng.IntN(2)])
		cfg.InsecureSkipVerify = true //nolint:gosec // the backends have one certificate for both
		client := tls.Client(cut, cfg)
		if client.Handshake() != nil {
			return
		}
		if rng.IntN(4) == 0 {
			out := []proxy.Outcome{proxy.Drained, proxy.BackendReset}[rng.IntN(2)]
			r := routes[rng.IntN(2)]
			h.p.EndBackend(r.Pool.Name, backends[rng.IntN(2)], out)
		}
		_, _ = client.Write(make([]byte, 1+rng.IntN(100_000)))
		if rng.IntN(2) == 0 && client.CloseWrite() == nil {
			_, _ = io.Copy(io.Discard, client)
		}
		_, _ = client.Read(make([]byte, 1))
	}
	var load sync.WaitGroup
	for i := range clients {
		load.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			for range each {
				play(rng)
			}
		})
	}
	outcomes := map[string]int{}
	for range clients * each {
		outcomes[h.record().Outcome.String()]++
	}
	load.Wait()
	t.Log(outcomes)
	for what, n := range h.p.Held() {
		if n != 0 {
			t.Errorf("%s: %d are left", what, n)
		}
	}
	for _, r := range routes {
		if n := r.Active.Load(); n != 0 {
			t.Errorf("route %s: %d sessions are left", r.Name, n)
		}
		if n := r.Pool.Balancer.QueueLength(); n != 0 {
			t.Errorf("pool %s: %d wait", r.Pool.Name, n)
		}
		for _, b := range r.Pool.Balancer.Backends() {
			if n := b.Active(); n != 0 {
				t.Errorf("pool %s: backend %s has %d sessions", r.Pool.Name, b.ID(), n)
			}
		}
	}
}
