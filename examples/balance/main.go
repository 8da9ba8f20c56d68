// Balance is a small TCP balancer by packages balancer and health alone: it spreads
// connections over backends by their number of connections, probes them, tries the
// next one when a dial fails, lets a backend that comes back begin small, and tries
// all when all are down.
//
//	go run ./examples/balance 127.0.0.1:9000 127.0.0.1:9001 127.0.0.1:9002
//
// It copies with a goroutine for each direction, which is simple; the balancer of
// this module does not.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"sync"
	"time"

	"github.com/snicketlb/snicket/balancer"
	"github.com/snicketlb/snicket/health"
)

// tries is how many backends are dialled for one client.
const tries = 3

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: balance ADDRESS BACKEND...")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "balance:", err)
		os.Exit(1)
	}
}

// proxy is a pool of backends and what is known of their health.
type proxy struct {
	pool    *balancer.Pool
	checker *health.Checker
}

func run(ctx context.Context, address string, backends []string) error {
	p := &proxy{pool: balancer.New("example")}
	p.pool.Configure(balancer.Options{SlowStart: 30 * time.Second, PanicBelow: 0.01})
	p.checker = health.NewChecker(p.report, health.CheckerOptions{})
	var specs []balancer.Spec
	var targets []health.Target
	for _, b := range backends {
		specs = append(specs, balancer.Spec{ID: b, Weight: 1})
		targets = append(targets, health.Target{ID: b, Prober: health.TCP{Address: b}})
	}
	p.pool.Update(specs)
	p.checker.Update(targets)

	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	fmt.Println("listening on", l.Addr())
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { _ = p.checker.Run(ctx) }) // nil when ctx ends
	defer context.AfterFunc(ctx, func() { l.Close() })()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		wg.Go(func() { p.serve(ctx, conn) })
	}
}

// report is told when a backend goes down or comes back.
func (p *proxy) report(t health.Transition) {
	state := balancer.Ready
	if t.To == health.Down {
		state = balancer.Down
	}
	p.pool.Mark(t.ID, balancer.Down, state == balancer.Down)
	if t.Err != nil {
		fmt.Println(t.ID, "is", state, "because", t.Err)
		return
	}
	fmt.Println(t.ID, "is", state)
}

// serve relays one client until both sides have ended.
func (p *proxy) serve(ctx context.Context, client net.Conn) {
	defer client.Close()
	b, server, err := p.dial(ctx)
	if err != nil {
		fmt.Println(client.RemoteAddr(), err)
		return
	}
	defer p.pool.Release(b, balancer.Result{})
	defer server.Close()
	defer context.AfterFunc(ctx, func() { client.Close(); server.Close() })()
	var both sync.WaitGroup
	both.Go(func() { forward(server, client) })
	both.Go(func() { forward(client, server) })
	both.Wait()
}

// dial picks a backend and connects to it, or to the next one. The caller releases
// the backend.
func (p *proxy) dial(ctx context.Context) (*balancer.Backend, net.Conn, error) {
	var tried []*balancer.Backend
	var errs []error
	for range tries {
		b, err := p.pool.Acquire(balancer.Pick{Tried: tried})
		if err != nil {
			return nil, nil, errors.Join(append(errs, err)...)
		}
		d := net.Dialer{Timeout: 3 * time.Second}
		conn, err := d.DialContext(ctx, "tcp", b.ID())
		if err == nil {
			return b, conn, nil
		}
		p.pool.Release(b, balancer.Result{Err: err})
		p.checker.Failed(b.ID(), err)
		tried, errs = append(tried, b), append(errs, err)
	}
	return nil, nil, errors.Join(errs...)
}

// forward copies one direction and passes its end on, so that the other may go on.
func forward(to, from net.Conn) {
	if _, err := io.Copy(to, from); err != nil {
		to.Close() // a cut stream must not look like a whole one
		from.Close()
		return
	}
	if tcp, ok := to.(*net.TCPConn); ok {
		_ = tcp.CloseWrite() // it may be gone already
	}
}
