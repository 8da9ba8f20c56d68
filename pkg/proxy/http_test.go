package proxy_test

import (
	"bufio"
	"crypto/tls"
	"io"
	"net/http"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
)

// get sends a request of HTTP/1.1 and reads the answer.
func get(t testing.TB, c io.Writer, from *bufio.Reader, request string) (*http.Response, string) {
	t.Helper()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	return response(t, from)
}

// response reads the head and the body of one answer.
func response(t testing.TB, from *bufio.Reader) (*http.Response, string) {
	t.Helper()
	r, err := http.ReadResponse(from, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r, string(body)
}

// httpClient is a client of HTTP that reaches every host at the listener.
func (h *harness) httpClient(cfg *tls.Config) *http.Client {
	h.t.Helper()
	var p http.Protocols
	p.SetHTTP1(len(cfg.NextProtos) == 0 || cfg.NextProtos[0] != "h2")
	p.SetHTTP2(!p.HTTP1())
	transport := &http.Transport{
		TLSClientConfig: cfg, Protocols: &p, DisableCompression: true,
		DialContext: h.dialContext,
	}
	h.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{
		Transport: transport, Timeout: lab.Patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
