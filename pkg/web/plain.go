package web

import (
	"context"
	"log/slog"
	"net/http"
	"time"
)

// PlainOptions of a [Plain]. The functions are called for every request, from any
// goroutine, with a host as [SiteOptions].Owns gets it.
type PlainOptions struct {
	// Challenge returns the key authorization for a token of ACME's http-01 (RFC
	// 8555 §8.3), if that is under way here. Nil: none ever is.
	Challenge func(host, token string) (keyAuth string, ok bool)

	Known     func(host string) bool             // some route has the host: its requests are sent to https
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
	if r.Host == "" {
		writePage(w, r, http.StatusBadRequest)
		return
	}
	host := hostOf(v.client, r)
	if p.o.Site != nil {
		if s := p.o.Site(v.client, host); s != nil {
			s.answer(v, w, r)
			return
		}
	}
	writePage(w, r, http.StatusMisdirectedRequest)
}
