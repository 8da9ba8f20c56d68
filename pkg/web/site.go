package web

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"time"
)

// ErrIdle says that no byte came or went for [SiteOptions].Idle while a request
// was under way.
var ErrIdle = errors.New("no byte in either direction within the idle timeout")

// SiteOptions of a [Site]. A zero is what it says, never another default.
type SiteOptions struct {
	Name string // of the route, for the log

	// Owns reports whether a request for host may come over the connection of c; if
	// not, it is answered with 421 (RFC 9110 §15.5.20). The host is in lower case,
	// without port, brackets and a dot at its end. It is called for every request,
	// from any goroutine. Nil: every host may.
	Owns func(c *Client, host string) bool

	HSTS      string         // Strict-Transport-Security of every answer over TLS, the backend's own replaced; "": none, and the backend's stays
	Forwarded bool           // tell backends of the client by X-Forwarded-For, -Proto, -Host and Forwarded (RFC 7239)
	TrustFrom []netip.Prefix // clients whose own such fields stay and are added to; those of all others are taken away
	Deny      []Rule         // 403
	Redirects []Redirect     // the first that matches counts

	MaxHeader       int           // bytes of a request's header, else 431; 0: that of net/http
	HeaderTimeout   time.Duration // for the whole header of a request, else the connection ends; 0: none
	Keepalive       time.Duration // how long a connection may wait for its next request; 0: for ever
	ResponseTimeout time.Duration // for the header of the backend's answer, else 504; 0: none
	Idle            time.Duration // without a byte of a request's or answer's body, else the connection ends; 0: none

	// Pool is where requests go. Nil: every request is answered with the sorry
	// page, 503, and is the last of its connection.
	Pool *Pool

	Log *slog.Logger // what goes wrong within requests, at level debug; nil: nowhere
}

// A Site is what a route that speaks HTTP does with requests. It is immutable and
// may be used from any goroutine.
type Site struct {
	o     SiteOptions
	rules rules
}

// NewSite returns a Site. The options must not be changed any more.
func NewSite(o SiteOptions) *Site {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Site{o: o, rules: newRules(o.Deny, o.Redirects)}
}

// Serve speaks HTTP with a client until the connection is over, and closes it.
// When ctx is done no further request is taken: those under way are finished, the
// client is told (Connection: close, GOAWAY), and an idle connection is closed; an
// upgraded one lasts until either side ends it. Whoever closes c.Conn meanwhile
// and ends c.Context ends everything at once.
func (s *Site) Serve(ctx context.Context, c *Client) Result {
	v := newVisit(c, s.answer)
	return v.serve(ctx, limits{
		maxHeader: s.o.MaxHeader, header: s.o.HeaderTimeout, keepalive: s.o.Keepalive, log: s.o.Log,
	})
}

// answer answers one request.
func (s *Site) answer(v *visit, w http.ResponseWriter, r *http.Request) {
	keepEscapes(r.URL)
	location := ""
	host, status := unfit(v.client, r)
	switch {
	case status != 0:
	case s.o.Owns != nil && !s.o.Owns(v.client, host):
		status = http.StatusMisdirectedRequest
	case s.rules.denies(r.Method, r.URL, r.Header):
		status = http.StatusForbidden
	default:
		location, status = s.rules.redirect(r.URL)
	}
	if status == 0 && s.o.Pool == nil {
		w.Header().Set("Connection", "close") // the client must come again to find a backend
		status = http.StatusServiceUnavailable
	}
	switch {
	case status == 0:
		s.pass(v, w, r)
		return
	case location != "":
		w.Header()["Location"] = []string{location}
	}
	s.hsts(v, w)
	writePage(w, r, status)
}

// hsts sets the field of an answer of our own. It means nothing but over TLS (RFC
// 6797 §7.2).
func (s *Site) hsts(v *visit, w http.ResponseWriter) {
	if v.client.TLS != nil && s.o.HSTS != "" {
		w.Header()[hstsField] = []string{s.o.HSTS}
	}
}
