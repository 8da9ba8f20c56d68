package terminate

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/snicketlb/snicket/pkg/certs"
	"github.com/snicketlb/snicket/sni"
)

// ClientAuth is how a route asks its clients for a certificate.
type ClientAuth uint8

// The ways to ask.
const (
	// RequireCertificate ends the handshake of a client that shows none, or one that
	// does not verify.
	RequireCertificate ClientAuth = iota
	// RequestCertificate lets every client in. What is to be thought of it is told by
	// a [Verdict], and left to the backend. A client that shows a certificate must
	// still prove that it has the key.
	RequestCertificate
)

// Trust is what the certificates of clients are held against. It is immutable.
type Trust struct {
	// Authorities are those whose certificates are accepted.
	Authorities *x509.CertPool
	// Revocations are what they have taken back; nil: nobody looks.
	Revocations *certs.Revocations
}

// ClientsOptions are the choices of [Clients].
type ClientsOptions struct {
	Auth ClientAuth
	// Names are host patterns in the form of [sni.CheckPattern]: a certificate must
	// carry a name that one matches. None: any certificate of the authorities will do.
	//
	// The names of a certificate are its DNS names (RFC 5280 §4.2.1.6). The common
	// name counts only in one without any subject alternative name, as makers of
	// client certificates often leave them out. Email addresses, URIs and IP addresses
	// match nothing. A wildcard in a certificate counts as a label of its own, so only
	// a pattern that matches all it stands for matches it.
	Names []string
	// Now tells the time; nil for the clock.
	Now func() time.Time
}

// Clients says whose certificates a route accepts. It is safe for concurrent use.
type Clients struct {
	auth  ClientAuth
	names *sni.Map[struct{}] // nil: any
	clock func() time.Time   // nil: the system's
	trust atomic.Pointer[Trust]

	mu     sync.Mutex // guards the fields below, and all making of configurations
	keys   [][32]byte // of session tickets; nil: those of the configuration
	asking []*asking
}

// NewClients returns Clients that go by t until [Clients.Swap]. The error says which
// of the patterns is none.
func NewClients(t *Trust, o ClientsOptions) (*Clients, error) {
	c := &Clients{auth: o.Auth, clock: o.Now}
	c.trust.Store(t)
	if len(o.Names) == 0 {
		return c, nil
	}
	m, err := sni.NewMap(func(yield func(string, struct{}) bool) {
		for _, pattern := range o.Names {
			if !yield(pattern, struct{}{}) {
				return
			}
		}
	})
	if err != nil {
		return nil, err
	}
	c.names = m
	return c, nil
}

// Swap puts t into force: for all handshakes that begin from now on, resumptions
// among them. Sessions that stand are not touched.
func (c *Clients) Swap(t *Trust) { c.trust.Store(t) }

func (c *Clients) now() time.Time {
	if c.clock != nil {
		return c.clock()
	}
	return time.Now()
}

// A Verdict is what is known of a client by its certificate.
type Verdict struct {
	// Certificate is the client's, whose key it has proven to hold; nil if it has
	// shown none.
	Certificate *x509.Certificate
	// Err says why it is not accepted; nil if it is, or if there is none.
	Err error
}

// Verified reports whether the client has shown a certificate that is accepted.
func (v Verdict) Verified() bool { return v.Certificate != nil && v.Err == nil }

// judge is what t makes of the client of a handshake, resumed or not, at this time. The
// error says that the handshake must fail.
func (c *Clients) judge(t *Trust, state *tls.ConnectionState) (Verdict, error) {
	if len(state.PeerCertificates) == 0 {
		if c.auth == RequireCertificate {
			return Verdict{}, errNoClientCertificate // crypto/tls has refused it already
		}
		return Verdict{}, nil
	}
	v := Verdict{Certificate: state.PeerCertificates[0], Err: c.verify(t, state.PeerCertificates)}
	if v.Err != nil && c.auth == RequireCertificate {
		return v, &ClientCertificateError{Certificate: v.Certificate, Err: v.Err}
	}
	return v, nil
}

// verify holds what a client has shown against t.
func (c *Clients) verify(t *Trust, shown []*x509.Certificate) error {
	leaf, now := shown[0], c.now()
	intermediates := x509.NewCertPool()
	for _, x := range shown[1:] {
		intermediates.AddCert(x)
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots: t.Authorities, Intermediates: intermediates, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return err
	}
	if t.Revocations != nil {
		if err := t.Revocations.Check(now, chains); err != nil {
			return err
		}
	}
	return c.admit(leaf)
}

// ErrClientName is wrapped by the error of a certificate that verifies, and carries
// no name of [ClientsOptions.Names].
var ErrClientName = errors.New("its name is not among those allowed")

