package proxyheader_test

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	proxyproto "github.com/pires/go-proxyproto"

	"github.com/snicketlb/snicket/pkg/proxyheader"
)

const signature = "0d0a0d0a000d0a515549540a"

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func addr(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// accepted are whole headers and what they say.
var accepted = []struct {
	name   string
	v1     string
	v2     string // in hex, behind the signature
	source string // "" for Local
	dest   string
}{
	{name: "v1 IPv4", v1: "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n", source: "192.0.2.1:56324", dest: "198.51.100.2:443"},
	{name: "v1 IPv6", v1: "PROXY TCP6 2001:db8::1 2001:db8::2 0 65535\r\n", source: "[2001:db8::1]:0", dest: "[2001:db8::2]:65535"},
	{name: "v1 mapped", v1: "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 1 2\r\n", source: "192.0.2.1:1", dest: "[2001:db8::2]:2"},
	{name: "v1 unknown", v1: "PROXY UNKNOWN\r\n"},
	{name: "v1 unknown with more", v1: "PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n"},
	{
		name:   "v1 longest",
		v1:     "PROXY UNKNOWN " + strings.Repeat("x", 107-14-2) + "\r\n",
		source: "",
	},
	{name: "v2 IPv4", v2: "21 11 000c c0000201 c6336402 dc04 01bb", source: "192.0.2.1:56324", dest: "198.51.100.2:443"},
	{
		name: "v2 IPv6", v2: "21 21 0024 20010db8000000000000000000000001 20010db8000000000000000000000002 0001 0002",
		source: "[2001:db8::1]:1", dest: "[2001:db8::2]:2",
	},
	{
		name: "v2 mapped", v2: "21 21 0024 00000000000000000000ffffc0000201 20010db8000000000000000000000002 0001 0002",
		source: "192.0.2.1:1", dest: "[2001:db8::2]:2",
	},
	{name: "v2 TLVs", v2: "21 11 0017 c0000201 c6336402 dc04 01bb 01 0002 6832 04 0003 000000", source: "192.0.2.1:56324", dest: "198.51.100.2:443"},
	{name: "v2 LOCAL", v2: "20 00 0000"},
	{name: "v2 LOCAL with addresses", v2: "20 11 000c c0000201 c6336402 dc04 01bb"},
	{name: "v2 LOCAL with a block that is none", v2: "20 11 0003 ffffff"},
	{name: "v2 UNSPEC", v2: "21 00 0000"},
	{name: "v2 UNSPEC with TLV", v2: "21 00 0005 01 0002 6832"},
	{name: "v2 unix", v2: "21 31 00d8" + strings.Repeat("61", 216)},
	{name: "v2 UDP", v2: "21 12 000c c0000201 c6336402 dc04 01bb"},
	{ // the checksum was computed apart from this code, bit by bit from the polynomial
		name: "v2 CRC32c", v2: "21 00 0007 03 0004 3ec9894e",
	},
}

func TestParse(t *testing.T) {
	for _, tt := range accepted {
		t.Run(tt.name, func(t *testing.T) {
			b, version := []byte(tt.v1), 1
			if tt.v2 != "" {
				b, version = unhex(t, signature+tt.v2), 2
			}
			want := proxyheader.Header{Version: version, Local: tt.source == ""}
			if !want.Local {
				want.Source, want.Destination = addr(tt.source), addr(tt.dest)
			}
			for _, rest := range []string{"", "\x16\x03\x01", "PROXY "} {
				got, n, err := proxyheader.Parse(append(bytes.Clone(b), rest...))
				if err != nil || n != len(b) || got != want {
					t.Errorf("before %q: got %+v, %d, %v; want %+v, %d", rest, got, n, err, want, len(b))
				}
			}
			for i := range b {
				if _, n, err := proxyheader.Parse(b[:i]); !errors.Is(err, proxyheader.ErrMore) || n != 0 {
					t.Errorf("%d bytes of %d: %d, %v; want ErrMore", i, len(b), n, err)
				}
				if i > 0 && !proxyheader.Maybe(b[:i]) {
					t.Errorf("Maybe is false for %d bytes of %d", i, len(b))
				}
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for _, tt := range []struct {
		name string
		v1   string
		v2   string
		want error
	}{
		{name: "TLS", v1: "\x16\x03\x01", want: proxyheader.ErrNone},
		{name: "HTTP", v1: "POST / HTTP/1.1", want: proxyheader.ErrNone},
		{name: "lower case", v1: "proxy TCP4", want: proxyheader.ErrNone},
		{name: "no space", v1: "PROXYTCP4", want: proxyheader.ErrNone},
		{name: "broken signature", v1: "\r\n\r\n\x00\r\nQUIT\r", want: proxyheader.ErrNone},
		{name: "v1 no CR", v1: "PROXY UNKNOWN\n"},
		{name: "v1 too long", v1: "PROXY UNKNOWN " + strings.Repeat("x", 107-14-1) + "\r\n"},
		{name: "v1 endless", v1: "PROXY " + strings.Repeat("x", 101)},
		{name: "v1 family", v1: "PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n"},
		{name: "v1 IPv6 as TCP4", v1: "PROXY TCP4 ::1 ::2 1 2\r\n"},
		{name: "v1 IPv4 as TCP6", v1: "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n"},
		{name: "v1 zone", v1: "PROXY TCP6 fe80::1%eth0 ::2 1 2\r\n"},
		{name: "v1 leading zero", v1: "PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n"},
		{name: "v1 port over 65535", v1: "PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n"},
		{name: "v1 port signed", v1: "PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n"},
		{name: "v1 port with leading zero", v1: "PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n"},
		{name: "v1 two spaces", v1: "PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n"},
		{name: "v1 missing port", v1: "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n"},
		{name: "v1 one more", v1: "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n"},
		{name: "v2 version", v2: "11 11 000c c0000201 c6336402 dc04 01bb"},
		{name: "v2 command", v2: "22 11 000c c0000201 c6336402 dc04 01bb"},
		{name: "v2 family", v2: "21 41 000c c0000201 c6336402 dc04 01bb"},
		{name: "v2 protocol", v2: "21 13 000c c0000201 c6336402 dc04 01bb"},
		{name: "v2 short block", v2: "21 11 000b c0000201 c6336402 dc04 01"},
		{name: "v2 over 4 KiB", v2: "21 11 0ff1"},
		{name: "v2 TLV cut", v2: "21 11 000e c0000201 c6336402 dc04 01bb 01 00"},
		{name: "v2 TLV beyond the block", v2: "21 11 0010 c0000201 c6336402 dc04 01bb 01 0002 68"},
		{name: "v2 CRC32c wrong", v2: "21 00 0007 03 0004 00000000"},
		{name: "v2 CRC32c of three bytes", v2: "21 00 0006 03 0003 000000"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := []byte(tt.v1)
			if tt.v2 != "" {
				b = unhex(t, signature+tt.v2)
			}
			want := tt.want
			if want == nil {
				want = proxyheader.ErrBad
			}
			h, n, err := proxyheader.Parse(b)
			if !errors.Is(err, want) || n != 0 || h != (proxyheader.Header{}) {
				t.Errorf("got %+v, %d, %v; want %v", h, n, err, want)
			}
			if got := proxyheader.Maybe(b); got == errors.Is(want, proxyheader.ErrNone) {
				t.Errorf("Maybe is %v", got)
			}
		})
	}
}

// FuzzParse holds that only whole headers are accepted, that no prefix of one
// is refused, and that go-proxyproto reads the same in them.
func FuzzParse(f *testing.F) {
	for _, tt := range accepted {
		if tt.v1 != "" {
			f.Add([]byte(tt.v1))
		} else {
			f.Add(unhex(f, signature+tt.v2))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, n, err := proxyheader.Parse(b)
		if err != nil {
			if n != 0 || h != (proxyheader.Header{}) {
				t.Fatalf("got %+v, %d with error %v", h, n, err)
			}
			return
		}
		for i := range n {
			if _, _, err := proxyheader.Parse(b[:i]); !errors.Is(err, proxyheader.ErrMore) {
				t.Fatalf("%d bytes of a header of %d: %v", i, n, err)
			}
		}
		r := bufio.NewReaderSize(bytes.NewReader(b), len(b))
		p, err := proxyproto.Read(r)
		if err != nil {
			if h.Version == 2 && b[12] == 0x21 && b[13] == 0 {
				return // PROXY without addresses, which the library refuses
			}
			t.Fatalf("go-proxyproto refuses what is accepted as %+v: %v", h, err)
		}
		if got := len(b) - r.Buffered(); got != n {
			t.Fatalf("length %d, go-proxyproto's is %d", n, got)
		}
		if h.Local {
			return
		}
		for _, pair := range [...]struct {
			got  netip.AddrPort
			want net.Addr
		}{{h.Source, p.SourceAddr}, {h.Destination, p.DestinationAddr}} {
			want := pair.want.(*net.TCPAddr).AddrPort()
			if pair.got != netip.AddrPortFrom(want.Addr().Unmap(), want.Port()) {
				t.Fatalf("address %v, go-proxyproto's is %v", pair.got, want)
			}
		}
	})
}
