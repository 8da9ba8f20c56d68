package sni_test

import (
	"reflect"
	"testing"

	"github.com/snicketlb/snicket/sni"
)

func TestHelloFields(t *testing.T) {
	stream := hello(t, "chrome-like")
	h, err := sni.Parse(append(stream, "behind"...), 0)
	if err != nil {
		t.Fatal(err)
	}
	want := &sni.Hello{
		ServerName:       "a.test",
		ALPN:             []string{"h2", "http/1.1"},
		RecordVersion:    sni.VersionTLS10,
		LegacyVersion:    sni.VersionTLS12,
		Versions:         []uint16{0x8a8a, 0x0304, 0x0303},
		CipherSuites:     []uint16{0x3a3a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013, 0xc014, 0x009c, 0x009d, 0x002f, 0x0035},
		Groups:           []uint16{0x6a6a, 0x11ec, 0x001d, 0x0017, 0x0018},
		KeyShares:        []uint16{0x6a6a, 0x11ec, 0x001d},
		SignatureSchemes: []uint16{0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601},
		Extensions:       []uint16{0x5a5a, 0xff01, 0, 43, 11, 10, 0xfe0d, 18, 27, 51, 35, 45, 16, 0x44cd, 23, 13, 5, 0xaaaa},
		SessionID:        digest("session"),
		ECH:              true,
		Len:              len(stream),
	}
	if !reflect.DeepEqual(h, want) {
		t.Errorf("got  %+v\nwant %+v", h, want)
	}
}

func TestHelloMethods(t *testing.T) {
	modern, err := sni.Parse(hello(t, "one-record"), 0)
	if err != nil {
		t.Fatal(err)
	}
	old, err := sni.Parse(hello(t, "tls12-only"), 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		what      string
		got, want any
	}{
		{"offers h2", modern.OffersALPN("h2"), true},
		{"offers H2", modern.OffersALPN("H2"), false},
		{"offers nothing", modern.OffersALPN(""), false},
		{"TLS 1.3", modern.SupportsTLS13(), true},
		{"TLS 1.3 of an old client", old.SupportsTLS13(), false},
		{"highest version", modern.MaxVersion(), uint16(sni.VersionTLS13)},
		{"highest version of an old client", old.MaxVersion(), uint16(sni.VersionTLS12)},
		{"has key_share", modern.HasExtension(51), true},
		{"old client has key_share", old.HasExtension(51), false},
		{"old client has ECH", old.ECH, false},
	} {
		if tc.got != tc.want {
			t.Errorf("%s: got %v, want %v", tc.what, tc.got, tc.want)
		}
	}
}

func TestIsGREASE(t *testing.T) {
	n := 0
	for v := range 1 << 16 {
		if sni.IsGREASE(uint16(v)) {
			n++
		}
	}
	if n != 16 {
		t.Errorf("got %d GREASE values, want 16", n)
	}
	for _, v := range []uint16{0x0a0a, 0x8a8a, 0xfafa} {
		if !sni.IsGREASE(v) {
			t.Errorf("0x%04x is none", v)
		}
	}
	for _, v := range []uint16{0x0a1a, 0x0a0b, 0x1301} {
		if sni.IsGREASE(v) {
			t.Errorf("0x%04x is one", v)
		}
	}
}
