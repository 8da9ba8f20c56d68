package web

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Rule says which requests are denied: those whose path matches and whose method
// is listed. One of the two must be there.
type Rule struct {
	// Path is a pattern of whole segments, such as "/admin/**" or
	// "/v1/*/secret", decoded: "*" stands for any run of characters within one
	// segment, and "/**" at the end for the path before it and all below. "" is any
	// path.
	//
	// A path is denied if it matches in any of the ways that a server might read
	// it: what is denied cannot be had by another spelling, and in doubt too much is
	// denied: also a path of more than 4096 bytes that has more than one reading. A
	// slash at the end and letter case make no difference.
	//
	// What a header field asks for instead of the path or the method, as some servers
	// understand it, counts as if it stood in the request line: X-Original-URL and
	// X-Rewrite-URL; X-HTTP-Method-Override, X-HTTP-Method and X-Method-Override.
	Path string

	// Methods are in upper case, as requests write them; none means all. Letter case
	// makes no difference here either: to many a framework "delete" is DELETE.
	Methods []string
}

// Redirect sends requests elsewhere.
type Redirect struct {
	// Path is a pattern as in [Rule]. Here a path is read in one way only: split at
	// its slashes, each segment decoded, a slash at the end an empty one. Letter
	// case makes no difference.
	Path string

	// To is where to: an absolute URL or a path. If it ends in "/**", and so does
	// Path, what the request has in that place goes there, as it was written. The
	// query of the request is kept, behind that of To.
	To string

	// Status is 301, 302, 303, 307 or 308.
	Status int
}

// rules are what a Site does with requests itself.
type rules struct {
	deny      []denial
	redirects []turn
}

type denial struct {
	pattern pattern
	any     bool // whatever the path
	methods []string
}

type turn struct {
	pattern pattern
	to      string // without "/**"
	rest    bool   // what the request has beyond the pattern goes along
	status  int
}

func newRules(deny []Rule, redirects []Redirect) rules {
	var r rules
	for _, d := range deny {
		r.deny = append(r.deny, denial{pattern: newPattern(d.Path), any: d.Path == "", methods: d.Methods})
		if i := len(r.deny) - 1; !r.deny[i].pattern.below {
			r.deny[i].pattern = newPattern("/" + strings.Trim(d.Path, "/"))
		}
	}
	for _, t := range redirects {
		to, rest := strings.CutSuffix(t.To, "/**")
		r.redirects = append(r.redirects, turn{newPattern(t.Path), to, rest, t.Status})
	}
	return r
}

// maxOddPath bounds a path that can be read in several ways: a longer one is denied
// where anything is, unread.
const maxOddPath = 4096

// maxPaths bounds the paths that one request asks for: with more it is denied likewise.
const maxPaths = 4

// denies reports whether a request is denied.
func (r *rules) denies(method string, u *url.URL, header http.Header) bool {
	if len(r.deny) == 0 {
		return false
	}
	methods, paths := overrides(header)
	methods, paths = append(methods, method), append(paths, u.EscapedPath())
	var candidates []*pattern
	for i := range r.deny {
		d := &r.deny[i]
		if !d.concerns(methods) {
			continue
		}
		if d.any {
			return true
		}
		candidates = append(candidates, &d.pattern)
	}
	if len(candidates) == 0 {
		return false
	}
	return len(paths) > maxPaths || slices.ContainsFunc(paths, func(path string) bool { return denied(path, candidates) })
}

// concerns reports whether one of the methods is meant.
func (d *denial) concerns(methods []string) bool {
	return len(d.methods) == 0 || slices.ContainsFunc(methods, func(method string) bool {
		return slices.ContainsFunc(d.methods, func(m string) bool { return strings.EqualFold(m, method) })
	})
}

// denied reports whether one of the patterns means path.
func denied(path string, patterns []*pattern) (is bool) {
	if len(path) > maxOddPath && !isPlainPath(path) {
		return true
	}
	readings(path, func(segments []string) bool {
		is = slices.ContainsFunc(patterns, func(p *pattern) bool { return p.match(segments) })
		return !is
	})
	return is
}

// overrides returns the methods and paths that header fields ask for, in room that the
// caller may append to. They are sent to servers that rewrite URLs or stand behind those
// that do, and to those whose clients can say GET and POST alone; hyphens may be
// underscores, see saysOrigin.
func overrides(header http.Header) (methods, paths []string) {
	for name, values := range header {
		if len(name) < len("X-HTTP-Method") || len(name) > len("X-HTTP-Method-Override") || name[0]|0x20 != 'x' {
			continue
		}
		switch strings.ToLower(strings.ReplaceAll(name, "_", "-")) {
		case "x-original-url", "x-rewrite-url":
			for _, v := range values {
				paths = append(paths, pathOf(strings.TrimSpace(v)))
			}
		case "x-http-method-override", "x-http-method", "x-method-override":
			for _, v := range values {
				for m := range strings.SplitSeq(v, ",") {
					methods = append(methods, strings.TrimSpace(m))
				}
			}
		}
	}
	return methods, paths
}

// pathOf is what stands in a URL behind its host, or all of what has none.
func pathOf(v string) string {
	if i := strings.Index(v, "://"); i >= 0 && !strings.Contains(v[:i], "/") {
		_, v, _ = strings.Cut(v[i+len("://"):], "/")
	}
	return v
}

// redirect returns where a request is sent; status 0: nowhere.
func (r *rules) redirect(u *url.URL) (location string, status int) {
	if len(r.redirects) == 0 {
		return "", 0
	}
	raw := strings.Split(strings.TrimPrefix(u.EscapedPath(), "/"), "/")
	segments := make([]string, len(raw))
	for i, s := range raw {
		segments[i] = fold(unescape(s, true))
	}
	for i := range r.redirects {
		if t := &r.redirects[i]; t.pattern.match(segments) {
			return t.location(raw, u.RawQuery), t.status
		}
	}
	return "", 0
}

// location is where a request with the segments and query goes.
func (t *turn) location(raw []string, query string) string {
	to, own, asked := strings.Cut(t.to, "?")
	if t.rest {
		// Without a slash before it: "//name" would be another host.
		if rest := strings.TrimLeft(strings.Join(raw[len(t.pattern.segments):], "/"), "/"); rest != "" || to == "" || len(raw) > len(t.pattern.segments) {
			to += "/" + rest
		}
	}
	if asked {
		to += "?" + own
	}
	switch {
	case query == "":
	case asked && own != "":
		to += "&" + query
	default:
		to = strings.TrimSuffix(to, "?") + "?" + query
	}
	return to
}
