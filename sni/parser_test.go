package sni_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/snicketlb/snicket/sni"
	"github.com/snicketlb/snicket/sni/hellotest"
)

func TestParserLimit(t *testing.T) {
	msg := modern("a.test").padded(1000).bytes()
	for _, sizes := range [][]int{{1 << 14}, {3, 1 << 14}, {1}} {
		stream := records(msg, sizes...)
		if _, err := sni.Parse(stream, 1000); err != nil {
			t.Errorf("limit 1000: %v", err)
		}
		_, err := sni.Parse(stream, 999)
		if !errors.Is(err, sni.ErrTooLarge) || !strings.Contains(err.Error(), "1000 bytes, limit 999") {
			t.Errorf("limit 999: got %v, want ErrTooLarge with the figures", err)
		}
	}
}

// TestParserDecidesEarly holds that a refusal comes with the byte that causes it: a peer
// must not keep a connection by never sending the rest.
func TestParserDecidesEarly(t *testing.T) {
	for _, tc := range []struct {
		name, stream, want string
	}{
		{"nothing", "", "more"},
		{"plain text", "G", "not-tls"},
		{"high bit", "\x80\x2e", "more"},
		{"SSLv2", "\x80\x2e\x01", "sslv2"},
		{"no SSLv2", "\x80\x2e\x02", "not-tls"},
		{"DTLS", "\x16\xfe", "dtls"},
		{"major version", "\x16\x02", "not-tls"},
		{"handshake record", "\x16\x03", "more"},
		{"empty record", "\x16\x03\x01\x00\x00", "empty-record"},
		{"large record", "\x16\x03\x01\x40\x01", "record-too-large"},
		{"largest record", "\x16\x03\x01\x40\x00", "more"},
		{"message type", "\x16\x03\x01\x00\xff\x02", "not-client-hello"},
		{"message size", "\x16\x03\x01\x00\xff\x01\x01\x00\x00", "too-large"},
		{"record beyond the message", "\x16\x03\x01\x00\xff\x01\x00\x00\x80", "trailing"},
		{"second record", "\x16\x03\x01\x00\x01\x01\x15", "interleaved"},
		{"second record's version", "\x16\x03\x01\x00\x01\x01\x16\x02", "record-version"},
		{"second record's length", "\x16\x03\x01\x00\x01\x01\x16\x03\x01\x00\x00", "empty-record"},
		{"message size over two records", "\x16\x03\x01\x00\x01\x01\x16\x03\x01\x00\x03\x01\x00\x00", "too-large"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			stream := []byte(tc.stream)
			_, err := sni.Parse(stream, 0)
			if got := hellotest.Word(err); got != tc.want {
				t.Errorf("got %q (%v), want %q", got, err, tc.want)
			}
			if len(stream) > 0 && tc.want != "more" {
				if _, err := sni.Parse(stream[:len(stream)-1], 0); !errors.Is(err, sni.ErrMore) {
					t.Errorf("got %v one byte earlier, want ErrMore", err)
				}
			}
		})
	}
}

func TestParserAnswersStay(t *testing.T) {
	var p sni.Parser
	stream := hello(t, "split-in-nine")
	first, err := p.Parse(stream)
	if err != nil {
		t.Fatal(err)
	}
	again, err := p.Parse(append(stream, "GET /"...))
	if err != nil || again != first {
		t.Errorf("got %p, %v when asked again, want %p", again, err, first)
	}
	p.Reset(0)
	if _, err := p.Parse([]byte("GET /")); !errors.Is(err, sni.ErrNotTLS) {
		t.Errorf("got %v, want ErrNotTLS", err)
	}
	if _, err := p.Parse(stream); !errors.Is(err, sni.ErrNotTLS) {
		t.Errorf("got %v when asked again, want ErrNotTLS", err)
	}
}

// TestParserTakesPayloadOnce holds that a Parser never goes back to payload it has
// taken: it may be overwritten.
func TestParserTakesPayloadOnce(t *testing.T) {
	stream := hello(t, "records-32")
	want, err := sni.Parse(stream, 0)
	if err != nil {
		t.Fatal(err)
	}
	const rec = 5 + 32
	b := bytes.Clone(stream)
	var p sni.Parser
	for n := rec; n < len(b); n += rec {
		if _, err := p.Parse(b[:n]); !errors.Is(err, sni.ErrMore) {
			t.Fatalf("got %v after %d bytes, want ErrMore", err, n)
		}
		clear(b[:n])
	}
	got, err := p.Parse(b)
	checkSame(t, got, err, want, nil)
}

// TestParserKeepsStrings holds that strings outlive a Reset, which overwrites all else.
func TestParserKeepsStrings(t *testing.T) {
	var p sni.Parser
	h, err := p.Parse(whole(modern("kept.test").with(alpn("h2", "kept/1", "kept/2")).bytes()))
	if err != nil {
		t.Fatal(err)
	}
	name, protocol := h.ServerName, h.ALPN[2]
	p.Reset(0)
	if _, err := p.Parse(whole(modern("over.test").with(alpn("over/1", "over/2", "over/3")).bytes())); err != nil {
		t.Fatal(err)
	}
	if name != "kept.test" || protocol != "kept/2" {
		t.Errorf("got %q and %q after another hello", name, protocol)
	}
}

// TestParserDoesNotAlias holds that a Hello is independent of the bytes it was read from.
func TestParserDoesNotAlias(t *testing.T) {
	for _, name := range []string{"chrome-like", "records-1", "large-12k-alpn"} {
		stream := hello(t, name)
		want, err := sni.Parse(stream, 0)
		if err != nil {
			t.Fatal(err)
		}
		b := bytes.Clone(stream)
		got, err := sni.Parse(b, 0)
		clear(b)
		checkSame(t, got, err, want, nil)
	}
}

// TestManyExtensions has a hello with more extensions than any client sends.
func TestManyExtensions(t *testing.T) {
	m := modern("a.test").without(11, 22, 23, 35, 45)
	for i := range 10000 {
		m.extensions = append(m.extensions, extension{uint16(1000 + i), nil})
	}
	h, err := sni.Parse(whole(m.bytes()), 0)
	if err != nil || len(h.Extensions) != len(m.extensions) {
		t.Fatalf("got %v, want %d extensions", err, len(m.extensions))
	}
	m.extensions = append(m.extensions, extension{1000, nil})
	if _, err := sni.Parse(whole(m.bytes()), 0); !errors.Is(err, sni.ErrDuplicateExtension) {
		t.Errorf("got %v, want ErrDuplicateExtension", err)
	}
}

// TestErrorsAreShort holds that an error never carries a name as long as the hello.
func TestErrorsAreShort(t *testing.T) {
	_, err := sni.Parse(whole(modern(strings.Repeat("x", 60000)).bytes()), 0)
	if !errors.Is(err, sni.ErrServerName) || len(err.Error()) > 200 {
		t.Errorf("got an error of %d bytes: %v", len(err.Error()), err)
	}
}
