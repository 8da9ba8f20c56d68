package web

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// retryAfter is what the sorry page asks a client to wait for, in seconds: about
// what a backend that comes back takes to be found ready.
const retryAfter = "10"

// pageTime is how long a client may take to make room for a page.
const pageTime = 30 * time.Second

// textOf returns what a page of the edge's own says. It names neither the product
// nor what failed.
func textOf(status int) string {
	switch status {
	case http.StatusBadRequest:
		return "The request cannot be understood."
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return "What you asked for is at another address."
	case http.StatusForbidden:
		return "This is not allowed here."
	case http.StatusMisdirectedRequest:
		return "This host is not served over this connection."
	case http.StatusNotImplemented:
		return "Tunnels are not made here."
	case http.StatusBadGateway:
		return "The server behind this address did not answer as it should. Please try again."
	case http.StatusServiceUnavailable:
		return "This site cannot be reached at the moment. Please try again in a few seconds."
	case http.StatusGatewayTimeout:
		return "The server behind this address did not answer in time. Please try again."
	default:
		return http.StatusText(status)
	}
}

// writePage answers a request on the edge's own behalf, as HTML if the client takes
// that, else as text. Fields of the header that are set already stay.
func writePage(w http.ResponseWriter, r *http.Request, status int) {
	title, text := http.StatusText(status), textOf(status)
	kind, body := "text/plain; charset=utf-8", fmt.Sprintf("%d %s\n%s\n", status, title, text)
	if wantsHTML(r.Header) {
		kind = "text/html; charset=utf-8"
		body = fmt.Sprintf(`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>%[1]s</title>
<h1>%[1]s</h1>
<p>%[2]s
`, title, text)
	}
	h := w.Header()
	if status == http.StatusServiceUnavailable {
		h.Set("Retry-After", retryAfter)
	}
	if status >= http.StatusBadRequest {
		h.Set("Cache-Control", "no-store")
	}
	h.Set("Content-Type", kind)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Vary", "Accept")
	h.Set("X-Content-Type-Options", "nosniff")
	if r.ContentLength != 0 && r.ProtoMajor == 1 {
		// net/http reads some of a body before it answers, and would wait for it
		// without end. An error says that the connection is hijacked.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(lingerBody))
	}
	if r.ProtoMajor == 2 {
		// Of its stream alone: a client may give it no room, and ping for ever. In HTTP/1.1
		// such a connection is silent, and ends as an idle one.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(pageTime))
	}
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return
	}
	_, _ = w.Write([]byte(body)) // the client may be gone; nobody is left to tell
}

// wantsHTML reports whether an Accept field (RFC 9110 §12.5.1) names HTML.
func wantsHTML(h http.Header) bool {
	for _, v := range h["Accept"] {
		for kind := range strings.SplitSeq(v, ",") {
			kind, parameters, _ := strings.Cut(kind, ";")
			kind = strings.ToLower(strings.TrimSpace(kind))
			if (kind == "text/html" || kind == "application/xhtml+xml") && !refusedByWeight(parameters) {
				return true
			}
		}
	}
	return false
}

// refusedByWeight reports whether the parameters of a media range hold a weight of
// 0.
func refusedByWeight(parameters string) bool {
	for p := range strings.SplitSeq(parameters, ";") {
		name, value, _ := strings.Cut(p, "=")
		if strings.EqualFold(strings.TrimSpace(name), "q") {
			q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			return err == nil && q == 0
		}
	}
	return false
}
