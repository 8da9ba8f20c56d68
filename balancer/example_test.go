package balancer_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/snicketlb/snicket/balancer"
)

func Example() {
	p := balancer.New("web")
	p.Update([]balancer.Spec{
		{ID: "big", Weight: 2, Value: "10.0.1.5:443"},
		{ID: "small", Weight: 1, Value: "10.0.1.6:443"},
	})
	for range 6 {
		b, err := p.Acquire(balancer.Pick{})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(b.ID(), b.Value())
		defer p.Release(b, balancer.Result{})
	}
	// Output:
	// big 10.0.1.5:443
	// small 10.0.1.6:443
	// big 10.0.1.5:443
	// big 10.0.1.5:443
	// small 10.0.1.6:443
	// big 10.0.1.5:443
}

// A dial that fails is tried again with the backends that are left.
func ExamplePool_Acquire() {
	live, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer live.Close()
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	dead.Close()

	p := balancer.New("web")
	p.Update([]balancer.Spec{
		{ID: "dead", Weight: 1, Value: dead.Addr().String()},
		{ID: "live", Weight: 1, Value: live.Addr().String()},
	})
	var pick balancer.Pick
	for {
		b, err := p.Acquire(pick)
		if err != nil {
			fmt.Println("refused:", err)
			return
		}
		conn, err := net.Dial("tcp", b.Value().(string))
		if err != nil {
			fmt.Println(b.ID(), "does not answer")
			p.Release(b, balancer.Result{Err: err})
			pick.Tried = append(pick.Tried, b)
			continue
		}
		fmt.Println(b.ID(), "serves")
		conn.Close()
		p.Release(b, balancer.Result{})
		return
	}
	// Output:
	// dead does not answer
	// live serves
}

func ExamplePool_SetState() {
	p := balancer.New("web")
	p.Update([]balancer.Spec{{ID: "a", Weight: 1}, {ID: "spare", Weight: 1, Backup: true}})
	for _, s := range []balancer.State{balancer.Ready, balancer.Down} {
		p.SetState("a", s)
		b, err := p.Acquire(balancer.Pick{})
		if errors.Is(err, balancer.ErrNoBackend) {
			fmt.Println(err)
			continue
		}
		fmt.Printf("a is %s: %s serves\n", s, b.ID())
		p.Release(b, balancer.Result{})
	}
	// Output:
	// a is ready: a serves
	// a is down: spare serves
}

// The same client is given the same backend, by every balancer that has the same
// backends.
func ExamplePool_Configure() {
	specs := []balancer.Spec{{ID: "10.0.1.5:443", Weight: 1}, {ID: "10.0.1.6:443", Weight: 1}, {ID: "10.0.1.7:443", Weight: 1}}
	for range 2 {
		p := balancer.New("web")
		p.Configure(balancer.Options{Policy: balancer.SourceHash})
		p.Update(specs)
		slices.Reverse(specs) // the order does not matter
		for _, client := range []string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.8"} {
			b, err := p.Acquire(balancer.Pick{Client: netip.MustParseAddr(client)})
			if err != nil {
				fmt.Println(err)
				return
			}
			fmt.Println(client, "is served by", b.ID())
			p.Release(b, balancer.Result{})
		}
	}
	// Output:
	// 192.0.2.1 is served by 10.0.1.7:443
	// 192.0.2.2 is served by 10.0.1.6:443
	// 192.0.2.3 is served by 10.0.1.7:443
	// 192.0.2.8 is served by 10.0.1.5:443
	// 192.0.2.1 is served by 10.0.1.7:443
	// 192.0.2.2 is served by 10.0.1.6:443
	// 192.0.2.3 is served by 10.0.1.7:443
	// 192.0.2.8 is served by 10.0.1.5:443
}

// A session waits for its place, for as long as the caller lets it.
func ExamplePool_Wait() {
	p := balancer.New("web")
	p.Configure(balancer.Options{QueueSize: 100})
	p.Update([]balancer.Spec{{ID: "a", Weight: 1, MaxConnections: 1}})
	first, err := p.Acquire(balancer.Pick{})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = p.Acquire(balancer.Pick{})
	fmt.Println(err)

	place := make(chan *balancer.Backend, 1)
	leave, err := p.Wait(balancer.Pick{}, func(b *balancer.Backend) { place <- b })
	if err != nil {
		fmt.Println(err)
		return
	}
	timeout := time.AfterFunc(time.Minute, func() {
		if leave() {
			place <- nil
		}
	})
	p.Release(first, balancer.Result{})
	if b := <-place; b != nil {
		timeout.Stop()
		fmt.Println("served by", b.ID())
		p.Release(b, balancer.Result{})
	}
	// Output:
	// every ready backend is at its connection limit
	// served by a
}
