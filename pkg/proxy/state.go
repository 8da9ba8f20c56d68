package proxy

import (
	"crypto/tls"
	"iter"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/snicketlb/snicket/balancer"
	"github.com/snicketlb/snicket/pkg/certs"
	"github.com/snicketlb/snicket/pkg/loop"
	"github.com/snicketlb/snicket/pkg/terminate"
	"github.com/snicketlb/snicket/pkg/web"
)

// A State is all that the data plane serves by, resolved: no zero in it means
// "default". It is handed over by [Proxy.Prepare] and is the proxy's from then
// on; a reload makes a new one, which may share Pools and Routes' parts with the
// old.
type State struct {
	Listeners []Listener
	Routes    []*Route
	// Table is of Routes and Listeners, for a caller that has made it; nil: it is made.
	Table    *Table
	Timeouts Timeouts
	Limits   Limits
	// ChallengeOpen reports whether any ACME challenge of this process is open. While
	// one is, clients over a per-IP limit are refused only once their hello shows that
	// they do not validate one. It must not block. Nil: never.
	ChallengeOpen func() bool
}

// A Listener is one address to accept on. Sockets are kept by Address over a
// change of State, whatever the listener's name.
type Listener struct {
	Name string
	// Address is what to bind; nil: nothing, its sockets are Inherited.
	Address *loop.Address
	// Text is the address as the operator wrote it, the key by which sockets
	// are kept.
	Text string
	// Dual lets an IPv6 socket on the unspecified address take IPv4 as well.
	Dual bool
	// AcceptProxyFrom lists the peers that must send a PROXY header; all others
	// must not. AcceptProxyUnix is the same for peers on a Unix socket.
	AcceptProxyFrom []netip.Prefix
	AcceptProxyUnix bool
	// Plain makes it a listener for HTTP without TLS, and serves what comes; nil: TLS.
	// Idle and Handshake are then what a Route's are.
	Plain           *web.Plain
	Idle, Handshake time.Duration
}

// Mode is what a route does with a connection.
type Mode uint8

// The modes of a route.
const (
	Passthrough Mode = iota
	Terminate
	Reject
)

// String is the mode's word in the configuration and the log.
func (m Mode) String() string {
	switch m {
	case Passthrough:
		return "passthrough"
	case Terminate:
		return "terminate"
	case Reject:
		return "reject"
	}
	return "unknown"
}

// A Route says where the connections of some host names go. Sessions keep their
// Route, never the table it stood in. It is immutable but for its count.
type Route struct {
	Name      string
	Hosts     []string // normal patterns, as of sni.CheckPattern
	ALPN      []string // empty: any; else only hellos that offer one of these
	From      []netip.Prefix
	DenyFrom  []netip.Prefix
	Listeners []string
	Mode      Mode
	Pool      *Pool       // nil for Reject
	TLS       *Terminator // Terminate only
	// Site serves the requests of a route that speaks HTTP; nil: bytes are relayed.
	// Terminate only.
	Site *web.Site
	// Sorry answers for the backends when none is ready; nil: an alert does. A Site
	// needs none.
	Sorry *Sorry
	// Challenge returns what a client that offers acme-tls/1 alone is answered by, if a
	// challenge is open for that name, one of Hosts, else nil. Such a client is answered
	// before every condition and limit of the route; without a challenge its hello is one
	// like any other. Goroutines call it, several at a time, and it may block for as long
	// as reading a file takes. Nil: no certificate of the route comes from ACME.
	Challenge func(name string) *tls.Config
	// MaxConnections bounds the sessions of the route at a time; 0: no bound.
	MaxConnections int
	Idle           time.Duration
	Fin            time.Duration
	Handshake      time.Duration
	// Active counts the route's sessions. Routes of two States that are the same
	// route to the operator share it.
	Active *atomic.Int64
	// Counts counts what became of them; nil: nothing does.
	Counts *RouteCounts
}

// Sorry is TLS and a page for the time when a route has no backend ready.
type Sorry struct {
	// TLS has a Page; it is the route's own where that ends TLS. A name that its Store has
	// no certificate for gets an alert.
	TLS  *Terminator
	Site *web.Site // without a pool
}

// Offer is the set of protocols that a terminated route offers to clients.
type Offer int32

// The offers that follow what a pool's backends chose in their probes.
const (
	OfferNone  Offer = iota // no ALPN at all
	OfferHTTP1              // http/1.1
	OfferH2                 // h2 and http/1.1
	offers
)

