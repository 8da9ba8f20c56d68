package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// probe reads [pools.NAME.health] into p. Its probes ask for the name of the pool's
// tls, else for exactHost, the first that its routes have, else for none.
func (d *decoder) probe(root table, p *Pool, exactHost string) {
	t := table{d: d, place: healthTable, at: p.Pos}
	if pools := root.get("pools"); pools != nil && pools.table[p.Name] != nil && pools.table[p.Name].kind == kindTable {
		t = d.table(pools.table[p.Name].table["health"], healthTable, p.Pos)
	}
	byDefault := ProbeTCP
	if p.TLS != nil {
		byDefault = ProbeTLS
	}
	kinds := []string{string(ProbeTCP), string(ProbeTLS), string(ProbeHTTP), string(ProbeHTTPS)}
	h := Health{
		Enabled:  t.bool("enabled", true),
		Kind:     ProbeKind(t.choice("kind", string(byDefault), kinds...)),
		Port:     uint16(t.int("port", 0, 1, 65535)),
		Interval: t.duration("interval", 2*time.Second, time.Millisecond, maxDuration),
		Rise:     t.int("rise", 2, 1, 1000),
		Fall:     t.int("fall", 3, 1, 1000),
	}
	h.Jitter = t.duration("jitter", h.Interval/10, 0, maxDuration)
	if h.Jitter >= h.Interval {
		d.problem(t.pos("jitter"), "make it shorter than "+formatDuration(h.Interval), "jitter is as long as the interval")
	}
	h.Timeout = t.duration("timeout", time.Second, time.Millisecond, maxDuration)
	if t.get("timeout") != nil && h.Timeout > h.Interval && h.Enabled {
		d.warning(t.pos("timeout"), "make it "+formatDuration(h.Interval)+" or shorter, or the interval longer",
			"the timeout of a probe, %s, is longer than the interval, %s", formatDuration(h.Timeout), formatDuration(h.Interval))
	}
	d.checkProbeKeys(t, h.Kind)
	name := exactHost
	if p.TLS != nil && p.TLS.ServerName != "" {
		name = p.TLS.ServerName
	}
	if h.Kind == ProbeHTTP || h.Kind == ProbeHTTPS {
		d.probeHTTP(t, &h, name)
	}
	if h.Kind == ProbeTLS || h.Kind == ProbeHTTPS {
		d.probeTLS(t, &h, p, name)
	}
	p.Health = h
}

// checkProbeKeys refuses keys that the kind of probe has no use for: rather a path
// without kind = "http" is a mistake than a probe that never asks for it.
func (d *decoder) checkProbeKeys(t table, kind ProbeKind) {
	isHTTP := kind == ProbeHTTP || kind == ProbeHTTPS
	isTLS := kind == ProbeTLS || kind == ProbeHTTPS
	for _, group := range []struct {
		used  bool
		kinds string
		keys  []string
	}{
		{isHTTP, `"http" or "https"`, []string{"path", "host", "expect_status"}},
		{isTLS, `"tls" or "https"`, []string{"server_name", "verify", "ca"}},
	} {
		for _, key := range group.keys {
			if v := t.get(key); v != nil && !group.used {
				d.problem(v.pos(), fmt.Sprintf("write kind = %s, or drop it", group.kinds), "%s has no effect on a probe of kind %q", key, kind)
			}
		}
	}
}

// firstExactHosts returns, for each pool that has one, the first host of its routes
// that is no pattern.
func firstExactHosts(routes []Route) map[string]string {
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

func (d *decoder) probeHTTP(t table, h *Health, name string) {
	h.Path = t.string("path", "/")
	if !strings.HasPrefix(h.Path, "/") || strings.ContainsAny(h.Path, " #") || printable(h.Path) != nil {
		d.problem(t.pos("path"), `write path = "/healthz"`, "path is %q", h.Path)
	}
	if h.Host = t.string("host", name); h.Host == "" {
		h.Host = name
	}
	if strings.ContainsAny(h.Host, " /") || printable(h.Host) != nil {
		d.problem(t.pos("host"), `write a host name, with a port if need be`, "host is %q", h.Host)
	}
	h.ExpectStatus = []StatusRange{{200, 399}}
	if v := t.get("expect_status"); v != nil && v.kind == kindInt { // 200 reads as well as "200"
		v.kind, v.scalar = kindString, strconv.FormatInt(v.scalar.(int64), 10)
	}
	h.ExpectStatus = parsed(t, "expect_status", h.ExpectStatus, parseStatus)
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
