package config

import (
	"net/netip"
	"strings"

	"github.com/snicketlb/snicket/sni"
)

// discover reads [pools.NAME.discover]; nil without the table.
func (d *decoder) discover(t table) *Discover {
	v := t.get("discover")
	if v == nil {
		return nil
	}
	t = d.table(v, discoverTable, t.at)
	out := &Discover{Pos: t.at}
	var have []string
	for _, key := range []string{"dns", "srv", "file"} {
		if t.get(key) != nil {
			have = append(have, key)
		}
	}
	switch {
	case len(have) > 1:
		d.problem(t.pos(have[1]), "keep one of them", "discover has both %s and %s", have[0], have[1])
	case len(have) == 0 && t.v != nil && t.missing("dns") && t.missing("srv") && t.missing("file"):
		d.problem(t.at, `write dns = "app.internal:443", srv = "_https._tcp.app.internal" or file = "backends.json"`, "discover without a source")
	case len(have) == 1:
		d.source(t, have[0], out)
	}
	out.Resolvers = d.resolvers(t)
	if v := t.get("resolvers"); v != nil && t.get("file") != nil {
		d.problem(v.pos(), "drop it", "resolvers has no effect on a file")
	}
	return out
}

// source reads the one source of t.
func (d *decoder) source(t table, key string, out *Discover) {
	out.Kind = DiscoverKind(key)
	text, ok := d.text(t.get(key), key)
	if !ok {
		return
	}
	fail := func(err error) {
		text, hint := textAndHint(err)
		d.problem(t.pos(key), hint, "%s: %s", key, text)
	}
	switch out.Kind {
	case DiscoverDNS:
		switch a, err := parseAddress(text, ""); {
		case err != nil:
			fail(err)
		case a.Kind != AddressName:
			d.problem(t.pos(key), "write it in backends = [\""+a.String()+"\"]", "dns is %q, which is no name", text)
		default:
			out.Name, out.Port = a.Host, a.Port
		}
	case DiscoverSRV:
		out.Name = strings.ToLower(text)
		service, rest, _ := strings.Cut(strings.TrimSuffix(out.Name, "."), ".")
		proto, host, _ := strings.Cut(rest, ".")
		if len(service) < 2 || service[0] != '_' || len(proto) < 2 || proto[0] != '_' || sni.CheckName(host) != nil {
			d.problem(t.pos(key), `write srv = "_https._tcp.app.internal"`, "srv is %q", text)
		}
	case DiscoverFile:
		if text == "" || printable(text) != nil {
			d.problem(t.pos(key), `write file = "backends.json"`, "file is %q", text)
			return
		}
		out.File = resolvePath(text, t.v.src.dir)
		if err := readable(out.File); err != nil { // it may be written later
			text, _ := textAndHint(err)
			d.warning(t.pos(key), "the pool has no backends until it is written", "file %q: %s", out.File, text)
		}
	}
}

// resolvers reads the name servers to ask.
func (d *decoder) resolvers(t table) []netip.AddrPort {
	const port = 53
	var out []netip.AddrPort
	for _, e := range t.entries("resolvers") {
		if ip, err := netip.ParseAddr(e.text); err == nil {
			out = append(out, netip.AddrPortFrom(ip.Unmap(), port))
			continue
		}
		a, err := netip.ParseAddrPort(e.text)
		if err != nil || a.Port() == 0 {
			d.problem(e.at, `write addresses of name servers: ["10.0.0.2", "10.0.0.3:5353"]`, "resolvers has %q", e.text)
			continue
		}
		out = append(out, netip.AddrPortFrom(a.Addr().Unmap(), a.Port()))
	}
	return out
}
