// Package pebble runs Pebble, the authority that Let's Encrypt tests ACME clients with, within a test: the real one,
// with its own strictness, its random bad nonces and its validations over real connections to loopback.
//
// Start with [Start]. Every name of the test leads to loopback; ports 443 and 80 of all names are forwarded to where
// [Authority.ServeTLS] and [Authority.ServeHTTP] say.
package pebble

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"

	"github.com/snicketlb/snicket/internal/lab"
)

// Options of an Authority; the zero Options suffice.
type Options struct {
	// Accounts are the external accounts, by key id, with their keys in base64url. If there are any, every new
	// account must be bound to one.
	Accounts map[string]string
	// RenewAtOnce has it ask for the renewal of every certificate that it has issued (ARI,
	// RFC 9773), however long that is valid: clients renew each at their next look.
	RenewAtOnce bool
	// OCSP has its certificates name a responder, which says that all of them are good.
	OCSP bool
}

// Authority is a running Pebble.
type Authority struct {
	t         testing.TB
	server    *httptest.Server
	transport *lab.Authority
	ca        *ca.CAImpl
	tls, http *forwarder

	store *db.MemoryStore
	renew bool

	down, limited    atomic.Bool
	orders, accounts atomic.Int64
	refused          atomic.Int64
	requests         atomic.Int64
}

// Start runs an Authority until the test ends. One goroutine of Pebble's never ends, made by va.New: [lab.Leaks] is to
// spare it.
func Start(t testing.TB, o Options) *Authority {
	t.Helper()
	t.Setenv("PEBBLE_VA_NOSLEEP", "1") // else each validation waits some random seconds
	a := &Authority{t: t, transport: lab.NewAuthority(t, "directory"), tls: forward(t), http: forward(t), renew: o.RenewAtOnce}
	quiet := log.New(io.Discard, "", 0)
	store := db.NewMemoryStore()
	a.store = store
	for id, key := range o.Accounts {
		if err := store.AddExternalAccountKeyByID(id, key); err != nil {
			t.Fatal(err)
		}
	}
	responder, keys := "", "ecdsa"
	if o.OCSP {
		responder, keys = a.respond(), "rsa" // whose keys alone Pebble gives out
	}
	a.ca = ca.New(quiet, store, responder, keys, 0, 1, map[string]ca.Profile{
		"default": {Description: "the one"},
	})
	validator := va.New(quiet, a.http.port(), a.tls.port(), false, resolver(t), store)
	front := wfe.New(quiet, store, validator, a.ca, []string{"pebble.test"}, false, len(o.Accounts) > 0, 0, 0)
	a.server = httptest.NewUnstartedServer(a.watched(front.Handler()))
	a.server.Listener = &gate{Listener: a.server.Listener, down: &a.down}
	a.server.TLS = a.transport.Server(t, "127.0.0.1")
	a.server.Config.ErrorLog = quiet
	a.server.StartTLS()
	t.Cleanup(a.server.Close)
	return a
}

// Directory is the URL of its directory.
func (a *Authority) Directory() string { return a.server.URL + wfe.DirectoryPath }

// TransportRoots are the roots of the directory's own TLS, which is not of Pebble's issuing.
func (a *Authority) TransportRoots() *x509.CertPool { return a.transport.Pool() }

// WriteTransportCA writes them to a file and returns its path.
func (a *Authority) WriteTransportCA() string { return a.transport.WriteCA(a.t) }

// Roots are the roots of the certificates it issues.
func (a *Authority) Roots() *x509.CertPool {
	pool := x509.NewCertPool()
	root, err := x509.ParseCertificate(a.ca.GetRootCert(0).DER)
	if err != nil {
		a.t.Fatal(err)
	}
	pool.AddCert(root)
	return pool
}

// WriteRoots writes them to a file and returns its path.
func (a *Authority) WriteRoots() string {
	a.t.Helper()
	return lab.WriteFile(a.t, filepath.Join(a.t.TempDir(), "roots.pem"), a.ca.GetRootCert(0).PEM())
}

// Client is a client's TLS that trusts what the Authority issues and asks for name.
func (a *Authority) Client(name string) *tls.Config {
	return &tls.Config{RootCAs: a.Roots(), ServerName: name}
}

// ServeTLS makes address port 443 of all names, ServeHTTP port 80. Without it nobody is there.
func (a *Authority) ServeTLS(address string) { a.tls.to.Store(&address) }

