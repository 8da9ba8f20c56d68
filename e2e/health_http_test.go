//go:build e2e

package e2e_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"testing"
	"time"

	"github.com/snicketlb/snicket/health"
	"github.com/snicketlb/snicket/internal/lab"
)

// patience is for probes that do not wait for it.
const patience = 10 * time.Second

// probed makes one attempt and returns its words, "" for a pass.
func probed(t *testing.T, p health.Prober, timeout time.Duration) string {
	t.Helper()
	if _, err := health.Try(t.Context(), p, timeout); err != nil {
		return err.Error()
	}
	return ""
}

// The http and https probes against nginx: what passes, and each way to fail.
func TestHealthOfNginx(t *testing.T) {
	plain, secure := lab.FreeAddr(t), lab.FreeAddr(t)
	ca := lab.NewAuthority(t, "nginx")
	cert, key := ca.WriteServer(t, "www.example.com")
	hangs, err := net.Listen("tcp", "127.0.0.1:0") // and accepts nothing
	if err != nil {
		t.Fatal(err)
	}
	defer hangs.Close()
	startNginx(t, fmt.Sprintf(`
http {
	access_log off;
	server {
		listen %s;
		listen %s ssl http2;
		ssl_certificate %s;
		ssl_certificate_key %s;
		location = /healthz { return 200 '{"status":"UP"}'; }
		location = /sick { return 503 'no database'; }
		location = /moved { return 302 /healthz; }
		location = /host { if ($host = inner.example.com) { return 204; } return 404; }
		location = /post { if ($request_method = POST) { return 200; } return 405; }
		location = /header { if ($http_x_probe = yes) { return 200; } return 403; }
		location = /slow { proxy_pass http://%s; }
	}
}`, plain, secure, cert, key, hangs.Addr()), plain, secure)
	up := regexp.MustCompile(`"status":"UP"`)
	h2 := ca.Client("www.example.com")
	h2.NextProtos = []string{"h2"}
	for _, tt := range []struct {
		name    string
		probe   health.HTTP
		timeout time.Duration
		want    string
	}{
		{"status", health.HTTP{Path: "/healthz"}, patience, ""},
		{"status and body", health.HTTP{Path: "/healthz", Body: up}, patience, ""},
		{"sick", health.HTTP{Path: "/sick"}, patience, "status 503, want 200-299"},
		{"sick as wanted", health.HTTP{Path: "/sick", Status: []health.StatusRange{{Min: 503, Max: 503}}}, patience, ""},
		{"no such path", health.HTTP{Path: "/nothing"}, patience, "status 404, want 200-299"},
		{"a redirect is not followed", health.HTTP{Path: "/moved"}, patience, "status 302, want 200-299"},
		{
			"another body",
			health.HTTP{Path: "/sick", Body: up, Status: []health.StatusRange{{Min: 500, Max: 599}}},
			patience,
			`body: read 11 bytes "no database", want match of "\"status\":\"UP\""`,
		},
		{"host", health.HTTP{Path: "/host", Host: "inner.example.com"}, patience, ""},
		{"another host", health.HTTP{Path: "/host", Host: "www.example.com"}, patience, "status 404, want 200-299"},
		{"method", health.HTTP{Path: "/post", Method: "POST"}, patience, ""},
		{"HEAD has no body", health.HTTP{Path: "/healthz", Method: "HEAD", Body: up}, patience, `body: read 0 bytes, want match of "\"status\":\"UP\""`},
		{"header", health.HTTP{Path: "/header", Header: http.Header{"X-Probe": {"yes"}}}, patience, ""},
		{"slow", health.HTTP{Path: "/slow"}, 300 * time.Millisecond, "response: no answer within 300ms"},
		{"https", health.HTTP{Path: "/healthz", Body: up, TLS: ca.Client("www.example.com")}, patience, ""},
		{"https by HTTP/2", health.HTTP{Path: "/healthz", Body: up, TLS: h2}, patience, ""},
		{"https, sick", health.HTTP{Path: "/sick", TLS: ca.Client("www.example.com")}, patience, "status 503, want 200-299"},
		{
			"https, another name",
			health.HTTP{Path: "/healthz", TLS: ca.Client("other.example.com")},
			patience,
			"certificate is valid for www.example.com, not other.example.com",
		},
		{
			"https, not verified",
			health.HTTP{Path: "/healthz", TLS: &tls.Config{ServerName: "other.example.com", InsecureSkipVerify: true}},
			patience, "",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.probe.Address = plain
			if tt.probe.TLS != nil {
				tt.probe.Address = secure
			}
			if got := probed(t, tt.probe, tt.timeout); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	t.Run("the port of the other protocol", func(t *testing.T) {
		if got, want := probed(t, health.HTTP{TCP: health.TCP{Address: secure}}, patience), "status 400, want 200-299"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		got := probed(t, health.HTTP{TCP: health.TCP{Address: plain}, TLS: ca.Client("www.example.com")}, patience)
		if want := "handshake: first record does not look like a TLS handshake"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	t.Run("what is seen of the certificate", func(t *testing.T) {
		p := health.TLS{TCP: health.TCP{Address: secure}, Config: &tls.Config{ServerName: "any", InsecureSkipVerify: true}}
		o, err := health.Try(t.Context(), p, patience)
		c, ok := o.Certificate()
		if err != nil || !ok || !c.Covers("www.example.com") || c.Covers("api.example.com") || c.DaysLeft(time.Now()) < 0 {
			t.Errorf("got %+v, %v", c, err)
		}
	})
}
