package config

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// silent returns the root table without checking its keys again.
func (d *decoder) silent(v *value) table {
	t := d.absent(rootTable, Position{File: v.src.name})
	t.v = v
	return t
}

// config reads the united tree.
func (d *decoder) config(root *value) *Config {
	t := d.silent(root)
	c := &Config{
		Watch:    t.bool("watch", false),
		TLS:      d.tls(t.sub("tls", tlsTable)),
		ACME:     d.acme(t.sub("acme", acmeTable)),
		Timeouts: d.timeouts(t.sub("timeouts", timeoutsTable)),
		Limits:   d.limits(t.sub("limits", limitsTable)),
		Admin:    d.admin(t.sub("admin", adminTable)),
		Log:      d.log(t.sub("log", logTable)),
	}
	c.Listeners = d.listeners(t)
	for _, l := range c.Listeners {
		if l.Kind == ListenTLS {
			d.forTLS = append(d.forTLS, l.Name)
		}
	}
	routes := d.routes(t, c)
	d.pools(t, c, routes)
	d.check(c, routes)
	if !d.unread {
		d.problems = append(d.problems, d.references...)
	}
	c.TLS.Incomplete = c.TLS.Incomplete || d.unread
	return c
}

func (d *decoder) tls(t table) TLS {
	var out TLS
	out.Certificates, out.CertificateEntries, out.Incomplete = d.certificates(t)
	out.Policy, d.policyBase = d.policy(t, TLSPolicy{})
	out.ECHKeys = d.echKeys(t)
	out.Tickets = d.tickets(t.sub("tickets", ticketsTable))
	return out
}

func (d *decoder) timeouts(t table) Timeouts {
	const (
		mostKeepalive = 32767 * time.Second // MAX_TCP_KEEPIDLE of Linux
		mostUnacked   = 24 * day            // TCP_USER_TIMEOUT: milliseconds in 31 bits
	)
	ms := time.Millisecond
	return Timeouts{
		Hello:     t.duration("hello", 5*time.Second, ms, maxDuration),
		Handshake: t.duration("handshake", 10*time.Second, ms, maxDuration),
		Idle:      t.duration("idle", time.Hour, ms, maxDuration),
		Fin:       t.duration("fin", 30*time.Second, ms, maxDuration),
		Keepalive: t.duration("keepalive", 30*time.Second, time.Second, mostKeepalive),
		Unacked:   t.duration("unacked", 2*time.Minute, ms, mostUnacked),
		Drain:     t.duration("drain", 30*time.Second, 0, maxDuration),

		ShutdownDelay: t.duration("shutdown_delay", 0, 0, maxDuration),
	}
}

func (d *decoder) limits(t table) Limits {
	const (
		leastHello, mostHello = 1 << 10, 1 << 20
		mostLoops             = 1024
	)
	l := Limits{
		Loops:            t.int("loops", 0, 0, mostLoops),
		MaxConnections:   t.bound("max_connections", 100_000),
		MaxHello:         parsed(t, "max_hello", 64<<10, parseSize),
		MaxHellos:        t.bound("max_hellos", 20_000),
		MaxHellosPerIP:   t.int("max_hellos_per_ip", 200, 0, maxCount),
		MaxHandshakes:    t.bound("max_handshakes", 1000),
		PerIPConnections: t.int("per_ip_connections", 0, 0, maxCount),
		PerIPRate:        parsed(t, "per_ip_rate", Rate{}, parseRate),
		Except:           t.prefixes("except"),
	}
	if l.MaxHello < leastHello || l.MaxHello > mostHello {
		d.problem(t.pos("max_hello"), "write 1KiB to 1MiB", "max_hello is %q", formatSize(l.MaxHello))
	}
	return l
}

func (d *decoder) log(t table) Log {
	l := Log{
		Level:     parsed(t, "level", slog.LevelInfo, parseLevel),
		Format:    t.choice("format", "text", "text", "json"),
		Access:    t.string("access", AccessStdout),
		AccessPos: t.pos("access"),
		Sample:    t.share("sample", 1),
	}
	words := []string{AccessStdout, AccessSyslog, AccessOff}
	if slices.Contains(words, l.Access) {
		return l
	}
	if !strings.ContainsAny(l.Access, "/.") { // a word: rather a typing error than a file
		hint := `write "stdout", "syslog", "off" or a path such as "./` + l.Access + `"`
		if near := Nearest(l.Access, words); near != "" {
			hint = `did you mean "` + near + `"?`
		}
		d.problem(l.AccessPos, hint, "access is %q", l.Access)
		return l
	}
	if err := printable(l.Access); err != nil {
		text, hint := textAndHint(err)
		d.problem(l.AccessPos, hint, "access: %s", text)
	}
	l.Access = resolvePath(l.Access, t.v.src.dir)
	return l
}

func parseLevel(s string) (slog.Level, error) {
	var l slog.Level
	levelNames := []string{"debug", "info", "warn", "error"}
	if !slices.Contains(levelNames, s) {
		return l, complain("write "+quotedList(levelNames), "%q is no level", s)
	}
	return l, l.UnmarshalText([]byte(s))
}

// The listener that there is without any.
const defaultListener, defaultListenAddress = "https", ":443"

