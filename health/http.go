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
	"regexp"
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

	// Body is what the body has to match, within its first 64 KiB; nil is any.
	Body *regexp.Regexp
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
	var a answer
	switch {
	case secure == nil:
		a, err = exchange(raw, req, p.Body != nil)
	case o.ALPN == "h2":
		a, err = exchange2(secure, req, p.Body != nil)
	default:
		a, err = exchange(secure, req, p.Body != nil)
		_ = secure.CloseWrite() // the answer has decided
	}
	switch {
	case isTimeout(err):
		return o, fmt.Errorf("response: %w", ErrNoAnswer)
	case err != nil:
		return o, explain("response", err)
	}
	if err := p.judge(a.status); err != nil {
		return o, err
	}
	return o, p.judgeBody(a)
}

// judgeBody judges as much of the body as has come.
func (p *HTTP) judgeBody(a answer) error {
	switch {
	case p.Body == nil || p.Body.Match(a.body):
		return nil
	case isTimeout(a.end):
		return fmt.Errorf("body: %s, then no more, want match of %s", heard(a.body), quoted([]byte(p.Body.String())))
	case a.end != nil:
		return explain("body", a.end)
	}
	return fmt.Errorf("body: %s, want match of %s", heard(a.body), quoted([]byte(p.Body.String())))
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

// Of an answer so much is read: beyond the status also for the backend's sake, so
// that it need not log a client that went away.
const (
	maxHeader = 64 << 10
	maxBody   = 64 << 10
)

// answer is what a backend answered to a request.
type answer struct {
	status int
	body   []byte
	end    error // why the body ended, if not at its end or at maxBody
}

// exchange makes one request by HTTP/1.1.
func exchange(conn net.Conn, req *http.Request, keep bool) (answer, error) {
	if err := req.Write(conn); err != nil {
		return answer{}, err
	}
	// ReadResponse itself would read a header without an end to no end.
	limited := &io.LimitedReader{R: conn, N: maxHeader + maxBody}
	br := bufio.NewReader(limited)
	for {
		resp, err := http.ReadResponse(br, req)
		if err != nil && limited.N <= 0 {
			return answer{}, fmt.Errorf("header of more than %d bytes", maxHeader+maxBody)
		}
		if err != nil {
			return answer{}, err
		}
		if resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols {
			return read(resp, keep), nil
		}
		resp.Body.Close()
	}
}

// exchange2 makes one request by HTTP/2.
func exchange2(conn *tls.Conn, req *http.Request, keep bool) (answer, error) {
	t := &http.Transport{
		DialTLSContext:    func(context.Context, string, string) (net.Conn, error) { return conn, nil },
		ForceAttemptHTTP2: true,
		DisableKeepAlives: true,
	}
	defer t.CloseIdleConnections()
	resp, err := t.RoundTrip(req)
	if err != nil {
		return answer{}, err
	}
	return read(resp, keep), nil
}

// read reads a body to its end, within maxBody, and keeps it if that is wanted.
func read(resp *http.Response, keep bool) answer {
	a := answer{status: resp.StatusCode}
	body := io.LimitReader(resp.Body, maxBody)
	if keep {
		a.body, a.end = io.ReadAll(body)
	} else {
		_, a.end = io.Copy(io.Discard, body)
	}
	_ = resp.Body.Close()
	return a
}
