// Package client speaks to the admin API of a running balancer over its Unix socket. It
// is what the command line uses.
//
// Start at [New]. Each method is one request; an error is an *[admin.Error] when the
// balancer refused it, and an *[UnreachableError] when nobody answers.
package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/snicketlb/snicket/pkg/admin"
)

// Client is a client of one balancer. Its methods may be called from any goroutine.
type Client struct {
	socket string
	// http is for what is answered at once, patient for what takes its time: both go by
	// connections of their own.
	http, patient *http.Client
	patience      time.Duration // of the former
}

const (
	// dialTimeout bounds how long a balancer may take to accept.
	dialTimeout = 5 * time.Second
	// patience bounds how long it may take to begin an answer for which nothing has to be
	// loaded; it refuses sooner what it has no room for.
	patience = 15 * time.Second
)

// ErrNoAnswer is within an [UnreachableError] when a process listens, and does not answer:
// it hangs, is stopped, or has no processor to run on.
var ErrNoAnswer = errors.New("no answer")

// mostAnswer bounds an answer in bytes: 100,000 sessions take half of it.
const mostAnswer = 128 << 20

// New returns a client of the balancer with its socket in path. It connects when it is
// used.
func New(path string) *Client { return newClient(path, patience) }

func newClient(path string, patience time.Duration) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		d := net.Dialer{Timeout: dialTimeout}
		return d.DialContext(ctx, "unix", path)
	}
	return &Client{
		socket: path, patience: patience,
		http:    &http.Client{Transport: &http.Transport{DialContext: dial, DisableCompression: true, ResponseHeaderTimeout: patience}},
		patient: &http.Client{Transport: &http.Transport{DialContext: dial, DisableCompression: true}},
	}
}

// Close closes connections that are kept for further requests.
func (c *Client) Close() {
	c.http.CloseIdleConnections()
	c.patient.CloseIdleConnections()
}

// UnreachableError says that nobody answers at a socket.
type UnreachableError struct {
	Socket string
	Err    error
}

// Error is the system's word.
func (e *UnreachableError) Error() string { return fmt.Sprintf("%s: %v", e.Socket, e.Err) }

// Unwrap is the system's error.
func (e *UnreachableError) Unwrap() error { return e.Err }

// do makes a request and returns its answer, which the caller closes.
func (c *Client) do(ctx context.Context, method, path string, query url.Values, body any) (io.ReadCloser, error) {
	var sent io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		sent = bytes.NewReader(text)
	}
	u := "http://snicket" + path
	if len(query) > 0 {
		u += "?" + query.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, method, u, sent)
	if err != nil {
		return nil, err
	}
	by := c.http
	if loads(path) {
		by = c.patient
	}
	res, err := by.Do(r)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, &UnreachableError{Socket: c.socket, Err: c.innermost(err)}
	}
	if res.StatusCode == http.StatusOK {
		return res.Body, nil
	}
	defer res.Body.Close()
	refused := &admin.Error{Status: res.StatusCode}
	if err := json.NewDecoder(io.LimitReader(res.Body, mostAnswer)).Decode(refused); err != nil || refused.Text == "" {
		refused.Text = "the balancer answers " + res.Status
	}
	return nil, refused
}

// loads reports whether what is asked for is made of files, which may take a while.
func loads(path string) bool {
	return path == "/v1/reload" || path == "/v1/upgrade" || path == "/v1/config/difference"
}

// innermost is an error of net/http without its URL, which is none of the user's.
func (c *Client) innermost(err error) error {
	u, ok := err.(*url.Error) //nolint:errorlint // what http.Client returns, and no other
	if !ok {
		return err
	}
	if _, dialling := errors.AsType[*net.OpError](u.Err); u.Timeout() && !dialling {
		return fmt.Errorf("%w within %v", ErrNoAnswer, c.patience)
	}
	return u.Err
}

// get reads the JSON of one path.
func get[T any](ctx context.Context, c *Client, path string, query url.Values) (T, error) {
	return call[T](ctx, c, http.MethodGet, path, query, nil)
}

func call[T any](ctx context.Context, c *Client, method, path string, query url.Values, body any) (T, error) {
	var v T
	answer, err := c.do(ctx, method, path, query, body)
	if err != nil {
		return v, err
	}
	defer answer.Close()
	if err := json.NewDecoder(io.LimitReader(answer, mostAnswer)).Decode(&v); err != nil {
		return v, fmt.Errorf("answer to %s: %w", path, err)
	}
	return v, nil
}

// Status is how the process stands.
func (c *Client) Status(ctx context.Context) (admin.Status, error) {
	return get[admin.Status](ctx, c, "/v1/status", nil)
}

// Routes are all routes, by name.
func (c *Client) Routes(ctx context.Context) ([]admin.Route, error) {
	return get[[]admin.Route](ctx, c, "/v1/routes", nil)
}

// Backends are the backends of a pool, or of all with an empty one.
func (c *Client) Backends(ctx context.Context, pool string) ([]admin.Backend, error) {
	q := url.Values{}
	set(q, "pool", pool)
	return get[[]admin.Backend](ctx, c, "/v1/backends", q)
}

// Certificates are those that clients are shown.
func (c *Client) Certificates(ctx context.Context) ([]admin.Certificate, error) {
	return get[[]admin.Certificate](ctx, c, "/v1/certificates", nil)
}

