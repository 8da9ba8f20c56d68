package proxyheader_test

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/snicketlb/snicket/pkg/proxyheader"
)

func TestAppend(t *testing.T) {
	v4, v6 := addr("192.0.2.1:56324"), addr("[2001:db8::1]:1")
	dst4, dst6 := addr("198.51.100.2:443"), addr("[2001:db8::2]:2")
	for _, tt := range []struct {
		name string
		o    proxyheader.Out
		v1   string
		v2   string
	}{
		{name: "v1 IPv4", o: proxyheader.Out{Version: 1, Source: v4, Destination: dst4}, v1: "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n"},
		{name: "v1 IPv6", o: proxyheader.Out{Version: 1, Source: v6, Destination: dst6}, v1: "PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n"},
		{name: "v1 mixed", o: proxyheader.Out{Version: 1, Source: v4, Destination: dst6}, v1: "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 56324 2\r\n"},
		{name: "v1 unknown", o: proxyheader.Out{Version: 1}, v1: "PROXY UNKNOWN\r\n"},
		{name: "v1 has no TLVs", o: proxyheader.Out{Version: 1, Authority: "a.test", CRC32C: true}, v1: "PROXY UNKNOWN\r\n"},
		{name: "v2 IPv4", o: proxyheader.Out{Version: 2, Source: v4, Destination: dst4}, v2: "21 11 000c c0000201 c6336402 dc04 01bb"},
		{
			name: "v2 mapped on both sides", v2: "21 11 000c c0000201 c6336402 dc04 01bb",
			o: proxyheader.Out{Version: 2, Source: addr("[::ffff:192.0.2.1]:56324"), Destination: addr("[::ffff:198.51.100.2]:443")},
		},
		{
			name: "v2 mixed", o: proxyheader.Out{Version: 2, Source: v6, Destination: dst4},
			v2: "21 21 0024 20010db8000000000000000000000001 00000000000000000000ffffc6336402 0001 01bb",
		},
		{
			name: "v2 zone", o: proxyheader.Out{Version: 2, Source: addr("[fe80::1%eth0]:1"), Destination: dst6},
			v2: "21 21 0024 fe800000000000000000000000000001 20010db8000000000000000000000002 0001 0002",
		},
		{name: "v2 unknown", o: proxyheader.Out{Version: 2, Source: v4}, v2: "21 00 0000"},
		{name: "v2 CRC32c", o: proxyheader.Out{Version: 2, CRC32C: true}, v2: "21 00 0007 03 0004 3ec9894e"},
		{
			name: "v2 TLVs", v2: "21 11 0041 c0000201 c6336402 dc04 01bb 01 0002 6832 02 0006 612e74657374 05 0002 0102" +
				"20 001f 07 00000000 21 0007 544c5376312e33 22 0002 6d65 23 0008 544c535f41455331",
			o: proxyheader.Out{
				Version: 2, Source: v4, Destination: dst4, Authority: "a.test", ALPN: "h2", UniqueID: []byte{1, 2},
				SSL: &proxyheader.SSL{Version: "TLSv1.3", CommonName: "me", Cipher: "TLS_AES1", ClientCertificate: true, Verified: true},
			},
		},
		{ // the examples of §2.2.6
			name: "v2 SSL, all of it", v2: "21 00 0061 20 005e 07 00000017 21 0007 544c5376312e32 22 0002 6d65 23 0008 544c535f41455331" +
				"24 000a 5253412d534841323536 25 0007 52534132303438 26 0009 736563703235367231 27 0013 7273615f7073735f727361655f736861323536 28 0003 300101",
			o: proxyheader.Out{
				Version: 2, SSL: &proxyheader.SSL{
					Version: "TLSv1.2", CommonName: "me", Cipher: "TLS_AES1", ClientCertificate: true, Why: 23,
					SignatureAlgorithm: "RSA-SHA256", KeyAlgorithm: "RSA2048", Group: "secp256r1", SignatureScheme: "rsa_pss_rsae_sha256",
					Certificate: []byte{0x30, 1, 1},
				},
			},
		},
		{
			name: "v2 SSL without a certificate", o: proxyheader.Out{Version: 2, SSL: &proxyheader.SSL{Verified: true}},
			v2: "21 00 0008 20 0005 01 00000001",
		},
		{
			name: "v2 SSL resumed, not verified", v2: "21 00 0008 20 0005 05 00000001",
			o: proxyheader.Out{Version: 2, SSL: &proxyheader.SSL{ClientCertificate: true, Resumed: true}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := []byte(tt.v1)
			if tt.v2 != "" {
				want = unhex(t, signature+tt.v2)
			}
			got, err := proxyheader.Append([]byte("before"), tt.o)
			if err != nil {
				t.Fatal(err)
			}
			if got, ok := bytes.CutPrefix(got, []byte("before")); !ok || !bytes.Equal(got, want) {
				t.Errorf("got  %x\nwant %x", got, want)
			}
		})
	}
}

