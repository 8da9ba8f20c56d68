package proxy

import (
	"net/netip"

	"github.com/snicketlb/snicket/pkg/loop"
	"github.com/snicketlb/snicket/pkg/proxyheader"
)

// caller is what backends are told of a client, whatever the mode.
type caller struct {
	client netip.AddrPort
	local  netip.AddrPort // what it connected to
	sni    string
	alpn   string // negotiated, or the only one offered; empty: nobody can say
	id     SessionID
	tls    *secured // nil: not terminated
}

// caller is the session's, but for what its TLS would add.
func (s *session) caller() caller {
	c := caller{client: s.client(), sni: s.sni, id: s.id}
	if s.proxied != nil {
		c.local = s.proxied.local
	}
	if !c.local.IsValid() && c.client.IsValid() {
		c.local = loop.LocalAddr(int(s.c.fd))
	}
	return c
}

// header is the PROXY header that tells of c, as the pool would have it.
func (p *Pool) header(c *caller) proxyheader.Out {
	out := proxyheader.Out{Version: p.ProxyProtocol, Source: c.client, Destination: c.local, CRC32C: p.TLVs.CRC32C}
	if p.TLVs.Authority {
		out.Authority = c.sni
	}
	if p.TLVs.ALPN {
		out.ALPN = c.alpn
	}
	if p.TLVs.UniqueID {
		out.UniqueID = c.id.Append(nil)
	}
	if p.TLVs.SSL && c.tls != nil {
		out.SSL = c.tls.told()
	}
	return out
}
