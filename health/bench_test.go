package health_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/snicketlb/snicket/health"
)

// BenchmarkChecker is what a probe costs beside the probe itself, with 10,000
// targets that are due as fast as the checker can start them.
func BenchmarkChecker(b *testing.B) {
	const n = 10_000
	probed := make(chan struct{}, n)
	p := proberFunc(func(ctx context.Context) (health.Observation, error) {
		select {
		case probed <- struct{}{}:
		case <-ctx.Done():
		}
		return health.Observation{}, nil
	})
	targets := make([]health.Target, n)
	for i := range targets {
		targets[i] = health.Target{ID: fmt.Sprint(i), Prober: p, Options: health.Options{Interval: time.Nanosecond, Jitter: -1}}
	}
	c := health.NewChecker(func(health.Transition) {}, health.CheckerOptions{})
	c.Update(targets)
	ctx, cancel := context.WithCancel(b.Context())
	var run sync.WaitGroup
	b.ReportAllocs()
	run.Go(func() { c.Run(ctx) })
	for b.Loop() {
		<-probed
	}
	cancel()
	run.Wait()
}

// BenchmarkTCP is one probe of kind tcp on loopback, both sides.
func BenchmarkTCP(b *testing.B) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	var server sync.WaitGroup
	server.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	})
	p := health.TCP{Address: ln.Addr().String()}
	b.ReportAllocs()
	for b.Loop() {
		ctx, cancel := context.WithTimeout(b.Context(), time.Second)
		_, err := p.Probe(ctx)
		cancel()
		if err != nil {
			b.Fatal(err)
		}
	}
	ln.Close()
	server.Wait()
}

func BenchmarkUpdate(b *testing.B) {
	targets := make([]health.Target, 10_000)
	for i := range targets {
		targets[i] = health.Target{ID: fmt.Sprint(i), Prober: health.TCP{}}
	}
	c := health.NewChecker(func(health.Transition) {}, health.CheckerOptions{})
	b.ReportAllocs()
	for b.Loop() {
		c.Update(targets)
	}
}
