package admin_test

import (
	"net"
	"net/http"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/admin"
)

// TestRebinding: over loopback its own names alone are answered, also where other addresses
// are listened on.
func TestRebinding(t *testing.T) {
	for name, listen := range map[string]func(port string) string{
		"loopback": func(port string) string { return "127.0.0.1:" + port },
		"all":      func(port string) string { return ":" + port },
	} {
		t.Run(name, func(t *testing.T) {
			_, port, err := net.SplitHostPort(lab.FreeAddr(t))
			if err != nil {
				t.Fatal(err)
			}
			rebinding(t, listen(port), "127.0.0.1:"+port)
		})
	}
}

func rebinding(t *testing.T, listen, address string) {
	s := answering(t)
	place(t, s, admin.Settings{Address: listen})
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: lab.Patience}
	for host, want := range map[string]int{
		address: 200, "127.0.0.1": 200, "[::1]:9600": 200, "[::1]": 200, "localhost": 200, "LocalHost.:9600": 200, "snicket.localhost:9600": 200,
		"evil.example": 421, "evil.example:9600": 421, "127.0.0.1.evil.example": 421, "localhost.evil.example": 421, "notlocalhost": 421,
	} {
		for _, path := range []string{"/healthz", "/", "/v1/status"} {
			if path != "/healthz" && want == 200 {
				continue // they need more of the server than this one has
			}
			r, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+address+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Host = host
			res, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if res.StatusCode != want {
				t.Errorf("%s of %q: %s, want %d", path, host, res.Status, want)
			}
			if got := res.Header.Get("X-Content-Type-Options"); got != "nosniff" {
				t.Errorf("%s of %q: got X-Content-Type-Options %q", path, host, got)
			}
		}
	}
}
