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

// Verdict returns what is to be thought of the client of a handshake that is over.
// A resumed session is judged anew, by the certificate that it was begun with.
func (c *Clients) Verdict(state *tls.ConnectionState) Verdict {
	if len(state.PeerCertificates) == 0 {
		return Verdict{}
	}
	v := Verdict{Certificate: state.PeerCertificates[0]}
	if c.auth == RequestCertificate { // else the handshake would have failed
		v.Err = c.verify(c.trust.Load(), state)
	}
	return v
}

// verify judges the certificate of a client against t, at this time.
func (c *Clients) verify(t *Trust, state *tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return errNoClientCertificate
	}
	leaf, now := state.PeerCertificates[0], c.now()
	chains := state.VerifiedChains
	if state.DidResume || c.auth == RequestCertificate { // what crypto/tls has is of then, or nothing
		intermediates := x509.NewCertPool()
		for _, x := range state.PeerCertificates[1:] {
			intermediates.AddCert(x)
		}
		var err error
		chains, err = leaf.Verify(x509.VerifyOptions{
			Roots: t.Authorities, Intermediates: intermediates, CurrentTime: now,
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		})
		if err != nil {
			return err
		}
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
	if now := a.now.Load(); now != nil && now.trust == a.clients.trust.Load() {
		return now.cfg, nil
	}
	return a.renew(), nil
}

// renew makes the configuration of what is trusted now.
func (a *asking) renew() *tls.Config {
	c := a.clients
	c.mu.Lock()
	defer c.mu.Unlock()
	trust := c.trust.Load()
	cfg := a.make()
	cfg.Time = c.clock
	cfg.ClientCAs = trust.Authorities
	cfg.ClientAuth = tls.RequestClientCert
	if c.auth == RequireCertificate {
		cfg.ClientAuth = tls.RequireAndVerifyClientCert
		cfg.VerifyConnection = func(state tls.ConnectionState) error {
			err := c.verify(trust, &state)
			if err == nil || len(state.PeerCertificates) == 0 {
				return err
			}
			return &ClientCertificateError{Certificate: state.PeerCertificates[0], Err: err}
		}
	}
	if c.keys != nil {
		cfg.SetSessionTicketKeys(c.keys)
	}
	a.now.Store(&asked{trust, cfg})
	return cfg
}
