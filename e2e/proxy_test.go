//go:build e2e

package e2e_test

import (
	"fmt"
	"regexp"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
)

// TestProxyToNginx sends PROXY headers of both versions to nginx, whose log shows the client's own address and port.
func TestProxyToNginx(t *testing.T) {
	ca := lab.NewAuthority(t, "backend authority")
	cert, key := ca.WriteServer(t, "a.test")
	for _, version := range []string{"v1", "v2"} {
		t.Run(version, func(t *testing.T) {
			backend, addr := lab.FreeAddr(t), lab.FreeAddr(t)
			nginx := startNginx(t, fmt.Sprintf(`
http {
	log_format client "client=$proxy_protocol_addr:$proxy_protocol_port server=$proxy_protocol_server_port host=$host";
	access_log /dev/stdout client;
	server {
		listen %s ssl proxy_protocol;
		ssl_certificate %s;
		ssl_certificate_key %s;
		location / { return 200 "hello\n"; }
	}
}
`, backend, cert, key), backend)
			run(t, listener(addr)+passthrough("a.test", "a", []string{backend}, fmt.Sprintf("proxy_protocol = %q", version)))
			c := dialTLS(t, addr, ca.Client("a.test"))
			fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
			nginx.WaitLine(regexp.QuoteMeta(fmt.Sprintf("client=%s server=%s host=a.test", c.LocalAddr(), port(t, addr))) + "$")
		})
	}
}

// TestProxyToHAProxy sends a v2 header to haproxy, which logs the authority and the unique id it finds there.
func TestProxyToHAProxy(t *testing.T) {
	backend, addr := lab.FreeAddr(t), lab.FreeAddr(t)
	echo := lab.Serve(t, lab.Echo(), lab.Options{})
	haproxy := startHAProxy(t, fmt.Sprintf(`
global
	log stdout format raw local0
defaults
	mode tcp
	log global
	timeout connect 2s
	timeout client 20s
	timeout server 20s
frontend in
	bind %s accept-proxy
	log-format "client=%%ci:%%cp authority=%%[fc_pp_authority] id=%%[fc_pp_unique_id,hex]"
	default_backend echo
backend echo
	server echo %s
`, backend, echo.Addr()), backend)
	b := run(t, listener(addr)+passthrough("a.test", "a", []string{backend}, `proxy_protocol = "v2"`))
	mark := b.Mark()
	c := dial(t, addr)
	exchangeEcho(t, c, lab.Hello("a.test"))
	c.Close()
	r := b.waitRecord(mark, record{"client": c.LocalAddr().String()})
	id := fmt.Sprintf("%X", r["id"])
	haproxy.WaitLine(regexp.QuoteMeta(fmt.Sprintf("client=%s authority=a.test id=", c.LocalAddr())) + "(?i)" + id + "$")
}

// TestProxyFrom accepts PROXY headers from one address only: the listed peer must send one, all others must not.
func TestProxyFrom(t *testing.T) {
	addr := lab.FreeAddr(t)
	echo := lab.Serve(t, lab.Echo(), lab.Options{})
	b := run(t, listener(addr)+"accept_proxy_from = [\"127.0.0.2/32\"]\n"+passthrough("a.test", "a", []string{echo.Addr()}))
	header := "PROXY TCP4 192.0.2.7 192.0.2.1 4321 443\r\n"
	tests := []struct {
		name, from, header string
		client, outcome    string // of the record; client empty: the peer
	}{
		{"listed peer with a header", "127.0.0.2", header, "192.0.2.7:4321", "ok"},
		{"listed peer without one", "127.0.0.2", "", "", "bad-proxy-header"},
		{"another peer with a header", "127.0.0.3", header, "", "bad-proxy-header"},
		{"another peer without one", "127.0.0.3", "", "", "ok"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			mark := b.Mark()
			c := dialFrom(t, tt.from, addr)
			peer := c.LocalAddr().String()
			hello := lab.Hello("a.test")
			c.Write([]byte(tt.header))
			if tt.outcome == "ok" {
				exchangeEcho(t, c, hello)
			} else {
				c.Write(hello)
				if n, err := c.Read(make([]byte, 1)); err == nil {
					t.Errorf("got %d bytes, want the end", n)
				}
			}
			c.Close()
			if tt.client == "" {
				tt.client = peer
			}
			b.waitRecord(mark, record{"peer": peer, "client": tt.client, "outcome": tt.outcome})
		})
	}
}
