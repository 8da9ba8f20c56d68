package admin

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// ofThisMachine refuses requests over a loopback address that do not name this machine,
// by an address or as localhost. A page of any site can have a browser on this machine
// ask for that site's own name, once that name leads to a loopback address (DNS
// rebinding), and would read the answer. Over other addresses any name is served: which
// names of the network are this machine's is for the network to know.
func ofThisMachine(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if overLoopback(r.Context()) && !namesThisMachine(r.Host) {
			answer(w, nil, refuse(http.StatusMisdirectedRequest, "this is not that host", "ask for localhost, or by the address"))
			return
		}
		h.ServeHTTP(w, r)
	})
}

// overLoopback reports whether only this machine can have made a request, wherever else
// its listener can be reached.
func overLoopback(ctx context.Context) bool {
	tcp, ok := ctx.Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
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
