package config

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// probe reads [pools.NAME.health] into p. Its probes ask for the name of the pool's
// tls, else for exactHost, the first that its routes have, else for none.
func (d *decoder) probe(root table, p *Pool, exactHost string) {
	t := d.absent(healthTable, p.Pos)
	if pools := root.get("pools"); pools != nil && pools.at(p.Name) != nil && pools.at(p.Name).kind == kindTable {
		t = d.table(pools.at(p.Name).at("health"), healthTable, p.Pos)
	}
	byDefault := ProbeTCP
	if p.TLS != nil {
		byDefault = ProbeTLS
	}
	kinds := []string{
		string(ProbeTCP), string(ProbeTLS), string(ProbeHTTP), string(ProbeHTTPS),
		string(ProbeGRPC), string(ProbeExchange), string(ProbeAgent),
	}
	h := Health{
		Enabled: t.bool("enabled", true),
		Kind:    ProbeKind(t.choice("kind", string(byDefault), kinds...)),
		Port:    uint16(t.int("port", 0, 1, 65535)),
		Rise:    t.int("rise", 2, 1, 1000),
		Fall:    t.int("fall", 3, 1, 1000),
	}
	d.probeTimes(t, &h)
	d.checkProbeKeys(t, h.Kind)
	name := exactHost
	if p.TLS != nil && p.TLS.ServerName != "" {
		name = p.TLS.ServerName
	}
	switch h.Kind {
	case ProbeHTTP, ProbeHTTPS:
		d.probeHTTP(t, &h, name)
	case ProbeGRPC:
		h.Service = t.string("service", "")
		h.Host = d.probeHost(t, "")
		h.TLS = t.bool("tls", p.TLS != nil)
	case ProbeExchange:
		h.TLS = t.bool("tls", p.TLS != nil)
		d.probeExchange(t, &h)
	case ProbeAgent:
		h.Send = d.bytes(t, "send")
		if t.missing("port") {
			d.problem(t.pos("kind"), "add port = 9777, or where it listens", "an agent without a port: it is asked at one of its own")
		}
		if i := slices.IndexFunc(p.Backends, func(b Backend) bool { return b.Address.Kind == AddressUnix }); i >= 0 {
			d.problem(t.pos("kind"), "give it a pool of its own, with another kind of probe",
				"backend %q is a Unix socket and has no port where an agent could be", p.Backends[i].Name)
		}
	case ProbeTCP, ProbeTLS:
	}
	if h.Kind.SpeaksTLS(h.TLS) {
		d.probeTLS(t, &h, p, name)
	}
	p.Health = h
}

// SpeaksTLS says that a probe of this kind shakes hands; tls is the key of that name.
func (k ProbeKind) SpeaksTLS(tls bool) bool {
	return k == ProbeTLS || k == ProbeHTTPS || tls && (k == ProbeGRPC || k == ProbeExchange)
}

// probeTimes reads the rhythm of a probe.
func (d *decoder) probeTimes(t table, h *Health) {
	const ms = time.Millisecond
	h.Interval = t.duration("interval", 2*time.Second, ms, maxDuration)
	h.IntervalDown = t.duration("interval_down", h.Interval, ms, maxDuration)
	least := min(h.Interval, h.IntervalDown)
	h.Jitter = t.duration("jitter", least/10, 0, maxDuration)
	if h.Jitter >= least {
		d.problem(t.pos("jitter"), "make it shorter than "+formatDuration(least), "jitter is as long as the interval")
	}
	h.Timeout = t.duration("timeout", time.Second, ms, maxDuration)
	if t.get("timeout") != nil && h.Timeout > h.Interval && h.Enabled {
		d.warning(t.pos("timeout"), "make it "+formatDuration(h.Interval)+" or shorter, or the interval longer",
			"the timeout of a probe, %s, is longer than the interval, %s", formatDuration(h.Timeout), formatDuration(h.Interval))
	}
}

// checkProbeKeys refuses keys that the kind of probe has no use for: rather a path
// without kind = "http" is a mistake than a probe that never asks for it.
func (d *decoder) checkProbeKeys(t table, kind ProbeKind) {
	isHTTP := kind == ProbeHTTP || kind == ProbeHTTPS
	mayTLS := kind == ProbeGRPC || kind == ProbeExchange
	for _, group := range []struct {
		used  bool
		kinds []ProbeKind
		keys  []string
	}{
		{isHTTP, []ProbeKind{ProbeHTTP, ProbeHTTPS}, []string{"path", "method", "headers", "expect_status", "expect_body"}},
		{isHTTP || kind == ProbeGRPC, []ProbeKind{ProbeHTTP, ProbeHTTPS, ProbeGRPC}, []string{"host"}},
		{kind == ProbeGRPC, []ProbeKind{ProbeGRPC}, []string{"service"}},
		{kind == ProbeExchange, []ProbeKind{ProbeExchange}, []string{"preset", "expect"}},
		{kind == ProbeExchange || kind == ProbeAgent, []ProbeKind{ProbeExchange, ProbeAgent}, []string{"send"}},
		{mayTLS, []ProbeKind{ProbeGRPC, ProbeExchange}, []string{"tls"}},
		{mayTLS || kind == ProbeTLS || kind == ProbeHTTPS, []ProbeKind{ProbeTLS, ProbeHTTPS}, []string{"server_name", "verify", "ca"}},
	} {
		for _, key := range group.keys {
			if v := t.get(key); v != nil && !group.used {
				hint := fmt.Sprintf("write kind = %s, or drop it", quotedList(texts(group.kinds)))
				if key == "tls" && isHTTP {
					hint = `write kind = "https", or drop it`
				}
				d.problem(v.pos(), hint, "%s has no effect on a probe of kind %q", key, kind)
			}
		}
	}
	if tls := t.get("tls"); mayTLS && tls != nil && tls.scalar == false {
		for _, key := range []string{"server_name", "verify", "ca"} {
			if v := t.get(key); v != nil {
				d.problem(v.pos(), "write tls = true, or drop it", "%s has no effect on a probe without TLS", key)
			}
		}
	}
}

// firstExactHosts returns, for each pool that has one, the first host of its routes
// that is no pattern.
func firstExactHosts(routes []*Route) map[string]string {
	out := map[string]string{}
	for _, r := range routes {
		for _, h := range r.Hosts {
			if h.Pattern != "-" && !strings.HasPrefix(h.Pattern, "*") && out[r.Pool] == "" {
				out[r.Pool] = h.Pattern
			}
		}
	}
	return out
}

func (d *decoder) probeTLS(t table, h *Health, p *Pool, name string) {
	h.ServerName = d.serverName(t)
	if h.ServerName == "" {
		h.ServerName = name
	}
	h.CA = t.fileKey("ca")
	if t.get("ca") == nil && p.TLS != nil {
		h.CA = p.TLS.CA
	}
	verifies := p.TLS != nil && !p.TLS.InsecureSkipVerify && h.ServerName != ""
	h.Verify = t.bool("verify", verifies)
	if h.Verify && h.ServerName == "" {
		d.reference(t.pos("verify"), `write server_name = "…"`, "verify without a name to verify: no route of pool %q has an exact host", p.Name)
	}
}

// formatStatus writes ranges as parseStatus reads them.
func formatStatus(ranges []StatusRange) string {
	out := make([]string, 0, len(ranges))
	for r := range slices.Values(ranges) {
		out = append(out, r.String())
	}
	return strings.Join(out, ",")
}
