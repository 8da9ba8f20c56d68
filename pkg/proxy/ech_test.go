package proxy_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/certs"
	"github.com/snicketlb/snicket/pkg/proxy"
	"github.com/snicketlb/snicket/pkg/terminate"
	"github.com/snicketlb/snicket/pkg/web"
	"github.com/snicketlb/snicket/sni/hellotest"
)

// hidden is a data plane with a host for outer hellos, front.test, and routes of their
// own kinds for inner ones; each backend says its name.
type hidden struct {
	*harness
	ca   ca
	key  *certs.ECHKey
	live *certs.LiveECH
}

func echKey(t testing.TB) *certs.ECHKey {
	t.Helper()
	k, err := certs.GenerateECH("front.test")
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (d *hidden) route(t testing.TB, host string) *proxy.Route {
	t.Helper()
	backend := lab.Serve(t, lab.Announce(host, nil), lab.Options{})
	r := route(host, backend.Addr())
	d.ca.terminate(t, r)
	r.TLS.ECH = true
	for i, alpn := range [][]string{nil, {"http/1.1"}, {"h2", "http/1.1"}} {
		r.TLS.Offers[i] = terminate.ServerConfig(terminate.ServerOptions{Store: r.TLS.Store, ALPN: alpn, ECH: d.live})
	}
	return r
}

func newHidden(t *testing.T, alter func(*hidden, *proxy.State)) *hidden {
	t.Helper()
	d := &hidden{ca: authority(t), key: echKey(t)}
	d.live = certs.NewLiveECH(certs.NewECH([]*certs.ECHKey{d.key}))
	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	elsewhere := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	strict := d.route(t, "strict.test")
	for _, c := range strict.TLS.Offers {
		c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, d.ca.a.Pool()
	}
	denied, from, h2, full, rejected, down := d.route(t, "denied.test"), d.route(t, "from.test"), d.route(t, "h2.test"),
		d.route(t, "full.test"), route("rejected.test"), d.route(t, "down.test")
	denied.DenyFrom, from.From, h2.ALPN, full.MaxConnections = loopback, elsewhere, []string{"h2"}, 1
	rejected.Mode, rejected.Pool = proxy.Reject, nil
	down.Pool.Balancer.Update(nil)
	through := route("through.test", lab.Serve(t, lab.Announce("through.test", nil), lab.Options{}).Addr())
	s := state(t, d.route(t, "front.test"), d.route(t, "secret.test"), strict, denied, from, h2, full, rejected, down, through)
	if alter != nil {
		alter(d, &s)
	}
	d.harness = start(t, s)
	full.Active.Add(1)
	t.Cleanup(func() { full.Active.Add(-1) })
	return d
}

// client asks for name within a hello for front.test.
func (d *hidden) client(name string, key *certs.ECHKey, alpn ...string) *tls.Config {
	c := d.ca.client(name, alpn...)
	c.EncryptedClientHelloConfigList = key.ConfigList()
	return c
}

// heard is the name of the backend reached.
func heard(t *testing.T, c *tls.Conn) string {
	t.Helper()
	if _, err := io.WriteString(c, "?"); err != nil {
		t.Fatal(err)
	}
	return line(t, c)
}

// says wants the backend reached to be that of host.
func says(t *testing.T, c *tls.Conn, host string) {
	t.Helper()
	if got := heard(t, c); got != host {
		t.Errorf("backend of %q, want of %q", got, host)
	}
	if err := c.CloseWrite(); err != nil {
		t.Error(err)
	}
	if _, err := io.Copy(io.Discard, c); err != nil {
		t.Error(err)
	}
	_ = c.Close()
}

// TestInnerHello serves inner hellos as their names deserve.
func TestInnerHello(t *testing.T) {
	d := newHidden(t, nil)
	tests := []struct {
		name  string
		inner string
		alpn  []string
		want  proxy.Outcome
		alert tls.AlertError // 0 for a reset
		route string
		err   string
	}{
		{name: "another host", inner: "secret.test", route: "secret.test"},
		{name: "in capitals", inner: "SECRET.Test", route: "secret.test"},
		{name: "the outer one", inner: "front.test", route: "front.test"},
		{name: "the outer one, by other protocols", inner: "front.test", alpn: []string{"h2"}, route: "front.test"},
		{name: "by its alpn", inner: "h2.test", alpn: []string{"h2"}, route: "h2.test"},
		{name: "not by its alpn", inner: "h2.test", alpn: []string{"http/1.1"}, want: proxy.NoRoute, alert: 112},
		{name: "no route", inner: "nobody.test", want: proxy.NoRoute, alert: 112},
		{name: "no name at all", inner: "a b.test", want: proxy.BadHello, alert: 50, err: `within ECH: "a b.test" has the byte ' ', which no name has`},
		{name: "denied", inner: "denied.test", want: proxy.Denied, alert: 49, route: "denied.test"},
		{name: "not from here", inner: "from.test", want: proxy.Denied, alert: 49},
		{name: "rejected", inner: "rejected.test", want: proxy.Rejected, alert: 49, route: "rejected.test"},
		{name: "full", inner: "full.test", want: proxy.OverLimit, route: "full.test", err: "the route's max_connections"},
		{name: "without a backend", inner: "down.test", want: proxy.NoBackend, alert: 80, route: "down.test", err: "no ready backend"},
		{
			name: "passed through", inner: "through.test", want: proxy.NoRoute, alert: 112, route: "through.test",
			err: "within ECH: a host that is passed through",
		},
		{name: "without the certificate it demands", inner: "strict.test", want: proxy.ClientTLSFailed, alert: 116, route: "strict.test"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := d.client(tt.inner, d.key, tt.alpn...)
			c := tls.Client(d.dial(), cfg)
			_, err := c.Read(nil) // the handshake, and with it an alert that follows it
			if err == nil && tt.want != proxy.OK {
				_, err = c.Read(make([]byte, 1))
			}
			switch {
			case tt.want == proxy.OK && err != nil:
				t.Fatal(err)
			case tt.want == proxy.OK:
			case tt.alert == 0 && !errors.Is(err, unix.ECONNRESET):
				t.Errorf("got %v, want a reset", err)
			case tt.alert != 0 && (err == nil || err.Error() != "remote error: "+tt.alert.Error()):
				t.Errorf("got %v, want alert %d", err, tt.alert)
			}
			if err == nil {
				if !c.ConnectionState().ECHAccepted {
					t.Error("ECH was not accepted")
				}
				says(t, c, tt.route)
			}
			_ = c.Close()
			rec := d.want(tt.want)
			if wantSNI := strings.ToLower(tt.inner); rec.SNI != wantSNI || rec.Route != tt.route || rec.Listener != "https" {
				t.Errorf("record of %q by route %q, want %q by %q", rec.SNI, rec.Route, wantSNI, tt.route)
			}
			if tt.err != "" && rec.Error != tt.err {
				t.Errorf("error %q, want %q", rec.Error, tt.err)
			}
		})
	}
}

