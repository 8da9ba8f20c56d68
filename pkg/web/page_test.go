package web_test

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/web"
)

func TestSorry(t *testing.T) {
	lab.Leaks(t)
	e := newEdge(t, web.NewSite(web.SiteOptions{HSTS: "max-age=63072000"}))
	for _, h2 := range []bool{false, true} {
		client := e.client(h2)
		for _, tt := range []struct {
			name, method, accept, kind, has string
		}{
			{"browser", "GET", "text/html,application/xhtml+xml,*/*;q=0.8", "text/html; charset=utf-8", "<!doctype html>"},
			{"curl", "GET", "*/*", "text/plain; charset=utf-8", "503 Service Unavailable\n"},
			{"post", "POST", "", "text/plain; charset=utf-8", "503 Service Unavailable\n"},
			{"json", "GET", "application/json, text/html;q=0", "text/plain; charset=utf-8", "503 Service Unavailable\n"},
			{"head", "HEAD", "text/html", "text/html; charset=utf-8", ""},
		} {
			name := tt.name
			if h2 {
				name += " h2"
			}
			t.Run(name, func(t *testing.T) {
				r, err := http.NewRequestWithContext(t.Context(), tt.method, "https://www.example.com/x", http.NoBody)
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Accept", tt.accept)
				res, err := client.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				body, err := io.ReadAll(res.Body)
				if err != nil {
					t.Fatal(err)
				}
				if res.StatusCode != http.StatusServiceUnavailable {
					t.Errorf("status %d, want 503", res.StatusCode)
				}
				if want := map[bool]int{false: 1, true: 2}[h2]; res.ProtoMajor != want {
					t.Errorf("protocol %s, want HTTP/%d", res.Proto, want)
				}
				for name, want := range map[string]string{
					"Content-Type": tt.kind, "Cache-Control": "no-store", "Retry-After": "10",
					"X-Content-Type-Options": "nosniff", "Strict-Transport-Security": "max-age=63072000", "Server": "",
				} {
					if got := res.Header.Get(name); got != want {
						t.Errorf("%s: %q, want %q", name, got, want)
					}
				}
				if tt.method == "HEAD" {
					if n, err := strconv.Atoi(res.Header.Get("Content-Length")); err != nil || n < 100 || len(body) != 0 {
						t.Errorf("HEAD: Content-Length %d, %v, and a body of %d bytes", n, err, len(body))
					}
				} else if !strings.HasPrefix(string(body), tt.has) || res.ContentLength != int64(len(body)) {
					t.Errorf("body %q of declared length %d, want one that begins with %q", body, res.ContentLength, tt.has)
				}
			})
		}
		client.CloseIdleConnections()
		for range 5 { // a client must come again to find a backend
			if got := e.result(); got.Requests != 1 || got.Err != nil {
				t.Errorf("h2 %v: %+v, want 1 request and no error", h2, got)
			}
		}
	}
}
