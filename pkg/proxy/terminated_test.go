package proxy_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/proxy"
	"github.com/snicketlb/snicket/pkg/terminate"
)

// ask sends a request, ends its side and returns the answer.
func ask(t testing.TB, c *tls.Conn, request string) string {
	t.Helper()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	return string(readAll(t, c))
}

func TestTerminateToPlain(t *testing.T) {
	ca := authority(t)
	echo := lab.Serve(t, lab.Echo(), lab.Options{})
	r := route("a.test", echo.Addr())
	ca.terminate(t, r)
	h := start(t, state(t, r))
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		cfg := ca.client("a.test", "h2", "http/1.1")
		cfg.MaxVersion = version
		c := h.tls(cfg)
		state := c.ConnectionState()
		if state.NegotiatedProtocol != "" {
			t.Errorf("ALPN %q, want none for a plain pool", state.NegotiatedProtocol)
		}
		if got := ask(t, c, "plain text"); got != "plain text" {
			t.Errorf("read %q", got)
		}
		rec := h.want(proxy.OK)
		if rec.TLSVersion != version || rec.Cipher != state.CipherSuite || rec.ALPN != "" || rec.Mode != proxy.Terminate {
			t.Errorf("version %#x, cipher %#x, alpn %q, mode %v", rec.TLSVersion, rec.Cipher, rec.ALPN, rec.Mode)
		}
		if rec.BytesIn != 10 || rec.BytesOut != 10 || rec.EndedBy != proxy.ByClient {
			t.Errorf("%d bytes in, %d out, ended by %v; want the plain text's 10, the client", rec.BytesIn, rec.BytesOut, rec.EndedBy)
		}
		if rec.Hello < 0 || rec.Dial < 0 || rec.Handshake <= 0 || rec.Backend != echo.Addr() {
			t.Errorf("hello %v, dial %v, handshake %v, backend %q", rec.Hello, rec.Dial, rec.Handshake, rec.Backend)
		}
	}
}

func TestTerminateOffersByPool(t *testing.T) {
	ca := authority(t)
	echo := lab.Serve(t, lab.Echo(), lab.Options{})
	tests := []struct {
		name  string
		offer proxy.Offer
		fixed []string
		want  string
	}{
		{name: "none", offer: proxy.OfferNone, want: ""},
		{name: "http/1.1", offer: proxy.OfferHTTP1, want: "http/1.1"},
		{name: "h2", offer: proxy.OfferH2, want: "h2"},
		{name: "the route's own", offer: proxy.OfferH2, fixed: []string{"http/1.1"}, want: "http/1.1"},
		{name: "unknown", offer: 9, want: ""},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			r := route("a.test", echo.Addr())
			ca.terminate(t, r)
			r.Pool.Offer.Store(int32(tc.offer))
			if tc.fixed != nil {
				r.TLS.Fixed = terminate.ServerConfig(terminate.ServerOptions{Store: r.TLS.Store, ALPN: tc.fixed})
			}
			h := start(t, state(t, r))
			c := h.tls(ca.client("a.test", "h2", "http/1.1"))
			if got := c.ConnectionState().NegotiatedProtocol; got != tc.want {
				t.Errorf("ALPN %q, want %q", got, tc.want)
			}
			ask(t, c, "x")
			if rec := h.want(proxy.OK); rec.ALPN != tc.want {
				t.Errorf("record of ALPN %q, want %q", rec.ALPN, tc.want)
			}
		})
	}
}

