package web_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snicketlb/snicket/balancer"
	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/web"
)

// TestResponseTimeout: an answer that does not begin is 504, also if the request has a
// body that has been sent, and the connection to that backend is not used again.
func TestResponseTimeout(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		for _, body := range []string{"", "hello"} {
			t.Run(fmt.Sprintf("h2 %v, body %q", h2, body), func(t *testing.T) {
				lab.Leaks(t)
				b := newBackends(t)
				b.add("b1", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body)
					<-r.Context().Done()
				}), h2)
				e := newEdge(t, web.NewSite(web.SiteOptions{ResponseTimeout: time.Millisecond, Pool: b.pool(web.PoolOptions{Shared: true, Retries: 2})}))
				client := e.client(h2)
				res, _ := ask(t, client, request(t, "POST", "https://www.example.com/", body))
				if res.StatusCode != http.StatusGatewayTimeout {
					t.Errorf("%s, want 504", res.Status)
				}
				e.stop() // its client may take a moment to see that the connection is idle
				if got := e.result(); !errors.Is(got.Err, web.ErrResponseTimeout) || got.Retries != 0 {
					t.Errorf("%+v, want ErrResponseTimeout and no retry", got)
				}
			})
		}
	}
}

// TestIdle: without a byte either way the request ends, and is never taken for whole.
func TestIdle(t *testing.T) {
	stuck := map[string]http.HandlerFunc{
		"before the answer": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"within the answer": func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "half")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		},
		"upgraded": func(w http.ResponseWriter, _ *http.Request) {
			c, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			defer c.Close()
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
			_, _ = rw.ReadByte()
		},
	}
	for name, h := range stuck {
		for _, h2 := range []bool{false, true} {
			if h2 && name == "upgraded" {
				continue
			}
			t.Run(fmt.Sprintf("%s, h2 %v", name, h2), func(t *testing.T) {
				lab.Leaks(t)
				b := newBackends(t)
				b.add("b1", h, false)
				e := newEdge(t, web.NewSite(web.SiteOptions{Idle: 20 * time.Millisecond, Pool: b.pool(web.PoolOptions{Shared: true})}))
				client := e.client(h2)
				r := request(t, "GET", "https://www.example.com/", "")
				if name == "upgraded" {
					r.Header.Set("Connection", "Upgrade")
					r.Header.Set("Upgrade", "websocket")
				}
				res, err := client.Do(r)
				if err == nil {
					_, err = io.ReadAll(res.Body)
					res.Body.Close()
				}
				if err == nil && name != "upgraded" {
					t.Error("the answer ended as if it were whole")
				}
				e.stop() // its client may take a moment to see that the connection is idle
				if got := e.result(); !errors.Is(got.Err, web.ErrIdle) {
					t.Errorf("%+v, want ErrIdle", got)
				}
				b.waitNone()
			})
		}
	}
}

// TestBusyIsNotIdle: a byte now and then, one way, keeps a request alive for longer
// than the timeout.
func TestBusyIsNotIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		var wg sync.WaitGroup
		wg.Go(func() {
			defer far.Close()
			if _, err := http.ReadRequest(bufio.NewReader(far)); err != nil {
				t.Error(err)
			}
			io.WriteString(far, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			for range 10 {
				<-time.After(9 * time.Second)
				io.WriteString(far, "1\r\nx\r\n")
			}
			<-time.After(11 * time.Second)
			io.WriteString(far, "0\r\n\r\n") // too late
		})
		bal := balancer.New("web")
		bal.Update([]balancer.Spec{{ID: "b1", Weight: 1}})
		pool := web.NewPool(web.PoolOptions{Balancer: bal, Shared: true, Dial: func(context.Context, *balancer.Backend, *web.Client, []string) (net.Conn, string, error) {
			return near, "", nil
		}})
		defer pool.Close()
		client, edge := net.Pipe()
		results := make(chan web.Result, 1)
		wg.Go(func() {
			results <- web.NewSite(web.SiteOptions{Pool: pool, Idle: 10 * time.Second}).Serve(t.Context(), &web.Client{Conn: edge})
		})
		io.WriteString(client, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
		got, err := io.ReadAll(client)
		if n := strings.Count(string(got), "\r\nx\r\n"); err != nil || n != 10 || strings.HasSuffix(string(got), "0\r\n\r\n") {
			t.Errorf("%q, %v, want ten bytes in 90 s, and no end behind 11 s of silence", got, err)
		}
		client.Close()
		if r := <-results; !errors.Is(r.Err, web.ErrIdle) {
			t.Errorf("%+v, want ErrIdle", r)
		}
		wg.Wait()
	})
}

