package web

import (
	"net/netip"
	"regexp"
	"strings"
	"testing"
)

// FuzzForwarded: whatever the host, an element is one by the grammar of RFC 7239, and
// says that host and no other parameter.
func FuzzForwarded(f *testing.F) {
	f.Add("192.0.2.1", "www.example.com")
	f.Add("2001:db8::1%eth0", "a:8443")
	f.Add("", `a";for=evil, for="b\`)
	f.Add("::ffff:10.0.0.1", "[::1]:8443")
	f.Add("10.0.0.1", "a,b;c=d\r\nX: y")
	const token = "[!#$%&'*+.^_`|~0-9A-Za-z-]+"
	const quoted = `"(?:[\t !#-\[\]-~\x{80}-\x{ff}]|\\[\t -~\x{80}-\x{ff}])*"`
	element := regexp.MustCompile(`^for=(?P<for>` + token + `|` + quoted + `)(?:;host=(?P<host>` + token + `|` + quoted + `))?;proto=https$`)
	unquote := strings.NewReplacer(`\\`, `\`, `\"`, `"`)
	f.Fuzz(func(t *testing.T, client, host string) {
		addr, _ := netip.ParseAddr(client) // invalid: unknown
		got := forwardedElement(addr, host, "https")
		// A regexp reads runes; bytes are what the grammar is of.
		m := element.FindStringSubmatch(latin1(got))
		if m == nil {
			t.Fatalf("%q is no element", got)
		}
		said := m[2]
		if strings.HasPrefix(said, `"`) {
			said = unquote.Replace(said[1 : len(said)-1])
		}
		if want := latin1(printable(host)); said != want {
			t.Errorf("%q says the host %q, want %q", got, said, want)
		}
		if who := strings.Trim(m[1], `"[]`); addr.IsValid() && who != addr.Unmap().WithZone("").String() || !addr.IsValid() && who != "unknown" {
			t.Errorf("%q says the client %q, want %v", got, who, addr)
		}
	})
}

// latin1 makes each byte a rune of its own.
func latin1(s string) string {
	r := make([]rune, 0, len(s))
	for i := range len(s) {
		r = append(r, rune(s[i]))
	}
	return string(r)
}

// printable leaves out what no quoted string can hold.
func printable(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c == '\t' || c >= ' ' && c != 0x7f {
			b.WriteByte(c)
		}
	}
	return b.String()
}