func TestAppendRefuses(t *testing.T) {
	for _, tt := range []struct {
		name string
		o    proxyheader.Out
		want string
	}{
		{"version 0", proxyheader.Out{}, "PROXY header version 0, want 1 or 2"},
		{"version 3", proxyheader.Out{Version: 3}, "PROXY header version 3, want 1 or 2"},
		{"unique-id", proxyheader.Out{Version: 2, UniqueID: make([]byte, 129)}, "PROXY header: unique-id of 129 bytes, limit 128"},
		{"too long", proxyheader.Out{Version: 2, Authority: strings.Repeat("a", 4096)}, "PROXY header too long: 4115 bytes, limit 4096"},
		{
			"certificate that no TLV holds",
			proxyheader.Out{Version: 2, SSL: &proxyheader.SSL{CommonName: "me", Certificate: make([]byte, 1<<16)}},
			"PROXY header too long: client certificate of 65538 bytes, limit 4096",
		},
		{
			"certificate that the header does not hold",
			proxyheader.Out{Version: 2, SSL: &proxyheader.SSL{Certificate: make([]byte, 4096)}},
			"PROXY header too long: 4123 bytes, limit 4096",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := proxyheader.Append([]byte("before"), tt.o)
			if err == nil || err.Error() != tt.want {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if got, want := errors.Is(err, proxyheader.ErrTooLong), strings.Contains(tt.want, "too long"); got != want {
				t.Errorf("errors.Is(%v, ErrTooLong) = %v, want %v", err, got, want)
			}
			if string(got) != "before" {
				t.Errorf("dst became %q", got)
			}
		})
	}
}

func TestLocal(t *testing.T) {
	if got, want := proxyheader.Local(1), []byte("PROXY UNKNOWN\r\n"); !bytes.Equal(got, want) {
		t.Errorf("version 1: got %q, want %q", got, want)
	}
	if got, want := proxyheader.Local(2), unhex(t, signature+"20000000"); !bytes.Equal(got, want) {
		t.Errorf("version 2: got %x, want %x", got, want)
	}
}

// FuzzAppend holds that what is written is read back as it was.
func FuzzAppend(f *testing.F) {
	f.Add(2, []byte{192, 0, 2, 1}, []byte(net16), uint16(1), uint16(2), "a.test", "h2", []byte{1}, true, true)
	f.Add(1, []byte{192, 0, 2, 1}, []byte{192, 0, 2, 2}, uint16(1), uint16(2), "", "", []byte{}, false, false)
	f.Fuzz(func(t *testing.T, version int, src, dst []byte, sport, dport uint16, authority, alpn string, id []byte, crc, ssl bool) {
		o := proxyheader.Out{Version: version, Authority: authority, ALPN: alpn, UniqueID: id, CRC32C: crc}
		want := proxyheader.Header{Version: version, Local: true}
		s, okS := netip.AddrFromSlice(src)
		d, okD := netip.AddrFromSlice(dst)
		if okS && okD {
			o.Source, o.Destination = netip.AddrPortFrom(s, sport), netip.AddrPortFrom(d, dport)
			want.Local = false
			want.Source, want.Destination = netip.AddrPortFrom(s.Unmap(), sport), netip.AddrPortFrom(d.Unmap(), dport)
		}
		if ssl {
			o.SSL = &proxyheader.SSL{Version: authority, CommonName: alpn, Group: alpn, Certificate: dst, ClientCertificate: crc}
		}
		b, err := proxyheader.Append(nil, o)
		if err != nil {
			return // version, unique-id or length; TestAppendRefuses has them
		}
		got, n, err := proxyheader.Parse(append(b, "rest"...))
		if err != nil || n != len(b) || got != want {
			t.Fatalf("%x read as %+v, %d, %v; want %+v, %d", b, got, n, err, want, len(b))
		}
	})
}

// net16 is an IPv6 address.
const net16 = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02"

func BenchmarkParse(b *testing.B) {
	header, err := proxyheader.Append(nil, proxyheader.Out{Version: 2, Source: addr("192.0.2.1:1"), Destination: addr("192.0.2.2:2"), CRC32C: true})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := proxyheader.Parse(header); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	o := proxyheader.Out{Version: 2, Source: addr("192.0.2.1:1"), Destination: addr("192.0.2.2:2"), Authority: "a.test", ALPN: "h2"}
	buf := make([]byte, 0, 256)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := proxyheader.Append(buf, o); err != nil {
			b.Fatal(err)
		}
	}
}