// TestInnerHelloCounts holds that a session that has moved counts for its own route
// alone, while it lives and after.
func TestInnerHelloCounts(t *testing.T) {
	d := newHidden(t, nil)
	active := func(host string) int64 {
		for _, r := range d.routes {
			if r.Name == host {
				return r.Active.Load()
			}
		}
		t.Fatalf("no route %s", host)
		return 0
	}
	c := d.tls(d.client("secret.test", d.key))
	heard(t, c)
	if front, secret := active("front.test"), active("secret.test"); front != 0 || secret != 1 {
		t.Errorf("%d sessions of front.test and %d of secret.test, want none and 1", front, secret)
	}
	_ = c.CloseWrite()
	_, _ = io.Copy(io.Discard, c)
	_ = c.Close()
	d.want(proxy.OK)
	if secret := active("secret.test"); secret != 0 {
		t.Errorf("%d sessions of secret.test left", secret)
	}
}

// TestInnerHelloRetried has the client asked for another key share in between.
func TestInnerHelloRetried(t *testing.T) {
	d := newHidden(t, func(_ *hidden, s *proxy.State) {
		for _, r := range s.Routes {
			if r.TLS != nil {
				for c := range r.TLS.Configs() {
					c.CurvePreferences = []tls.CurveID{tls.CurveP384}
				}
			}
		}
	})
	c := d.tls(d.client("secret.test", d.key))
	if s := c.ConnectionState(); !s.HelloRetryRequest || !s.ECHAccepted {
		t.Errorf("retried %v, accepted %v", s.HelloRetryRequest, s.ECHAccepted)
	}
	says(t, c, "secret.test")
	d.want(proxy.OK)
}

