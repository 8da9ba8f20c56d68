package web_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/web"
)

func TestPlain(t *testing.T) {
	lab.Leaks(t)
	b := newBackends(t)
	b.add("b1", http.HandlerFunc(tell), false)
	site := web.NewSite(web.SiteOptions{HSTS: "max-age=1", Forwarded: true, Pool: b.pool(web.PoolOptions{Shared: true})})
	o := web.PlainOptions{
		Challenge: func(host, token string) (string, bool) { return token + ".thumb", host == "a.test" && token == "tok-1" },
		Known: func(_ *web.Client, host string) bool {
			return strings.HasSuffix(host, "a.test") || host == "2001:db8::1" || host == "192.0.2.1"
		},
		Site: func(_ *web.Client, host string) *web.Site {
			if host == "plain.a.test" {
				return site
			}
			return nil
		},
	}
	standard := newPlainEdge(t, web.NewPlain(o))
	o.HTTPSPort = "8443"
	other := newPlainEdge(t, web.NewPlain(o))
	for _, tt := range []struct {
		name, request string
		edge          *edge
		status        int
		location      string
		has           string // in the body
	}{
		{"known", "GET /x%2f?q=%zz HTTP/1.1\r\nHost: A.test\r\n", standard, 308, "https://a.test/x%2f?q=%zz", "308"},
		{"port", "GET / HTTP/1.1\r\nHost: a.test.:80\r\n", standard, 308, "https://a.test/", ""},
		{"other port", "GET / HTTP/1.1\r\nHost: a.test:8080\r\n", other, 308, "https://a.test:8443/", ""},
		{"IPv6", "GET / HTTP/1.1\r\nHost: [2001:DB8::1]:80\r\n", other, 308, "https://[2001:db8::1]:8443/", ""},
		{"IPv4", "POST / HTTP/1.1\r\nHost: 192.0.2.1\r\nContent-Length: 0\r\n", standard, 308, "https://192.0.2.1/", ""},
		{"absolute form", "GET http://a.test/y HTTP/1.1\r\nHost: other.test\r\n", standard, 308, "https://a.test/y", ""},
		{"two slashes", "GET //evil.test/ HTTP/1.1\r\nHost: a.test\r\n", standard, 308, "https://a.test//evil.test/", ""},
		{"options", "OPTIONS * HTTP/1.1\r\nHost: a.test\r\n", standard, 308, "https://a.test/", ""},
		{"unknown", "GET / HTTP/1.1\r\nHost: b.test\r\n", standard, 421, "", "421"},
		{"no host", "GET / HTTP/1.0\r\n", standard, 400, "", "400"},
		{"empty host", "GET / HTTP/1.1\r\nHost:\r\n", standard, 400, "", "400"},
		{"odd host", "GET / HTTP/1.1\r\nHost: a.test@x.a.test\r\n", standard, 400, "", "400"},
		{"odd port", "GET / HTTP/1.1\r\nHost: x:y.a.test\r\n", standard, 400, "", "400"},
		{"opaque", "GET x:y HTTP/1.1\r\nHost: a.test\r\n", standard, 400, "", "400"},
		{"connect", "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n", standard, 501, "", "501"},
		{"challenge", "GET /.well-known/acme-challenge/tok-1 HTTP/1.1\r\nHost: a.test\r\n", standard, 200, "", "tok-1.thumb"},
		{"challenge of another", "GET /.well-known/acme-challenge/tok-2 HTTP/1.1\r\nHost: a.test\r\n", standard, 308, "https://a.test/.well-known/acme-challenge/tok-2", ""},
		{"challenge by POST", "POST /.well-known/acme-challenge/tok-1 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n", standard, 308, "https://a.test/.well-known/acme-challenge/tok-1", ""},
		{"site", "GET /z HTTP/1.1\r\nHost: plain.a.test\r\nX-Forwarded-Proto: https\r\n", standard, 200, "", `"X-Forwarded-Proto":["http"]`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := tt.edge.raw()
			defer c.Close()
			if _, err := io.WriteString(c, tt.request+"Connection: close\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			res, body := whole(t, c, "GET")
			if got := res.Header.Get("Location"); res.StatusCode != tt.status || got != tt.location || !strings.Contains(body, tt.has) {
				t.Errorf("%s to %q: %q, want %d to %q with %q", res.Status, got, body, tt.status, tt.location, tt.has)
			}
			if got := res.Header.Get("Strict-Transport-Security"); got != "" && tt.name != "site" {
				t.Errorf("Strict-Transport-Security: %q over plain HTTP", got)
			}
		})
	}
}
