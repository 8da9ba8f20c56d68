package web

import (
	"net/url"
	"strings"
	"unicode/utf8"
)

// pattern is a path pattern, see [Rule], in one letter case.
type pattern struct {
	segments []string
	below    bool // ends in "/**"
}

// newPattern reads a pattern.
func newPattern(s string) pattern {
	s, below := strings.CutSuffix(fold(s), "/**")
	p := pattern{below: below}
	if s = strings.TrimPrefix(s, "/"); s != "" || !below {
		p.segments = strings.Split(s, "/")
	}
	return p
}

// fold takes the letter case out of s, so that whatever a server takes for the same
// letters is the same.
func fold(s string) string {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return strings.ToLower(strings.ToUpper(s)) // two letters may share their capital alone
		}
	}
	return strings.ToLower(s)
}

// match reports whether a path of these segments is meant.
func (p *pattern) match(segments []string) bool {
	if len(segments) < len(p.segments) || len(segments) > len(p.segments) && !p.below {
		return false
	}
	for i, s := range p.segments {
		if !glob(s, segments[i]) {
			return false
		}
	}
	return true
}

// glob matches one segment, in which "*" stands for any run of characters.
func glob(pattern, s string) bool {
	head, rest, star := strings.Cut(pattern, "*")
	if !star {
		return s == pattern
	}
	if !strings.HasPrefix(s, head) {
		return false
	}
	s = s[len(head):]
	for {
		middle, more, star := strings.Cut(rest, "*")
		if !star {
			return strings.HasSuffix(s, middle)
		}
		i := strings.Index(s, middle)
		if i < 0 {
			return false
		}
		s, rest = s[i+len(middle):], more
	}
}

// maxReadings bounds how often percent-encoding is taken off a path to see what
// may be below it. What needs more no server reads.
const maxReadings = 4

// readings calls yield with the segments of each way in which a server might read
// the path of a request target, as it stands on the wire, until that returns false.
// The segments are yield's only until it returns.
//
// Servers differ in how often they take off percent-encoding, and whether before or
// after they split at slashes; whether a backslash is one; whether segments have
// parameters, as in "/a;x=1"; whether empty segments and dots are taken out, and which
// first; whether a NUL, or a question mark that was encoded, ends the path;
// and in letter case and dots or blanks at the end of a name. All combinations are
// tried, but only those that make a difference.
func readings(path string, yield func(segments []string) bool) {
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	if isPlainPath(path) {
		yield(split(fold(path), 0, nil))
		return
	}
	seen := make(map[string]struct{}, 8)
	once := func(s string) bool {
		if _, ok := seen[s]; ok {
			return true
		}
		seen[s] = struct{}{}
		out := make([]string, 0, strings.Count(s, "/")+strings.Count(s, `\`))
		ways := waysOf(s)
		for how := range splitWays {
			if how&^ways == 0 && !yield(split(s, how, out[:0])) {
				return false
			}
		}
		return true
	}
	for range maxReadings {
		whole := unescape(path, true)
		for _, s := range []string{path, unescape(path, false), whole} {
			s = fold(s)
			if !once(s) {
				return
			}
			if i := strings.IndexAny(s, "\x00?#"); i >= 0 && !once(s[:i]) {
				return
			}
		}
		if whole == path {
			return
		}
		path = whole
	}
}

// isPlainPath reports whether there is but one way to read a path.
func isPlainPath(path string) bool {
	for i := range len(path) {
		switch c := path[i]; {
		case isWordByte(c), c == '-', c == '_', c == '~':
		case c == '/' || c == '.':
			// An empty segment, a dot segment, or a dot at the end of a name.
			if i > 0 && path[i-1] == '/' || c == '.' && (i+1 == len(path) || path[i+1] == '/') {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// The ways to split a path, combined bit by bit.
const (
	wayBackslash  = 1 << iota // a backslash is a slash
	wayParameters             // what is behind a semicolon does not count
	wayMergeFirst             // empty segments are taken out before dots are
	wayTrim                   // dots and blanks at the end of a name do not count
	wayDots                   // dot segments are names as any
	wayEmpty                  // and so are empty ones
	splitWays
)

// waysOf returns those of the ways that make a difference to a path.
func waysOf(path string) (ways int) {
	if strings.Contains(path, `\`) {
		ways |= wayBackslash
	}
	if strings.Contains(path, ";") {
		ways |= wayParameters
	}
	if strings.Contains(path, ".") {
		ways |= wayTrim | wayDots
	}
	if strings.Contains(path, " ") {
		ways |= wayTrim
	}
	if ways != 0 || strings.Contains(path, "//") {
		ways |= wayMergeFirst | wayEmpty
	}
	return ways
}

// split splits a path into segments, which it appends to out.
func split(path string, how int, out []string) []string {
	cut := "/"
	if how&wayBackslash != 0 {
		cut = `/\`
	}
	for rest, more := path[1:], true; more; {
		s := rest
		if i := strings.IndexAny(rest, cut); i >= 0 {
			s, rest = rest[:i], rest[i+1:]
		} else {
			more = false
		}
		if how&wayParameters != 0 {
			s, _, _ = strings.Cut(s, ";")
		}
		switch {
		case s == "" && how&wayMergeFirst != 0:
		case s == "." && how&wayDots == 0:
		case s == ".." && how&wayDots == 0:
			out = out[:max(len(out)-1, 0)]
		default:
			out = append(out, s)
		}
	}
	if how&wayEmpty == 0 {
		out = named(out, how&wayTrim != 0)
	}
	if len(out) == 0 {
		return append(out, "") // the root
	}
	return out
}

// named takes out what is no name, and with trim what is behind one.
func named(segments []string, trim bool) []string {
	n := 0
	for _, s := range segments {
		if trim && s != "." && s != ".." {
			s = strings.TrimRight(s, ". ")
		}
		if s != "" {
			segments[n] = s
			n++
		}
	}
	return segments[:n]
}

// keepEscapes makes u.EscapedPath what was written, with what no URL may hold
// percent-encoded. Package net/url would, for the sake of that, write the whole path anew,
// and "/a%2Fb|" became "/a/b%7C".
func keepEscapes(u *url.URL) {
	if u.RawPath == "" || u.EscapedPath() == u.RawPath {
		return
	}
	const hex = "0123456789ABCDEF"
	b := make([]byte, 0, len(u.RawPath)+16)
	for i := range len(u.RawPath) {
		switch c := u.RawPath[i]; {
		case isWordByte(c), strings.IndexByte("/%-_.~!$&'()*+,;=:@[]", c) >= 0:
			b = append(b, c)
		default:
			b = append(b, '%', hex[c>>4], hex[c&15])
		}
	}
	u.RawPath = string(b)
}

func isWordByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// unescape takes percent-encoding off once. What is no encoding stays. An encoded
// slash becomes one only with slashes. The overlong forms of a dot, a slash and a
// backslash, which are no UTF-8 but were read as such, count as what they stand for.
func unescape(s string, slashes bool) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]) {
			c = unhex(s[i+1])<<4 | unhex(s[i+2])
			if c == '/' && !slashes {
				b = append(b, s[i:i+3]...)
				i += 2
				continue
			}
			i += 2
		}
		b = append(b, c)
	}
	if utf8.Valid(b) {
		return string(b)
	}
	return strings.NewReplacer(
		"\xc0\xae", ".", "\xc0\xaf", "/", "\xc1\x9c", `\`,
		"\xe0\x80\xae", ".", "\xe0\x80\xaf", "/", "\xe0\x81\x9c", `\`,
	).Replace(string(b))
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func unhex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	default:
		return c - 'a' + 10
	}
}
