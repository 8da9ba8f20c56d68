package web

import (
	"net/http"
	"net/netip"
	"strings"
)

// unfit returns the status that refuses a request which no route can have; 0: it is
// none. host is whom it is for.
func unfit(c *Client, r *http.Request) (host string, status int) {
	host, ok := hostOf(c, r)
	switch {
	case !wellFormed(r):
		return host, http.StatusBadRequest
	case r.Method == "PRI": // the preface of HTTP/2, which net/http lets through in HTTP/1.1
		return host, http.StatusBadRequest
	case r.URL.Opaque != "": // "x:y", which net/http would pass on as it is
		return host, http.StatusBadRequest
	case r.Method == http.MethodConnect:
		return host, http.StatusNotImplemented
	case !ok:
		return host, http.StatusBadRequest
	}
	return host, 0
}

// wellFormed reports whether a request can be written in HTTP/1.1 as what it is. That
// of HTTP/2 comes in fields, in which net/http lets blanks through; a Trailer field may
// name anything.
func wellFormed(r *http.Request) bool {
	for name := range r.Trailer {
		if !isToken(name) {
			return false
		}
	}
	return isToken(r.Method) && !strings.Contains(r.URL.RawQuery, " ")
}

// hostOf returns the host that a request is for, as [SiteOptions].Owns wants it; ok
// says that it is one. A request of HTTP/1.0 may name none: it is for the name in
// the hello.
func hostOf(c *Client, r *http.Request) (host string, ok bool) {
	if r.Host == "" {
		return c.SNI, true
	}
	return bareHost(r.Host)
}

// bareHost returns a Host field (RFC 9110 §7.2) in lower case, without port,
// brackets and a dot at its end. ok says that it is a name or an address; net/http
// lets through much more, which must not reach a Location.
func bareHost(field string) (host string, ok bool) {
	host, port := field, ""
	if i := strings.LastIndexByte(field, ':'); i >= 0 && !strings.HasSuffix(field, "]") {
		host, port = field[:i], field[i+1:]
	}
	for i := range len(port) {
		if port[i] < '0' || port[i] > '9' {
			return "", false
		}
	}
	if inner, found := strings.CutPrefix(host, "["); found {
		inner, found = strings.CutSuffix(inner, "]")
		a, err := netip.ParseAddr(inner)
		return strings.ToLower(inner), found && err == nil && a.Is6() && a.Zone() == ""
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	for i := range len(host) {
		switch c := host[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return "", false
		}
	}
	return host, host != ""
}
