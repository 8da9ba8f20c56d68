package web

import (
	"net/http"
	"net/netip"
	"strings"
)

// forward tells the backend in out of the client, whose request came with the
// header in. What the client says itself of where its request comes from is taken
// away unless it is trusted.
func (s *Site) forward(out *http.Request, in http.Header, c *Client) {
	trusted := s.trusts(c.Addr.Addr())
	if trusted {
		for name, values := range in {
			if saysOrigin(name) {
				out.Header[name] = values
			}
		}
	} else {
		for name := range out.Header {
			if saysOrigin(name) {
				delete(out.Header, name)
			}
		}
	}
	if !s.o.Forwarded {
		return
	}
	proto := "http"
	if c.TLS != nil {
		proto = "https"
	}
	add(out.Header, "Forwarded", forwardedElement(c.Addr.Addr(), out.Host, proto))
	if c.Addr.IsValid() {
		add(out.Header, "X-Forwarded-For", c.Addr.Addr().Unmap().WithZone("").String())
	}
	// These have one value: that of the first edge on the way.
	first(out.Header, "X-Forwarded-Proto", proto)
	first(out.Header, "X-Forwarded-Host", out.Host)
}

// trusts reports whether what a client says of where its requests come from counts.
func (s *Site) trusts(client netip.Addr) bool {
	client = client.Unmap().WithZone("")
	for _, p := range s.o.TrustFrom {
		if p.Contains(client) {
			return true
		}
	}
	return false
}

// saysOrigin reports whether a header field says where a request comes from, or
// would be taken for one that does: servers that hand the header to a program as
// variables (CGI, WSGI) read an underscore as they do a hyphen.
func saysOrigin(name string) bool {
	if strings.Contains(name, "_") {
		name = strings.ReplaceAll(name, "_", "-")
	}
	const prefix = "x-forwarded-"
	switch len(name) {
	case len("Forwarded"):
		if strings.EqualFold(name, "Forwarded") || strings.EqualFold(name, "X-Real-Ip") {
			return true
		}
	case len("X-Forwarded"):
		return strings.EqualFold(name, "X-Forwarded")
	}
	return len(name) > len(prefix) && strings.EqualFold(name[:len(prefix)], prefix)
}

// add puts a value behind those that a field has, as one line.
func add(h http.Header, name, value string) {
	if prior := h[name]; len(prior) > 0 {
		value = strings.Join(prior, ", ") + ", " + value
	}
	h[name] = []string{value}
}

// first sets a field that has no value yet.
func first(h http.Header, name, value string) {
	if len(h[name]) == 0 && value != "" {
		h[name] = []string{value}
	}
}

// forwardedElement returns one element of a Forwarded field (RFC 7239 §4). An
// invalid client is one of which no address is known, such as that of a Unix
// socket.
func forwardedElement(client netip.Addr, host, proto string) string {
	b := make([]byte, 0, 96)
	b = append(b, "for="...)
	client = client.Unmap().WithZone("")
	switch {
	case !client.IsValid():
		b = append(b, "unknown"...) // RFC 7239 §6.2
	case client.Is6():
		b = append(b, `"[`...) // RFC 7239 §6: in brackets, and therefore quoted
		b = client.AppendTo(b)
		b = append(b, `]"`...)
	default:
		b = client.AppendTo(b)
	}
	if host != "" {
		b = append(b, ";host="...)
		b = appendValue(b, host)
	}
	b = append(b, ";proto="...)
	b = append(b, proto...)
	return string(b)
}

// appendValue appends a token or, where it is none, a quoted-string (RFC 9110
// §5.6). What can be neither is left out.
func appendValue(b []byte, v string) []byte {
	if isToken(v) {
		return append(b, v...)
	}
	b = append(b, '"')
	for i := range len(v) {
		switch c := v[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\t' || c >= ' ' && c != 0x7f:
			b = append(b, c)
		}
	}
	return append(b, '"')
}

// isToken reports whether v is a token (RFC 9110 §5.6.2).
func isToken(v string) bool {
	for i := range len(v) {
		switch c := v[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return v != ""
}
