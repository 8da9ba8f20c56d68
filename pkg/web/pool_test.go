package web_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snicketlb/snicket/balancer"
	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/web"
)

// closedPort returns an address of this machine at which nobody listens.
func closedPort(t *testing.T) string {
	l := lab.Listen(t, "127.0.0.1:0")
	defer l.Close()
	return l.Addr().String()
}

// TestRetry: a request goes to another backend if the dial failed, with its body
// whole, and to no more than retries says.
func TestRetry(t *testing.T) {
	for _, tt := range []struct {
		name          string
		dead, retries int
		status        int
	}{
		{"one dead", 1, 2, 200}, {"two dead", 2, 2, 200}, {"three dead", 3, 2, 502}, {"no retries", 1, 0, 502}, {"none ready", 0, 2, 503},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lab.Leaks(t)
			b := newBackends(t)
			for i := range tt.dead {
				b.addAddress(fmt.Sprintf("dead%d", i), closedPort(t))
			}
			if tt.dead > 0 {
				b.add("live", http.HandlerFunc(tell), false)
			}
			e := newEdge(t, web.NewSite(web.SiteOptions{HSTS: "max-age=1", Pool: b.pool(web.PoolOptions{Shared: true, Retries: tt.retries})}))
			client := e.client(false)
			res, h := ask(t, client, request(t, "POST", "https://www.example.com/", "hello"))
			if res.StatusCode != tt.status || tt.status == 200 && h.Body != "hello" {
				t.Fatalf("%s, the backend heard %q, want %d", res.Status, h.Body, tt.status)
			}
			if tt.status == 503 != (res.Header.Get("Retry-After") != "") || tt.status != 200 && res.Header.Get("Strict-Transport-Security") != "max-age=1" {
				t.Errorf("%s with the header %v", res.Status, res.Header)
			}
			client.CloseIdleConnections()
			got, want := e.result(), min(tt.dead, tt.retries)
			if got.Retries != want || (got.Err != nil) != (tt.status != 200) {
				t.Errorf("%+v, want %d retries, and an error unless it was answered", got, want)
			}
			if tt.status == 503 && !errors.Is(got.Err, balancer.ErrNoBackend) {
				t.Errorf("%v, want ErrNoBackend", got.Err)
			}
			b.mu.Lock()
			defer b.mu.Unlock()
			failed := 0
			for _, n := range b.failed {
				failed += n
			}
			if want := min(tt.dead, tt.retries+1); failed != want {
				t.Errorf("%d failed dials were told of, want %d", failed, want)
			}
		})
	}
}

// script is a backend that does with each of its connections what the next of its
// functions says.
func script(t *testing.T, conns ...func(c *lab.Conn, r *bufio.Reader)) *lab.Server {
	var n atomic.Int64
	return lab.Serve(t, func(c *lab.Conn) {
		if i := int(n.Add(1)) - 1; i < len(conns) {
			conns[i](c, bufio.NewReader(c))
		}
	}, lab.Options{})
}

// answerOne answers one request with its body, and keeps the connection.
func answerOne(c *lab.Conn, r *bufio.Reader) {
	req, err := http.ReadRequest(r)
	if err != nil {
		return
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body)+1, string(body)+"\n")
}

// TestStale: a backend that closes a kept connection as the next request comes. A
// request that may be sent twice is; one that may not is not.
func TestStale(t *testing.T) {
	for _, tt := range []struct {
		method, body string
		status       int
	}{
		{"GET", "", 200}, {"POST", "hello", 502}, {"DELETE", "", 502},
	} {
		t.Run(tt.method, func(t *testing.T) {
			lab.Leaks(t)
			s := script(t, func(c *lab.Conn, r *bufio.Reader) {
				answerOne(c, r)
				_, _ = http.ReadRequest(r) // it has seen the next one, and goes without a word
			}, answerOne)
			b := newBackends(t)
			b.addAddress("b1", s.Addr())
			e := newEdge(t, web.NewSite(web.SiteOptions{Pool: b.pool(web.PoolOptions{Shared: true, Retries: 2})}))
			client := e.client(false)
			for _, want := range []int{200, tt.status} {
				res, err := client.Do(request(t, tt.method, "https://www.example.com/", tt.body))
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(res.Body)
				if res.StatusCode != want || err != nil || want == 200 && string(body) != tt.body+"\n" {
					t.Fatalf("%s %q, %v, want %d", res.Status, body, err, want)
				}
			}
			if got, want := s.Accepted(), map[bool]int{true: 2, false: 1}[tt.status == 200]; got != want {
				t.Errorf("the backend was connected to %d times, want %d", got, want)
			}
			if n := b.balancer.Backends()[0].Active(); n != 0 {
				t.Errorf("%d requests still counted", n)
			}
		})
	}
}

// TestNotShared: connections made for one client serve no other, and end with it.
func TestNotShared(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("h2 %v", secure), func(t *testing.T) {
			lab.Leaks(t)
			b := newBackends(t)
			b.add("b1", http.HandlerFunc(tell), secure)
			e := newEdge(t, web.NewSite(web.SiteOptions{Pool: b.pool(web.PoolOptions{})}))
			for i := range 3 {
				client := e.client(false)
				for range 2 {
					ask(t, client, request(t, "GET", "https://www.example.com/", ""))
				}
				if got := b.dialed("b1"); got != i+1 {
					t.Errorf("%d dials for %d clients, want one each", got, i+1)
				}
				client.CloseIdleConnections()
				e.result()
			}
			b.waitNone()
		})
	}
}

