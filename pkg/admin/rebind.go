package admin

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// local reports whether only this machine can connect to an address.
func local(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// ofThisMachine serves requests that name this machine, by an address or as localhost, and
// refuses all others. A page of any site can have a browser on this machine ask for that
// site's own name, once that name leads to a loopback address (DNS rebinding), and would
// read the answer; what is bound to loopback is meant for nobody else.
func ofThisMachine(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !namesThisMachine(r.Host) {
			answer(w, nil, refuse(http.StatusMisdirectedRequest, "this is not that host", "ask for localhost, or by the address"))
			return
		}
		h.ServeHTTP(w, r)
	})
}

// namesThisMachine reports whether a Host field, which HTTP/1.0 need not have, is an
// address or localhost (RFC 6761 §6.3).
func namesThisMachine(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return host == "" || host == "localhost" || strings.HasSuffix(host, ".localhost")
}
