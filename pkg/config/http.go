package config

import (
	"cmp"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// RouteHTTP is what a Terminate route that speaks HTTP does with requests.
type RouteHTTP struct {
	HSTS string // the Strict-Transport-Security field, valid by RFC 6797; empty: none
	// Forwarded writes X-Forwarded-* and Forwarded for backends. What a client wrote there
	// is dropped in any case, unless it is in TrustFrom.
	Forwarded bool
	TrustFrom []netip.Prefix // masked and never IPv4-mapped
	Deny      []DenyRule
	Redirects []Redirect
	MaxHeader int64 // bytes of one request's header
	// HeaderTimeout is for the whole header of a request, Keepalive for the quiet between
	// two. Both are above zero.
	HeaderTimeout time.Duration
	Keepalive     time.Duration
	// ResponseTimeout is for the header of the backend's response; 0: none.
	ResponseTimeout time.Duration
	Pos             Position // of its table
}

// DenyRule is what requests are refused by; one of Path and Methods at least is set.
type DenyRule struct {
	Path    string   // a pattern of CheckPath; empty: any
	Methods []string // in capitals; empty: any
	Pos     Position
}

// Redirect sends requests elsewhere.
type Redirect struct {
	Path string // a pattern of CheckPath
	// To is an http or https URL or an absolute path. Where it ends in "/**", as Path then
	// does, what matched there goes along.
	To     string
	Status int // 301, 302, 303, 307 or 308
	Pos    Position
}

// http reads [routes.http]; nil without the table.
func (d *decoder) http(t table) *RouteHTTP {
	if t.v == nil {
		return nil
	}
	const least, most = 1 << 10, 1 << 20
	ms := time.Millisecond
	h := &RouteHTTP{
		HSTS:            d.hsts(t),
		Forwarded:       t.bool("forwarded", true),
		TrustFrom:       t.prefixes("trust_from"),
		Deny:            d.deny(t),
		Redirects:       d.redirects(t),
		MaxHeader:       parsed(t, "max_header", 64<<10, parseSize),
		HeaderTimeout:   t.duration("header_timeout", 10*time.Second, ms, maxDuration),
		Keepalive:       t.duration("keepalive", time.Minute, ms, maxDuration),
		ResponseTimeout: t.duration("response_timeout", 0, 0, maxDuration),
		Pos:             t.at,
	}
	if h.MaxHeader < least || h.MaxHeader > most {
		d.problem(t.pos("max_header"), "write 1KiB to 1MiB", "max_header is %q", formatSize(h.MaxHeader))
	}
	return h
}

func (d *decoder) deny(t table) []DenyRule {
	var out []DenyRule
	for _, v := range t.list("deny") {
		t := d.table(v, denyTable, t.at)
		rule := DenyRule{Path: d.pathPattern(t), Methods: d.methods(t), Pos: t.at}
		if t.v != nil && t.missing("path") && t.missing("methods") {
			d.problem(t.at, `write { path = "/admin/**" }, or { path = "/**" } for all`, "deny without path or methods")
			continue
		}
		out = append(out, rule)
	}
	return out
}

func (d *decoder) methods(t table) []string {
	var out []string
	for _, e := range t.entries("methods") {
		if !isToken(e.text) || strings.ToUpper(e.text) != e.text {
			d.problem(e.at, `write "PUT", "DELETE" or another in capitals`, "methods has %q", e.text)
			continue
		}
		out = append(out, e.text)
	}
	if v := t.get("methods"); v != nil && v.kind == kindArray && len(v.array) == 0 {
		d.problem(v.pos(), "drop the key for all of them", "methods is empty")
	}
	return out
}

func (d *decoder) redirects(t table) []Redirect {
	var out []Redirect
	for _, v := range t.list("redirects") {
		t := d.table(v, redirectTable, t.at)
		if t.v == nil {
			continue
		}
		r := Redirect{Path: d.pathPattern(t), To: t.string("to", ""), Status: t.int("status", http.StatusPermanentRedirect, 0, 999), Pos: t.at}
		for _, key := range []string{"path", "to"} {
			if t.missing(key) {
				d.problem(t.at, `write { path = "/old/**", to = "https://www.example.com/new" }`, "redirect without %s", key)
			}
		}
		switch r.Status {
		case 301, 302, 303, 307, 308:
		default:
			d.problem(t.pos("status"), "write 308 or 307, which keep the method, or 301, 302, 303", "status is %d", r.Status)
		}
		if v := t.get("to"); v != nil && v.kind == kindString && t.get("path") != nil {
			if err := checkTarget(r); err != nil {
				text, hint := textAndHint(err)
				d.problem(v.pos(), hint, "to: %s", text)
			}
		}
		out = append(out, r)
	}
	return out
}

// checkTarget says why requests cannot be sent to r.To.
func checkTarget(r Redirect) error {
	const hint = `write "https://www.example.com/new" or "/new"`
	to, rest := strings.CutSuffix(r.To, anyDepth)
	u, err := url.Parse(to)
	switch {
	case err != nil || printable(r.To) != nil || strings.ContainsAny(r.To, " \"<>\\^`{|}"):
		return complain(hint, "%q is no URL", r.To)
	case rest && !strings.HasSuffix(r.Path, anyDepth):
		return complain(`drop it, or end path in "/**" too`, `%q ends in "/**", and path does not`, r.To)
	case strings.Contains(to, "*"):
		return complain(`the rest of path is kept by "/**" at the end of both`, "%q has a *", r.To)
	case u.Scheme == "" && u.Host == "" && (strings.HasPrefix(to, "/") || rest && to == ""):
		if matchPath(r.Path, cmp.Or(u.Path, "/")) {
			return complain("send it to a path that path does not match", "%q matches path %q, which would send it there again", r.To, r.Path)
		}
		return nil
	case (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" && u.User == nil:
		return nil
	}
	return complain(hint, "%q is neither an http URL nor an absolute path", r.To)
}

// anyDepth ends a pattern that stands for a path and all below it.
const anyDepth = "/**"

// pathPattern reads path; "" where there is none.
func (d *decoder) pathPattern(t table) string {
	v := t.get("path")
	path, ok := d.text(v, "path")
	if !ok {
		return ""
	}
	if err := checkPathPattern(path); err != nil {
		text, hint := textAndHint(err)
		d.problem(v.pos(), hint, "path: %s", text)
	}
	return path
}

// checkPathPattern says why s is no pattern of paths: `*` stands for what a segment
// holds, `/**` at the end for whatever follows.
func checkPathPattern(s string) error {
	switch {
	case !strings.HasPrefix(s, "/"):
		return complain(fmt.Sprintf("write %q", "/"+s), "%q does not begin with a slash", s)
	case printable(s) != nil:
		return complain("use printable UTF-8", "%q has characters that do not print", s)
	case strings.ContainsAny(s, "?#"):
		return complain("drop what follows the path: it is the path alone that is compared", "%q has a query or a fragment", s)
	case strings.Contains(s, "%"):
		return complain("write the character itself: paths are compared decoded", "%q has a percent sign", s)
	case strings.Contains(strings.TrimSuffix(s, anyDepth), "**"):
		return complain(`write "/**" at the end, and "*" for one segment`, `%q has "**" within`, s)
	}
	segments := strings.Split(s[1:], "/")
	for i, segment := range segments {
		if segment == "." || segment == ".." || segment == "" && i < len(segments)-1 {
			return complain("write it without", "%q has the segment %q, which no path has when it is compared", s, segment)
		}
	}
	return nil
}

// matchPath says that pattern, which begins with a slash, stands for path. Letters match
// in either case.
func matchPath(pattern, path string) bool {
	pattern, rest := strings.CutSuffix(pattern, anyDepth)
	expr := strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, "[^/]*")
	if rest {
		expr += "(/.*)?"
	}
	return regexp.MustCompile("(?is)^" + expr + "$").MatchString(path)
}

// checkHTTP holds [routes.http] of r, which is there, against what else it says.
func (d *decoder) checkHTTP(r *Route, src *routeSource) {
	v := src.tls.get("alpn")
	if v == nil {
		return
	}
	known := func(p string) bool { return slices.Contains(httpProtocols(), p) }
	for _, p := range r.TLS.ALPN {
		if !known(p) {
			d.problem(v.pos(), `write some of "h2" or "http/1.1"`, "alpn has %q in route %q, which speaks HTTP", p, r.Name)
		}
	}
}

// httpProtocols are what a route that speaks HTTP offers by default.
func httpProtocols() []string { return []string{"h2", "http/1.1"} }
