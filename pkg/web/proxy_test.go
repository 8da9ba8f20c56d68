package web_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/web"
)

// heard is what a backend was asked.
type heard struct {
	Method, URI, Host, Proto string
	Header                   http.Header
	Body                     string
	Trailer                  http.Header
}

// tell answers with what it heard.
func tell(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Strict-Transport-Security", "max-age=1")
	w.Header().Set("Trailer", "X-Sum")
	_ = json.NewEncoder(w).Encode(heard{r.Method, r.RequestURI, r.Host, r.Proto, r.Header, string(body), r.Trailer})
	w.Header().Set("X-Sum", "42")
}

// ask does a request and decodes what the backend heard.
func ask(t *testing.T, c *http.Client, r *http.Request) (*http.Response, heard) {
	t.Helper()
	res, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var h heard
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode == http.StatusOK {
		err = json.Unmarshal(body, &h)
	}
	if err != nil {
		t.Fatalf("%s: %v in %q", res.Status, err, body)
	}
	return res, h
}

func request(t *testing.T, method, url, body string) *http.Request {
	t.Helper()
	var b io.Reader = http.NoBody
	if body != "" {
		b = struct{ io.Reader }{strings.NewReader(body)} // of no known length: chunked
	}
	r, err := http.NewRequestWithContext(t.Context(), method, url, b)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestPass: requests and answers pass with all that is theirs, over each protocol to
// either side.
func TestPass(t *testing.T) {
	for _, tt := range []struct {
		name         string
		h2, backends bool // HTTP/2 with the client; TLS and HTTP/2 with the backend
	}{
		{"1 to 1", false, false}, {"2 to 1", true, false}, {"1 to 2", false, true}, {"2 to 2", true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lab.Leaks(t)
			b := newBackends(t)
			b.add("b1", http.HandlerFunc(tell), tt.backends)
			e := newEdge(t, web.NewSite(web.SiteOptions{
				HSTS: "max-age=63072000", Forwarded: true, Pool: b.pool(web.PoolOptions{Shared: true}),
			}))
			e.from("[2001:db8::7%eth0]:4711")
			client := e.client(tt.h2)
			for range 3 {
				r := request(t, "POST", "https://www.example.com/a%2Fb//c/../d?x=%zz;y&&=", "hello")
				r.Header.Set("Connection", "X-Mine, X-Forwarded-For")
				r.Header.Set("X-Mine", "1")
				r.Header.Set("X-Forwarded-For", "192.0.2.1")
				r.Header.Set("X-Forwarded-Prefix", "/evil")
				r.Header.Set("X_Forwarded_Proto", "https")
				r.Header.Set("X-Real-IP", "192.0.2.1")
				r.Header.Set("Forwarded", "for=192.0.2.1")
				r.Header.Set("Upgrade", "h2c")
				r.Header["User-Agent"] = []string{"me/1"}
				if tt.h2 {
					r.Header.Del("Connection")
					r.Header.Del("Upgrade")
				}
				res, h := ask(t, client, r)
				if h.Method != "POST" || h.URI != "/a%2Fb//c/../d?x=%zz;y&&=" || h.Host != "www.example.com" || h.Body != "hello" {
					t.Errorf("the backend heard %+v", h)
				}
				if want := map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"}[tt.backends]; h.Proto != want {
					t.Errorf("to the backend by %s, want %s", h.Proto, want)
				}
				for name, want := range map[string]string{
					"X-Forwarded-For": "2001:db8::7", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "www.example.com",
					"Forwarded": `for="[2001:db8::7]";host=www.example.com;proto=https`, "User-Agent": "me/1",
					"X-Forwarded-Prefix": "", "X_Forwarded_Proto": "", "X-Real-Ip": "", "Upgrade": "", "Accept-Encoding": "",
				} {
					if got := strings.Join(h.Header[name], "|"); got != want {
						t.Errorf("%s: the backend heard %q, want %q", name, got, want)
					}
				}
				if got := h.Header.Get("X-Mine"); !tt.h2 && got != "" {
					t.Errorf("X-Mine: %q came through, though Connection names it", got)
				}
				if got := res.Header.Values("Strict-Transport-Security"); len(got) != 1 || got[0] != "max-age=63072000" {
					t.Errorf("Strict-Transport-Security: %q, want the edge's alone", got)
				}
				if got := res.Trailer.Get("X-Sum"); got != "42" {
					t.Errorf("trailer X-Sum: %q, want 42", got)
				}
			}
			if got := b.dialed("b1"); got != 1 {
				t.Errorf("%d dials for three requests in turn, want 1", got)
			}
			client.CloseIdleConnections()
			if got := e.result(); got.Requests != 3 || got.Retries != 0 || got.Err != nil {
				t.Errorf("%+v, want 3 requests and no failure", got)
			}
			if n := b.balancer.Backends()[0].Active(); n != 0 {
				t.Errorf("%d requests still counted at the backend", n)
			}
		})
	}
}

func TestForwardedTrusted(t *testing.T) {
	lab.Leaks(t)
	b := newBackends(t)
	b.add("b1", http.HandlerFunc(tell), false)
	pool := b.pool(web.PoolOptions{Shared: true})
	trust := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for _, tt := range []struct {
		name      string
		forwarded bool
		client    string
		want      map[string]string
	}{
		{"trusted", true, "10.1.2.3:1", map[string]string{
			"Forwarded":          `for=192.0.2.1;proto=http, for=10.1.2.3;host="www.example.com:8443";proto=https`,
			"X-Forwarded-For":    "192.0.2.1, 192.0.2.2, 10.1.2.3",
			"X-Forwarded-Proto":  "http",
			"X-Forwarded-Host":   "www.example.com:8443",
			"X-Forwarded-Prefix": "/p",
		}},
		{"mapped", true, "[::ffff:10.1.2.3]:1", map[string]string{"X-Forwarded-For": "192.0.2.1, 192.0.2.2, 10.1.2.3"}},
		{"foreign", true, "11.1.2.3:1", map[string]string{
			"Forwarded":          `for=11.1.2.3;host="www.example.com:8443";proto=https`,
			"X-Forwarded-For":    "11.1.2.3",
			"X-Forwarded-Proto":  "https",
			"X-Forwarded-Prefix": "",
		}},
		{"off, trusted", false, "10.1.2.3:1", map[string]string{
			"Forwarded": "for=192.0.2.1;proto=http", "X-Forwarded-For": "192.0.2.1|192.0.2.2", "X-Forwarded-Host": "",
		}},
		{"off, foreign", false, "11.1.2.3:1", map[string]string{"Forwarded": "", "X-Forwarded-For": "", "X-Forwarded-Prefix": ""}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newEdge(t, web.NewSite(web.SiteOptions{Forwarded: tt.forwarded, TrustFrom: trust, Pool: pool}))
			e.from(tt.client)
			r := request(t, "GET", "https://www.example.com:8443/", "")
			r.Header["X-Forwarded-For"] = []string{"192.0.2.1", "192.0.2.2"}
			r.Header.Set("X-Forwarded-Proto", "http")
			r.Header.Set("X-Forwarded-Prefix", "/p")
			r.Header.Set("Forwarded", "for=192.0.2.1;proto=http")
			_, h := ask(t, e.client(false), r)
			for name, want := range tt.want {
				if got := strings.Join(h.Header[name], "|"); got != want {
					t.Errorf("%s: the backend heard %q, want %q", name, got, want)
				}
			}
		})
	}
}