var errNoClientCertificate = errors.New("none was shown")

// admit holds the names of a certificate against those allowed.
func (c *Clients) admit(leaf *x509.Certificate) error {
	if c.names == nil {
		return nil
	}
	if slices.ContainsFunc(leaf.DNSNames, c.allowed) || !hasAlternatives(leaf) && c.allowed(leaf.Subject.CommonName) {
		return nil
	}
	return fmt.Errorf("%w (%s)", ErrClientName, certs.Names(leaf))
}

func (c *Clients) allowed(name string) bool {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if sni.CheckName(strings.TrimPrefix(name, "*.")) != nil {
		return false
	}
	_, _, ok := c.names.Lookup(name)
	return ok
}

// hasAlternatives reports whether c has a subjectAltName, of whatever kinds.
func hasAlternatives(c *x509.Certificate) bool {
	return slices.ContainsFunc(c.Extensions, func(e pkix.Extension) bool {
		return e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 17})
	})
}

// A ClientCertificateError is wrapped by the error of a [Handshake] that failed for
// the certificate that the client has shown.
type ClientCertificateError struct {
	Certificate *x509.Certificate
	Err         error // what [x509.Certificate.Verify] says, [certs.ErrRevoked] and its like, or [ErrClientName]
}

// Error says what is wrong with the certificate.
func (e *ClientCertificateError) Error() string {
	why := strings.TrimPrefix(e.Err.Error(), "x509: certificate ")
	return "client certificate: " + strings.TrimPrefix(why, "x509: ")
}

// Unwrap is Err.
func (e *ClientCertificateError) Unwrap() error { return e.Err }

// SetSessionTicketKeys is [tls.Config.SetSessionTicketKeys] for the configurations that
// were made with c, besides setting theirs: each hello is served by a further one, that
// holds what is trusted now.
func (c *Clients) SetSessionTicketKeys(keys [][32]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keys = slices.Clone(keys)
	for _, a := range c.asking {
		if now := a.now.Load(); now != nil {
			now.cfg.SetSessionTicketKeys(keys)
		}
	}
}

// ask makes cfg ask clients for certificates. What is trusted may be swapped, so each
// hello gets the configuration that holds now; further makes one like cfg.
func (c *Clients) ask(cfg *tls.Config, further func() *tls.Config) {
	a := &asking{clients: c, make: further}
	cfg.Time = c.clock
	cfg.ClientAuth = tls.RequireAnyClientCert // never used: each hello gets the other
	cfg.GetConfigForClient = a.config
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asking = append(c.asking, a)
}

// asking is the configuration of a route that asks for certificates.
type asking struct {
	clients *Clients
	make    func() *tls.Config
	now     atomic.Pointer[asked]
}

// asked is a configuration by what is trusted.
type asked struct {
	trust *Trust
	cfg   *tls.Config
}

// config is what crypto/tls asks for at each hello, resumptions included.
func (a *asking) config(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if err := checkName(hello); err != nil {
		return nil, err
	}
	now := a.now.Load()
	if now == nil || now.trust != a.clients.trust.Load() {
		now = a.renew()
	}
	if conn, ok := hello.Conn.(*Conn); ok && conn.shake != nil {
		return a.clients.aside(conn.shake, now), nil
	}
	return now.cfg, nil
}

// aside is the configuration for one handshake on a loop, which has the client judged
// aside: by a hundred certificates that could all have issued his own anybody can make
// the judgement take a tenth of a second.
func (c *Clients) aside(h *Handshake, now *asked) *tls.Config {
	cfg := now.cfg.Clone() // with the keys for session tickets
	cfg.VerifyConnection = func(state tls.ConnectionState) error {
		var verdict Verdict
		var err error
		if ended := h.aside(func() { verdict, err = c.judge(now.trust, &state) }); ended != nil {
			return ended
		}
		h.verdict = verdict
		return err
	}
	return cfg
}

// renew makes the configuration of what is trusted now. It leaves to crypto/tls whether
// something is shown and its key is the client's, and judges it by itself.
func (a *asking) renew() *asked {
	c := a.clients
	c.mu.Lock()
	defer c.mu.Unlock()
	trust := c.trust.Load()
	cfg := a.make()
	cfg.Time = c.clock
	cfg.ClientCAs = trust.Authorities
	cfg.ClientAuth = tls.RequestClientCert
	if c.auth == RequireCertificate {
		cfg.ClientAuth = tls.RequireAnyClientCert
	}
	cfg.VerifyConnection = func(state tls.ConnectionState) error {
		_, err := c.judge(trust, &state)
		return err
	}
	if c.keys != nil {
		cfg.SetSessionTicketKeys(c.keys)
	}
	now := &asked{trust, cfg}
	a.now.Store(now)
	return now
}
