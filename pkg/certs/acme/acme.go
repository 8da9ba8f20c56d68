// Package acme has certificates issued and renewed by an authority that speaks ACME
// (RFC 8555), such as Let's Encrypt.
//
// Start at [New] and [Manager.Manage]: the first says where certificates come from and
// are kept, the second for which names. From then on the Manager has each name's
// certificate issued if the storage holds none, renews it when the authority asks for
// that (ARI, RFC 9773) or a third of its life is left, staples OCSP responses where the
// authority has them, and hands out what it has whenever that changes.
//
// An authority wants to see that a name is ours: it connects to the name's address and
// asks for what only the holder of our account can know. The Manager knows the answers
// and opens no port of its own for them; whoever serves the names asks
// [Manager.TLSALPN] (tls-alpn-01, RFC 8737) and [Manager.HTTP01] (http-01, RFC 8555
// §8.3). Processes that share a storage answer for each other, and one of them has a
// certificate issued for all.
//
// The work is that of certmagic, to which this package is the only door; its own way of
// serving certificates, of issuing them while a client waits and of finding an e-mail
// address are not used. Wildcards need DNS challenges, which nobody here can answer.
package acme

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"
	"go.uber.org/zap"

	"github.com/snicketlb/snicket/pkg/certs"
)

// Options say where certificates come from.
type Options struct {
	// Directory is the https URL of the authority's directory.
	Directory string
	// Roots are the authorities trusted for the TLS of Directory; nil for the system's.
	Roots *x509.CertPool
	// Email is where the authority may write to; empty for no address.
	Email string
	// KeyID and HMACKey, base64url without padding, bind the account to one that the
	// authority knows (RFC 8555 §7.3.4); empty for none. They count when the account is
	// made, which is when Storage holds none for Directory and Email.
	KeyID, HMACKey string
	// Storage is the directory of accounts, keys and certificates; it is made when it is
	// missing. Instances that share it work as one.
	Storage string
	// HTTP says that HTTP01 is asked by what serves port 80 of the names: then http-01
	// may be chosen, else tls-alpn-01 alone is.
	HTTP bool
	// Former are certificates to hand out for names as long as there is none of this
	// Manager's; those of the one that it replaces.
	Former []*certs.Certificate
	// Deliver takes all certificates, sorted by name, whenever one has changed. It is
	// called by one goroutine at a time and must not call the Manager; the slice is the
	// callee's. Required.
	Deliver func([]*certs.Certificate)
	// Log takes what an operator must know; required.
	Log *slog.Logger

	// CheckEvery is how often certificates are looked at for renewal; 0 for every ten
	// minutes. They are renewed at the latest when five times that is left.
	CheckEvery time.Duration

	// Instead of the constants of the same names, if not 0.
	orders int
	reads  time.Duration
}

// Manager keeps the certificates of some names. It is safe for concurrent use.
type Manager struct {
	o       Options
	log     *slog.Logger
	storage *storage
	cache   *certmagic.Cache
	config  *certmagic.Config
	issuer  string        // the key of its part of the storage
	decoy   net.Listener  // see decoy
	loading chan struct{} // its room bounds the files read to load certificates
	looking chan struct{} // the same of those read to find challenges
	orders  chan struct{} // the same of hosts that are tried the first time
	news    chan struct{} // 1 deep: the cache may hold another certificate
	renewal chan struct{} // 1 deep: one that was loaded is to be renewed
	workers sync.WaitGroup

	deliver sync.Mutex // one delivery at a time; taken before mu

	mu     sync.Mutex // guards the fields below
	names  map[string]*name
	solved map[string]solution
	stop   context.CancelFunc // nil: closed
}

// name is one that is managed.
type name struct {
	forget context.CancelFunc // nil: only preloaded
	tried  func()             // gives back its room among the first tries; nil: has none
	cert   *certs.Certificate // nil: none yet
	hash   string             // of cert in certmagic's cache; empty: it is not from there
	staple string
}

// Protocol is the ALPN of a validation by tls-alpn-01 (RFC 8737 §3).
const Protocol = "acme-tls/1"

