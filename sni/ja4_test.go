package sni_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/snicketlb/snicket/sni"
)

func hexList(t *testing.T, s string) []uint16 {
	t.Helper()
	var list []uint16
	for f := range strings.SplitSeq(s, ",") {
		v, err := strconv.ParseUint(f, 16, 16)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, uint16(v))
	}
	return list
}

// TestJA4Published checks fingerprints that FoxIO publishes, from the lists they come from.
func TestJA4Published(t *testing.T) {
	const (
		suites  = "1301,1302,1303,c02b,c02f,c02c,c030,cca9,cca8,c013,c014,009c,009d,002f,0035"
		schemes = "0403,0804,0401,0503,0805,0501,0806,0601"
	)
	for _, tc := range []struct{ name, extensions, want string }{
		{"Chrome with padding", "001b,0000,0033,0010,4469,0017,002d,000d,0005,0023,0012,002b,ff01,000b,000a,0015", "t13d1516h2_8daaf6152771_e5627efa2ab1"},
		{"Chrome with ECH", "001b,0000,0033,0010,4469,0017,002d,000d,0005,0023,0012,002b,ff01,000b,000a,fe0d", "t13d1516h2_8daaf6152771_02713d6af862"},
		{"Chrome with new ALPS", "fe0d,001b,0000,0033,0010,44cd,0017,002d,000d,0005,0023,0012,002b,ff01,000b,000a", "t13d1516h2_8daaf6152771_d8a2da3f94cd"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := sni.Hello{
				Versions:         []uint16{0x0a0a, 0x0304, 0x0303},
				CipherSuites:     slices.Concat([]uint16{0x1a1a}, hexList(t, suites)),
				Extensions:       slices.Concat([]uint16{0x2a2a}, hexList(t, tc.extensions), []uint16{0xfafa}),
				SignatureSchemes: hexList(t, schemes),
				ALPN:             []string{"h2", "http/1.1"},
			}
			if got := h.JA4(); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

func TestJA4OfHello(t *testing.T) {
	h, err := sni.Parse(hello(t, "chrome-like"), 0)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := h.JA4(), "t13d1516h2_8daaf6152771_d8a2da3f94cd"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestJA4Parts(t *testing.T) {
	many := make([]uint16, 300)
	for i := range many {
		many[i] = uint16(i) << 4
	}
	for _, tc := range []struct {
		name  string
		hello sni.Hello
		want  string // a beginning
	}{
		{"nothing", sni.Hello{LegacyVersion: 0x0303}, "t12i000000_000000000000_000000000000"},
		{"TLS 1.1", sni.Hello{LegacyVersion: 0x0302}, "t11i"},
		{"TLS 1.0", sni.Hello{LegacyVersion: 0x0301}, "t10i"},
		{"SSL 3.0", sni.Hello{LegacyVersion: 0x0300}, "ts3i"},
		{"unknown version", sni.Hello{LegacyVersion: 0x0909}, "t00i"},
		{"versions over legacy version", sni.Hello{LegacyVersion: 0x0303, Versions: []uint16{0xfafa, 0x0302, 0x0301}}, "t11i"},
		{"name and GREASE", sni.Hello{LegacyVersion: 0x0303, Extensions: []uint16{0, 0x0a0a}}, "t12d000100_000000000000_000000000000"},
		{"many", sni.Hello{LegacyVersion: 0x0303, CipherSuites: many, Extensions: many[1:]}, "t12i999900_"},
		{"one byte of ALPN", sni.Hello{ALPN: []string{"h"}}, "t00i0000hh"},
		{"ALPN not alphanumeric", sni.Hello{ALPN: []string{"\xab"}}, "t00i0000ab"},
		{"ALPN of two such bytes", sni.Hello{ALPN: []string{"\xab\xcd"}}, "t00i0000ad"},
		{"ALPN with such an end", sni.Hello{ALPN: []string{"01\xab\xcd"}}, "t00i00003d"},
		{"ALPN with such a middle", sni.Hello{ALPN: []string{"0\xab\xcd1"}}, "t00i000001"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.hello.JA4(); !strings.HasPrefix(got, tc.want) || len(got) != 36 {
				t.Errorf("got %s, want %s…", got, tc.want)
			}
		})
	}
}

// TestJA4IgnoresOrder holds that the orders Chrome shuffles do not matter, and that the
// order of signature algorithms does.
func TestJA4IgnoresOrder(t *testing.T) {
	h, err := sni.Parse(hello(t, "chrome-like"), 0)
	if err != nil {
		t.Fatal(err)
	}
	want := h.JA4()
	slices.Reverse(h.CipherSuites)
	slices.Reverse(h.Extensions)
	if got := h.JA4(); got != want {
		t.Errorf("got %s with lists reversed, want %s", got, want)
	}
	slices.Reverse(h.SignatureSchemes)
	if got := h.JA4(); got == want {
		t.Error("the order of signature algorithms makes no difference")
	}
}

// TestJA4Input holds that hellos of the same input and protocols have the same
// fingerprint: what it leaves out makes no difference, what does is in it.
func TestJA4Input(t *testing.T) {
	base := func() sni.Hello {
		return sni.Hello{
			LegacyVersion: 0x0303, Versions: []uint16{0x1a1a, 0x0304}, CipherSuites: []uint16{0x2a2a, 0x1301, 0x1302},
			Extensions: []uint16{0, 43, 16, 0x3a3a, 13}, SignatureSchemes: []uint16{0x0403, 0x0804}, ALPN: []string{"h2"},
		}
	}
	for _, tc := range []struct {
		name   string
		change func(*sni.Hello)
		same   bool
	}{
		{"other GREASE", func(h *sni.Hello) { h.Versions[0], h.CipherSuites[0], h.Extensions[3] = 0x4a4a, 0x5a5a, 0x6a6a }, true},
		{"no GREASE", func(h *sni.Hello) { h.CipherSuites = h.CipherSuites[1:] }, true},
		{"extensions in another order", func(h *sni.Hello) { slices.Reverse(h.Extensions) }, true},
		{"another name", func(h *sni.Hello) { h.ServerName = "other.test" }, true},
		{"another session", func(h *sni.Hello) { h.SessionID = []byte{1} }, true},
		{"a lower version", func(h *sni.Hello) { h.Versions[1] = 0x0303 }, false},
		{"without a name", func(h *sni.Hello) { h.Extensions = h.Extensions[1:] }, false},
		{"one suite less", func(h *sni.Hello) { h.CipherSuites = h.CipherSuites[:2] }, false},
		{"one extension more", func(h *sni.Hello) { h.Extensions = append(h.Extensions, 10) }, false},
		{"other signatures", func(h *sni.Hello) { slices.Reverse(h.SignatureSchemes) }, false},
		{"a suite that is an extension", func(h *sni.Hello) {
			h.CipherSuites, h.Extensions = h.CipherSuites[:2], append(h.Extensions, 0x1302)
		}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, b := base(), base()
			tc.change(&b)
			same := string(a.AppendJA4Input(nil)) == string(b.AppendJA4Input(nil))
			if same != tc.same || same && a.JA4() != b.JA4() {
				t.Errorf("got same input %t, fingerprints %s and %s; want %t", same, a.JA4(), b.JA4(), tc.same)
			}
		})
	}
}

func BenchmarkJA4Input(b *testing.B) {
	h, err := sni.Parse(hello(b, "chrome-like"), 0)
	if err != nil {
		b.Fatal(err)
	}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = h.AppendJA4Input(buf[:0])
	}
}