// TestPerName: connections serve only clients that asked for the same name.
func TestPerName(t *testing.T) {
	lab.Leaks(t)
	b := newBackends(t)
	b.add("b1", http.HandlerFunc(tell), false)
	e := newPlainEdge(t, nil)
	e.ca = lab.NewAuthority(t, "edge")
	e.names = []string{"a.example.com", "b.example.com"}
	e.start(web.NewSite(web.SiteOptions{Pool: b.pool(web.PoolOptions{Shared: true, PerName: true})}))
	for i, name := range []string{"a.example.com", "b.example.com", "a.example.com", "b.example.com"} {
		client := e.clientFor(name, false)
		ask(t, client, request(t, "GET", "https://"+name+"/", ""))
		client.CloseIdleConnections()
		if got, want := b.dialed("b1"), min(i+1, 2); got != want {
			t.Errorf("%d dials behind request %d, want %d", got, i+1, want)
		}
	}
}

// TestClose: a pool that is closed keeps nothing, and still serves.
func TestClose(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("h2 %v", secure), func(t *testing.T) {
			lab.Leaks(t)
			b := newBackends(t)
			release := make(chan struct{})
			entered := make(chan struct{})
			b.add("b1", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/wait" {
					close(entered)
					<-release
				}
				tell(w, r)
			}), secure)
			pool := b.pool(web.PoolOptions{Shared: true})
			e := newEdge(t, web.NewSite(web.SiteOptions{Pool: pool}))
			client := e.client(false)
			ask(t, client, request(t, "GET", "https://www.example.com/", ""))
			var wg sync.WaitGroup
			wg.Go(func() {
				res, err := client.Get("https://www.example.com/wait")
				if err != nil {
					t.Error(err)
					return
				}
				defer res.Body.Close()
				if _, err := io.ReadAll(res.Body); err != nil || res.StatusCode != 200 {
					t.Errorf("the request that was under way: %s, %v", res.Status, err)
				}
			})
			<-entered
			pool.Close()
			close(release)
			wg.Wait()
			ask(t, client, request(t, "GET", "https://www.example.com/", ""))
			b.waitNone() // with the client still there
		})
	}
}

// TestQueue: with every backend at its limit a request waits its turn, or is turned
// away when that does not come.
func TestQueue(t *testing.T) {
	lab.Leaks(t)
	b := newBackends(t)
	release, entered := make(chan struct{}), make(chan struct{}, 8)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		<-release
		tell(w, r)
	}))
	defer s.Close()
	b.balancer.Configure(balancer.Options{QueueSize: 1})
	b.balancer.Update([]balancer.Spec{{ID: "b1", Weight: 1, MaxConnections: 1, Value: s.Listener.Addr().String()}})
	patient := newEdge(t, web.NewSite(web.SiteOptions{Pool: b.pool(web.PoolOptions{Shared: true, QueueTimeout: time.Hour})}))
	hasty := newEdge(t, web.NewSite(web.SiteOptions{Pool: b.pool(web.PoolOptions{Shared: true, QueueTimeout: 1})}))
	var wg sync.WaitGroup
	do := func() {
		res, err := patient.client(false).Get("https://www.example.com/")
		if err != nil {
			t.Error(err)
			return
		}
		res.Body.Close()
		if res.StatusCode != 200 {
			t.Errorf("%s, want 200", res.Status)
		}
	}
	wg.Go(do)
	<-entered
	turned := hasty.client(false)
	res, err := turned.Get("https://www.example.com/")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 503 || res.Header.Get("Retry-After") == "" {
		t.Errorf("%s, want 503 with Retry-After", res.Status)
	}
	turned.CloseIdleConnections()
	if got := hasty.result(); !errors.Is(got.Err, web.ErrQueueTimeout) {
		t.Errorf("%v, want ErrQueueTimeout", got.Err)
	}
	wg.Go(do) // waits, and is served
	release <- struct{}{}
	<-entered
	close(release)
	wg.Wait()
}

// TestIdleConnections: what is kept is closed after its time, and earlier where the
// backend says so or leaves.
func TestIdleConnections(t *testing.T) {
	for _, tt := range []struct {
		name, header string
		leave        bool
		least, most  time.Duration
	}{
		{"kept", "", false, 45 * time.Second, 60 * time.Second},
		{"as the backend says", "Keep-Alive: timeout=20, max=100\r\n", false, 19 * time.Second, 25 * time.Second},
		{"gone", "", true, 0, 6 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				var closed time.Time
				var wg sync.WaitGroup
				wg.Go(func() {
					r := bufio.NewReader(far)
					if _, err := http.ReadRequest(r); err != nil {
						t.Error(err)
					}
					io.WriteString(far, "HTTP/1.1 200 OK\r\n"+tt.header+"Content-Length: 0\r\n\r\n")
					_, _ = r.ReadByte()
					closed = time.Now()
					far.Close()
				})
				bal := balancer.New("web")
				bal.Update([]balancer.Spec{{ID: "b1", Weight: 1}})
				pool := web.NewPool(web.PoolOptions{Balancer: bal, Shared: true, Dial: func(context.Context, *balancer.Backend, *web.Client, []string) (net.Conn, string, error) {
					return near, "", nil
				}})
				defer pool.Close()
				client, edge := net.Pipe()
				wg.Go(func() { web.NewSite(web.SiteOptions{Pool: pool}).Serve(t.Context(), &web.Client{Conn: edge}) })
				io.WriteString(client, "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
				if got, err := io.ReadAll(client); err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 200") {
					t.Fatalf("%q, %v", got, err)
				}
				client.Close()
				begun := time.Now()
				if tt.leave {
					bal.Update(nil)
				}
				wg.Wait()
				if d := closed.Sub(begun); d < tt.least || d > tt.most {
					t.Errorf("closed after %v, want %v to %v", d, tt.least, tt.most)
				}
			})
		})
	}
}
