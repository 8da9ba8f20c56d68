package health

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
)

// HTTP is the probe of kinds http and https: the backend passes if it answers a
// request with one of the statuses wanted. Redirects are not followed.
type HTTP struct {
	TCP

	// TLS is the configuration of the handshake, which is not changed; nil is
	// plain HTTP. NextProtos defaults to "http/1.1"; if the backend selects
	// "h2", the request is made by HTTP/2.
	TLS *tls.Config

	// Method defaults to "GET".
	Method string

	// Host is the host asked for. Default the Address, or "localhost" if that
	// is a path or empty.
	Host string

	// Path is the path asked for, with its query if any. Default "/".
	Path string

	// Header holds further header fields; it is not changed. User-Agent is
	// "snicket-health" unless it says otherwise.
	Header http.Header

	// Status holds the statuses that pass. Default 200-299.
	Status []StatusRange
}

// Probe connects, completes a handshake if TLS is set, and makes one request.
func (p HTTP) Probe(ctx context.Context) (Observation, error) {
	req, err := p.request(ctx)
	if err != nil {
		return Observation{}, err
	}
	raw, err := p.connect(ctx)
	if err != nil {
		return Observation{}, err
	}
	defer reset(raw)
	var o Observation
	var secure *tls.Conn
	if p.TLS != nil {
		if secure, o, err = handshake(ctx, raw, p.config()); err != nil {
			return o, err
		}
	}
	defer guard(ctx, raw, 0)()
	var status int
	switch {
	case secure == nil:
		status, err = exchange(raw, req)
	case o.ALPN == "h2":
		status, err = exchange2(secure, req)
	default:
		status, err = exchange(secure, req)
		_ = secure.CloseWrite() // the status has decided
	}
	if err != nil {
		return o, explain("response", err)
	}
	return o, p.judge(status)
}

func (p *HTTP) judge(status int) error {
	want := p.Status
	if len(want) == 0 {
		want = []StatusRange{{200, 299}}
	}
	for _, r := range want {
		if r.Min <= status && status <= r.Max {
			return nil
		}
	}
	return fmt.Errorf("status %d, want %s", status, formatStatus(want))
}

func (p *HTTP) config() *tls.Config {
	if len(p.TLS.NextProtos) > 0 {
		return p.TLS
	}
	c := p.TLS.Clone()
	c.NextProtos = []string{"http/1.1"}
	return c
}

func (p *HTTP) request(ctx context.Context) (*http.Request, error) {
	u := &url.URL{Scheme: "http", Host: p.Host, Path: "/"}
	if p.TLS != nil {
		u.Scheme = "https"
	}
	if u.Host == "" {
		u.Host = "localhost"
		if p.Network != "unix" && p.Address != "" {
			u.Host = p.Address
		}
	}
	if p.Path != "" {
		ref, err := url.ParseRequestURI(p.Path)
		if err != nil {
			return nil, fmt.Errorf("request: path %q: want one that starts with a slash", p.Path)
		}
		u.Path, u.RawPath, u.RawQuery = ref.Path, ref.RawPath, ref.RawQuery
	}
	req, err := http.NewRequestWithContext(ctx, p.Method, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	if p.Header != nil {
		req.Header = p.Header.Clone()
	}
	if _, ok := req.Header["User-Agent"]; !ok {
		req.Header.Set("User-Agent", "snicket-health")
	}
	req.Close = true
	return req, nil
}

// maxBody is how much of an answer is read: beyond the status for the backend's
// sake, so that it need not log a client that went away.
const maxBody = 64 << 10

// exchange makes one request by HTTP/1.1 and returns its status.
func exchange(conn net.Conn, req *http.Request) (int, error) {
	if err := req.Write(conn); err != nil {
		return 0, err
	}
	// ReadResponse itself would read a header without an end to no end.
	limited := &io.LimitedReader{R: conn, N: maxBody}
	br := bufio.NewReader(limited)
	for {
		resp, err := http.ReadResponse(br, req)
		if err != nil && limited.N <= 0 {
			return 0, fmt.Errorf("header of more than %d bytes", maxBody)
		}
		if err != nil {
			return 0, err
		}
		discard(resp.Body)
		if resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols {
			return resp.StatusCode, nil
		}
	}
}

// exchange2 makes one request by HTTP/2 and returns its status.
func exchange2(conn *tls.Conn, req *http.Request) (int, error) {
	t := &http.Transport{
		DialTLSContext:    func(context.Context, string, string) (net.Conn, error) { return conn, nil },
		ForceAttemptHTTP2: true,
		DisableKeepAlives: true,
	}
	defer t.CloseIdleConnections()
	resp, err := t.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	discard(resp.Body)
	return resp.StatusCode, nil
}

// discard reads a body to its end, within maxBody. Its errors do not matter: the
// status has decided.
func discard(body io.ReadCloser) {
	_, _ = io.Copy(io.Discard, io.LimitReader(body, maxBody))
	_ = body.Close()
}