// Refused are the latest sessions that got no backend, the newest first.
func (c *Client) Refused(ctx context.Context) ([]admin.Refusal, error) {
	return get[[]admin.Refusal](ctx, c, "/v1/refused", nil)
}

// SessionOptions say which sessions are asked for, in which order and how many; a zero
// field asks for nothing.
type SessionOptions struct {
	Route, Pool, Backend string
	Client               string // an address or a network
	IdleOver             time.Duration
	Sort                 string // one of [admin.SessionOrders]
	Limit                int
}

// Sessions are the sessions of now.
func (c *Client) Sessions(ctx context.Context, o SessionOptions) (admin.Sessions, error) {
	q := url.Values{}
	set(q, "route", o.Route)
	set(q, "pool", o.Pool)
	set(q, "backend", o.Backend)
	set(q, "client", o.Client)
	set(q, "sort", o.Sort)
	if o.IdleOver > 0 {
		q.Set("idle_over", o.IdleOver.String())
	}
	if o.Limit > 0 {
		q.Set("limit", strconv.Itoa(o.Limit))
	}
	return get[admin.Sessions](ctx, c, "/v1/sessions", q)
}

// Explain says which route a hello would take.
func (c *Client) Explain(ctx context.Context, question admin.Question) (admin.Explanation, error) {
	q := url.Values{"alpn": question.ALPN}
	set(q, "name", question.Name)
	set(q, "listener", question.Listener)
	if question.From.IsValid() {
		q.Set("from", question.From.String())
	}
	return get[admin.Explanation](ctx, c, "/v1/explain", q)
}

// Events are the events kept with a Seq above after.
func (c *Client) Events(ctx context.Context, after uint64) ([]admin.Event, error) {
	return get[[]admin.Event](ctx, c, "/v1/events", url.Values{"after": {strconv.FormatUint(after, 10)}})
}

// Follow calls f with the events above after and with those to come, until the balancer
// ends, ctx is done, or f returns an error, which it returns.
func (c *Client) Follow(ctx context.Context, after uint64, f func(admin.Event) error) error {
	answer, err := c.do(ctx, http.MethodGet, "/v1/events", url.Values{"follow": {"true"}, "after": {strconv.FormatUint(after, 10)}}, nil)
	if err != nil {
		return err
	}
	defer answer.Close()
	lines := json.NewDecoder(bufio.NewReader(answer))
	for {
		var e admin.Event
		switch err := lines.Decode(&e); {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil: // the balancer has ended, or this client was too slow for it
			return nil //nolint:nilerr // its end is the end
		}
		if err := f(e); err != nil {
			return err
		}
	}
}

// Config is the configuration in force, with every default written out.
func (c *Client) Config(ctx context.Context) (string, error) {
	answer, err := c.do(ctx, http.MethodGet, "/v1/config", nil, nil)
	if err != nil {
		return "", err
	}
	defer answer.Close()
	text, err := io.ReadAll(io.LimitReader(answer, mostAnswer))
	return string(text), err
}

// Difference is what a reload would change now.
func (c *Client) Difference(ctx context.Context) (admin.Difference, error) {
	return get[admin.Difference](ctx, c, "/v1/config/difference", nil)
}

// Reload puts the file into force.
func (c *Client) Reload(ctx context.Context) (admin.Reloaded, error) {
	return call[admin.Reloaded](ctx, c, http.MethodPost, "/v1/reload", nil, nil)
}

// SetState makes "drain" or "down" what is wanted of a backend, or with "ready" nothing.
func (c *Client) SetState(ctx context.Context, pool, backend, state string) (admin.Backend, error) {
	return call[admin.Backend](ctx, c, http.MethodPut, backendPath(pool, backend)+"/state", nil, map[string]string{"state": state})
}

// SetWeight gives a backend a weight instead of its declared one.
func (c *Client) SetWeight(ctx context.Context, pool, backend string, weight int) (admin.Backend, error) {
	return call[admin.Backend](ctx, c, http.MethodPut, backendPath(pool, backend)+"/weight", nil, map[string]int{"weight": weight})
}

// ResetWeight gives a backend its declared weight again.
func (c *Client) ResetWeight(ctx context.Context, pool, backend string) (admin.Backend, error) {
	return call[admin.Backend](ctx, c, http.MethodDelete, backendPath(pool, backend)+"/weight", nil, nil)
}

// Kill ends a session at once.
func (c *Client) Kill(ctx context.Context, session string) error {
	_, err := call[struct{}](ctx, c, http.MethodDelete, "/v1/sessions/"+url.PathEscape(session), nil, nil)
	return err
}

func backendPath(pool, backend string) string {
	return "/v1/pools/" + url.PathEscape(pool) + "/backends/" + url.PathEscape(backend)
}

func set(q url.Values, key, value string) {
	if value != "" {
		q.Set(key, value)
	}
}

// Upgrade has a new process go on with the sessions: the binary in a path, or with an
// empty one that which runs. The error leaves all as it was.
func (c *Client) Upgrade(ctx context.Context, binary string) (admin.Upgraded, error) {
	return call[admin.Upgraded](ctx, c, http.MethodPost, "/v1/upgrade", nil, map[string]string{"binary": binary})
}
