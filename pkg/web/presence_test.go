package web_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snicketlb/snicket/balancer"
	"github.com/snicketlb/snicket/pkg/web"
)

// far is a backend's side of a connection.
type far struct {
	net.Conn
	r *bufio.Reader
}

// leaver is a client in a bubble, which leaves when it is told to, and the one backend of
// its site.
type leaver struct {
	net.Conn
	presence atomic.Int32
	pool     *web.Pool
	balancer *balancer.Pool
	backends chan *far
	result   chan web.Result
}

func newLeaver(t *testing.T, places int) *leaver {
	l := &leaver{balancer: balancer.New("web"), backends: make(chan *far, 1), result: make(chan web.Result, 1)}
	l.balancer.Update([]balancer.Spec{{ID: "b1", Weight: 1, MaxConnections: places}})
	l.pool = web.NewPool(web.PoolOptions{
		Balancer: l.balancer, Shared: true, QueueTimeout: time.Hour,
		Dial: func(context.Context, *balancer.Backend, *web.Client, []string) (net.Conn, string, error) {
			near, end := net.Pipe()
			l.backends <- &far{end, bufio.NewReader(end)}
			return near, "", nil
		},
	})
	site := web.NewSite(web.SiteOptions{Pool: l.pool, Idle: time.Hour})
	var edge net.Conn
	l.Conn, edge = net.Pipe()
	go func() { // waited for by the result
		l.result <- site.Serve(t.Context(), &web.Client{Conn: edge, Left: func() web.Presence { return web.Presence(l.presence.Load()) }})
	}()
	return l
}

// says sends, as far as it is taken.
func (l *leaver) says(wg *sync.WaitGroup, text string) {
	wg.Go(func() { _, _ = io.WriteString(l.Conn, text) })
}

const upload = "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000000\r\n\r\n"

// TestClientLeavesUpload: a client that leaves while nobody reads from it takes its
// request with it, and what it has sent before an end in order goes on as long as the
// backend takes it.
func TestClientLeavesUpload(t *testing.T) {
	for name, tt := range map[string]struct {
		how   web.Presence
		every time.Duration // the backend takes some as often; 0: never
		cut   bool
	}{
		"stays":                       {web.Here, 0, false},
		"breaks":                      {web.Gone, 0, true},
		"breaks while some is taken":  {web.Gone, 500 * time.Millisecond, true},
		"ends":                        {web.Ended, 0, true},
		"ends, and all goes on":       {web.Ended, 500 * time.Millisecond, false},
		"ends, and it goes on slowly": {web.Ended, 5 * time.Second, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLeaver(t, 0)
				var wg sync.WaitGroup
				l.says(&wg, upload+strings.Repeat("x", 1000000))
				b := <-l.backends
				if _, err := http.ReadRequest(b.r); err != nil {
					t.Fatal(err)
				}
				begun := time.Now()
				l.presence.Store(int32(tt.how))
				taking, stop := context.WithTimeout(t.Context(), time.Minute)
				defer stop()
				wg.Go(func() {
					for tt.every > 0 {
						select {
						case <-time.After(tt.every):
						case <-taking.Done():
							return
						}
						if _, err := io.CopyN(io.Discard, b.r, 16<<10); err != nil {
							return
						}
					}
				})
				var got web.Result
				cut := true
				select {
				case got = <-l.result:
				case <-taking.Done():
					cut = false
				}
				if cut != tt.cut {
					t.Errorf("over: %t, want %t", cut, tt.cut)
				}
				if cut && (got.Err != nil || got.Requests != 1 || time.Since(begun) > 3*time.Second) {
					t.Errorf("%+v after %v, want no failure, soon", got, time.Since(begun))
				}
				stop()
				l.Close()
				b.Close()
				wg.Wait()
				if !cut {
					<-l.result
				}
				if n := l.balancer.Backends()[0].Active(); n != 0 {
					t.Errorf("%d requests still counted", n)
				}
				l.pool.Close()
			})
		})
	}
}

// TestClientLeavesQueue: the place that a client with a body waits for is nobody's once
// it has left.
func TestClientLeavesQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeaver(t, 1)
		l.balancer.Configure(balancer.Options{QueueSize: 10})
		taken, err := l.balancer.Acquire(balancer.Pick{})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		l.says(&wg, upload)
		synctest.Wait()
		l.presence.Store(int32(web.Gone))
		begun := time.Now()
		if got := <-l.result; got.Err != nil || time.Since(begun) > 3*time.Second {
			t.Errorf("%+v after %v, want no failure, soon", got, time.Since(begun))
		}
		l.balancer.Release(taken, balancer.Result{})
		if n := taken.Active(); n != 0 {
			t.Errorf("%d requests counted, want none", n)
		}
		l.Close()
		wg.Wait()
		l.pool.Close()
	})
}

// TestClientLeavesTunnel: of an upgraded connection a broken client is noticed though the
// backend takes nothing, and one that has ended its side alone has not left.
func TestClientLeavesTunnel(t *testing.T) {
	for name, tt := range map[string]struct {
		how web.Presence
		cut bool
	}{"breaks": {web.Gone, true}, "ends": {web.Ended, false}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLeaver(t, 0)
				var wg sync.WaitGroup
				l.says(&wg, "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"+strings.Repeat("x", 1000000))
				b := <-l.backends
				if _, err := http.ReadRequest(b.r); err != nil {
					t.Fatal(err)
				}
				wg.Go(func() {
					_, _ = io.WriteString(b, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
				})
				if res, err := http.ReadResponse(bufio.NewReader(l), nil); err != nil || res.StatusCode != http.StatusSwitchingProtocols {
					t.Fatalf("%v, %v, want 101", res, err)
				}
				l.presence.Store(int32(tt.how))
				cut := true
				select {
				case <-l.result:
				case <-time.After(time.Minute):
					cut = false
				}
				if cut != tt.cut {
					t.Errorf("over: %t, want %t", cut, tt.cut)
				}
				b.Close()
				l.Close()
				wg.Wait()
				if !cut {
					<-l.result
				}
				l.pool.Close()
			})
		})
	}
}
