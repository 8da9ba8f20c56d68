package server

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"reflect"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/snicketlb/snicket/balancer"
	"github.com/snicketlb/snicket/pkg/admin"
	"github.com/snicketlb/snicket/pkg/config"
	"github.com/snicketlb/snicket/pkg/loop"
	"github.com/snicketlb/snicket/pkg/metrics"
	"github.com/snicketlb/snicket/pkg/proxy"
	"github.com/snicketlb/snicket/pkg/terminate"
	"github.com/snicketlb/snicket/pkg/web"

	"github.com/snicketlb/snicket/pkg/pace"
)

// A plan is a configuration made ready to run, with nothing live touched.
type plan struct {
	config   *config.Config
	problems config.Problems
	state    proxy.State
	shared   *shared
	former   *plan                   // until this one is built; nil before the first
	probes   map[string]probeSecrets // by pool
	pools    map[string]*proxy.Pool
	plain    map[string]string // of plainPools
	secrets  *secrets
	admin    admin.Settings
	acme     acmePlan
	aged     config.Problems // those of problems about the age of certificates
}

// buildOptions are what a build is for.
type buildOptions struct {
	// serving makes a certificate that is out of date a warning: it fails its own
	// host, and must not keep all others from being served after a restart.
	serving bool
	// failed is told of failed dials.
	failed func(pool, id string, err error)
	// renewed is told how the probes of a pool speak TLS from now on.
	renewed func(pl *plan, pool string, own probeSecrets)
	// authority keeps what comes from ACME; nil: nothing is served.
	authority *authority
	// log takes what goes wrong within requests; nil: nobody does.
	log *slog.Logger
	// syslog is where one must listen if records are to go there; empty: that is not
	// looked at.
	syslog string
	// loops is how many there are; 0: as many as the configuration wants.
	loops int
}

// loopsOf is how many loops a start by c has.
func loopsOf(c *config.Config) int {
	if c.Limits.Loops > 0 {
		return c.Limits.Loops
	}
	return min(runtime.GOMAXPROCS(0), 256)
}

// shared is what outlives a reload: the counts of routes, of pools the balancer and the
// protocols their backends chose, and the keys by which clients resume.
type shared struct {
	pools  map[string]*sharedPool
	routes map[string]*sharedRoute
	// tickets and secrets are made anew by each build from those before.
	tickets *tickets
	secrets *secrets
	// tls is how pools speak TLS, with the sessions to resume, by their names.
	tls   map[string]*terminate.Backend
	sites map[string]*sharedSite // by route
	plain map[plainSource]*web.Plain
	// formerSites and formerPlain are those of the plan before, until this one is in
	// force.
	formerSites map[string]*sharedSite
	formerPlain map[plainSource]*web.Plain
}

type sharedPool struct {
	balancer *balancer.Pool
	offer    *atomic.Int32
	retried  *atomic.Uint64
}

type sharedRoute struct {
	declared *config.Route
	active   *atomic.Int64
	counts   *proxy.RouteCounts // nil: of so many routes none is counted
	// built is what the data plane knows, where that hangs on declared and its pool alone;
	// else nil.
	built *proxy.Route
}

// take returns what old has for the routes and pools of c, with new parts for the
// new ones, which count for so many loops. old is not changed, and may be nil.
func (old *shared) take(c *config.Config, loops int) *shared {
	s := &shared{
		pools: map[string]*sharedPool{}, routes: make(map[string]*sharedRoute, len(c.Routes)), tls: map[string]*terminate.Backend{},
		sites: map[string]*sharedSite{}, plain: map[plainSource]*web.Plain{},
	}
	if old != nil {
		s.formerSites, s.formerPlain = old.sites, old.plain
	}
	for _, p := range c.Pools {
		if old != nil && old.pools[p.Name] != nil {
			s.pools[p.Name], s.tls[p.Name] = old.pools[p.Name], old.tls[p.Name]
			continue
		}
		s.pools[p.Name] = &sharedPool{balancer: balancer.New(p.Name), offer: new(atomic.Int32), retried: new(atomic.Uint64)}
	}
	counted := len(c.Routes) <= metrics.MostRoutes
	for _, r := range pace.All(c.Routes) {
		var was *sharedRoute
		if old != nil {
			was = old.routes[r.Name]
		}
		s.routes[r.Name] = was.take(r, counted, loops)
	}
	return s
}

// take returns what was, which may be nil, has for r.
func (was *sharedRoute) take(r *config.Route, counted bool, loops int) *sharedRoute {
	if was != nil && was.declared == r && (was.counts != nil) == counted {
		return was
	}
	now := &sharedRoute{declared: r}
	if was != nil {
		now.active, now.counts = was.active, was.counts
		if was.declared.Same(r) && (was.counts != nil) == counted {
			now.built = was.built
		}
	} else {
		now.active = new(atomic.Int64)
	}
	switch {
	case !counted:
		now.counts = nil
	case now.counts == nil:
		now.counts = proxy.NewRouteCounts(loops)
	}
	return now
}

