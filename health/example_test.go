package health_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"

	"github.com/snicketlb/snicket/health"
)

func Example() {
	backend, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c := health.NewChecker(func(t health.Transition) {
		fmt.Printf("%s: %s, was %s\n", t.ID, t.To, t.From)
		if t.To == health.Up {
			backend.Close()
			return
		}
		fmt.Println("because", t.Err)
		cancel()
	}, health.CheckerOptions{})
	c.Update([]health.Target{{
		ID:      "web/b1",
		Prober:  health.TCP{Address: backend.Addr().String()},
		Options: health.Options{Interval: 10 * time.Millisecond, Fall: 2},
	}})
	var run sync.WaitGroup
	run.Go(func() { c.Run(ctx) })
	run.Wait()
	// Output:
	// web/b1: ready, was unknown
	// web/b1: down, was ready
	// because connect: connection refused
}

// A probe can be used by itself.
func ExampleHTTP() {
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer backend.Close()
	want, err := health.ParseStatus("200-299")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, path := range []string{"/healthz", "/"} {
		p := health.HTTP{TCP: health.TCP{Address: backend.Listener.Addr().String()}, Path: path, Status: want}
		_, err := health.Try(context.Background(), p, time.Second)
		fmt.Println(path, err)
	}
	// Output:
	// /healthz <nil>
	// / status 503, want 200-299
}
