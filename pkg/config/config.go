// Package config reads Snicket's TOML configuration: one file and the files it
// includes become one *Config in which every default is written out, every
// reference resolved and every rule of the configuration checked.
//
// Start at [Load]. It never stops at the first mistake: all of them come back at
// once as [Problems], each with file, line and a hint, so that an operator mends a
// file in one round. [Config.Effective] prints the result as a file of its own.
//
// The package refuses to guess. An unknown key is an error, as are a duration
// without a unit and a name that two files declare. It also refuses to do anything:
// it opens no socket, resolves no name and parses no certificate. Whoever does
// reports what it finds in the same form, with the Pos that every element which can
// later turn out bad carries.
//
// Past this package no zero value means "default". Where a zero is a value of its
// own (no limit, one loop per core) the field says so.
package config

import (
	"crypto/sha256"
	"log/slog"
	"net/netip"
	"time"
)

// Config is a whole configuration, resolved. It is immutable by agreement: Load
// makes a new one, readers share it between goroutines and nobody writes to it.
type Config struct {
	Listeners []Listener // in order of declaration; never empty when valid
	Routes    []*Route   // in order of declaration, the main file first
	Pools     []Pool     // declared ones, then those that routes made by backends = [...]
	TLS       TLS
	ACME      ACME
	Timeouts  Timeouts
	Limits    Limits
	Admin     Admin
	Log       Log
	// Watch asks for a reload whenever one of Sources changes.
	Watch bool
	// Files are the paths read, the main one first, as Positions name them.
	Files []string
	// Sources are where they are found: absolute patterns of [path/filepath.Match], the
	// main file's first.
	Sources []string
	// Digest is the same for two configurations that were read from the same text in
	// files of the same paths.
	Digest [sha256.Size]byte

	texts []string // of Routes, for those that are plain; else empty
}

// ListenerKind is what the clients of a listener speak.
type ListenerKind string

// The kinds of listener.
const (
	ListenTLS  ListenerKind = "tls"
	ListenHTTP ListenerKind = "http" // in plain text: challenges of ACME, redirects to https
)

// Listener is one address that accepts clients.
type Listener struct {
	Name    string
	Address ListenAddress
	Kind    ListenerKind
	// HTTPSPort is where a ListenHTTP sends browsers to; 0 of a ListenTLS.
	HTTPSPort uint16
	// AcceptProxyFrom are the peers that must send a PROXY header. Peers outside
	// of it must not send one. Prefixes are masked and never IPv4-mapped.
	AcceptProxyFrom []netip.Prefix
	// AcceptProxyUnix says the same of every peer that connects over a Unix socket.
	AcceptProxyUnix bool
	Pos             Position // of the address, or of the table where it is the default
}

// Mode is what a route does with its sessions.
type Mode string

// The modes of a route.
const (
	Passthrough Mode = "passthrough" // the client's bytes go to the backend untouched
	Terminate   Mode = "terminate"   // TLS ends here; plain TCP, or fresh TLS, to the backend
	Reject      Mode = "reject"      // refused with an alert; the route has no pool
)

// Route says what happens to the hellos of some host names.
type Route struct {
	Name  string // unique; the label in metrics and the word in logs
	Hosts []Host // never empty when valid
	// ALPN: only hellos that offer one of these are accepted; empty: all.
	ALPN []string
	// From: only clients in one of these are accepted; empty: all. Prefixes here
	// and in DenyFrom are masked and never IPv4-mapped.
	From []netip.Prefix
	// DenyFrom are clients that the route refuses once it was chosen.
	DenyFrom []netip.Prefix
	// Listeners are names of Config.Listeners; never empty when valid. One of kind
	// ListenHTTP is among them only where HTTP is set.
	Listeners []string
	Mode      Mode // empty, of a Config with problems, when it could not be read
	// Pool is the name of one of Config.Pools; empty for Reject alone.
	Pool           string
	MaxConnections int // sessions of this route at once; 0: no limit
	// Sorry answers a page by HTTP when no backend is ready; never with Reject.
	Sorry    bool
	TLS      *RouteTLS  // never nil; zero but with Terminate
	HTTP     *RouteHTTP // nil: the route's bytes are not looked at; set with Terminate alone
	Timeouts RouteTimeouts
	Pos      Position // of its [[routes]]

	reading *reading // see Same; nil of one that was not read
}

