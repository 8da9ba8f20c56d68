package web

import (
	"net/http"
	"strings"
)

// trailers are the fields behind the body of a request on their way to the backend: net/http
// tells of them once that has been read, and sends what stands in a request's Trailer
// then.
type trailers struct {
	in, out http.Header
}

// announce takes what the backend is to be told of the trailers that a request has
// announced, whose values are yet to come: without those that are out of place there, as a
// server that takes them for part of the header would be misled.
func (t *trailers) announce(in, out http.Header, trusted bool) http.Header {
	for name := range out {
		if !belongsBehind(name) || !trusted && saysOrigin(name) {
			delete(out, name)
		}
	}
	if len(out) == 0 {
		return nil
	}
	t.in, t.out = in, out
	return out
}

// arrive fills in what has come. net/http adds to t.in also what was not announced.
func (t *trailers) arrive() {
	for name := range t.out {
		t.out[name] = t.in[name]
	}
}

// belongsBehind reports whether a field may be a trailer: not if it frames, routes,
// modifies or authenticates the request, or says how its content is to be taken (RFC 9110
// §6.5.1).
func belongsBehind(name string) bool {
	name = strings.ToLower(strings.ReplaceAll(name, "_", "-"))
	switch name {
	case "authorization", "cache-control", "connection", "cookie", "expect", "host", "keep-alive", "max-forwards",
		"origin", "pragma", "range", "referer", "te", "trailer", "transfer-encoding", "upgrade",
		"content-encoding", "content-length", "content-range", "content-type":
		return false
	}
	for _, prefix := range []string{"if-", "proxy-", "sec-", "x-http-method", "x-method-override", "x-original-url", "x-rewrite-url"} {
		if strings.HasPrefix(name, prefix) {
			return false
		}
	}
	return true
}
