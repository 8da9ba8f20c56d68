package web_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/web"
)

// get writes a request line as it stands and returns the answer, without body.
func get(t *testing.T, e *edge, method, target string) *http.Response {
	t.Helper()
	c := e.raw("http/1.1")
	defer c.Close()
	if _, err := io.WriteString(c, method+" "+target+" HTTP/1.1\r\nHost: www.example.com\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	return answer(t, c, method)
}

func TestDeny(t *testing.T) {
	lab.Leaks(t)
	b := newBackends(t)
	b.add("b1", http.HandlerFunc(tell), false)
	e := newEdge(t, web.NewSite(web.SiteOptions{HSTS: "max-age=1", Pool: b.pool(web.PoolOptions{Shared: true}), Deny: []web.Rule{
		{Path: "/admin/**"},
		{Path: "/v1/*/secret", Methods: []string{"GET", "PUT"}},
		{Path: "/files/*.bak"},
		{Path: "/exact/"},
		{Methods: []string{"TRACE", "DELETE"}},
	}}))
	for _, tt := range []struct {
		method, target string
		denied         bool
	}{
		{"GET", "/", false},
		{"GET", "/administrator", false},
		{"delete", "/", true},
		{"pUt", "/v1/x/secret", true},
		{"post", "/v1/x/secret", false},
		{"GET", "/x/admin", false},
		{"GET", "/admin", true},
		{"GET", "/admin/", true},
		{"POST", "/admin/x/y?z", true},
		{"GET", "http://www.example.com/admin/x", true},
		{"GET", "/ADMIN/x", true},
		{"GET", "//admin/x", true},
		{"GET", "/x/../admin", true},
		{"GET", "/x/%2e%2E/admin", true},
		{"GET", "/x%2f..%2Fadmin", true},
		{"GET", "/x//..//admin", true},
		{"GET", "/x/../../../admin", true},
		{"GET", "/./admin", true},
		{"GET", "/%61dmin", true},
		{"GET", "/%2561dmin", true},
		{"GET", "/%252561dmin", true},
		{"GET", "/admin%00.png", true},
		{"GET", "/admin%3Fx", true},
		{"GET", "/admin%23x", true},
		{"GET", "/admin;jsessionid=1", true},
		{"GET", "/admin;/x", true},
		{"GET", "/x/..;/admin", true},
		{"GET", "/x;y/../admin", true},
		{"GET", "/admin./x", true},
		{"GET", "/admin%20/x", true},
		{"GET", `/x\..\admin`, true},
		{"GET", `/x/..%5cadmin`, true},
		{"GET", `/%5cadmin`, true},
		{"GET", "/x/..%c0%afadmin", true},
		{"GET", "/x/%c0%ae%c0%ae/admin", true},
		{"GET", "/admin/../x", true}, // a server that keeps dots reads it as denied
		{"GET", "/v1/a/secret", true},
		{"PUT", "/v1/a/secret/", true},
		{"POST", "/v1/a/secret", false},
		{"GET", "/v1/a/b/secret", false},
		{"GET", "/v1/a%2fb/secret", true}, // one segment, as some read it
		{"GET", "/files/x.bak", true},
		{"GET", "/files/x.BAK.", true},
		{"GET", "/files/x.bak.txt", false},
		{"GET", "/files/d/x.bak", false},
		{"GET", "/exact", true},
		{"GET", "/exact/", true},
		{"GET", "/exact/x", false},
		{"DELETE", "/anything", true},
		{"get", "/anything", false},
	} {
		t.Run(tt.method+" "+tt.target, func(t *testing.T) {
			res := get(t, e, tt.method, tt.target)
			if want := map[bool]int{false: 200, true: 403}[tt.denied]; res.StatusCode != want {
				t.Errorf("%s, want %d", res.Status, want)
			}
			if tt.denied && (res.Header.Get("X-Content-Type-Options") != "nosniff" || res.Header.Get("Strict-Transport-Security") != "max-age=1") {
				t.Errorf("header %v, want nosniff and HSTS", res.Header)
			}
		})
	}
}

// TestPathsPass: a path reaches the backend as it was written, but for what no URL may
// hold.
func TestPathsPass(t *testing.T) {
	lab.Leaks(t)
	b := newBackends(t)
	b.add("b1", http.HandlerFunc(tell), false)
	e := newEdge(t, web.NewSite(web.SiteOptions{Pool: b.pool(web.PoolOptions{Shared: true})}))
	for target, want := range map[string]string{
		"/a%2Fb/%41?q|\"":             "/a%2Fb/%41?q|\"",
		"/a%2Fb|c":                    "/a%2Fb%7Cc",
		"/%41/\xc3\xa4/%2f":           "/%41/%C3%A4/%2f",
		"/a%2fb#c":                    "/a%2fb%23c",
		`/a\%2Fb^`:                    `/a%5C%2Fb%5E`,
		"/[a]%3B;b=(c)!*'x":           "/[a]%3B;b=(c)!*'x",
		"//a//":                       "//a//",
		"http://www.example.com/%7e|": "/%7e%7C",
		"http://www.example.com?q":    "/?q",
	} {
		c := e.raw("http/1.1")
		if _, err := io.WriteString(c, "GET "+target+" HTTP/1.1\r\nHost: www.example.com\r\nConnection: close\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		res, body := whole(t, c, "GET")
		var h heard
		if err := json.Unmarshal([]byte(body), &h); err != nil || h.URI != want {
			t.Errorf("%s: %s, the backend heard %q, %v, want %q", target, res.Status, h.URI, err, want)
		}
		c.Close()
	}
}

// TestDenyOverrides: what a field asks for in place of the request line is denied as that
// is, and the fields are passed on where it is not.
func TestDenyOverrides(t *testing.T) {
	lab.Leaks(t)
	b := newBackends(t)
	b.add("b1", http.HandlerFunc(tell), false)
	e := newEdge(t, web.NewSite(web.SiteOptions{Pool: b.pool(web.PoolOptions{Shared: true}), Deny: []web.Rule{
		{Path: "/admin/**"},
		{Path: "/v1/**", Methods: []string{"DELETE"}},
	}}))
	for _, tt := range []struct {
		method, target, field, value string
		denied                       bool
	}{
		{"GET", "/", "X-Original-URL", "/admin", true},
		{"GET", "/", "X-Original-URL", "admin/x?y", true},
		{"GET", "/", "x-original-url", "/x/..%2fadmin", true},
		{"GET", "/", "X_Original_URL", "/admin", true},
		{"GET", "/", "X-Rewrite-URL", "https://www.example.com/admin/", true},
		{"GET", "/", "X-Rewrite-Url", "//admin", true},
		{"GET", "/", "X-Original-URL", "/administrator", false},
		{"GET", "/", "X-Original-URL", "/%zz", false},
		{"GET", "/", "X-Original-URL", "", false},
		{"GET", "/", "X-Original-URLs", "/admin", false},
		{"GET", "/admin", "X-Original-URL", "/", true},
		{"POST", "/v1/x", "X-HTTP-Method-Override", "DELETE", true},
		{"POST", "/v1/x", "X-HTTP-METHOD", " delete", true},
		{"POST", "/v1/x", "X_Method_Override", "PUT, DELETE", true},
		{"POST", "/v2/x", "X-HTTP-Method-Override", "DELETE", false},
		{"POST", "/v1/x", "X-HTTP-Method-Override", "PUT", false},
		{"DELETE", "/v1/x", "X-HTTP-Method-Override", "PUT", true},
	} {
		t.Run(tt.method+" "+tt.target+" "+tt.field+" "+tt.value, func(t *testing.T) {
			for _, h2 := range []bool{false, true} {
				r := request(t, tt.method, "https://www.example.com"+tt.target, "")
				r.Header[tt.field] = []string{tt.value}
				res, h := ask(t, e.client(h2), r)
				if want := map[bool]int{false: 200, true: 403}[tt.denied]; res.StatusCode != want {
					t.Errorf("h2 %t: %s, want %d", h2, res.Status, want)
				}
				if got := h.Header.Get(tt.field); !tt.denied && got != strings.TrimSpace(tt.value) {
					t.Errorf("h2 %t: the backend heard %q", h2, got)
				}
			}
		})
	}
}

func TestRedirect(t *testing.T) {
	lab.Leaks(t)
	b := newBackends(t)
	b.add("b1", http.HandlerFunc(tell), false)
	e := newEdge(t, web.NewSite(web.SiteOptions{
		HSTS: "max-age=1", Pool: b.pool(web.PoolOptions{Shared: true}),
		Deny: []web.Rule{{Path: "/old/secret"}},
		Redirects: []web.Redirect{
			{Path: "/old/**", To: "https://new.example.com/n/**", Status: 308},
			{Path: "/dir", To: "/dir/", Status: 301},
			{Path: "/fixed/**", To: "/f?a=1", Status: 302},
			{Path: "/root/**", To: "/**", Status: 307},
			{Path: "/u/*/p", To: "https://x.example/", Status: 303},
		},
	}))
	for _, tt := range []struct {
		target   string
		status   int
		location string
	}{
		{"/old", 308, "https://new.example.com/n"},
		{"/old/", 308, "https://new.example.com/n/"},
		{"/OLD/a%2Fb/c%20d?x=%zz&y", 308, "https://new.example.com/n/a%2Fb/c%20d?x=%zz&y"},
		{"/%6fld/a", 308, "https://new.example.com/n/a"},
		{"/old//evil.example", 308, "https://new.example.com/n/evil.example"},
		{"/old/secret", 403, ""},
		{"/older", 200, ""},
		{"/dir", 301, "/dir/"},
		{"/dir/", 200, ""},
		{"/fixed/x?b=2", 302, "/f?a=1&b=2"},
		{"/root//evil.example/x", 307, "/evil.example/x"},
		{`/root/\evil.example`, 307, "/%5Cevil.example"},
		{"/root/%2fevil.example", 307, "/%2fevil.example"},
		{"/root", 307, "/"},
		{"/u/me/p?q", 303, "https://x.example/?q"},
	} {
		t.Run(tt.target, func(t *testing.T) {
			res := get(t, e, "GET", tt.target)
			if got := res.Header.Get("Location"); res.StatusCode != tt.status || got != tt.location {
				t.Errorf("%s to %q, want %d to %q", res.Status, got, tt.status, tt.location)
			}
			if res.StatusCode != 200 && res.Header.Get("Strict-Transport-Security") != "max-age=1" {
				t.Errorf("header %v, want HSTS", res.Header)
			}
		})
	}
}

// TestOpaque: what is neither a path nor a URL of a host is not passed on.
func TestOpaque(t *testing.T) {
	lab.Leaks(t)
	b := newBackends(t)
	b.add("b1", http.HandlerFunc(tell), false)
	e := newEdge(t, web.NewSite(web.SiteOptions{Pool: b.pool(web.PoolOptions{Shared: true}), Deny: []web.Rule{{Path: "/admin"}}}))
	for _, target := range []string{"x:admin", "http:admin", "admin", "?/admin"} {
		if res := get(t, e, "GET", target); res.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %s, want 400", target, res.Status)
		}
	}
	if res := get(t, e, "CONNECT", "www.example.com:443"); res.StatusCode != http.StatusNotImplemented {
		t.Errorf("CONNECT: %s, want 501", res.Status)
	}
	if res := get(t, e, "OPTIONS", "*"); res.StatusCode != http.StatusOK {
		t.Errorf("OPTIONS *: %s, want the backend's 200", res.Status)
	}
}