func TestReencrypt(t *testing.T) {
	ca := authority(t)
	got := make(chan tls.ConnectionState, 1)
	echo := lab.Serve(t, func(c *lab.Conn) {
		_ = c.Conn.(*tls.Conn).Handshake()
		got <- c.Conn.(*tls.Conn).ConnectionState()
		lab.Echo()(c)
	}, lab.Options{TLS: ca.server(t, "a.test", "h2", "http/1.1")})
	r := route("a.test", echo.Addr())
	ca.terminate(t, r)
	r.Pool.Offer.Store(int32(proxy.OfferH2))
	r.Pool.TLS = terminate.NewBackend(terminate.BackendOptions{Roots: ca.a.Pool()})
	h := start(t, state(t, r))
	c := h.tls(ca.client("a.test", "h2"))
	if answer := ask(t, c, "secret"); answer != "secret" {
		t.Errorf("read %q", answer)
	}
	h.want(proxy.OK)
	if s := <-got; s.ServerName != "a.test" || s.NegotiatedProtocol != "h2" {
		t.Errorf("the backend was asked for %q by %q, want a.test by h2", s.ServerName, s.NegotiatedProtocol)
	}
}

// TestHandshakesAreCounted resumes with the client, with the backend, with both.
func TestHandshakesAreCounted(t *testing.T) {
	ca := authority(t)
	echo := lab.Serve(t, lab.Echo(), lab.Options{TLS: ca.server(t, "a.test")})
	r := route("a.test", echo.Addr())
	ca.terminate(t, r)
	r.Pool.TLS = terminate.NewBackend(terminate.BackendOptions{Roots: ca.a.Pool(), SessionCache: 8})
	h := start(t, state(t, r))
	cfg := ca.client("a.test")
	cfg.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	for range 3 {
		ask(t, h.tls(cfg), "x")
		h.want(proxy.OK)
	}
	ask(t, h.tls(ca.client("a.test")), "x")
	h.want(proxy.OK)
	c := h.p.Counters()
	if want := (proxy.Handshakes{Full: 2, Resumed: 2}); c.ClientHandshakes != want {
		t.Errorf("got %+v with clients, want %+v", c.ClientHandshakes, want)
	}
	if want := (proxy.Handshakes{Full: 1, Resumed: 3}); c.BackendHandshakes != want {
		t.Errorf("got %+v with backends, want %+v", c.BackendHandshakes, want)
	}
}

func TestTerminateFails(t *testing.T) {
	ca := authority(t)
	other := authority(t)
	trusting := terminate.NewBackend(terminate.BackendOptions{Roots: ca.a.Pool()})
	tests := []struct {
		name    string
		names   []string // of the certificate
		backend *lab.Server
		tls     *terminate.Backend
		client  func(t *testing.T, h *harness)
		want    proxy.Outcome
		dialled bool
	}{
		{
			name: "no certificate", names: []string{"b.test"}, want: proxy.NoCertificate,
			backend: lab.Serve(t, lab.Echo(), lab.Options{}),
			client: func(t *testing.T, h *harness) {
				c := h.hello("a.test")
				alerted(t, c, 112)
				_ = c.Close()
			},
		},
		{
			name: "no backend", want: proxy.NoBackend,
			client: func(t *testing.T, h *harness) {
				c := h.hello("a.test")
				alerted(t, c, 80) // before any handshake
				_ = c.Close()
			},
		},
		{
			name: "garbage behind the hello", backend: lab.Serve(t, lab.Echo(), lab.Options{}), want: proxy.ClientTLSFailed,
			client: func(_ *testing.T, h *harness) {
				c := h.hello("a.test")
				h.send(c, bytes.Repeat([]byte("garbage "), 100))
				_ = c.CloseWrite()
				_, _ = io.Copy(io.Discard, c)
			},
		},
		{
			name: "a client that trusts another", backend: lab.Serve(t, lab.Echo(), lab.Options{}), want: proxy.ClientTLSFailed,
			client: func(t *testing.T, h *harness) {
				c := tls.Client(h.dial(), other.client("a.test"))
				if err := c.Handshake(); err == nil {
					t.Error("it trusts the certificate")
				}
				_ = c.Close()
			},
		},
		{
			name: "a reset in the handshake", backend: lab.Serve(t, lab.Echo(), lab.Options{}), want: proxy.ClientReset,
			client: func(_ *testing.T, h *harness) {
				c := h.hello("a.test")
				_, _ = io.ReadFull(c, make([]byte, 100))
				_ = c.SetLinger(0)
				_ = c.Close()
			},
		},
		{
			name: "a mute client", backend: lab.Serve(t, lab.Echo(), lab.Options{}), want: proxy.HandshakeTimeout,
			client: func(_ *testing.T, h *harness) {
				c := h.hello("a.test")
				_, _ = io.Copy(io.Discard, c)
			},
		},
		{
			name: "a backend of another authority", tls: trusting, want: proxy.BackendTLSFailed, dialled: true,
			backend: lab.Serve(t, lab.Echo(), lab.Options{TLS: other.server(t, "a.test")}),
			client:  gone(ca),
		},
		{
			name: "a backend of another name", tls: trusting, want: proxy.BackendTLSFailed, dialled: true,
			backend: lab.Serve(t, lab.Echo(), lab.Options{TLS: ca.server(t, "b.test")}),
			client:  gone(ca),
		},
		{
			name: "a plain backend", tls: trusting, want: proxy.BackendTLSFailed, dialled: true,
			backend: lab.Serve(t, lab.Announce("plain", nil), lab.Options{}),
			client:  gone(ca),
		},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			var backends []string
			if tc.backend != nil {
				backends = []string{tc.backend.Addr()}
			}
			r := route("a.test", backends...)
			ca.terminate(t, r, tc.names...)
			r.Pool.TLS = tc.tls
			if tc.want == proxy.HandshakeTimeout {
				r.Handshake = 100 * time.Millisecond
			}
			h := start(t, state(t, r))
			tc.client(t, h)
			rec := h.want(tc.want)
			if rec.Error == "" || (rec.Backend != "") != tc.dialled || (rec.Dial >= 0) != tc.dialled {
				t.Errorf("error %q, backend %q, dial %v", rec.Error, rec.Backend, rec.Dial)
			}
		})
	}
}

