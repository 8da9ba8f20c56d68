package web_test

import (
	"net/http"
	"slices"
	"sync"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/web"
)

// TestMisdirected: a request for a host of another route is refused, whatever comes
// with it, and the connection goes on: clients that coalesce open another one.
func TestMisdirected(t *testing.T) {
	lab.Leaks(t)
	b := newBackends(t)
	b.add("b1", http.HandlerFunc(tell), false)
	var mu sync.Mutex
	var asked []string
	site := web.NewSite(web.SiteOptions{
		HSTS: "max-age=1", Pool: b.pool(web.PoolOptions{Shared: true}),
		Redirects: []web.Redirect{{Path: "/old", To: "/new", Status: 308}}, Deny: []web.Rule{{Path: "/admin"}},
		Owns: func(c *web.Client, host string) bool {
			mu.Lock()
			defer mu.Unlock()
			asked = append(asked, host)
			return c.SNI == "www.example.com" && host == "www.example.com"
		},
	})
	for _, h2 := range []bool{false, true} {
		e := newEdge(t, site)
		client := e.client(h2)
		for _, tt := range []struct {
			host, path string
			status     int
		}{
			{"www.example.com", "/", 200},
			{"WWW.example.com.:8443", "/", 200},
			{"secret.example.com", "/", 421},
			{"secret.example.com", "/old", 421},
			{"secret.example.com", "/admin", 421},
			{"www.example.com.evil.example", "/", 421},
			{"[2001:DB8::1]:443", "/", 421},
			{"www.example.com", "/", 200},
		} {
			r := request(t, "GET", "https://www.example.com"+tt.path, "")
			r.Host = tt.host
			res, _ := ask(t, client, r)
			if res.StatusCode != tt.status || res.Header.Get("Strict-Transport-Security") != "max-age=1" {
				t.Errorf("h2 %v, %s%s: %s %v, want %d with HSTS", h2, tt.host, tt.path, res.Status, res.Header, tt.status)
			}
		}
		e.stop()
		if got := e.result(); got.Requests != 8 {
			t.Errorf("h2 %v: %+v, want 8 requests of one connection", h2, got)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for _, want := range []string{"www.example.com", "secret.example.com", "www.example.com.evil.example", "2001:db8::1"} {
		if !slices.Contains(asked, want) {
			t.Errorf("Owns was never asked for %q, but for %q", want, asked)
		}
	}
}