// Host is one pattern of a route, in the normal form of sni.CheckPattern.
type Host struct {
	Pattern string
	Pos     Position
}

// RouteTLS is how a Terminate route speaks TLS with its clients.
type RouteTLS struct {
	// Certificates are the route's own, asked before those of Config.TLS, and
	// CertificateEntries what named them.
	Certificates       []Certificate
	CertificateEntries []CertificateEntry
	// ACME gets a certificate for each host of the route, all of which are names, by
	// Config.ACME. It is asked after Certificates and before those of Config.TLS.
	ACME bool
	// Incomplete says that problems kept an entry out of Certificates: which names
	// they cover cannot be told.
	Incomplete bool
	// DefaultCertificate lets the route's `*` and `-` hosts serve the first
	// certificate to names that none covers.
	DefaultCertificate bool
	Policy             TLSPolicy
	// ALPN is what the client is offered, by preference; empty: none is offered. With
	// Route.HTTP it holds nothing but h2 and http/1.1.
	ALPN []string
	// ALPNFromBackends replaces ALPN by what the pool's backends chose in their
	// probes. It is set when the pool re-encrypts and the route names no ALPN.
	ALPNFromBackends bool
	KeyLog           File // where to write the secrets of sessions; zero: nowhere. It may not exist yet.
}

// RouteTimeouts are the timeouts of one route, those of Config.Timeouts where it
// sets none. All are above zero.
type RouteTimeouts struct {
	Idle      time.Duration
	Fin       time.Duration
	Handshake time.Duration
}

// Balance is the policy by which a pool chooses a backend.
type Balance string

// The policies.
const (
	LeastConnections Balance = "least-connections" // the fewest sessions for its weight
	RoundRobin       Balance = "round-robin"       // in turn, by weight
	RandomTwo        Balance = "random-two"        // the better of two drawn by weight
	SourceHash       Balance = "source-hash"       // by the client's address
	SNIHash          Balance = "sni-hash"          // by the server name
	LeastTime        Balance = "least-time"        // the fewest sessions times the time to answer
)

// OnDown is what becomes of the sessions of a backend that goes down.
type OnDown string

// What becomes of them.
const (
	KeepSessions  OnDown = "keep"  // they go on as long as they can
	CloseSessions OnDown = "close" // they are ended
)

// ProxyTLV names one TLV of a PROXY v2 header.
type ProxyTLV string

// The TLVs that a PROXY v2 header can carry (PROXY protocol §2.2).
const (
	TLVAuthority ProxyTLV = "authority" // the client's server name
	TLVALPN      ProxyTLV = "alpn"
	TLVUniqueID  ProxyTLV = "unique-id"
	TLVSSL       ProxyTLV = "ssl" // written where TLS was terminated, left out elsewhere
	TLVCRC32C    ProxyTLV = "crc32c"
)

// Pool is a set of backends that serve the same and how they are spoken to.
type Pool struct {
	Name     string
	Backends []Backend // in order of declaration; never empty when valid, but with Discover
	Discover *Discover // where Backends come from instead; nil: they are declared
	Balance  Balance
	// PanicBelow is the share of ready backends under which all are tried; 0: never.
	PanicBelow float64
	OnDown     OnDown
	SlowStart  time.Duration // how long a backend that comes back takes to its full share; 0: none
	Queue      Queue
	Eject      *Eject // nil: none
	// ProxyProtocol is the version of the header written to backends; 0: none.
	ProxyProtocol   int
	ProxyTLVs       []ProxyTLV    // with version 2 alone
	DialTimeout     time.Duration // of one attempt; above zero
	Retries         int           // further backends tried after a failed dial; 0: none
	SourceAddresses []netip.Addr  // addresses to dial from; empty: the kernel chooses
	TLS             *PoolTLS      // nil: the session's bytes go as they are
	Health          Health
	Pos             Position // of its table, or of the backends of the route that made it
}

