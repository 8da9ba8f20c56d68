package config

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// probeHTTP reads what http and https probes ask for and want to hear.
func (d *decoder) probeHTTP(t table, h *Health, name string) {
	h.Path = t.string("path", "/")
	if !strings.HasPrefix(h.Path, "/") || strings.ContainsAny(h.Path, " #") || printable(h.Path) != nil {
		d.problem(t.pos("path"), `write path = "/healthz"`, "path is %q", h.Path)
	}
	h.Host = d.probeHost(t, name)
	h.Method = t.string("method", "GET")
	if !isToken(h.Method) || strings.ToUpper(h.Method) != h.Method {
		d.problem(t.pos("method"), `write "GET", "HEAD", "OPTIONS" or another in capitals`, "method is %q", h.Method)
	}
	h.Headers = d.headers(t)
	h.ExpectStatus = []StatusRange{{200, 399}}
	if v := t.get("expect_status"); v != nil && v.kind == kindInt { // 200 reads as well as "200"
		v.kind, v.scalar = kindString, strconv.FormatInt(v.scalar.(int64), 10)
	}
	h.ExpectStatus = parsed(t, "expect_status", h.ExpectStatus, parseStatus)
	h.ExpectBody = d.pattern(t, "expect_body")
	if h.ExpectBody != "" && h.Method == "HEAD" {
		d.problem(t.pos("expect_body"), `write method = "GET", or drop it`, "expect_body with method HEAD, whose answer has no body")
	}
}

// probeHost reads which host a probe asks for; byDefault also where it is empty.
func (d *decoder) probeHost(t table, byDefault string) string {
	host := cmp.Or(t.string("host", ""), byDefault)
	if strings.ContainsAny(host, " /") || printable(host) != nil {
		d.problem(t.pos("host"), `write a host name, with a port if need be`, "host is %q", host)
	}
	return host
}

// isToken says that s is a token of HTTP (RFC 9110 §5.6.2).
func isToken(s string) bool {
	const letters = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	return s != "" && strings.Trim(s, letters) == ""
}

// headers reads headers = { Name = "value" }, sorted by name.
func (d *decoder) headers(t table) []Header {
	v := t.get("headers")
	if v == nil {
		return nil
	}
	if v.kind != kindTable {
		d.wrongType(v, "headers", kindTable.String(), `write headers = { Authorization = "Bearer …" }`)
		return nil
	}
	var out []Header
	for _, name := range v.keys() {
		at := v.at(name).pos()
		value, ok := d.text(v.at(name), name)
		switch {
		case !ok: // of a wrong type, and said so
		case !isToken(name):
			d.problem(at, `use letters, digits and "-"`, "%q is no name for a header", name)
		case strings.EqualFold(name, "Host"):
			d.problem(at, fmt.Sprintf("write host = %q beside headers", value), "headers has Host")
		case strings.ContainsAny(value, "\r\n\x00"):
			d.problem(at, "write it on one line", "header %s is %q", name, value)
		case slices.ContainsFunc(out, func(h Header) bool { return strings.EqualFold(h.Name, name) }):
			d.problem(at, "drop one of them", "headers has %s twice", name)
		case d.isHidden(at, "header "+name, value):
		default:
			out = append(out, Header{name, value})
		}
	}
	slices.SortFunc(out, func(a, b Header) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// presets are the protocols whose first exchange is known, sorted as the reference has
// them.
func presets() []string { return []string{"postgres", "mysql", "redis", "smtp", "imap", "ldap"} }

// probeExchange reads what is sent and expected, by preset or by the bytes.
func (d *decoder) probeExchange(t table, h *Health) {
	h.Preset = t.choice("preset", "", presets()...)
	h.Send = d.bytes(t, "send")
	h.Expect = d.pattern(t, "expect")
	preset, send, expect := t.get("preset"), t.get("send"), t.get("expect")
	switch {
	case preset != nil && (send != nil || expect != nil):
		other := "send"
		if send == nil {
			other = "expect"
		}
		d.problem(t.pos(other), "drop one of them: a preset has both", "preset and %s", other)
	case preset == nil && expect == nil:
		if t.missing("preset") && t.missing("expect") {
			d.problem(t.pos("kind"), `add preset = "redis" or another, or send = "…" and expect = "regular expression"`,
				"an exchange that expects nothing")
		}
	}
}

// pattern reads a regular expression; "" where there is none.
func (d *decoder) pattern(t table, key string) string {
	s, ok := d.text(t.get(key), key)
	if !ok {
		return ""
	}
	if _, err := regexp.Compile(s); err != nil {
		d.problem(t.pos(key), "between single quotes a backslash stands for itself: "+key+` = '^\+PONG'`, "%s: %s", key, oneLine(err.Error()))
		return ""
	}
	if s == "" {
		d.problem(t.pos(key), "write "+key+` = "." for anything at all`, "%s is empty", key)
	}
	return s
}

// bytes reads text, or a list of texts and numbers from 0 to 255, as the bytes they are.
func (d *decoder) bytes(t table, key string) string {
	v := t.get(key)
	if v == nil || v.kind != kindArray {
		return t.string(key, "")
	}
	var out []byte
	for _, item := range v.array {
		switch part := item.scalar.(type) {
		case string:
			out = append(out, part...)
		case int64:
			if part < 0 || part > 255 {
				d.problem(item.pos(), "write a number from 0 to 255, such as 0x0a", "%s has the byte %d", key, part)
				continue
			}
			out = append(out, byte(part))
		default:
			d.wrongType(item, "an entry of "+key, kindString.String(), fmt.Sprintf(`write bytes and texts: %s = [0x00, 0x08, "ping"]`, key))
		}
	}
	return string(out)
}

// bytesValue is s as bytes reads it: text where that can be seen through, else numbers.
func bytesValue(s string) any {
	if utf8.ValidString(s) {
		return s
	}
	return []byte(s)
}
