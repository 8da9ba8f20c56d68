package web

import (
	"net/http"
	"strings"
)

// hostOf returns the host that a request is for, as [SiteOptions].Owns wants it.
// A request of HTTP/1.0 may have none: it is for the name in the hello.
func hostOf(c *Client, r *http.Request) string {
	if r.Host == "" {
		return c.SNI
	}
	return bareHost(r.Host)
}

// bareHost returns a Host field (RFC 9110 §7.2) in lower case, without port,
// brackets and a dot at its end.
func bareHost(host string) string {
	if strings.HasPrefix(host, "[") {
		if end := strings.IndexByte(host, ']'); end > 0 {
			return strings.ToLower(host[1:end])
		}
	} else if i := strings.LastIndexByte(host, ':'); i >= 0 {
		host = host[:i]
	}
	return strings.TrimSuffix(strings.ToLower(host), ".")
}
