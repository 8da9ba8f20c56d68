package config

import (
	"bytes"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// Effective returns the configuration as one file with every default written out,
// globs expanded, paths absolute and the pools of routes declared. It loads to the
// same Config, but for Pos and Files, unless there are secrets: what stands in their place,
// [Hidden], does not load. c must have been loaded without errors.
func (c *Config) Effective() []byte { return c.effective(writer{}) }

func (c *Config) effective(w writer) []byte {
	w.set("watch", c.Watch)
	for _, l := range c.Listeners {
		w.header("[listeners.%s]", bareOrQuoted(l.Name))
		w.set("address", l.Address.String())
		w.set("kind", string(l.Kind))
		if l.Kind == ListenHTTP {
			w.set("https_port", int(l.HTTPSPort))
		}
		from := texts(l.AcceptProxyFrom)
		if l.AcceptProxyUnix {
			from = append(from, "unix")
		}
		w.set("accept_proxy_from", from)
	}
	for _, r := range c.Routes {
		w.route(r)
	}
	for _, p := range c.Pools {
		w.pool(p)
	}
	w.header("[tls]")
	w.certificates(c.TLS.CertificateEntries)
	w.policy(c.TLS.Policy)
	w.set("ech_keys", paths(c.TLS.ECHKeys))
	w.tickets(c.TLS.Tickets)
	w.header("[acme]")
	w.acme(c.ACME)
	w.header("[timeouts]")
	w.set("hello", c.Timeouts.Hello)
	w.set("handshake", c.Timeouts.Handshake)
	w.set("idle", c.Timeouts.Idle)
	w.set("fin", c.Timeouts.Fin)
	w.set("keepalive", c.Timeouts.Keepalive)
	w.set("unacked", c.Timeouts.Unacked)
	w.set("drain", c.Timeouts.Drain)
	w.set("shutdown_delay", c.Timeouts.ShutdownDelay)
	w.limits(c.Limits)
	w.admin(c.Admin)
	w.header("[log]")
	w.set("level", strings.ToLower(c.Log.Level.String()))
	w.set("format", c.Log.Format)
	w.set("access", c.Log.Access)
	w.set("sample", c.Log.Sample)
	return w.b.Bytes()
}

// writer writes TOML.
type writer struct {
	b       bytes.Buffer
	secrets bool // are written, for a test
}

func (w *writer) route(r *Route) {
	w.header("[[routes]]")
	w.set("name", r.Name)
	hosts := make([]string, 0, len(r.Hosts))
	for _, h := range r.Hosts {
		hosts = append(hosts, h.Pattern)
	}
	w.set("hosts", hosts)
	w.set("alpn", r.ALPN)
	w.set("from", texts(r.From))
	w.set("deny_from", texts(r.DenyFrom))
	w.set("listeners", r.Listeners)
	w.set("mode", string(r.Mode))
	if r.Mode != Reject {
		w.set("pool", r.Pool)
	}
	w.set("max_connections", r.MaxConnections)
	if r.Mode != Reject {
		w.set("sorry", r.Sorry)
	}
	if r.Mode == Terminate {
		w.header("[routes.tls]")
		w.routeTLS(r.TLS)
	}
	if r.HTTP != nil {
		w.header("[routes.http]")
		w.http(r.HTTP)
	}
	w.header("[routes.timeouts]")
	w.set("idle", r.Timeouts.Idle)
	w.set("fin", r.Timeouts.Fin)
	w.set("handshake", r.Timeouts.Handshake)
}

func (w *writer) pool(p Pool) {
	name := bareOrQuoted(p.Name)
	w.header("[pools.%s]", name)
	if p.Discover == nil {
		w.backends(p.Backends)
	}
	w.set("balance", string(p.Balance))
	w.set("proxy_protocol", [...]string{"off", "v1", "v2"}[p.ProxyProtocol])
	if p.ProxyProtocol == 2 {
		w.set("proxy_tlvs", texts(p.ProxyTLVs))
	}
	w.set("dial_timeout", p.DialTimeout)
	w.set("retries", p.Retries)
	w.set("panic_below", p.PanicBelow)
	w.set("on_down", string(p.OnDown))
	w.set("slow_start", p.SlowStart)
	fmt.Fprintf(&w.b, "queue = { size = %d, timeout = %s }\n", p.Queue.Size, quote(formatDuration(p.Queue.Timeout)))
	w.set("source_addresses", texts(p.SourceAddresses))
	if p.TLS != nil {
		w.header("[pools.%s.tls]", name)
		w.setOr("server_name", p.TLS.ServerName, "the client's SNI")
		w.setOr("ca", p.TLS.CA.Path, "the system's roots")
		w.set("insecure_skip_verify", p.TLS.InsecureSkipVerify)
		w.setOr("cert", p.TLS.Certificate.Cert, "none")
		w.setOr("key", p.TLS.Certificate.Key, "none")
		w.set("session_cache", p.TLS.SessionCache)
	}
	w.header("[pools.%s.health]", name)
	w.health(p.Health)
	if p.Eject != nil {
		w.header("[pools.%s.eject]", name)
		w.eject(p.Eject)
	}
	if p.Discover != nil {
		w.header("[pools.%s.discover]", name)
		w.discover(p.Discover)
	}
}

func (w *writer) backends(list []Backend) {
	w.b.WriteString("backends = [\n")
	for _, b := range list {
		fmt.Fprintf(&w.b, "  { address = %s, name = %s, weight = %d, backup = %t, max_connections = %d },\n",
			quote(b.Address.String()), quote(b.Name), b.Weight, b.Backup, b.MaxConnections)
	}
	w.b.WriteString("]\n")
}

func (w *writer) eject(e *Eject) {
	w.set("failures", e.Failures)
	w.set("ratio", e.Ratio)
	if e.Ratio > 0 {
		w.set("window", e.Window)
		w.set("minimum", e.Minimum)
	}
	w.set("for", e.For)
	w.set("max", e.Max)
	w.set("max_ejected", e.MaxEjected)
}

func (w *writer) discover(d *Discover) {
	switch d.Kind {
	case DiscoverDNS:
		w.set("dns", net.JoinHostPort(d.Name, strconv.Itoa(int(d.Port))))
	case DiscoverSRV:
		w.set("srv", d.Name)
	case DiscoverFile:
		w.set("file", d.File)
		return
	}
	if len(d.Resolvers) == 0 {
		w.note("resolvers: the system's")
		return
	}
	w.set("resolvers", texts(d.Resolvers))
}

func (w *writer) health(h Health) {
	w.set("enabled", h.Enabled)
	w.set("kind", string(h.Kind))
	if h.Kind == ProbeHTTP || h.Kind == ProbeHTTPS {
		w.set("path", h.Path)
		w.setOr("host", h.Host, "the backend's address")
		w.set("method", h.Method)
		w.headers(h.Headers)
		w.set("expect_status", formatStatus(h.ExpectStatus))
		w.setOr("expect_body", h.ExpectBody, "any")
	}
	if h.Kind == ProbeGRPC {
		w.setOr("host", h.Host, "the server_name, else the backend's address")
		w.set("service", h.Service)
	}
	switch {
	case h.Kind == ProbeAgent:
		w.set("send", bytesValue(h.Send))
	case h.Kind != ProbeExchange:
	case h.Preset != "":
		w.set("preset", h.Preset)
	default:
		w.set("send", bytesValue(h.Send))
		w.set("expect", h.Expect)
	}
	if h.Port == 0 {
		w.note("port: the backend's own")
	} else {
		w.set("port", int(h.Port))
	}
	if h.Kind == ProbeGRPC || h.Kind == ProbeExchange {
		w.set("tls", h.TLS)
	}
	if h.Kind.SpeaksTLS(h.TLS) {
		w.setOr("server_name", h.ServerName, "none")
		w.set("verify", h.Verify)
		w.setOr("ca", h.CA.Path, "the system's roots")
	}
	w.set("interval", h.Interval)
	w.set("interval_down", h.IntervalDown)
	w.set("jitter", h.Jitter)
	w.set("timeout", h.Timeout)
	w.set("rise", h.Rise)
	w.set("fall", h.Fall)
}

func (w *writer) headers(list []Header) {
	fields := make([]string, len(list))
	for i, h := range list {
		value := quote(h.Value)
		if credential(h.Name) {
			value = w.secret(h.Value)
		}
		fields[i] = fmt.Sprintf("%s = %s", bareOrQuoted(h.Name), value)
	}
	fmt.Fprintf(&w.b, "headers = {%s}\n", strings.Join(fields, ", "))
}

func (w *writer) limits(l Limits) {
	w.header("[limits]")
	w.set("loops", l.Loops)
	w.set("max_connections", l.MaxConnections)
	w.set("max_hello", formatSize(l.MaxHello))
	w.set("max_hellos", l.MaxHellos)
	w.set("max_hellos_per_ip", l.MaxHellosPerIP)
	w.set("max_handshakes", l.MaxHandshakes)
	w.set("per_ip_connections", l.PerIPConnections)
	w.set("per_ip_rate", l.PerIPRate.String())
	w.set("except", texts(l.Except))
}

// certificates writes patterns as patterns: what they match may change.
func (w *writer) certificates(entries []CertificateEntry) {
	if len(entries) == 0 {
		w.set("certificates", []string{})
		return
	}
	w.b.WriteString("certificates = [\n")
	for _, e := range entries {
		if e.Pattern != "" {
			fmt.Fprintf(&w.b, "  %s,\n", quote(e.Pattern))
			continue
		}
		fmt.Fprintf(&w.b, "  { cert = %s, key = %s },\n", quote(e.Cert), quote(e.Key))
	}
	w.b.WriteString("]\n")
}

func (w *writer) header(format string, args ...any) {
	if w.b.Len() > 0 {
		w.b.WriteByte('\n')
	}
	fmt.Fprintf(&w.b, format+"\n", args...)
}

func (w *writer) set(key string, v any) {
	fmt.Fprintf(&w.b, "%s = %s\n", key, tomlValue(v))
}

// setOr writes a key whose default is no value that could stand in a file.
func (w *writer) setOr(key, v, byDefault string) {
	if v == "" {
		w.note(key + ": " + byDefault)
		return
	}
	w.set(key, v)
}

func (w *writer) note(text string) { w.b.WriteString("# " + text + "\n") }

func tomlValue(v any) string {
	switch v := v.(type) {
	case string:
		return quote(v)
	case int:
		return strconv.Itoa(v)
	case bool:
		return strconv.FormatBool(v)
	case time.Duration:
		return quote(formatDuration(v))
	case float64:
		s := strconv.FormatFloat(v, 'f', -1, 64)
		if !strings.Contains(s, ".") {
			s += ".0"
		}
		return s
	case []byte:
		numbers := make([]string, len(v))
		for i, b := range v {
			numbers[i] = fmt.Sprintf("0x%02x", b)
		}
		return "[" + strings.Join(numbers, ", ") + "]"
	case []string:
		quoted := make([]string, len(v))
		for i, s := range v {
			quoted[i] = quote(s)
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	}
	panic(fmt.Sprintf("config: no TOML for a %T", v))
}

// texts writes each element as fmt does.
func texts[T any](list []T) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = fmt.Sprint(v)
	}
	return out
}

// quote writes s as a basic string of TOML.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\n':
			b.WriteString(`\n`)
		case r < 0x20 || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// bareOrQuoted writes a key as a file has it.
func bareOrQuoted(key string) string {
	if key != "" && strings.Trim(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == "" {
		return key
	}
	return quote(key)
}