// gone is a client whose connection ends after its handshake, by no clean end.
func gone(ca ca) func(*testing.T, *harness) {
	return func(t *testing.T, h *harness) {
		c := h.tls(ca.client("a.test"))
		if b, err := io.ReadAll(c); err == nil || len(b) != 0 {
			t.Errorf("read %q, %v; want no byte and no clean end", b, err)
		}
	}
}

// TestTerminateRetries reaches the one living backend of a terminated route,
// which is a Unix socket with a full backlog for a while.
func TestTerminateRetries(t *testing.T) {
	ca := authority(t)
	path := filepath.Join(t.TempDir(), "full")
	fd := fillUnix(t, path)
	r := route("a.test", lab.FreeAddr(t), path)
	ca.terminate(t, r)
	var failed failures
	failed.watch(r.Pool)
	h := start(t, state(t, r))
	for range 2 { // the dead one is tried first by one of them
		c := h.tls(ca.client("a.test"))
		_, _ = io.WriteString(c, "request")
		got := acceptUntil(t, fd, []byte("request"))
		if _, err := io.WriteString(got, "answer"); err != nil {
			t.Fatal(err)
		}
		_ = got.Close()
		if b := readAll(t, c); string(b) != "answer" {
			t.Errorf("read %q", b)
		}
		_ = c.Close()
	}
	retries := h.record().Retries + h.record().Retries
	ids, errs := failed.list()
	if len(ids) != retries || retries == 0 {
		t.Errorf("%d retries, failures of %v told", retries, ids)
	}
	for _, err := range errs {
		if !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("told of %v", err)
		}
	}
}

// TestAlertReachesASendingClient holds that an alert is not lost to the reset that
// closing with bytes unread would be.
func TestAlertReachesASendingClient(t *testing.T) {
	ca := authority(t)
	echo := lab.Serve(t, lab.Echo(), lab.Options{})
	r := route("a.test", echo.Addr())
	ca.terminate(t, r, "b.test")
	h := start(t, state(t, r))
	for range 20 {
		c := h.dial()
		h.send(c, append(lab.Hello("a.test"), make([]byte, 20_000)...))
		alerted(t, c, 112)
		_ = c.Close()
		h.want(proxy.NoCertificate)
	}
}
