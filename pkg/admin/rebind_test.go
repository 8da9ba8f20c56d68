package admin_test

import (
	"net/http"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/admin"
)

// TestRebinding: a loopback address answers to its own names alone.
func TestRebinding(t *testing.T) {
	s := answering(t)
	address := lab.FreeAddr(t)
	place(t, s, admin.Settings{Address: address})
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
		}
	}
}
