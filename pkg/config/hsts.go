package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// defaultHSTS is what hsts = true stands for: two years.
const defaultHSTS = "max-age=63072000"

// hsts reads true, or the text of a Strict-Transport-Security field.
func (d *decoder) hsts(t table) string {
	v := t.get("hsts")
	if v == nil {
		return ""
	}
	switch s := v.scalar.(type) {
	case bool:
		if s {
			return defaultHSTS
		}
		return ""
	case string:
		policy, err := parseHSTS(s)
		if err != nil {
			text, hint := textAndHint(err)
			d.problem(v.pos(), hint, "hsts: %s", text)
			return ""
		}
		d.checkPreload(v.pos(), policy)
		return s
	}
	d.wrongType(v, "hsts", kindString.String(), `write hsts = true, or hsts = "`+defaultHSTS+`; includeSubDomains"`)
	return ""
}

// hstsPolicy is what a Strict-Transport-Security field says.
type hstsPolicy struct {
	maxAge            time.Duration
	includeSubDomains bool
	preload           bool
}

// parseHSTS reads a field by RFC 6797 §6.1: directives between semicolons, each once,
// max-age among them. It knows no others than browsers do.
func parseHSTS(s string) (hstsPolicy, error) {
	const hint = `write "` + defaultHSTS + `; includeSubDomains"`
	var p hstsPolicy
	seen := map[string]bool{}
	for directive := range strings.SplitSeq(s, ";") {
		name, value, hasValue := strings.Cut(strings.Trim(directive, " \t"), "=")
		if name == "" && !hasValue {
			continue // the grammar allows empty ones
		}
		name = strings.ToLower(strings.TrimRight(name, " \t"))
		if seen[name] {
			return p, complain("drop one of them", "%q has %s twice", s, name)
		}
		seen[name] = true
		switch {
		case name == "max-age":
			seconds, err := parseMaxAge(strings.TrimLeft(value, " \t"))
			if err != nil {
				return p, err
			}
			p.maxAge = seconds
		case name == "includesubdomains" && !hasValue:
			p.includeSubDomains = true
		case name == "preload" && !hasValue:
			p.preload = true
		default:
			return p, complain("max-age=SECONDS, includeSubDomains and preload are known", "%q has %q", s, strings.TrimSpace(directive))
		}
	}
	if !seen["max-age"] {
		return p, complain(hint, "%q has no max-age", s)
	}
	return p, nil
}

// parseMaxAge reads seconds, in quotes or without.
func parseMaxAge(s string) (time.Duration, error) {
	digits := s
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		digits = s[1 : len(s)-1]
	}
	const most = 100 * 365 * day // what fits, and more than anybody means
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || !allDigits(digits) || n > int64(most/time.Second) {
		return 0, complain(fmt.Sprintf("write seconds: %q is two years", defaultHSTS), "max-age is %q", s)
	}
	return time.Duration(n) * time.Second, nil
}

// checkPreload warns of a wish to be preloaded that the list of browsers does not grant
// (hstspreload.org).
func (d *decoder) checkPreload(at Position, p hstsPolicy) {
	const least = 31536000 * time.Second
	switch {
	case p.preload && !p.includeSubDomains:
		d.warning(at, "add includeSubDomains, or drop preload", "hsts has preload without includeSubDomains, which browsers' list wants")
	case p.preload && p.maxAge < least:
		d.warning(at, "write max-age=63072000, or drop preload", "hsts has preload with a max-age under a year, which browsers' list wants")
	}
}
