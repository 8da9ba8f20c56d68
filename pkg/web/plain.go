package web

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// PlainOptions of a [Plain]. The functions are called for every request, from any
// goroutine, with a host as [SiteOptions].Owns gets it.
type PlainOptions struct {
	// Challenge returns the key authorization for a token of ACME's http-01 (RFC
	// 8555 §8.3), if that is under way here. Nil: none ever is.
	Challenge func(host, token string) (keyAuth string, ok bool)

	Known     func(c *Client, host string) bool  // some route has the host: its requests are sent to https
	HTTPSPort string                             // which port that is; "" and "443" need no telling
	Site      func(c *Client, host string) *Site // serves the host on this listener; nil, or returning nil: none does

	// As in SiteOptions.
	MaxHeader                int
	HeaderTimeout, Keepalive time.Duration
	Log                      *slog.Logger
}

// A Plain is what a listener of plain HTTP does. It is immutable and may be used
// from any goroutine.
type Plain struct{ o PlainOptions }

// NewPlain returns a Plain. The options must not be changed any more.
func NewPlain(o PlainOptions) *Plain {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Plain{o: o}
}

// Serve speaks HTTP/1.1 with a client until the connection is over, and closes it,
// as [Site.Serve] does.
func (p *Plain) Serve(ctx context.Context, c *Client) Result {
	v := newVisit(c, p.answer)
	return v.serve(ctx, limits{maxHeader: p.o.MaxHeader, header: p.o.HeaderTimeout, keepalive: p.o.Keepalive, log: p.o.Log})
}

// answer answers one request.
func (p *Plain) answer(v *visit, w http.ResponseWriter, r *http.Request) {
	host, status := unfit(v.client, r)
	if r.Host == "" {
		status = http.StatusBadRequest
	}
	if status != 0 {
		writePage(w, r, status)
		return
	}
	if p.challenged(w, r, host) {
		return
	}
	if p.o.Site != nil {
		if s := p.o.Site(v.client, host); s != nil {
			s.answer(v, w, r)
			return
		}
	}
	if p.o.Known == nil || !p.o.Known(v.client, host) {
		writePage(w, r, http.StatusMisdirectedRequest)
		return
	}
	w.Header()["Location"] = []string{p.secured(host, r)}
	writePage(w, r, http.StatusPermanentRedirect)
}

// challengePath is where an authority asks for the answer to an http-01 challenge
// (RFC 8555 §8.3).
const challengePath = "/.well-known/acme-challenge/"

// challenged answers a request of an ACME authority, if it is one that is expected.
func (p *Plain) challenged(w http.ResponseWriter, r *http.Request, host string) bool {
	token, ok := strings.CutPrefix(r.URL.Path, challengePath)
	if !ok || p.o.Challenge == nil || r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	auth, ok := p.o.Challenge(host, token)
	if !ok {
		return false
	}
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Length", strconv.Itoa(len(auth)))
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodGet {
		_, _ = io.WriteString(w, auth) // the client may be gone; nobody is left to tell
	}
	return true
}

// secured is the same by https.
func (p *Plain) secured(host string, r *http.Request) string {
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if p.o.HTTPSPort != "" && p.o.HTTPSPort != "443" {
		host += ":" + p.o.HTTPSPort
	}
	path := r.URL.EscapedPath()
	if !strings.HasPrefix(path, "/") { // "" or, of OPTIONS, "*"
		path = "/"
	}
	if r.URL.RawQuery != "" {
		path += "?" + r.URL.RawQuery
	}
	return "https://" + host + path
}
