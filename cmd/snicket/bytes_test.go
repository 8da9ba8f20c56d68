package main

import (
	"bytes"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/snicketlb/snicket/sni"
)

func TestFromHex(t *testing.T) {
	want := []byte{0x16, 0x03, 0x01, 0x00, 0xf8, 0x01, 0x00, 0x00, 0xf4, 0x03, 0x03, 0x41, 0x41, 0x7c, 0x20, 0x42, 0x43}
	for name, text := range map[string]string{
		"plain":      "1603 0100f8010000\nf403034141 7c204243\n",
		"upper case": "160301 00F8010000F4030341417C204243",
		"colons":     "16:03:01:00:f8:01:00:00:f4:03:03:41:41:7c:20:42:43\n",
		"0x, spaced": "0x16 0x03 0x01 0x00 0xf8 0x01 0x00 0x00 0xf4 0x03 0x03 0x41 0x41 0x7c 0x20 0x42 0x43",
		"0x, in C":   "{0x16, 0x03, 0x01, 0x00, 0xf8, 0x01, 0x00, 0x00, 0xf4, 0x03, 0x03, 0x41, 0x41, 0x7c, 0x20, 0x42, 0x43}",
		"0x once":    "0x16030100f8010000f4030341417c204243",
		`\x`:         `"\x16\x03\x01\x00\xf8\x01\x00\x00\xf4\x03\x03\x41\x41\x7c\x20\x42\x43"`,
		"xxd":        "00000000: 1603 0100 f801 0000 f403 0341 417c 2042  .......... ..AA| B\n00000010: 43                                       C\n",
		"hexdump -C": hex.Dump(want) + "00000011\n",
		"as it is":   string(want),
	} {
		if got := fromHex([]byte(text)); !bytes.Equal(got, want) {
			t.Errorf("%s: got % x, want % x", name, got, want)
		}
	}
	for _, text := range []string{"", "GET / HTTP/1.1\r\n", "abc", "\n"} {
		if got := fromHex([]byte(text)); string(got) != text {
			t.Errorf("%q: got %q, want it as it is", text, got)
		}
	}
}

func TestExplainBytes(t *testing.T) {
	for _, tc := range []struct{ b, text, hint string }{
		{"GET / HTTP/1.1\r\n", "HTTP", "https://"},
		{"PRI * HTTP/2.0\r\n", "HTTP", "https://"},
		{"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", "PROXY header, version 1", "accept_proxy_from"},
		{"\r\n\r\n\x00\r\nQUIT\n\x21\x11", "PROXY header, version 2", "accept_proxy_from"},
		{"SSH-2.0-OpenSSH_9\r\n", "SSH", "does not speak TLS"},
		{"EHLO a.test\r\n", "SMTP", "STARTTLS"},
		{"\x15\x03\x03\x00\x02\x02\x28", "a TLS alert", "refused"},
		{"\x17\x03\x03\x00\x10", "application data", "first byte"},
		{"\x14\x03\x03\x00\x01\x01", "ChangeCipherSpec", "first byte"},
		{"\x16\x03\x03\x00\x04\x02\x00\x00\x00", "a ServerHello", "client's direction"},
		{"something else", "not TLS", "16 03"},
	} {
		err := decodeHello(strings.NewReader(tc.b), &helloPrinter{w: io.Discard})
		h, ok := errors.AsType[*hinted](err)
		if !ok || !strings.Contains(err.Error(), tc.text) || !strings.Contains(h.hint, tc.hint) {
			t.Errorf("%q: got %v, want %q and a hint of %q", tc.b, err, tc.text, tc.hint)
		}
	}
}

// Hellos of several clients stand apart.
func TestHelloPrinterSeparates(t *testing.T) {
	var out bytes.Buffer
	p := &helloPrinter{w: &out}
	for range 2 {
		if err := p.print("192.0.2.1:1", &sni.Hello{ServerName: "a.test", LegacyVersion: tls.VersionTLS12}); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Count(out.String(), "\n\nclient "); got != 1 || strings.HasSuffix(out.String(), "\n\n") {
		t.Errorf("got %d blank lines before a client, want 1:\n%s", got, out.String())
	}
}

func TestNames(t *testing.T) {
	for _, suite := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		if got := suiteName(suite.ID); got != suite.Name {
			t.Errorf("got %s, want %s", got, suite.Name)
		}
	}
	for _, v := range []uint16{tls.VersionTLS10, tls.VersionTLS11, tls.VersionTLS12, tls.VersionTLS13} {
		if got, want := versionName(v), tls.VersionName(v); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	for got, want := range map[string]string{
		groupName(uint16(tls.CurveP256)):                  "secp256r1",
		groupName(uint16(tls.X25519MLKEM768)):             "X25519MLKEM768",
		groupName(30):                                     "x448",
		groupName(256):                                    "ffdhe2048",
		groupName(0xabcd):                                 "0xabcd",
		signatureName(uint16(tls.PSSWithSHA256)):          "rsa_pss_rsae_sha256",
		signatureName(uint16(tls.ECDSAWithP256AndSHA256)): "ecdsa_secp256r1_sha256",
		signatureName(0x0102):                             "0x0102",
		suiteName(0x009e):                                 "TLS_DHE_RSA_WITH_AES_128_GCM_SHA256",
		suiteName(0x00ff):                                 "TLS_EMPTY_RENEGOTIATION_INFO_SCSV",
		suiteName(0xfefe):                                 "0xfefe",
		versionName(0x7f1c):                               "0x7f1c",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