// Backend is one server of a pool.
type Backend struct {
	Name           string // unique in its pool
	Address        Address
	Weight         int      // 1 to 256
	Backup         bool     // used only while no other backend is ready
	MaxConnections int      // sessions at once; 0: no limit
	Pos            Position // of its entry
}

// Queue is where sessions wait while every ready backend is at its MaxConnections.
type Queue struct {
	Size    int           // sessions that may wait; 0: none
	Timeout time.Duration // of the wait; above zero
}

// Eject says when sessions that fail take a backend out for a while.
type Eject struct {
	Failures   int           // in a row; 0: whatever their number
	Ratio      float64       // of the sessions in Window; 0: whatever their share
	Window     time.Duration // that Ratio looks back on
	Minimum    int           // of sessions in Window for Ratio to say anything
	For        time.Duration // of the first ejection, doubled at each further one
	Max        time.Duration // at least For
	MaxEjected float64       // share of the pool; above 0
}

// DiscoverKind is the kind of a source of backends.
type DiscoverKind string

// The kinds of source.
const (
	DiscoverDNS  DiscoverKind = "dns"  // the addresses of a name
	DiscoverSRV  DiscoverKind = "srv"  // what the SRV records of a name say
	DiscoverFile DiscoverKind = "file" // a list that somebody else writes
)

// Discover is where the backends of a pool come from.
type Discover struct {
	Kind DiscoverKind
	Name string // dns, srv; lower case; with a trailing dot where it was written so
	Port uint16 // dns
	File string // file; absolute; it may not exist yet
	// Resolvers are the name servers to ask; empty: those of the system.
	Resolvers []netip.AddrPort
	Pos       Position // of its table
}

// PoolTLS re-encrypts: fresh TLS to the backends.
type PoolTLS struct {
	// ServerName is sent as SNI and verified; empty: the client's SNI. An IP
	// address is verified but not sent (RFC 6066 §3).
	ServerName         string
	CA                 File // roots to verify against; zero: the system's
	InsecureSkipVerify bool
	Certificate        Certificate // shown to backends; zero: none
	// SessionCache is how many sessions are kept to resume with backends; 0: none.
	SessionCache int
	Pos          Position // of its table
}

// ProbeKind is what a probe does with a backend.
type ProbeKind string

// The kinds of probe.
const (
	ProbeTCP   ProbeKind = "tcp"   // connects
	ProbeTLS   ProbeKind = "tls"   // connects and shakes hands
	ProbeHTTP  ProbeKind = "http"  // asks, status and body compared
	ProbeHTTPS ProbeKind = "https" // the same over TLS
	// ProbeGRPC asks the health service that gRPC servers have (grpc.health.v1).
	ProbeGRPC ProbeKind = "grpc"
	// ProbeExchange sends bytes and compares what comes back.
	ProbeExchange ProbeKind = "exchange"
	// ProbeAgent asks an agent beside the backend what is to be done with it.
	ProbeAgent ProbeKind = "agent"
)

// Health is how the backends of a pool are probed. Fields that the kind has no use
// for are zero.
type Health struct {
	Enabled bool
	Kind    ProbeKind
	Path    string // http, https
	// Host is the Host header of http and https probes, the :authority of grpc ones;
	// empty: the backend's address, or with grpc ServerName if there is one.
	Host         string
	Method       string        // http, https
	Headers      []Header      // http, https; further ones, sorted by name
	ExpectStatus []StatusRange // http, https; never empty there
	ExpectBody   string        // http, https: a regular expression that compiles; empty: any body
	Service      string        // grpc; empty: the server as a whole
	// Preset names the protocol of an exchange; empty: Send and Expect say it.
	Preset string
	Send   string // exchange, agent: the bytes to send; empty: the backend speaks first
	Expect string // exchange: a regular expression that compiles
	Port   uint16 // 0: the backend's own; never 0 of an agent
	// TLS makes grpc and exchange probes over TLS.
	TLS bool
	// ServerName is the SNI of probes over TLS and, with Verify, the name
	// verified; empty: none is sent. The default, the pool's tls or the first exact
	// host of its routes, is already here.
	ServerName string
	Verify     bool          // over TLS
	CA         File          // roots for Verify; zero: the system's
	Interval   time.Duration // between the starts of two probes
	// IntervalDown is Interval while the backend is down.
	IntervalDown time.Duration
	Jitter       time.Duration // at most this is added to or taken from each interval; 0: none; below both
	Timeout      time.Duration // of one probe
	Rise         int           // successes in a row that make a down backend ready
	Fall         int           // failures in a row that make a ready backend down
}