const (
	// loaders bounds the files that are read at a time, for each of two purposes.
	loaders = 16
	// orders bounds the hosts that are tried the first time. Each holds a lock, whose
	// file is written every five seconds.
	orders = 64
	// again is how long to wait after what certmagic does not try again by itself.
	again = 10 * time.Minute
	// closing bounds the wait for the authority to be told that an order is given up.
	closing = 5 * time.Second
)

// New makes a Manager of no names, which contacts nobody yet. Close ends it.
func New(o Options) (*Manager, error) {
	m := &Manager{
		o: o, log: o.Log, storage: newStorage(o.Storage),
		loading: make(chan struct{}, loaders), looking: make(chan struct{}, loaders),
		orders: make(chan struct{}, cmp.Or(o.orders, orders)), news: make(chan struct{}, 1), renewal: make(chan struct{}, 1),
		names: map[string]*name{}, solved: map[string]solution{},
	}
	var err error
	if m.decoy, err = newDecoy(); err != nil {
		return nil, fmt.Errorf("acme: %w", err)
	}
	log := zap.New(&logCore{log: o.Log, closed: m.storage.isClosed})
	m.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert:   func(certmagic.Certificate) (*certmagic.Config, error) { return m.config, nil },
		RenewCheckInterval: o.CheckEvery,
		Logger:             log,
	})
	m.config = certmagic.New(m.cache, certmagic.Config{
		Storage: m.storage, Logger: log, OnEvent: m.event,
		Issuers: []certmagic.Issuer{}, // set below: an issuer wants the config
	})
	issuer := certmagic.NewACMEIssuer(m.config, m.template(log))
	m.config.Issuers, m.issuer = []certmagic.Issuer{issuer}, issuer.IssuerKey()
	ctx, stop := context.WithCancel(context.Background())
	m.stop = stop
	m.workers.Go(func() { turnAway(m.decoy) })
	m.workers.Go(func() { m.follow(ctx) })
	m.workers.Go(func() { m.renew(ctx) })
	return m, nil
}

func (m *Manager) template(log *zap.Logger) certmagic.ACMEIssuer {
	port := m.decoy.Addr().(*net.TCPAddr).Port
	t := certmagic.ACMEIssuer{
		CA: m.o.Directory, TrustedRoots: m.o.Roots, Email: m.o.Email, Agreed: true,
		DisableHTTPChallenge: !m.o.HTTP,
		ListenHost:           decoyHost, AltHTTPPort: port, AltTLSALPNPort: port,
		Logger: log,
	}
	if t.Email == "" {
		t.Email = " " // else the address of another Manager of the process would be taken
	}
	if m.o.KeyID != "" {
		t.ExternalAccount = &acme.EAB{KeyID: m.o.KeyID, MACKey: m.o.HMACKey}
	}
	return t
}

// Manage makes names, host names in lower case, those that are managed: ones that were
// before go on as they are, and ones that are missing are forgotten, but stay in the
// storage. What the storage has for new ones is delivered before Manage returns, as
// Preload does; it waits for no one else.
func (m *Manager) Manage(names []string) {
	m.deliver.Lock()
	defer m.deliver.Unlock()
	changed := m.add(names)
	wanted := map[string]bool{}
	for _, host := range names {
		wanted[host] = true
	}
	m.mu.Lock()
	if m.stop == nil {
		m.mu.Unlock()
		return
	}
	var gone []certmagic.SubjectIssuer
	for host, n := range m.names {
		switch {
		case !wanted[host]:
			n.drop()
			delete(m.names, host)
			delete(m.solved, host)
			gone = append(gone, certmagic.SubjectIssuer{Subject: host})
		case n.forget == nil:
			var ctx context.Context
			ctx, n.forget = context.WithCancel(context.Background())
			m.workers.Go(func() { m.tend(ctx, host) })
		}
	}
	m.mu.Unlock()
	m.cache.RemoveManaged(gone)
	if changed || len(gone) > 0 {
		m.hand()
	}
}

// drop gives up what is under way for a name.
func (n *name) drop() {
	if n.forget != nil {
		n.forget()
	}
}