// build reads the configuration in path, loads what it names and makes of it what
// the data plane runs on, with what outlives a reload from former, which may be nil
// and stays as it is. The plan always has a config and its problems, and the rest if
// their Err is nil.
func build(path string, former *plan, o buildOptions) *plan {
	var (
		old *shared
		was *config.Config
	)
	if former != nil {
		old, was = former.shared, former.config
	}
	c, problems := config.LoadAfter(path, was)
	pl := &plan{config: c, problems: problems, former: former, shared: old.take(c, cmp.Or(o.loops, loopsOf(c)))}
	defer func() { pl.former = nil }() // else none would ever be let go
	pl.secrets = newSecrets(time.Now(), pl.problem)
	if old != nil {
		pl.secrets.succeed(old.secrets)
	}
	pl.shared.secrets = pl.secrets
	pl.secrets.managed = o.authority.managed()
	b := &builder{plan: pl, failed: o.failed, renewed: o.renewed, authority: o.authority, log: o.log, syslog: o.syslog}
	pl.state = proxy.State{
		Listeners: b.listeners(),
		Timeouts: proxy.Timeouts{
			Hello: c.Timeouts.Hello, Keepalive: c.Timeouts.Keepalive,
			Unacked: c.Timeouts.Unacked, Drain: c.Timeouts.Drain,
		},
		Limits: limits(&c.Limits),
	}
	b.pools()
	b.plain = plainPools(c)
	b.tickets(old)
	b.acme()
	b.routes()
	b.places()
	pl.admin = b.adminSettings()
	pl.secrets.before = nil
	for _, p := range pl.secrets.aged {
		p.Warning = o.serving
		pl.aged = append(pl.aged, p)
		pl.problem(p)
	}
	pl.problems = pl.problems.Sort(c.Files)
	if pl.problems.Err() != nil {
		return pl
	}
	names := make([]string, len(c.Listeners))
	for i, l := range c.Listeners {
		names[i] = l.Name
	}
	var err error
	if pl.state.Table, err = proxy.NewTable(pl.state.Routes, names); err != nil {
		pl.problem(config.Problem{Pos: config.Position{File: path}, Text: err.Error()})
	}
	return pl
}

func (pl *plan) problem(p config.Problem) { pl.problems = append(pl.problems, p) }

func limits(l *config.Limits) proxy.Limits {
	return proxy.Limits{
		MaxConnections: l.MaxConnections, MaxHello: int(l.MaxHello), MaxHellos: l.MaxHellos,
		MaxHellosPerIP: l.MaxHellosPerIP, MaxHandshakes: l.MaxHandshakes,
		PerIPConnections: l.PerIPConnections,
		PerIPRate:        proxy.Rate{N: l.PerIPRate.N, Per: l.PerIPRate.Per},
		Except:           l.Except,
	}
}

// A builder fills a plan.
type builder struct {
	*plan
	failed    func(pool, id string, err error)
	renewed   func(pl *plan, pool string, own probeSecrets)
	authority *authority   // may be nil
	log       *slog.Logger // may be nil
	syslog    string       // may be empty
}

func (b *builder) listeners() []proxy.Listener {
	var out []proxy.Listener
	for _, l := range b.config.Listeners {
		address, err := listenAddress(l.Address)
		if err != nil {
			b.problem(config.Problem{Pos: l.Pos, Text: fmt.Sprintf("listener %q: %v", l.Name, err)})
			continue
		}
		now := proxy.Listener{
			Name: l.Name, Address: address, Text: l.Address.String(), Dual: l.Address.Dual,
			AcceptProxyFrom: l.AcceptProxyFrom, AcceptProxyUnix: l.AcceptProxyUnix,
		}
		if l.Kind == config.ListenHTTP {
			now.Plain = b.httpListener(&l)
			now.Idle, now.Handshake = b.config.Timeouts.Idle, b.config.Timeouts.Handshake
		}
		out = append(out, now)
	}
	return out
}

func (b *builder) pools() {
	b.plan.pools = map[string]*proxy.Pool{}
	b.probes = map[string]probeSecrets{}
	for i := range b.config.Pools {
		p := &b.config.Pools[i]
		common, name, failed := b.shared.pools[p.Name], p.Name, b.failed
		pool := &proxy.Pool{
			Name: p.Name, Balancer: common.balancer, Offer: common.offer,
			ProxyProtocol: p.ProxyProtocol, TLVs: tlvs(p.ProxyTLVs),
			DialTimeout: p.DialTimeout, Retries: p.Retries, QueueTimeout: queueTimeout(p), Sources: p.SourceAddresses,
			Retried: common.retried,
			Failed:  func(id string, err error) { failed(name, id, err) },
		}
		pool.TLS, b.probes[p.Name] = b.poolTLS(p)
		if b.former != nil && alike(b.former.pools[p.Name], pool) {
			pool = b.former.pools[p.Name]
		}
		b.plan.pools[p.Name] = pool
	}
}

