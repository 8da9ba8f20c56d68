package balancer_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/snicketlb/snicket/balancer"
)

// BenchmarkSession is one Acquire and its Release, beside sessions that last,
// by each policy.
func BenchmarkSession(b *testing.B) {
	for _, name := range balancer.Policies() {
		for _, n := range []int{4, 16, 64, 512} {
			b.Run(fmt.Sprintf("%s/backends=%d", name, n), func(b *testing.B) {
				p := benchPool(b, name, n)
				picks := benchPicks()
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					backend, _ := p.Acquire(picks[i%len(picks)])
					p.Release(backend, balancer.Result{Dial: time.Millisecond})
				}
			})
			b.Run(fmt.Sprintf("%s/parallel/backends=%d", name, n), func(b *testing.B) {
				p := benchPool(b, name, n)
				picks := benchPicks()
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					for i := 0; pb.Next(); i++ {
						backend, _ := p.Acquire(picks[i%len(picks)])
						p.Release(backend, balancer.Result{Dial: time.Millisecond})
					}
				})
			})
		}
	}
}

func benchPool(b *testing.B, policy string, n int) *balancer.Pool {
	p := newPool(b, equal(n)...)
	p.Configure(balancer.Options{Policy: parse(b, policy)})
	for range 3 * n / 2 {
		acquire(b, p)
	}
	return p
}

func benchPicks() []balancer.Pick {
	picks := make([]balancer.Pick, 1024)
	for i := range picks {
		picks[i].Client = netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		picks[i].Name = fmt.Sprintf("host%d.example.com", i)
	}
	return picks
}

// BenchmarkSlowStart is a session of a pool of which one backend is in its slow
// start.
func BenchmarkSlowStart(b *testing.B) {
	p := newPool(b, equal(16)...)
	p.Configure(balancer.Options{SlowStart: time.Hour})
	p.Mark("b0", balancer.Down, true)
	p.Mark("b0", balancer.Down, false)
	b.ReportAllocs()
	for b.Loop() {
		backend, _ := p.Acquire(balancer.Pick{})
		p.Release(backend, balancer.Result{})
	}
}

// BenchmarkQueue is a session that ends, and so lets the first of many others
// begin.
func BenchmarkQueue(b *testing.B) {
	p := newPool(b, balancer.Spec{ID: "a", Weight: 1, MaxConnections: 1})
	p.Configure(balancer.Options{QueueSize: 1000})
	held := acquire(b, p)
	ready := func(got *balancer.Backend) { held = got }
	for range 999 {
		if _, err := p.Wait(balancer.Pick{}, ready); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Wait(balancer.Pick{}, ready); err != nil {
			b.Fatal(err)
		}
		p.Release(held, balancer.Result{})
	}
}

// BenchmarkMark is what the result of a probe costs that changes a state.
func BenchmarkMark(b *testing.B) {
	for _, name := range []string{"least-connections", "source-hash"} {
		for _, n := range []int{4, 512} {
			b.Run(fmt.Sprintf("%s/backends=%d", name, n), func(b *testing.B) {
				p := newPool(b, equal(n)...)
				p.Configure(balancer.Options{Policy: parse(b, name)})
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					p.Mark("b0", balancer.Down, i%2 == 0)
				}
			})
		}
	}
}

// BenchmarkTable is what a hash policy costs when a backend comes or goes.
func BenchmarkTable(b *testing.B) {
	for _, n := range []int{4, 512, 1000} {
		b.Run(fmt.Sprintf("backends=%d", n), func(b *testing.B) {
			p := newPool(b, equal(n)...)
			p.Configure(balancer.Options{Policy: balancer.SourceHash})
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				p.Update(equal(n - i%2))
			}
		})
	}
}
