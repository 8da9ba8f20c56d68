package proxy_test

import (
	"crypto/tls"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/certs"
	"github.com/snicketlb/snicket/pkg/proxy"
	"github.com/snicketlb/snicket/pkg/terminate"
)

// ca is an authority for the routes, clients and backends of one test.
type ca struct{ a *certs.Authority }

func authority(t testing.TB) ca {
	t.Helper()
	a, err := certs.NewAuthority("test")
	if err != nil {
		t.Fatal(err)
	}
	return ca{a}
}

func (c ca) issue(t testing.TB, o certs.IssueOptions) *certs.Certificate {
	t.Helper()
	cert, err := c.a.Issue(o)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// terminate makes r end TLS, with a certificate for its first host or for names.
func (c ca) terminate(t testing.TB, r *proxy.Route, names ...string) {
	t.Helper()
	if names == nil {
		names = r.Hosts[:1]
	}
	store := certs.Fixed(c.issue(t, certs.IssueOptions{Names: names}))
	offer := func(alpn ...string) *tls.Config {
		return terminate.ServerConfig(terminate.ServerOptions{Store: store, ALPN: alpn})
	}
	r.Mode = proxy.Terminate
	r.TLS = &proxy.Terminator{Store: store}
	r.TLS.Offers[proxy.OfferNone] = offer()
	r.TLS.Offers[proxy.OfferHTTP1] = offer("http/1.1")
	r.TLS.Offers[proxy.OfferH2] = offer("h2", "http/1.1")
	r.Pool.Offer = new(atomic.Int32)
}

// client trusts the authority and asks for name.
func (c ca) client(name string, alpn ...string) *tls.Config {
	return &tls.Config{RootCAs: c.a.Pool(), ServerName: name, NextProtos: alpn}
}

// server is the TLS of a backend.
func (c ca) server(t testing.TB, name string, alpn ...string) *tls.Config {
	t.Helper()
	cert := c.issue(t, certs.IssueOptions{Names: []string{name}})
	return &tls.Config{Certificates: []tls.Certificate{cert.Certificate}, NextProtos: alpn}
}

// tls connects and shakes hands.
func (h *harness) tls(cfg *tls.Config) *tls.Conn {
	h.t.Helper()
	c := tls.Client(h.dial(), cfg)
	_ = c.SetDeadline(time.Now().Add(lab.Patience))
	if err := c.Handshake(); err != nil {
		h.t.Fatal(err)
	}
	return c
}