// TestClientGone: a client that goes away takes its request with it, up to the
// backend, and is nobody's failure.
func TestClientGone(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("h2 %v", h2), func(t *testing.T) {
			lab.Leaks(t)
			entered, gone := make(chan struct{}), make(chan struct{})
			b := newBackends(t)
			b.add("b1", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				close(entered)
				<-r.Context().Done()
				close(gone)
			}), h2)
			e := newEdge(t, web.NewSite(web.SiteOptions{Pool: b.pool(web.PoolOptions{Shared: true})}))
			client := e.client(h2)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() {
				defer close(done)
				r := request(t, "GET", "https://www.example.com/", "").WithContext(ctx)
				if res, err := client.Do(r); err == nil {
					res.Body.Close()
					t.Error("an answer without a client")
				}
			}()
			<-entered
			cancel()
			<-gone
			<-done
			e.stop() // its client may take a moment to see that the connection is idle
			if got := e.result(); got.Err != nil {
				t.Errorf("%v, want no failure", got.Err)
			}
			if n := b.balancer.Backends()[0].Active(); n != 0 {
				t.Errorf("%d requests still counted", n)
			}
		})
	}
}

// TestBackendCut: an answer that the backend cuts short reaches the client as cut.
func TestBackendCut(t *testing.T) {
	for _, header := range []string{"Content-Length: 100", "Transfer-Encoding: chunked"} {
		for _, h2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, h2 %v", header, h2), func(t *testing.T) {
				lab.Leaks(t)
				s := script(t, func(c *lab.Conn, r *bufio.Reader) {
					_, _ = http.ReadRequest(r)
					io.WriteString(c, "HTTP/1.1 200 OK\r\n"+header+"\r\n\r\n5\r\nhello\r\n")
				})
				b := newBackends(t)
				b.addAddress("b1", s.Addr())
				e := newEdge(t, web.NewSite(web.SiteOptions{Pool: b.pool(web.PoolOptions{Shared: true})}))
				client := e.client(h2)
				res, err := client.Get("https://www.example.com/")
				if err == nil {
					_, err = io.ReadAll(res.Body)
					res.Body.Close()
				}
				if err == nil {
					t.Error("the answer ended as if it were whole")
				}
				e.stop()
				if got := e.result(); got.Err == nil {
					t.Errorf("%+v, want why", got)
				}
			})
		}
	}
}

