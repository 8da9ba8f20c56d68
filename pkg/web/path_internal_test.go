package web

import (
	"net/url"
	"path"
	"regexp"
	"strings"
	"testing"
)

// The ways in which servers read a path, each in a few lines of its own. They stand
// for what is behind the edge, and share nothing with the code under test.
func servers() map[string]func(target string) (string, bool) {
	unquote := func(s string) (string, bool) {
		u, err := url.PathUnescape(s)
		return u, err == nil
	}
	merge := regexp.MustCompile("/+")
	return map[string]func(string) (string, bool){
		// net/http's ServeMux: decoded, then path.Clean.
		"go": func(s string) (string, bool) {
			u, ok := unquote(s)
			return path.Clean("/" + u), ok
		},
		// nginx: decoded, slashes merged and dots resolved as they come.
		"nginx": func(s string) (string, bool) {
			u, ok := unquote(s)
			u = merge.ReplaceAllString(u, "/")
			return path.Clean(u), ok && !strings.Contains(u, "\x00")
		},
		// WHATWG URLs, as node and browsers read them: a backslash is a slash, %2e is
		// a dot, and nothing else is decoded before dots are resolved; empty segments
		// stay.
		"node": func(s string) (string, bool) {
			s = strings.ReplaceAll(s, `\`, "/")
			var out []string
			for seg := range strings.SplitSeq(s[1:], "/") {
				dots := strings.ReplaceAll(strings.ToLower(seg), "%2e", ".")
				switch dots {
				case ".":
				case "..":
					if len(out) > 0 {
						out = out[:len(out)-1]
					}
				default:
					out = append(out, seg)
				}
			}
			u, ok := unquote("/" + strings.Join(out, "/"))
			return u, ok
		},
		// A servlet container: parameters cut off each segment, decoded, resolved.
		"servlet": func(s string) (string, bool) {
			parts := strings.Split(s, "/")
			for i := range parts {
				parts[i], _, _ = strings.Cut(parts[i], ";")
			}
			u, ok := unquote(strings.Join(parts, "/"))
			return path.Clean(merge.ReplaceAllString(u, "/")), ok
		},
		// A gateway before a server, each of which decodes.
		"twice": func(s string) (string, bool) {
			u, ok := unquote(s)
			if ok {
				u, ok = unquote(u)
			}
			return path.Clean("/" + u), ok
		},
		// One on Windows: backslashes, dots and blanks at the end of names.
		"windows": func(s string) (string, bool) {
			u, ok := unquote(s)
			u = path.Clean("/" + strings.ReplaceAll(u, `\`, "/"))
			parts := strings.Split(u, "/")
			for i := range parts {
				parts[i] = strings.TrimRight(parts[i], ". ")
			}
			return strings.ToLower(strings.Join(parts, "/")), ok
		},
		// One written in C: a NUL ends the path.
		"c": func(s string) (string, bool) {
			u, ok := unquote(s)
			u, _, _ = strings.Cut(u, "\x00")
			return path.Clean("/" + u), ok
		},
		// None of it: what begins with the prefix.
		"prefix": func(s string) (string, bool) { return s, true },
	}
}

// FuzzDeny: whatever a server reads as a denied path is denied, however it is
// written.
func FuzzDeny(f *testing.F) {
	for _, s := range []string{
		"/admin", "/x/../admin", "/%61dmin/x", "/x/%2e%2e/admin", "//admin", "/admin;x", "/x/..;/admin/y", `/\admin`,
		"/x%2f../admin", "/%2561dmin", "/admin%00x", "/a//../admin", "/ADMIN. /x", "/adm%69n%2fx", "/x/..%5cadmin",
		"/v/1/secret", "/v/1;2/secret", "/v/%2e/x/../secret",
	} {
		f.Add(s)
	}
	denied := regexp.MustCompile(`^(?i:/admin(/.*)?|/v/[^/]*/secret/?)$`)
	r := newRules([]Rule{{Path: "/admin/**"}, {Path: "/v/*/secret"}}, nil)
	all := servers()
	f.Fuzz(func(t *testing.T, target string) {
		if !strings.HasPrefix(target, "/") || strings.ContainsAny(target, "?# \r\n\t") {
			return
		}
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return // refused with 400
		}
		wire := u.EscapedPath() // what the backend gets
		for name, read := range all {
			if got, ok := read(wire); ok && denied.MatchString(strings.ToLower(got)) && !r.denies("GET", u, nil) {
				t.Fatalf("%q: %s reads %q as %q, which is denied, and it is let through", target, name, wire, got)
			}
		}
	})
}

// FuzzGlob: the pattern of a segment agrees with a regular expression.
func FuzzGlob(f *testing.F) {
	f.Add("*", "abc")
	f.Add("a*c", "abc")
	f.Add("*.b*k", "x.bak")
	f.Add("a*a", "a")
	f.Fuzz(func(t *testing.T, pattern, s string) {
		if strings.ContainsAny(pattern+s, "\n/") || len(pattern) > 30 {
			return
		}
		re, err := regexp.Compile("^(?s:" + strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, ".*") + ")$")
		if err != nil {
			return
		}
		if got, want := glob(pattern, s), re.MatchString(s); got != want {
			t.Errorf("glob(%q, %q): %v, want %v", pattern, s, got, want)
		}
	})
}