// tend sees to it that a name has a certificate in the cache, whose maintenance renews
// it from then on.
func (m *Manager) tend(ctx context.Context, host string) {
	for {
		err := m.obtain(ctx, host)
		if err == nil || ctx.Err() != nil {
			return
		}
		m.log.Warn("certificate not obtained", slog.String("host", host), slog.Any("error", err),
			slog.String("hint", hintFor(err)), slog.String("again_in", again.String()))
		wait := time.NewTimer(again)
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return
		}
	}
}

// obtain loads a certificate into the cache, and has it issued first if there is none.
// certmagic tries again for a month while the authority does not issue it.
func (m *Manager) obtain(ctx context.Context, host string) error {
	cert, err := m.load(ctx, host)
	if errors.Is(err, fs.ErrNotExist) {
		if err = m.order(ctx, host); err == nil {
			cert, err = m.load(ctx, host)
		}
	}
	if err == nil && cert.NeedsRenewal(m.config) {
		poke(m.renewal)
	}
	return err
}

// order has a certificate issued. Hosts are tried some at a time; one that fails makes
// room for the next, and is tried again beside them.
func (m *Manager) order(ctx context.Context, host string) error {
	select {
	case m.orders <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	tried := sync.OnceFunc(func() { <-m.orders })
	defer tried()
	m.mu.Lock()
	if n := m.names[host]; n != nil {
		n.tried = tried
	}
	m.mu.Unlock()
	return m.config.ObtainCertAsync(ctx, host)
}

// failed notes that a host was tried in vain.
func (m *Manager) failed(host string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := m.names[host]; n != nil && n.tried != nil {
		n.tried()
	}
}

func (m *Manager) load(ctx context.Context, host string) (certmagic.Certificate, error) {
	m.loading <- struct{}{}
	defer func() { <-m.loading }()
	if ctx.Err() != nil {
		return certmagic.Certificate{}, ctx.Err()
	}
	return m.config.CacheManagedCertificate(ctx, host)
}

// renew renews at once what was found to be due, which else would wait for the next
// turn of the cache's maintenance.
func (m *Manager) renew(ctx context.Context) {
	for {
		select {
		case <-m.renewal:
		case <-ctx.Done():
			return
		}
		if err := m.cache.RenewManagedCertificates(ctx); err != nil && ctx.Err() == nil {
			m.log.Warn("certificates not renewed", slog.Any("error", err))
		}
	}
}

// Close gives up what is under way and returns once everything that the Manager has
// started has ended. An authority or a storage that does not answer is waited for no
// longer than five seconds; what waits for it ends by itself, once it does.
//
// Two things of certmagic's are the process's and stay: one goroutine for each pair of
// directory and e-mail address, which paces orders, and for as long as the authority
// keeps it open, an idle connection.
func (m *Manager) Close() {
	m.mu.Lock()
	stop := m.stop
	m.stop = nil
	for _, n := range m.names {
		n.drop()
	}
	m.mu.Unlock()
	if stop == nil {
		return
	}
	stop()
	idle := m.storage.close()
	m.decoy.Close()
	ended := make(chan struct{})
	go func() { // waited for below, unless an authority or the storage does not answer
		defer close(ended)
		m.cache.Stop()
		m.workers.Wait()
		<-idle
	}()
	late := time.NewTimer(closing)
	defer late.Stop()
	select {
	case <-ended:
	case <-late.C:
	}
}

// decoyHost is the address of the decoy.
const decoyHost = "127.0.0.1"

// newDecoy makes the listener that certmagic finds where it means to open one of its
// own to answer challenges: it leaves the answers to whoever is there already, and takes
// anyone for that. The ports of the names are ours, and what serves them asks us.
func newDecoy() (net.Listener, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	return lc.Listen(context.Background(), "tcp", net.JoinHostPort(decoyHost, "0"))
}

// turnAway closes what connects to the decoy, until that is closed.
func turnAway(decoy net.Listener) {
	for {
		c, err := decoy.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			<-time.After(time.Second) // out of descriptors
			continue
		}
		c.Close()
	}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// normal is a host name as it stands in the storage and in Manage.
func normal(host string) string { return strings.ToLower(strings.TrimSuffix(host, ".")) }