// TestStalledUpload: a client that is answered before its body has come, and does not
// send it, is not waited for; what it sends later is never taken for a request.
func TestStalledUpload(t *testing.T) {
	for name, tt := range map[string]struct {
		path, header string
		status       string
	}{
		"denied":                {"/denied", "Content-Length: 100000", "403"},
		"denied, chunked":       {"/denied", "Transfer-Encoding: chunked", "403"},
		"by the backend":        {"/", "Content-Length: 100000", "413"},
		"by the backend, chunk": {"/", "Transfer-Encoding: chunked", "413"},
		"unwanted":              {"/", "Expect: 100-continue\r\nContent-Length: 100000", "413"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				var wg sync.WaitGroup
				if tt.status == "413" {
					wg.Go(func() {
						r := bufio.NewReader(far)
						if _, err := http.ReadRequest(r); err != nil {
							t.Error(err)
						}
						io.WriteString(far, "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
						io.Copy(io.Discard, r)
						far.Close()
					})
				}
				bal := balancer.New("web")
				bal.Update([]balancer.Spec{{ID: "b1", Weight: 1}})
				pool := web.NewPool(web.PoolOptions{Balancer: bal, Shared: true, Dial: func(context.Context, *balancer.Backend, *web.Client, []string) (net.Conn, string, error) {
					return near, "", nil
				}})
				defer pool.Close()
				client, edge := net.Pipe()
				results := make(chan web.Result, 1)
				begun := time.Now()
				wg.Go(func() {
					results <- web.NewSite(web.SiteOptions{Pool: pool, Deny: []web.Rule{{Path: "/denied"}}}).Serve(t.Context(), &web.Client{Conn: edge})
				})
				io.WriteString(client, "POST "+tt.path+" HTTP/1.1\r\nHost: a.test\r\n"+tt.header+"\r\n\r\n")
				wg.Go(func() { // what comes when it is too late
					<-time.After(10 * time.Second)
					io.WriteString(client, "GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n")
				})
				got, err := io.ReadAll(client)
				// net/http may ask for the body as the backend refuses it.
				got = bytes.TrimPrefix(got, []byte("HTTP/1.1 100 Continue\r\n\r\n"))
				if !strings.HasPrefix(string(got), "HTTP/1.1 "+tt.status) || strings.Count(string(got), "HTTP/1.1") != 1 || err != nil {
					t.Errorf("%q, %v, want one answer: %s", got, err, tt.status)
				}
				if r := <-results; r.Requests != 1 || time.Since(begun) > 9*time.Second {
					t.Errorf("%+v after %v, want one request, and no waiting", r, time.Since(begun))
				}
				client.Close()
				near.Close()
				wg.Wait()
			})
		})
	}
}

// TestBadBackend: what is no HTTP, or no answer, is 502 and says nothing of why.
func TestBadBackend(t *testing.T) {
	for name, says := range map[string]string{
		"not HTTP": "SSH-2.0-OpenSSH_9.2\r\n", "nothing": "", "half a header": "HTTP/1.1 200 OK\r\nContent-",
		"two lengths": "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
	} {
		t.Run(name, func(t *testing.T) {
			lab.Leaks(t)
			s := script(t, func(c *lab.Conn, r *bufio.Reader) {
				_, _ = http.ReadRequest(r)
				io.WriteString(c, says)
			})
			b := newBackends(t)
			b.addAddress("b1", s.Addr())
			e := newEdge(t, web.NewSite(web.SiteOptions{Pool: b.pool(web.PoolOptions{Shared: true, Retries: 3})}))
			c := e.raw("http/1.1")
			defer c.Close()
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: www.example.com\r\nConnection: close\r\n\r\n")
			res, body := whole(t, c, "GET")
			if want := "502 Bad Gateway\nThe server behind this address did not answer as it should. Please try again.\n"; res.StatusCode != 502 || body != want {
				t.Errorf("%s %q, want 502 %q", res.Status, body, want)
			}
			if got := e.result(); got.Err == nil || got.Retries != 0 {
				t.Errorf("%+v, want the error, and one try alone: the backend may have done what was asked", got)
			}
		})
	}
}

// TestDrain: requests under way finish, their connections end, and idle ones at once.
func TestDrain(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("h2 %v", h2), func(t *testing.T) {
			lab.Leaks(t)
			entered, release := make(chan struct{}, 1), make(chan struct{})
			b := newBackends(t)
			b.add("b1", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/wait" {
					entered <- struct{}{}
					<-release
				}
				tell(w, r)
			}), false)
			e := newEdge(t, web.NewSite(web.SiteOptions{Pool: b.pool(web.PoolOptions{Shared: true})}))
			idle := e.client(h2)
			ask(t, idle, request(t, "GET", "https://www.example.com/", ""))
			busy := e.client(h2)
			done := make(chan struct{})
			go func() {
				defer close(done)
				res, err := busy.Get("https://www.example.com/wait")
				if err != nil {
					t.Error(err)
					return
				}
				defer res.Body.Close()
				if body, err := io.ReadAll(res.Body); err != nil || len(body) == 0 {
					t.Errorf("%q, %v", body, err)
				}
			}()
			<-entered
			e.stop()
			if got := e.result(); got.Requests != 1 || got.Err != nil {
				t.Errorf("the idle one: %+v", got)
			}
			close(release)
			<-done
			if got := e.result(); got.Requests != 1 || got.Err != nil { // its client keeps the connection
				t.Errorf("the busy one: %+v", got)
			}
		})
	}
}
