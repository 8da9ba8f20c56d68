package config

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/snicketlb/snicket/sni"
)

// maxWeight is the largest weight of a backend.
const maxWeight = 256

// pools reads [pools.NAME], makes those of routes with backends, and then resolves
// what routes and pools take from one another.
func (d *decoder) pools(root table, c *Config, routes []*routeSource) {
	v := root.get("pools")
	c.Pools = slices.Grow(c.Pools, countPools(v, routes))
	if v != nil {
		for _, name := range v.keys() {
			t := d.table(v.at(name), poolTable, v.pos())
			if t.v == nil {
				continue
			}
			name = strings.Clone(name) // it outlives this configuration, and must not keep the file
			d.checkName(t.at, "pool", name)
			d.addPool(c, d.pool(t, name, t))
			if t.missing("backends") && t.missing("discover") {
				d.problem(t.at, `write backends = ["IP:port"]`, "pool %q has no backends", name)
			}
		}
	}
	for i, src := range routes {
		if src == nil || src.backends == nil {
			continue
		}
		name, at := c.Routes[i].Name, src.backends.pos()
		if name == "" { // no hosts either; the backends may be wrong all the same
			d.pool(d.absent(poolTable, at), name, src.table)
			continue
		}
		if p := d.poolOf(c, name); p != nil {
			d.problem(at, "name the route or the pool otherwise", "these backends make a pool %q, and one is at %s", name, p.Pos)
			continue
		}
		d.addPool(c, d.pool(d.absent(poolTable, at), name, src.table))
	}
	exact := firstExactHosts(c.Routes)
	for i := range c.Pools {
		d.probe(root, &c.Pools[i], exact[c.Pools[i].Name])
	}
	for i, src := range routes {
		if src == nil { // it does not terminate
			continue
		}
		r := c.Routes[i]
		if p := d.poolOf(c, r.Pool); p != nil && p.TLS != nil && r.Mode == Terminate {
			r.TLS.ALPNFromBackends = src.tls.get("alpn") == nil && r.HTTP == nil
		}
	}
}

// countPools returns how many pools there are at most: those declared in v, and those
// of routes with backends.
func countPools(v *value, routes []*routeSource) (n int) {
	if v != nil {
		n = len(v.keys())
	}
	for _, src := range routes {
		if src != nil && src.backends != nil {
			n++
		}
	}
	return n
}

func (d *decoder) addPool(c *Config, p Pool) {
	d.poolIndex[p.Name] = len(c.Pools)
	c.Pools = append(c.Pools, p)
}

// poolOf returns the pool called name, or nil.
func (d *decoder) poolOf(c *Config, name string) *Pool {
	if i, ok := d.poolIndex[name]; ok {
		return &c.Pools[i]
	}
	return nil
}

// pool reads one pool from t, but for its probes; its backends are those of list.
func (d *decoder) pool(t table, name string, list table) Pool {
	p := Pool{
		Name:            name,
		DialTimeout:     t.duration("dial_timeout", 3*time.Second, time.Millisecond, maxDuration),
		Retries:         t.int("retries", 2, 0, 100),
		SourceAddresses: d.sourceAddresses(t),
		Pos:             t.at,
	}
	p.ProxyProtocol = map[string]int{"off": 0, "v1": 1, "v2": 2}[t.choice("proxy_protocol", "off", "off", "v1", "v2")]
	p.ProxyTLVs = d.proxyTLVs(t, p.ProxyProtocol)
	d.balance(t, &p)
	p.Eject = d.eject(t)
	p.Discover = d.discover(t)
	if v := list.get("backends"); v != nil && p.Discover != nil {
		d.problem(v.pos(), "keep one of them", "pool %q has both backends and discover", name)
	}
	if v := t.get("tls"); v != nil {
		p.TLS = d.poolTLS(d.table(v, poolTLSTable, t.at))
	}
	for _, v := range list.list("backends") {
		d.backend(&p, v)
	}
	if v := list.get("backends"); v != nil && v.kind == kindArray && len(v.array) == 0 {
		d.problem(v.pos(), `write backends = ["IP:port"]`, "backends is empty")
	}
	d.checkQueue(t, &p)
	d.checkEject(t, &p)
	return p
}

