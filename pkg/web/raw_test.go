package web_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/web"
)

// TestSmuggling: what two servers could read as different requests is refused, and
// nothing of it reaches a backend.
func TestSmuggling(t *testing.T) {
	lab.Leaks(t)
	var reached atomic.Int64
	b := newBackends(t)
	b.add("b1", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reached.Add(1)
		tell(w, r)
	}), false)
	e := newEdge(t, web.NewSite(web.SiteOptions{Pool: b.pool(web.PoolOptions{Shared: true})}))
	const host = "Host: www.example.com\r\n"
	for _, tt := range []struct {
		name, request string
		status        int
	}{
		{"two lengths", "POST / HTTP/1.1\r\n" + host + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400},
		{"length list", "POST / HTTP/1.1\r\n" + host + "Content-Length: 1, 2\r\n\r\nab", 400},
		{"signed length", "POST / HTTP/1.1\r\n" + host + "Content-Length: +1\r\n\r\na", 400},
		{"negative length", "POST / HTTP/1.1\r\n" + host + "Content-Length: -1\r\n\r\na", 400},
		{"unknown coding", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501},
		{"two codings", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", 501},
		{"coding list", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501},
		{"space before colon", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400},
		{"space in name", "GET / HTTP/1.1\r\n" + host + "Foo Bar: x\r\n\r\n", 400},
		{"folded first line", "GET / HTTP/1.1\r\n Folded: x\r\n" + host + "\r\n", 400},
		{"NUL in value", "GET / HTTP/1.1\r\n" + host + "X: a\x00b\r\n\r\n", 400},
		{"CR in value", "GET / HTTP/1.1\r\n" + host + "X: a\rb\r\n\r\n", 400},
		{"no colon", "GET / HTTP/1.1\r\n" + host + "X\r\n\r\n", 400},
		{"two hosts", "GET / HTTP/1.1\r\n" + host + "Host: other.example.com\r\n\r\n", 400},
		{"no host", "GET / HTTP/1.1\r\n\r\n", 400},
		{"bad host", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400},
		{"host with user", "GET / HTTP/1.1\r\nHost: u@www.example.com\r\n\r\n", 400},
		{"bad escape", "GET /%zz HTTP/1.1\r\n" + host + "\r\n", 400},
		{"bad version", "GET / HTTP/1.17\r\n" + host + "\r\n", 400},
		{"HTTP/0.9", "GET /\r\n\r\n", 400},
		{"h2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400},
		{"blank in a trailer's name", "POST / HTTP/1.1\r\n" + host + "Trailer: a b\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		{"bad method", "G@T / HTTP/1.1\r\n" + host + "\r\n", 400},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := e.raw("http/1.1")
			defer c.Close()
			before := reached.Load()
			if _, err := io.WriteString(c, tt.request); err != nil {
				t.Fatal(err)
			}
			if res := answer(t, c, "GET"); res.StatusCode != tt.status {
				t.Errorf("%s, want %d", res.Status, tt.status)
			}
			if n := reached.Load() - before; n != 0 {
				t.Errorf("%d requests reached the backend", n)
			}
		})
	}
}

// TestOneReading: where a request may be read in two ways and is not refused, the
// backend gets the one way alone.
func TestOneReading(t *testing.T) {
	const host = "Host: www.example.com\r\nConnection: close\r\n"
	for _, tt := range []struct{ name, request, has, lacks, end string }{
		{
			"length and coding", "POST / HTTP/1.1\r\n" + host + "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nSMUGGLED",
			"Transfer-Encoding: chunked\r\n", "Content-Length", "3\r\nabc\r\n0\r\n\r\n",
		},
		{
			"folded line", "POST / HTTP/1.1\r\n" + host + "X: a\r\n Content-Length: 9\r\nContent-Length: 1\r\n\r\nx",
			"X: a Content-Length: 9\r\n", "\n Content", "\r\n\r\nx",
		},
		{
			"bare newlines", "POST / HTTP/1.1\n" + strings.ReplaceAll(host, "\r", "") + "Content-Length: 1\n\nx",
			"Content-Length: 1\r\n", "\n\n", "\r\n\r\nx",
		},
		{
			"same length twice", "POST / HTTP/1.1\r\n" + host + "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx",
			"Content-Length: 1\r\n", "1\r\nContent-Length", "\r\n\r\nx",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lab.Leaks(t)
			heard := make(chan string, 1)
			s := script(t, func(c *lab.Conn, r *bufio.Reader) {
				var all []byte
				for c.SetReadDeadline(time.Now().Add(lab.Patience)); !bytes.HasSuffix(all, []byte(tt.end)); {
					next, err := r.ReadByte()
					if err != nil {
						break
					}
					all = append(all, next)
				}
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				rest, _ := io.ReadAll(r)
				heard <- string(append(all, rest...))
			})
			b := newBackends(t)
			b.addAddress("b1", s.Addr())
			e := newEdge(t, web.NewSite(web.SiteOptions{Pool: b.pool(web.PoolOptions{})}))
			c := e.raw("http/1.1")
			defer c.Close()
			if _, err := io.WriteString(c, tt.request); err != nil {
				t.Fatal(err)
			}
			answer(t, c, "POST")
			e.result() // so nothing more is sent
			got := <-heard
			if !strings.Contains(got, tt.has) || strings.Contains(got, tt.lacks) || !strings.HasSuffix(got, tt.end) || strings.Contains(got, "SMUGGLED") {
				t.Errorf("the backend got %q, want one with %q and without %q that ends in %q", got, tt.has, tt.lacks, tt.end)
			}
		})
	}
}