// TestOuterHello serves a hello by its outer name if what is within cannot be opened,
// and tells of the key that could be.
func TestOuterHello(t *testing.T) {
	d := newHidden(t, nil)
	stale, next := d.key, echKey(t)
	refused := func(key, want *certs.ECHKey) {
		t.Helper()
		c := tls.Client(d.dial(), d.client("secret.test", key))
		err := c.Handshake()
		_ = c.Close()
		var rejected *tls.ECHRejectionError
		if !errors.As(err, &rejected) || !bytes.Equal(rejected.RetryConfigList, want.ConfigList()) {
			t.Errorf("got %v, want to be told of another key", err)
		}
		if rec := d.record(); rec.SNI != "front.test" || rec.Route != "front.test" {
			t.Errorf("record of %q by %q", rec.SNI, rec.Route)
		}
	}
	refused(next, stale) // which is as good as made up
	d.live.Swap(certs.NewECH([]*certs.ECHKey{next, stale}))
	for _, key := range []*certs.ECHKey{stale, next} {
		says(t, d.tls(d.client("secret.test", key)), "secret.test")
		d.want(proxy.OK)
	}
	d.live.Swap(certs.NewECH([]*certs.ECHKey{next}))
	refused(stale, next)
	says(t, d.tls(d.ca.client("front.test")), "front.test")
	d.want(proxy.OK)
}

// TestGreasedHello answers a hello as Chrome sends it, with what only looks like another
// one within, as any other.
func TestGreasedHello(t *testing.T) {
	cases, err := hellotest.Load("../../sni/testdata/hellos")
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(cases, func(c hellotest.Case) bool { return c.Name == "chrome-like" })
	name := cases[i].ServerName
	key, err := certs.GenerateECH(name)
	if err != nil {
		t.Fatal(err)
	}
	d := newHidden(t, func(d *hidden, s *proxy.State) {
		cert := d.ca.issue(t, certs.IssueOptions{Names: []string{name}})
		s.Routes[0].Hosts = []string{name}
		s.Routes[0].TLS.Store.Swap(certs.NewStore(certs.NewSet([]*certs.Certificate{cert}), nil, certs.StoreOptions{}))
	})
	d.live.Swap(certs.NewECH([]*certs.ECHKey{key}))
	c := d.dial()
	d.send(c, cases[i].Stream)
	record := make([]byte, 6)
	if _, err := io.ReadFull(c, record); err != nil {
		t.Fatal(err)
	}
	if record[0] != 22 || record[5] != 2 {
		t.Errorf("answered by % x, want a ServerHello", record)
	}
	_ = c.Close()
	if rec := d.record(); rec.SNI != name || !rec.Routed {
		t.Errorf("record of %q", rec.SNI)
	}
}

// TestInnerHelloNeedsItsFront holds that what stands outside decides whether anything is
// opened: a hello within one for another host of ours is not.
func TestInnerHelloNeedsItsFront(t *testing.T) {
	d := newHidden(t, nil)
	other, err := certs.GenerateECH("secret.test")
	if err != nil {
		t.Fatal(err)
	}
	var rejected *tls.ECHRejectionError
	c := tls.Client(d.dial(), d.client("strict.test", other))
	if err := c.Handshake(); !errors.As(err, &rejected) || rejected.RetryConfigList != nil {
		t.Errorf("got %v, want a refusal that tells of no key", err)
	}
	_ = c.Close()
	if rec := d.record(); rec.SNI != "secret.test" {
		t.Errorf("record of %q", rec.SNI)
	}
}

// TestFrontWithoutBackend opens hellos although the host outside has no backend.
func TestFrontWithoutBackend(t *testing.T) {
	d := newHidden(t, func(_ *hidden, s *proxy.State) { s.Routes[0].Pool.Balancer.Update(nil) })
	says(t, d.tls(d.client("secret.test", d.key)), "secret.test")
	d.want(proxy.OK)
	c := d.hello("front.test")
	alerted(t, c, 80)
	_ = c.Close()
	d.want(proxy.NoBackend)
}

// TestInnerHelloOfSite has HTTP spoken with the host inside, which has a page for the time
// without backends, or a site; and with the one outside alike.
func TestInnerHelloOfSite(t *testing.T) {
	d := newHidden(t, func(d *hidden, s *proxy.State) {
		for _, r := range s.Routes {
			switch r.Name {
			case "front.test", "down.test":
				r.Pool.Balancer.Update(nil)
				d.ca.sorry(t, r, r.Name)
			case "secret.test":
				r.Site = web.NewSite(web.SiteOptions{Name: r.Name, Owns: proxy.Owns})
			}
		}
	})
	for _, host := range []string{"down.test", "secret.test", "front.test"} {
		c := d.tls(d.client(host, d.key, "http/1.1"))
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if got := string(readAll(t, c)); !strings.HasPrefix(got, "HTTP/1.1 503 ") {
			t.Errorf("%s: got %.50q, want 503", host, got)
		}
		_ = c.Close()
		if rec := d.record(); rec.Route != host || rec.SNI != host {
			t.Errorf("%s: record of %q by %q", host, rec.SNI, rec.Route)
		}
	}
}
