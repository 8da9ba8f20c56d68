package web_test

import (
	"bufio"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/web"
)

// TestOddAnswers: what a backend says that it should not reaches no client as something
// else, and nothing behind an answer is taken for the next one.
func TestOddAnswers(t *testing.T) {
	const ok, failed = "Content-Length: 2\r\n\r\nok", `^HTTP/1\.[01] 502 `
	for _, tt := range []struct{ name, request, says, want string }{
		{"204 with a body", "GET / HTTP/1.1", "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok", `^HTTP/1.1 204 No Content\r\nDate: [^\n]*\r\nConnection: close\r\n\r\n$`},
		{"204 in chunks", "GET / HTTP/1.1", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", `^HTTP/1.1 204 No Content\r\nDate: [^\n]*\r\nConnection: close\r\n\r\n$`},
		{"304 with a body", "GET / HTTP/1.1", "HTTP/1.1 304 Not Modified\r\n" + ok, `^HTTP/1.1 304 Not Modified\r\nDate: [^\n]*\r\nConnection: close\r\n\r\n$`},
		{"HEAD with a body", "HEAD / HTTP/1.1", "HTTP/1.1 200 OK\r\n" + ok, `^HTTP/1.1 200 OK\r\nContent-Length: 2\r\nDate: [^\n]*\r\nConnection: close\r\n\r\n$`},
		{"length and coding", "GET / HTTP/1.1", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nyes\r\n0\r\n\r\n", `(?s)^HTTP/1.1 200 OK\r\n.*\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nyes\r\n0\r\n\r\n$`},
		{"an answer behind", "GET / HTTP/1.1", "HTTP/1.1 200 OK\r\n" + ok + "HTTP/1.1 200 OK\r\n" + ok, `(?s)^HTTP/1.1 200 OK\r\n.*\r\n\r\nok$`},
		{"no type", "GET / HTTP/1.1", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", `^HTTP/1.1 200 OK\r\nContent-Length: 6\r\nDate: [^\n]*\r\nConnection: close\r\n\r\n<html>$`},
		{"a type", "GET / HTTP/1.1", "HTTP/1.1 200 OK\r\nContent-Type: a/b\r\n" + ok, `\r\nContent-Type: a/b\r\n`},
		{"the coding of another", "GET / HTTP/1.1", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", failed},
		{"CR in a value", "GET / HTTP/1.1", "HTTP/1.1 200 OK\r\nX: a\rb\r\n" + ok, failed},
		{"NUL in a value", "GET / HTTP/1.1", "HTTP/1.1 200 OK\r\nX: a\x00b\r\n" + ok, failed},
		{"blank in a name", "GET / HTTP/1.1", "HTTP/1.1 200 OK\r\nX Y: a\r\n" + ok, `^HTTP/1.1 200 OK\r\nContent-Length: 2\r\nDate: [^\n]*\r\nConnection: close\r\n\r\nok$`},
		{"a status below", "GET / HTTP/1.1", "HTTP/1.1 099 Odd\r\n" + ok, failed},
		{"a status above", "GET / HTTP/1.1", "HTTP/1.1 1000 Odd\r\n" + ok, failed},
		{"a switch unasked", "GET / HTTP/1.1", "HTTP/1.1 101 Switching Protocols\r\n\r\n", failed},
		{"hints", "GET / HTTP/1.1", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\n" + ok, `(?s)^HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\n.*\r\n\r\nok$`},
		{"hints to an old client", "GET / HTTP/1.0", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\n" + ok, `(?s)^HTTP/1.0 200 OK\r\n[^<]*\r\n\r\nok$`},
		{"hints without end", "GET / HTTP/1.1", strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 2000), `\r\nHTTP/1.1 502 `},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lab.Leaks(t)
			s := script(t, func(c *lab.Conn, r *bufio.Reader) {
				_, _ = http.ReadRequest(r)
				io.WriteString(c, tt.says)
				_, _ = io.Copy(io.Discard, r) // until it is given up
			})
			b := newBackends(t)
			b.addAddress("b1", s.Addr())
			e := newEdge(t, web.NewSite(web.SiteOptions{Pool: b.pool(web.PoolOptions{})}))
			c := e.raw("http/1.1")
			defer c.Close()
			io.WriteString(c, tt.request+"\r\nHost: www.example.com\r\nConnection: close\r\n\r\n")
			c.SetReadDeadline(time.Now().Add(lab.Patience))
			if got, err := io.ReadAll(c); err != nil || !regexp.MustCompile(tt.want).Match(got) {
				t.Errorf("got %q, %v, want %s", got, err, tt.want)
			}
			if got := e.result(); (got.Err != nil) != strings.Contains(tt.want, "502") {
				t.Errorf("%+v, which is not what the client was told", got)
			}
			b.waitNone()
		})
	}
}

// TestRequestTrailers: the fields behind the body of a request reach the backend if they
// were announced and may stand there, over each protocol to either side.
func TestRequestTrailers(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		for _, secure := range []bool{false, true} {
			lab.Leaks(t)
			b := newBackends(t)
			b.add("b1", http.HandlerFunc(tell), secure)
			e := newEdge(t, web.NewSite(web.SiteOptions{Forwarded: true, Pool: b.pool(web.PoolOptions{Shared: true})}))
			r := request(t, "POST", "https://www.example.com/", "hello")
			r.Trailer = http.Header{
				"Digest": {"one"}, "X-Two": {"2", "II"}, "X-Forwarded-For": {"192.0.2.1"}, "X_Real_IP": {"192.0.2.1"},
				"Cookie": {"a=b"}, "X-Http-Method-Override": {"DELETE"}, "X-None": nil,
			}
			_, h := ask(t, e.client(h2), r)
			for name, want := range map[string]string{
				"Digest": "one", "X-Two": "2|II", "X-Forwarded-For": "", "X_real_ip": "", "Cookie": "", "X-Http-Method-Override": "",
			} {
				if got := strings.Join(h.Trailer[name], "|"); got != want {
					t.Errorf("h2 %t to %t: trailer %s: the backend heard %q, want %q", h2, secure, name, got, want)
				}
			}
			if got := h.Header.Get("X-Forwarded-For"); got != "127.0.0.1" || h.Body != "hello" {
				t.Errorf("h2 %t to %t: the backend heard %+v", h2, secure, h)
			}
		}
	}
}

// TestTrailersUnannounced: what a client sends behind a body and has not announced goes
// nowhere.
func TestTrailersUnannounced(t *testing.T) {
	lab.Leaks(t)
	b := newBackends(t)
	b.add("b1", http.HandlerFunc(tell), false)
	e := newEdge(t, web.NewSite(web.SiteOptions{Pool: b.pool(web.PoolOptions{Shared: true})}))
	for _, announced := range []string{"", "Trailer: X-One\r\n"} {
		c := e.raw("http/1.1")
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: www.example.com\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n"+announced+
			"\r\n2\r\nhi\r\n0\r\nX-One: 1\r\nX-Forwarded-For: 192.0.2.1\r\nContent-Length: 7\r\n\r\n")
		_, body := whole(t, c, "POST")
		want := map[bool]string{true: `"Trailer":null`, false: `"Trailer":{"X-One":["1"]}`}[announced == ""]
		if !strings.Contains(body, want) || !strings.Contains(body, `"Body":"hi"`) {
			t.Errorf("announced %q: the backend heard %s, want %s", announced, body, want)
		}
		c.Close()
	}
}