// listeners reads [listeners.NAME]; where there is none, https is made on :443.
func (d *decoder) listeners(root table) []Listener {
	var out []Listener
	v := root.get("listeners")
	if v == nil || len(v.keys()) == 0 {
		a, err := parseListenAddress(defaultListenAddress, "")
		if err != nil {
			panic(err)
		}
		return []Listener{{Name: defaultListener, Address: a, Kind: ListenTLS, Pos: Position{File: root.at.File}}}
	}
	var homeless []entry // names of listeners without an address
	for _, name := range v.keys() {
		t := d.table(v.at(name), listenerTable, v.pos())
		name = strings.Clone(name) // routes keep it, and must not keep the file
		d.checkName(t.at, "listener", name)
		l, ok := d.listener(t, name)
		switch {
		case ok:
			d.checkOverlap(out, l)
		case t.v != nil && t.missing("address"):
			homeless = append(homeless, entry{name, t.at})
		}
		out = append(out, l)
	}
	taken := map[uint16]bool{}
	for _, l := range out {
		taken[l.Address.AddrPort.Port()] = true
	}
	sendToHTTPS(out)
	for _, e := range homeless {
		d.problem(e.at, fmt.Sprintf(`write address = ":%d" or another`, freePort(taken)), "listener %q has no address", e.text)
	}
	return out
}

// sendToHTTPS fills in where the listeners for plain HTTP that do not say it send
// browsers to: port 443 if a listener for TLS has it, else the port of the first.
func sendToHTTPS(all []Listener) {
	const portHTTPS = 443
	port := uint16(0)
	for _, l := range all {
		if p := l.Address.AddrPort.Port(); l.Kind == ListenTLS && p != 0 && (p == portHTTPS || port == 0) {
			port = p
		}
	}
	if port == 0 { // Unix sockets and those of the service manager
		port = portHTTPS
	}
	for i := range all {
		if all[i].Kind == ListenHTTP && all[i].HTTPSPort == 0 {
			all[i].HTTPSPort = port
		}
	}
}

// listener reads one; false without an address.
func (d *decoder) listener(t table, name string) (Listener, bool) {
	const portHTTP = 80
	l := Listener{
		Name: name,
		Kind: ListenerKind(t.choice("kind", string(ListenTLS), string(ListenTLS), string(ListenHTTP))),
		Pos:  t.pos("address"),
	}
	l.AcceptProxyFrom, l.AcceptProxyUnix = d.acceptProxyFrom(t)
	l.HTTPSPort = uint16(t.int("https_port", 0, 1, 65535)) // 0: settled once all are known
	if l.Kind != ListenHTTP && t.get("https_port") != nil {
		d.problem(t.pos("https_port"), `drop it, or add kind = "http"`, "listener %q sends nobody to https", name)
	}
	text, ok := d.text(t.get("address"), "address")
	if !ok && t.get("address") == nil && name == defaultListener {
		text, ok = defaultListenAddress, true
	}
	if !ok { // of a wrong type, and said so, or not there
		return l, false
	}
	dir := ""
	if t.v != nil {
		dir = t.v.src.dir
	}
	a, err := parseListenAddress(text, dir)
	if err != nil {
		text, hint := textAndHint(err)
		d.problem(l.Pos, hint, "%s", text)
		return l, false
	}
	if l.Address = a; a.AddrPort.Port() == portHTTP && t.missing("kind") {
		d.warning(l.Pos, `add kind = "http" if it is plain HTTP that clients speak there`, "listener %q wants TLS on port %d", name, portHTTP)
	}
	return l, true
}

// freePort returns a port for TLS that is not taken yet, and takes it.
func freePort(taken map[uint16]bool) uint16 {
	ports := []uint16{443, 8443, 9443, 10443, 11443, 12443}
	for _, port := range ports {
		if !taken[port] {
			taken[port] = true
			return port
		}
	}
	return ports[len(ports)-1]
}

func (d *decoder) acceptProxyFrom(t table) (from []netip.Prefix, unix bool) {
	for _, e := range t.entries("accept_proxy_from") {
		if e.text == "unix" {
			unix = true
			continue
		}
		from = d.prefix(from, "accept_proxy_from", e)
	}
	return from, unix
}

// checkOverlap refuses two listeners of which one would take the other's clients.
func (d *decoder) checkOverlap(have []Listener, l Listener) {
	for _, other := range have {
		switch {
		case other.Address == (ListenAddress{}) || !other.Address.overlaps(l.Address):
		case other.Address == l.Address:
			d.problem(l.Pos, "give one of them another address", "address %q is also that of listener %q at %s", l.Address, other.Name, other.Pos)
		default:
			d.problem(l.Pos, `":443" is all of IPv4 and IPv6; write "0.0.0.0:443" and "[::]:443" for one of them alone`,
				"address %q overlaps %q, that of listener %q at %s", l.Address, other.Address, other.Name, other.Pos)
		}
	}
}

// maxName bounds what becomes a label in metrics and a word in logs.
const maxName = 255

// checkName refuses names that would not survive a log line or POOL/BACKEND.
func (d *decoder) checkName(at Position, what, name string) {
	if err := checkName(what, name); err != nil {
		text, hint := textAndHint(err)
		d.problem(at, hint, "%s", text)
	}
}

func checkName(what, name string) error {
	const hint = `use letters, digits, "-", "_" and "."`
	switch {
	case name == "":
		return complain(hint, "the name of a %s is empty", what)
	case len(name) > maxName:
		return complain("choose a shorter one", "name of a %s of %d bytes, limit %d", what, len(name), maxName)
	case printable(name) != nil || strings.ContainsAny(name, "/ \"="):
		return complain(hint, "%q is no name for a %s", name, what)
	}
	return nil
}
