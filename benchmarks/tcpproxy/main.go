// Command tcpproxy is the peer github.com/inetaf/tcpproxy as its README shows it: a route by SNI to one backend,
// relayed by io.Copy. It is a module of its own so that what it needs burdens nobody who builds Snicket.
//
//	tcpproxy LISTEN NAME BACKEND
//
// NAME is the SNI to match, in lower case; a NAME that begins with "*." matches every name below it.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/inetaf/tcpproxy"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: tcpproxy LISTEN NAME BACKEND")
		os.Exit(2)
	}
	listen, name, backend := os.Args[1], os.Args[2], os.Args[3]
	var p tcpproxy.Proxy
	p.AddSNIMatchRoute(listen, func(_ context.Context, host string) bool {
		below, wildcard := strings.CutPrefix(name, "*")
		return host == name || wildcard && strings.HasSuffix(host, below)
	}, &tcpproxy.DialProxy{Addr: backend, KeepAlivePeriod: -1})
	if err := p.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "tcpproxy:", err)
		os.Exit(1)
	}
}