// Header is one header field of an HTTP request.
type Header struct{ Name, Value string }

// StatusRange is a range of HTTP status codes, both ends included.
type StatusRange struct{ First, Last int }

// Certificate is a chain and its key, as files that exist and can be read.
type Certificate struct {
	Cert string   // PEM chain, absolute path
	Key  string   // PEM key, absolute path; the same as Cert where one file holds both
	Pos  Position // of the entry that named it, also by a glob
}

// File is a file the configuration names: it exists and can be read. The zero File
// is none.
type File struct {
	Path string // absolute
	Pos  Position
}

// TLS is what all Terminate routes share.
type TLS struct {
	Certificates       []Certificate      // picked by SNI; in order, globs sorted by name
	CertificateEntries []CertificateEntry // what named them
	// Incomplete says that problems kept an entry out of Certificates, or a file out
	// of the configuration: which names they cover cannot be told.
	Incomplete bool
	Policy     TLSPolicy // of routes that write none of their own
	ECHKeys    []File    // keys for Encrypted ClientHello, in order, globs sorted by name
	Tickets    Tickets
}

// Timeouts of every session. All are above zero but the last two, which may be zero.
type Timeouts struct {
	Hello     time.Duration // accept to complete ClientHello, PROXY header included
	Handshake time.Duration // TLS handshake with the client, and with a re-encrypted backend
	Idle      time.Duration // no byte in either direction
	Fin       time.Duration // no byte in the direction still open after the other ended
	Keepalive time.Duration // TCP keepalive on both sides; whole seconds
	Unacked   time.Duration // TCP_USER_TIMEOUT on both sides; whole milliseconds
	Drain     time.Duration // on shutdown and for removed listeners and backends
	// ShutdownDelay is how long a shutdown goes on accepting before the drain, no longer
	// ready; 0: not at all.
	ShutdownDelay time.Duration
}

// Limits bound what clients can make the process hold. Those of the whole process are
// above zero; of those of one client zero is no limit.
type Limits struct {
	Loops            int   // event loops; 0: one per core
	MaxConnections   int   // sessions at once; then accepting pauses
	MaxHello         int64 // bytes of one ClientHello
	MaxHellos        int   // unfinished hellos at once
	MaxHellosPerIP   int   // of one client; 0: no limit
	MaxHandshakes    int   // TLS handshakes at once; further ones wait
	PerIPConnections int   // sessions of one client at once; 0: no limit
	PerIPRate        Rate  // new sessions of one client; zero: no limit
	// Except are clients that the per-IP limits spare.
	Except []netip.Prefix
}

// Rate is N events per Per; the zero Rate is no limit.
type Rate struct {
	N   int
	Per time.Duration // time.Second or time.Minute
}

// Log is where and how the process writes its log and its access records.
type Log struct {
	Level  slog.Level
	Format string // "text" or "json", for both
	// Access is AccessStdout, AccessSyslog, AccessOff or the absolute path of a file.
	Access    string
	AccessPos Position
	// Sample is the share of records with the outcome ok that are written, 0 to 1; all
	// others are.
	Sample float64
}

// The values of Log.Access that are no path.
const (
	AccessStdout = "stdout"
	AccessSyslog = "syslog"
	AccessOff    = "off"
)
