package web_test

import (
	"bufio"
	"context"
	"errors"
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

// exchangeOf has one client talk to backends that dial leads to, and returns all that it
// is answered. says writes its request.
func exchangeOf(t *testing.T, dial func() (net.Conn, error), o web.SiteOptions, says func(client net.Conn)) (string, web.Result) {
	bal := balancer.New("web")
	bal.Update([]balancer.Spec{{ID: "b1", Weight: 1}, {ID: "b2", Weight: 1}})
	o.Pool = web.NewPool(web.PoolOptions{Balancer: bal, Shared: true, Retries: 1, Dial: func(context.Context, *balancer.Backend, *web.Client, []string) (net.Conn, string, error) {
		c, err := dial()
		return c, "", err
	}})
	defer o.Pool.Close()
	client, edge := net.Pipe()
	defer client.Close()
	results := make(chan web.Result, 1)
	var wg sync.WaitGroup
	wg.Go(func() { results <- web.NewSite(o).Serve(t.Context(), &web.Client{Conn: edge}) })
	wg.Go(func() { says(client) })
	got, err := io.ReadAll(client)
	if err != nil {
		t.Error(err)
	}
	wg.Wait()
	return string(got), <-results
}

// TestEarlyAnswer: a timeout for the answer to begin is over once it has, also if the
// request ends later, as in a conversation.
func TestEarlyAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		var wg sync.WaitGroup
		wg.Go(func() {
			defer far.Close()
			r, err := http.ReadRequest(bufio.NewReader(far))
			if err != nil {
				t.Error(err)
				return
			}
			io.WriteString(far, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
			_, _ = io.Copy(io.Discard, r.Body)
			<-time.After(10 * time.Second)
			io.WriteString(far, "1\r\ny\r\n0\r\n\r\n")
		})
		got, r := exchangeOf(t, func() (net.Conn, error) { return near, nil }, web.SiteOptions{ResponseTimeout: 2 * time.Second}, func(client net.Conn) {
			io.WriteString(client, "POST / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
			<-time.After(time.Second)
			io.WriteString(client, "0\r\n\r\n")
		})
		if !strings.HasSuffix(got, "1\r\nx\r\n1\r\ny\r\n0\r\n\r\n") || r.Err != nil {
			t.Errorf("%q, %+v, want x, y, and an end", got, r)
		}
		wg.Wait()
	})
}

// TestResponseTimeoutOfRetry: the second backend has to answer in time as well.
func TestResponseTimeoutOfRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = io.Copy(io.Discard, far) })
		dials := 0
		begun := time.Now()
		got, r := exchangeOf(t, func() (net.Conn, error) {
			if dials++; dials == 1 {
				return nil, errors.New("refused")
			}
			return near, nil
		}, web.SiteOptions{ResponseTimeout: 2 * time.Second, Idle: time.Hour}, func(client net.Conn) {
			io.WriteString(client, "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
		})
		if took := time.Since(begun); !strings.HasPrefix(got, "HTTP/1.1 504") || !errors.Is(r.Err, web.ErrResponseTimeout) || took != 2*time.Second {
			t.Errorf("%q, %+v after %v, want 504 after 2 s", got, r, took)
		}
		wg.Wait()
	})
}

// TestUnaskedSwitch: a backend that switches protocols unasked is a failure, and holds
// neither a connection nor its count.
func TestUnaskedSwitch(t *testing.T) {
	lab.Leaks(t)
	s := script(t, func(c *lab.Conn, r *bufio.Reader) {
		_, _ = http.ReadRequest(r)
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n")
		_, _ = io.Copy(io.Discard, r)
	})
	b := newBackends(t)
	b.addAddress("b1", s.Addr())
	e := newEdge(t, web.NewSite(web.SiteOptions{Pool: b.pool(web.PoolOptions{Shared: true})}))
	c := e.raw("http/1.1")
	defer c.Close()
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: www.example.com\r\nConnection: close\r\n\r\n")
	if res := answer(t, c, "GET"); res.StatusCode != http.StatusBadGateway {
		t.Errorf("%s, want 502", res.Status)
	}
	if got := e.result(); got.Err == nil {
		t.Errorf("%+v, want the error", got)
	}
	b.waitNone()
	if n := b.balancer.Backends()[0].Active(); n != 0 {
		t.Errorf("the backend counts %d requests", n)
	}
}