// A Terminator is the TLS server of one route: a tls.Config for each offer, or
// one Fixed by the route's own alpn. Each session takes one, so they
// are built once.
type Terminator struct {
	Store  *certs.Live
	Fixed  *tls.Config
	Offers [offers]*tls.Config
	// Page is what a page is told by when no backend is ready: it offers h2 and http/1.1.
	// Nil: there is none.
	Page *tls.Config
	// ECH says that the configurations open hellos within hellos: which host a session
	// is for is known in its handshake only.
	ECH bool
	// Clients says who must show a certificate; nil: nobody. The configurations are
	// made with it.
	Clients *terminate.Clients
	// Demands tells what a client must show, in a form to compare with that of the same
	// route before a reload; "" where that is nothing.
	Demands string
}

// Configs returns all there are.
func (t *Terminator) Configs() iter.Seq[*tls.Config] {
	return func(yield func(*tls.Config) bool) {
		for _, c := range append([]*tls.Config{t.Fixed, t.Page}, t.Offers[:]...) {
			if c != nil && !yield(c) {
				return
			}
		}
	}
}

// config is what the route offers to its clients now.
func (t *Terminator) config(p *Pool) *tls.Config {
	if t.Fixed != nil {
		return t.Fixed
	}
	return t.Offers[p.offer()]
}

// A Pool is a balancer's pool with the way to reach its backends. The settings
// are immutable; the balancer and Offer are shared by the Pools of successive
// States that are the same pool to the operator, so that counts survive.
type Pool struct {
	Name     string
	Balancer *balancer.Pool // its Specs' Values are *Target
	// ProxyProtocol is the version of the header sent to backends: 0 (none), 1, 2.
	ProxyProtocol int
	TLVs          TLVs
	DialTimeout   time.Duration
	Retries       int // further backends tried when a dial fails
	// QueueTimeout bounds the wait of a session for a backend with room; 0: none
	// waits. How many may is the Balancer's to say.
	QueueTimeout time.Duration
	// Sources are the addresses dialled from, in turn; none: the kernel's choice.
	Sources []netip.Addr
	TLS     *terminate.Backend // nil: plain
	// Offer is kept by the owner of the probes; nil is OfferNone.
	Offer *atomic.Int32
	// Retried counts the backends tried after another has failed, of Pools that are the
	// same to the operator together. May be nil.
	Retried *atomic.Uint64
	// Failed is told of a failed dial that is the backend's fault. It must not
	// block. May be nil.
	Failed func(id string, err error)
}

func (p *Pool) offer() Offer {
	if p == nil || p.Offer == nil {
		return OfferNone
	}
	if o := Offer(p.Offer.Load()); o >= 0 && o < offers {
		return o
	}
	return OfferNone
}

// TLVs are the parts of a version 2 PROXY header.
type TLVs struct {
	Authority bool // the server name
	ALPN      bool // the protocol: negotiated where terminated, else offered if just one
	UniqueID  bool // the session's id, as in the log
	SSL       bool // version, cipher, client certificate; terminated sessions only
	CRC32C    bool
}

// A Target is where a backend is dialled: the Value of a balancer.Spec.
type Target struct {
	Name    string // for the log; the backend's name within its pool
	Address *loop.Address
	// Pool holds the settings that this backend is reached by. They travel with
	// it: successive States share a pool's balancer, so a session that holds the
	// older Pool may be given a backend of the newer one, and must not speak
	// plain text to what is to be spoken to in TLS. Nil: the session's own Pool.
	Pool *Pool
	// Unreachable tells why there is no Address, for a host name that does not
	// resolve.
	Unreachable error
	// Reached is told once of each session that the backend was picked for: nil when
	// it was reached, its TLS handshake included, else why it was not, by the
	// backend's fault. It must not block. May be nil.
	Reached func(error)
}

// Timeouts are those of the whole process.
type Timeouts struct {
	Hello     time.Duration // accept to whole ClientHello, PROXY header included
	Keepalive time.Duration // TCP keepalive on both sides; 0 turns it off
	Unacked   time.Duration // TCP_USER_TIMEOUT on both sides; 0 turns it off
	Drain     time.Duration // for removed listeners
}

// Limits are those of the whole process, shared by all loops. 0 is no limit.
type Limits struct {
	MaxConnections   int
	MaxHello         int // bytes of handshake message
	MaxHellos        int // unfinished ones at a time
	MaxHellosPerIP   int
	MaxHandshakes    int // TLS handshakes at a time; further ones wait
	PerIPConnections int
	PerIPRate        Rate
	Except           []netip.Prefix // spared by the per-IP limits
}

// A Rate is N in each Per; the zero Rate is no limit.
type Rate struct {
	N   int
	Per time.Duration
}
