package balancer_test

import (
	"fmt"
	"testing"

	"github.com/snicketlb/snicket/balancer"
)

// BenchmarkSession is one Acquire and its Release, beside sessions that last.
func BenchmarkSession(b *testing.B) {
	for _, n := range []int{4, 16, 64, 512} {
		p := newPool(b, equal(n)...)
		for range 3 * n / 2 {
			acquire(b, p)
		}
		b.Run(fmt.Sprintf("backends=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				backend, _ := p.Acquire(balancer.Pick{})
				p.Release(backend, balancer.Result{})
			}
		})
		b.Run(fmt.Sprintf("parallel/backends=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					backend, _ := p.Acquire(balancer.Pick{})
					p.Release(backend, balancer.Result{})
				}
			})
		})
	}
}

// BenchmarkSetState is what the result of a probe costs that changes a state.
func BenchmarkSetState(b *testing.B) {
	for _, n := range []int{4, 512} {
		b.Run(fmt.Sprintf("backends=%d", n), func(b *testing.B) {
			p := newPool(b, equal(n)...)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				p.SetState("b0", balancer.State(i%2))
			}
		})
	}
}
