package web

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httputil"

	"github.com/snicketlb/snicket/balancer"
)

// anyHost stands where net/http wants a host to connect to: which backend it is was
// decided before.
const anyHost = "backend"

const hstsField = "Strict-Transport-Security"

// pass sends a request to a backend, and its answer to the client.
func (s *Site) pass(v *visit, w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancelCause(r.Context())
	x := &exchange{site: s, pool: s.o.Pool, visit: v, in: r, ctx: ctx, cancel: cancel, out: w}
	r = r.WithContext(ctx)
	if r.ContentLength != 0 {
		x.body = &upload{ReadCloser: r.Body, x: x}
		r.Body = x.body
		// Else net/http reads the rest of a request before it begins an answer.
		_ = http.NewResponseController(w).EnableFullDuplex() // an error: HTTP/2, which is
	}
	w = &interim{ResponseWriter: w, x: x}
	if onlyWebSocket(r) {
		x.tunnels = true
		w = upgrader{w}
	}
	x.begin()
	defer x.finish()
	proxy := httputil.ReverseProxy{
		Rewrite: x.rewrite, Transport: x, ModifyResponse: x.modify, BufferPool: &x.pool.buffers,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) { x.failed(w, r, err) },
		ErrorLog:     slog.NewLogLogger(s.o.Log.Handler(), slog.LevelDebug),
	}
	proxy.ServeHTTP(w, r)
}

// finish ends an exchange, also one whose handler panics. With a body that was not
// read to its end an HTTP/1.1 connection must not come to a next request: net/http
// would wait for the rest without end, or take for a request what comes later.
func (x *exchange) finish() {
	if x.answer != nil {
		_ = x.answer.Close() // httputil leaves open a switch of protocols that nobody asked for
	}
	x.end()
	if x.body != nil && !x.body.whole.Load() && !x.visit.h2() && !x.upgraded {
		x.visit.conn.deafen()
	}
}

// rewrite makes of the client's request what the backend gets.
func (x *exchange) rewrite(p *httputil.ProxyRequest) {
	p.Out.URL.Scheme, p.Out.URL.Host = "http", anyHost
	p.Out.URL.RawQuery, p.Out.URL.ForceQuery = p.In.URL.RawQuery, p.In.URL.ForceQuery // untouched, whatever is in it
	if p.Out.Host == "" {
		p.Out.Host = x.visit.client.SNI // HTTP/1.0
	}
	x.site.forward(p.Out, p.In.Header, x.visit.client)
	if x.body != nil {
		p.Out.Trailer = x.body.behind.announce(x.in.Trailer, p.Out.Trailer, x.site.trusts(x.visit.client.Addr.Addr()))
	}
}

// modify makes of the backend's answer what the client gets.
func (x *exchange) modify(res *http.Response) error {
	if x.visit.client.TLS != nil && x.site.o.HSTS != "" {
		res.Header[hstsField] = []string{x.site.o.HSTS}
	}
	if len(res.Trailer) > 0 && !x.visit.h2() && x.in.ProtoAtLeast(1, 1) && x.in.Method != http.MethodHead {
		// HTTP/2 may tell a length and send trailers, HTTP/1.1 either.
		res.Header.Del("Content-Length")
	}
	if _, told := res.Header["Content-Type"]; !told {
		x.out.Header()["Content-Type"] = nil // net/http would guess what the backend has not said
	}
	return nil
}

// failed answers a request that no backend has answered.
func (x *exchange) failed(w http.ResponseWriter, r *http.Request, err error) {
	if cause := context.Cause(x.ctx); cause != nil && !errors.Is(cause, ErrResponseTimeout) && !errors.Is(cause, errInterim) {
		panic(http.ErrAbortHandler) // the client is gone, or has to go
	}
	x.visit.fail(err)
	x.site.o.Log.Debug("request failed", "route", x.site.o.Name, "session", x.visit.client.ID, "error", err)
	x.site.hsts(x.visit, w)
	switch {
	case errors.Is(err, balancer.ErrNoBackend), errors.Is(err, balancer.ErrFull), errors.Is(err, balancer.ErrQueueFull), errors.Is(err, ErrQueueTimeout):
		writePage(w, r, http.StatusServiceUnavailable)
	case errors.Is(err, ErrResponseTimeout):
		writePage(w, r, http.StatusGatewayTimeout)
	default:
		writePage(w, r, http.StatusBadGateway)
	}
}