// ServeHTTP makes address port 80 of all names.
func (a *Authority) ServeHTTP(address string) { a.http.to.Store(&address) }

// Down has the Authority take no connection, and end those it has, or take them again.
func (a *Authority) Down(down bool) {
	if a.down.Store(down); down {
		a.server.CloseClientConnections()
	}
}

// Limited has the Authority refuse new orders because there were too many.
func (a *Authority) Limited(limited bool) { a.limited.Store(limited) }

// Orders is how many orders it has taken, Accounts how many accounts.
func (a *Authority) Orders() int { return int(a.orders.Load()) }

// Accounts is how many accounts it has made.
func (a *Authority) Accounts() int { return int(a.accounts.Load()) }

// Refused is how many orders it has refused because there were too many.
func (a *Authority) Refused() int { return int(a.refused.Load()) }

// Requests is how many HTTP requests it was sent, of any kind.
func (a *Authority) Requests() int { return int(a.requests.Load()) }

// watched counts what it takes, limits orders in front of Pebble, which has no limits, as RFC 8555 §6.6 says, and
// answers when to renew.
func (a *Authority) watched(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.requests.Add(1)
		if r.URL.Path == "/order-plz" && a.limited.Load() {
			a.refused.Add(1)
			w.Header().Set("Content-Type", "application/problem+json")
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
			_ = json.NewEncoder(w).Encode(map[string]any{
				"type": "urn:ietf:params:acme:error:rateLimited", "status": http.StatusTooManyRequests,
				"detail": "too many new orders recently",
			})
			return
		}
		if strings.Contains(r.URL.Path, "/renewalInfo/") {
			a.renewalInfo(w, r, h)
			return
		}
		c := &counted{ResponseWriter: w}
		h.ServeHTTP(c, r)
		if c.status != http.StatusCreated {
			return
		}
		switch r.URL.Path {
		case "/order-plz":
			a.orders.Add(1)
		case "/sign-me-up":
			a.accounts.Add(1)
		}
	})
}

type counted struct {
	http.ResponseWriter
	status int
}

func (c *counted) WriteHeader(status int) {
	c.status = status
	c.ResponseWriter.WriteHeader(status)
}

// gate is a listener that ends what it accepts while it is down.
type gate struct {
	net.Listener
	down *atomic.Bool
}

func (g *gate) Accept() (net.Conn, error) {
	for {
		c, err := g.Listener.Accept()
		if err != nil || !g.down.Load() {
			return c, err
		}
		_ = c.Close()
	}
}

// forwarder is a port of loopback that leads elsewhere.
type forwarder struct {
	listener net.Listener
	to       atomic.Pointer[string]
}

func forward(t testing.TB) *forwarder {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &forwarder{listener: l}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { f.relay(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		running.Wait()
	})
	return f
}

func (f *forwarder) port() int { return f.listener.Addr().(*net.TCPAddr).Port }

// relay passes both ways until both have ended.
func (f *forwarder) relay(c net.Conn) {
	defer func() { _ = c.Close() }()
	to := f.to.Load()
	if to == nil {
		return
	}
	server, err := net.DialTimeout("tcp", *to, lab.Patience)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	deadline := time.Now().Add(lab.Patience)
	_ = c.SetDeadline(deadline)
	_ = server.SetDeadline(deadline)
	up := make(chan struct{})
	go func() { // waited for below
		defer close(up)
		_, _ = io.Copy(server, c)
		_ = server.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(c, server)
	_ = c.(*net.TCPConn).CloseWrite()
	<-up
}

// resolver runs a name server by which every name has the address of loopback, and returns where.
func resolver(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ready, ended := make(chan struct{}), make(chan error, 1)
	s := &dns.Server{Listener: l, NotifyStartedFunc: func() { close(ready) }, Handler: dns.HandlerFunc(resolve)}
	go func() { ended <- s.ActivateAndServe() }()
	<-ready
	t.Cleanup(func() {
		_ = s.Shutdown()
		<-ended
	})
	return l.Addr().String()
}

func resolve(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(q)
	if len(q.Question) == 1 && q.Question[0].Qtype == dns.TypeA {
		m.Answer = append(m.Answer, &dns.A{
			Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1},
			A:   net.IPv4(127, 0, 0, 1),
		})
	}
	_ = w.WriteMsg(m)
}
