package sni

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Limits of the DNS (RFC 1035 §2.3.4), in bytes of text without the last dot.
const (
	maxName  = 253
	maxLabel = 63
)

// CheckName reports why name is no DNS name as [Hello.ServerName] has it: lower
// case, without a trailing dot, of at most 253 bytes; labels of 1 to 63 letters,
// digits, hyphens and underscores that do not begin with a hyphen; no IP address.
// Underscores are no part of host names but occur in real ones.
func CheckName(name string) error {
	if i := strings.IndexFunc(name, func(r rune) bool { return 'A' <= r && r <= 'Z' }); i >= 0 {
		return fmt.Errorf("%s is not in lower case", quote(name))
	}
	return checkName(name)
}

// checkName is CheckName without regard to case.
func checkName[S string | []byte](name S) error {
	if len(name) == 0 {
		return errors.New("empty name")
	}
	if len(name) > maxName {
		return fmt.Errorf("%s has %d bytes, limit %d", quote(name), len(name), maxName)
	}
	numeric, labels, start := true, 1, 0
	for i := range len(name) {
		switch c := name[i]; {
		case c == '.':
			if err := checkLabel(name, start, i); err != nil {
				return err
			}
			labels++
			start = i + 1
		case '0' <= c && c <= '9':
		case 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '-' || c == '_':
			numeric = false
		case c == ':':
			return fmt.Errorf("%s is an IP address or has a port, not a name", quote(name))
		case c >= 0x80:
			return fmt.Errorf("%s is not ASCII: write its A-label, which begins with \"xn--\"", quote(name))
		default:
			return fmt.Errorf("%s has the byte %q, which no name has", quote(name), c)
		}
	}
	if err := checkLabel(name, start, len(name)); err != nil {
		return err
	}
	if numeric && labels == 4 {
		return fmt.Errorf("%s is an IP address, not a name", quote(name))
	}
	return nil
}

// checkLabel checks the length and first byte of the label name[start:end].
func checkLabel[S string | []byte](name S, start, end int) error {
	switch {
	case start == end:
		return fmt.Errorf("%s has an empty label", quote(name))
	case end-start > maxLabel:
		return fmt.Errorf("%s has a label of %d bytes, limit %d", quote(name), end-start, maxLabel)
	case name[start] == '-':
		return fmt.Errorf("%s has a label that begins with a hyphen", quote(name))
	}
	return nil
}

// quote returns name as %q has it, cut where it is far too long.
func quote[S string | []byte](name S) string {
	if len(name) > maxLabel {
		return strconv.Quote(string(name[:maxLabel])) + "…"
	}
	return strconv.Quote(string(name))
}

// Names remembers server names, so that one that comes again costs no memory of its
// own: the strings of all its hellos are one. It holds a few dozen, the latest of
// those that fall together, whatever is asked of it. The zero value is ready. It may
// be shared by Parsers that are used from one goroutine at a time.
type Names struct{ recent [64]string }

// of returns name as a string. Who makes the places of names meet gains nothing but
// an allocation each.
func (n *Names) of(name []byte) string {
	if n == nil {
		return string(name)
	}
	h := uint(len(name))
	for _, c := range name {
		h = h*31 + uint(c)
	}
	place := &n.recent[h%uint(len(n.recent))]
	if *place != string(name) {
		*place = string(name)
	}
	return *place
}

// normalServerName returns a host_name as Hello has it, with one allocation at most.
func (p *Parser) normalServerName(host []byte) (string, error) {
	if n := len(host) - 1; host[n] == '.' {
		host = host[:n]
	}
	if err := checkName(host); err != nil {
		return "", fmt.Errorf("%w: %w", ErrServerName, err)
	}
	var buf [maxName]byte
	for i, c := range host {
		buf[i] = lower(c)
	}
	return p.names.of(buf[:len(host)]), nil
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// CheckPattern returns pattern as a [Map] keeps it, in lower case and without a
// trailing dot, or an error that says what is wrong and what to write. The forms are
//
//	a.example.com     this name
//	*.example.com     names with exactly one label more, as in certificates
//	**.example.com    names with one label more, or several
//	*                 any name
//	-                 no name: a hello without server_name
func CheckPattern(pattern string) (normal string, err error) {
	if pattern == "*" || pattern == "-" {
		return pattern, nil
	}
	normal = strings.TrimSuffix(pattern, ".")
	prefix := normal[:len(normal)-len(suffixOf(normal))]
	suffix := normal[len(prefix):]
	if strings.Contains(suffix, "*") {
		return "", fmt.Errorf("pattern %q: a star stands for whole labels at the beginning: \"*.example.com\", \"**.example.com\" or \"*\"", pattern)
	}
	if err := checkName(suffix); err != nil {
		return "", fmt.Errorf("pattern %q: %w", pattern, err)
	}
	if prefix != "" && len("a.")+len(suffix) > maxName {
		return "", fmt.Errorf("pattern %q matches no name: none has more than %d bytes", pattern, maxName)
	}
	return prefix + strings.ToLower(suffix), nil
}

// suffixOf returns what follows the "*." or "**." of a pattern, all of it if it has none.
func suffixOf(pattern string) string {
	if s, ok := strings.CutPrefix(pattern, "**."); ok {
		return s
	}
	return strings.TrimPrefix(pattern, "*.")
}
