package proxy_test

import (
	"bufio"
	"io"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/proxy"
	"github.com/snicketlb/snicket/pkg/proxyheader"
)

// TestSiteBetweenStates: while a reload that turns the PROXY protocol on is under way, the
// Site of the former State meets backends of the new one. A connection that tells of one
// client serves no other.
func TestSiteBetweenStates(t *testing.T) {
	var requests, headers atomic.Int64
	backend := lab.Serve(t, func(c *lab.Conn) {
		r := bufio.NewReader(c)
		first, err := r.Peek(16)
		if err != nil {
			return
		}
		if n := 16 + int(first[14])<<8 + int(first[15]); proxyheader.Maybe(first) {
			if _, err := io.CopyN(io.Discard, r, int64(n)); err != nil {
				return
			}
			headers.Add(1)
		}
		for {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			requests.Add(1)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	}, lab.Options{})
	h := newSite(t)
	telling := *h.route.Pool
	telling.ProxyProtocol = 2
	now := target(backend.Addr())
	now.Pool = &telling
	update(h.route.Pool.Balancer, []any{now}, "b1")
	for range 3 {
		c, from := h.client()
		if res, body := get(t, c, from, asked); res.StatusCode != http.StatusOK || body != "ok" {
			t.Errorf("%s %q", res.Status, body)
		}
		c.Close()
		h.want(proxy.OK)
	}
	if requests.Load() != 3 || headers.Load() != 3 {
		t.Errorf("%d requests behind %d PROXY headers, want one each", requests.Load(), headers.Load())
	}
}