// TestHTTP10: old clients are answered, by the name in their hello if they say no
// other, and their connection ends.
func TestHTTP10(t *testing.T) {
	lab.Leaks(t)
	b := newBackends(t)
	b.add("b1", http.HandlerFunc(tell), false)
	e := newEdge(t, web.NewSite(web.SiteOptions{
		Owns: func(_ *web.Client, host string) bool { return host == "www.example.com" }, Forwarded: true,
		Pool: b.pool(web.PoolOptions{Shared: true}),
	}))
	c := e.raw("http/1.1")
	defer c.Close()
	io.WriteString(c, "GET /x HTTP/1.0\r\n\r\n")
	got, err := io.ReadAll(c)
	if err != nil || !strings.HasPrefix(string(got), "HTTP/1.0 200 OK\r\n") || strings.Contains(string(got), "chunked") ||
		!strings.Contains(string(got), `"Host":"www.example.com"`) || !strings.Contains(string(got), `host=www.example.com`) {
		t.Errorf("%q, %v", got, err)
	}
}

// TestPipeline: requests that come before their turn are answered in theirs.
func TestPipeline(t *testing.T) {
	lab.Leaks(t)
	b := newBackends(t)
	b.add("b1", http.HandlerFunc(tell), false)
	e := newEdge(t, web.NewSite(web.SiteOptions{Pool: b.pool(web.PoolOptions{Shared: true})}))
	c := e.raw("http/1.1")
	defer c.Close()
	const n = 20
	var all strings.Builder
	for i := range n {
		all.WriteString("POST /" + strings.Repeat("x", i) + " HTTP/1.1\r\nHost: www.example.com\r\nContent-Length: 3\r\n\r\nabc")
	}
	io.WriteString(c, all.String())
	c.SetReadDeadline(time.Now().Add(lab.Patience))
	r := bufio.NewReader(c)
	for i := range n {
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		if want := `"URI":"/` + strings.Repeat("x", i) + `"`; err != nil || !strings.Contains(string(body), want) || !strings.Contains(string(body), `"Body":"abc"`) {
			t.Fatalf("answer %d: %q, %v, want %s", i, body, err, want)
		}
	}
}

// TestLimits: a header that is too large, or too slow in coming, and a connection that
// asks for nothing more.
func TestLimits(t *testing.T) {
	lab.Leaks(t)
	o := web.SiteOptions{MaxHeader: 8 << 10}
	large := newEdge(t, web.NewSite(o))
	for _, h2 := range []bool{false, true} {
		client := large.client(h2)
		for size, want := range map[int]int{1 << 10: 503, 16 << 10: 431} {
			r := request(t, "GET", "https://www.example.com/", "")
			r.Header.Set("X-Large", strings.Repeat("x", size))
			res, err := client.Do(r)
			if err != nil {
				if h2 && want == 431 { // the client has been told the limit, and says so itself
					continue
				}
				t.Fatal(err)
			}
			res.Body.Close()
			if res.StatusCode != want {
				t.Errorf("h2 %v: a field of %d bytes: %s, want %d", h2, size, res.Status, want)
			}
		}
		client.CloseIdleConnections()
	}
	o.HeaderTimeout, o.Keepalive = time.Millisecond, time.Millisecond
	slow := newEdge(t, web.NewSite(o))
	for name, sent := range map[string]string{"nothing": "", "half": "GET / HTTP/1.1\r\nHost: www", "idle": "GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n"} {
		for _, alpn := range []string{"http/1.1", "h2"} {
			c := slow.raw(alpn)
			if alpn == "h2" && sent != "" {
				sent = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00" // a preface with empty SETTINGS
			}
			io.WriteString(c, sent)
			c.SetReadDeadline(time.Now().Add(lab.Patience))
			_, err := io.Copy(io.Discard, c)
			var ne net.Error
			if errors.As(err, &ne) && ne.Timeout() {
				t.Errorf("%s, %s: the connection stays", name, alpn)
			}
			c.Close()
		}
	}
}