// backend reads one entry of backends, a string or a table, into p.
func (d *decoder) backend(p *Pool, v *value) {
	b := Backend{Weight: 1, Pos: v.pos()}
	var text string
	switch v.kind {
	case kindString:
		text = v.scalar.(string)
	case kindTable:
		t := d.table(v, backendTable, v.pos())
		text = t.string("address", "")
		b.Name = t.string("name", "")
		b.Weight = t.int("weight", 1, 1, maxWeight)
		b.Backup = t.bool("backup", false)
		b.MaxConnections = t.int("max_connections", 0, 0, maxCount)
		b.Pos = t.pos("address")
		if t.missing("address") {
			d.problem(v.pos(), `write { address = "10.0.0.5:443" }`, "backend without an address")
		}
		if text == "" && (t.get("address") == nil || t.get("address").kind != kindString) {
			return
		}
		if v := t.get("name"); v != nil && b.Name == "" && v.kind == kindString {
			d.checkName(v.pos(), "backend", "")
		}
	default:
		d.wrongType(v, "an entry of backends", kindString.String(), `write "10.0.0.5:443" or { address = "10.0.0.5:443", weight = 2 }`)
		return
	}
	a, err := parseAddress(text, v.src.dir)
	if err != nil {
		text, hint := textAndHint(err)
		d.problem(b.Pos, hint, "%s", text)
		return
	}
	b.Address = a
	if b.Name == "" {
		b.Name = a.String()
	} else if b.Name != a.String() { // that of a Unix socket has slashes
		d.checkName(v.pos(), "backend", b.Name)
	}
	for _, other := range p.Backends {
		if other.Name == b.Name {
			d.problem(b.Pos, "drop it, or give it a name of its own", "backend %q is also at %s", b.Name, other.Pos)
			return
		}
	}
	p.Backends = append(p.Backends, b)
}

func (d *decoder) proxyTLVs(t table, version int) []ProxyTLV {
	byDefault := []ProxyTLV{TLVAuthority, TLVALPN, TLVUniqueID, TLVSSL}
	v := t.get("proxy_tlvs")
	if v == nil {
		if version == 2 {
			return byDefault
		}
		return nil
	}
	if version != 2 {
		d.problem(v.pos(), `add proxy_protocol = "v2", or drop it`, "proxy_tlvs without PROXY v2, which alone has them")
		return nil
	}
	known := []string{string(TLVAuthority), string(TLVALPN), string(TLVUniqueID), string(TLVSSL), string(TLVCRC32C)}
	var out []ProxyTLV
	for _, e := range t.entries("proxy_tlvs") {
		if !slices.Contains(known, e.text) {
			d.problem(e.at, "write some of "+quotedList(known), "no TLV %q", e.text)
			continue
		}
		out = append(out, ProxyTLV(e.text))
	}
	return out
}

func (d *decoder) sourceAddresses(t table) []netip.Addr {
	var out []netip.Addr
	for _, e := range t.entries("source_addresses") {
		a, err := netip.ParseAddr(e.text)
		if a = a.Unmap(); err == nil && slices.Contains(out, a) {
			d.problem(e.at, "drop one of them", "source_addresses has %s twice", a)
			continue
		}
		if err != nil || a.IsUnspecified() {
			d.problem(e.at, `write addresses of this machine: ["192.0.2.7"]`, "source_addresses has %q", e.text)
			continue
		}
		out = append(out, a)
	}
	return out
}

func (d *decoder) poolTLS(t table) *PoolTLS {
	p := &PoolTLS{
		ServerName:         d.serverName(t),
		CA:                 t.fileKey("ca"),
		InsecureSkipVerify: t.bool("insecure_skip_verify", false),
		SessionCache:       t.int("session_cache", 1024, 0, 1_000_000),
		Pos:                t.at,
	}
	p.Certificate, _ = d.certificate(t)
	if p.InsecureSkipVerify && t.get("ca") != nil {
		d.problem(t.pos("ca"), "drop one of them", "ca has no effect with insecure_skip_verify")
	}
	return p
}

// serverName reads a name to send and verify: a DNS name or an IP address, "" for none.
func (d *decoder) serverName(t table) string {
	s := strings.ToLower(strings.TrimSuffix(t.string("server_name", ""), "."))
	if s == "" {
		return ""
	}
	if ip, err := netip.ParseAddr(s); err == nil && ip.Zone() == "" {
		return ip.Unmap().String()
	}
	if err := sni.CheckName(s); err != nil {
		d.problem(t.pos("server_name"), `write a host name: "internal.example"`, "server_name: %s", oneLine(err.Error()))
		return ""
	}
	return s
}