// alike reports whether the former pool, which may be nil, serves as well as now.
func alike(former, now *proxy.Pool) bool {
	if former == nil || former.TLS != now.TLS {
		return false
	}
	a, b := *former, *now
	a.TLS, b.TLS = nil, nil
	a.Failed, b.Failed = nil, nil // of one name both tell the same Server the same
	return reflect.DeepEqual(a, b)
}

// queueTimeout is how long sessions wait for a backend with room; 0: none waits.
func queueTimeout(p *config.Pool) time.Duration {
	if p.Queue.Size == 0 {
		return 0
	}
	return p.Queue.Timeout
}

func tlvs(list []config.ProxyTLV) proxy.TLVs {
	var t proxy.TLVs
	for _, tlv := range list {
		switch tlv {
		case config.TLVAuthority:
			t.Authority = true
		case config.TLVALPN:
			t.ALPN = true
		case config.TLVUniqueID:
			t.UniqueID = true
		case config.TLVSSL:
			t.SSL = true
		case config.TLVCRC32C:
			t.CRC32C = true
		}
	}
	return t
}

func (b *builder) routes() {
	b.secrets.tickets, b.secrets.ech = b.shared.tickets, b.ech()
	b.secrets.common = b.secrets.list(b.config.TLS.CertificateEntries, b.config.TLS.Certificates)
	b.state.Routes = make([]*proxy.Route, 0, len(b.config.Routes))
	for _, r := range pace.All(b.config.Routes) {
		shared, pool := b.shared.routes[r.Name], b.plan.pools[r.Pool]
		if built := shared.built; built != nil && built.Pool == pool {
			b.state.Routes = append(b.state.Routes, built)
			continue
		}
		route := &proxy.Route{
			Name: r.Name, ALPN: r.ALPN, From: r.From, DenyFrom: r.DenyFrom, Listeners: r.Listeners,
			Mode: modeOf(r.Mode), Pool: pool, MaxConnections: r.MaxConnections,
			Idle: r.Timeouts.Idle, Fin: r.Timeouts.Fin, Handshake: r.Timeouts.Handshake,
			Active: shared.active, Counts: shared.counts,
		}
		route.Hosts = make([]string, len(r.Hosts))
		for i, h := range r.Hosts {
			route.Hosts[i] = h.Pattern
		}
		if r.Mode == config.Terminate {
			route.TLS = b.secrets.terminator(r, b.config.TLS.Incomplete)
			route.Challenge = b.challengeOf(r)
			b.site(route, r)
		}
		b.sorry(route, r)
		switch {
		case r.Mode == config.Terminate || r.Sorry:
		case shared.built == nil: // it is of this build
			shared.built = route
		default: // it may be that of the former one
			b.shared.routes[r.Name] = &sharedRoute{declared: r, active: shared.active, counts: shared.counts, built: route}
		}
		b.state.Routes = append(b.state.Routes, route)
	}
}

func modeOf(m config.Mode) proxy.Mode {
	switch m {
	case config.Terminate:
		return proxy.Terminate
	case config.Reject:
		return proxy.Reject
	case config.Passthrough:
	}
	return proxy.Passthrough
}

// listenAddress is what a listener binds; nil: its sockets are passed to this process.
func listenAddress(a config.ListenAddress) (*loop.Address, error) {
	switch {
	case a.Systemd != "":
		return nil, nil
	case a.Path != "":
		return unixAddress(a.Path)
	}
	return tcpAddress(a.AddrPort)
}

// dialAddress is where a backend is dialled, which is no host name.
func dialAddress(a config.Address) (*loop.Address, error) {
	if a.Kind == config.AddressUnix {
		return unixAddress(a.Path)
	}
	return tcpAddress(a.AddrPort)
}

func unixAddress(path string) (*loop.Address, error) {
	a, ok := loop.UnixAddress(path)
	if !ok {
		return nil, fmt.Errorf("%q cannot be the path of a Unix socket", path)
	}
	return a, nil
}

func tcpAddress(a netip.AddrPort) (*loop.Address, error) {
	zone := a.Addr().Zone()
	if zone == "" {
		return loop.TCPAddress(a, 0), nil
	}
	link, err := net.InterfaceByName(zone)
	if err != nil {
		return nil, fmt.Errorf("%s: interface %q: %w", a, zone, cmp.Or(errors.Unwrap(err), err))
	}
	return loop.TCPAddress(netip.AddrPortFrom(a.Addr().WithZone(""), a.Port()), uint32(link.Index)), nil
}
