package proxy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/snicketlb/snicket/sni"
	"github.com/snicketlb/snicket/sni/hellotest"
)

// TestFingerprints holds that what is remembered is what would be computed.
func TestFingerprints(t *testing.T) {
	cases, err := hellotest.Load("../../sni/testdata/hellos")
	if err != nil {
		t.Fatal(err)
	}
	f := newFingerprints(true)
	hellos := 0
	for range 2 {
		for _, c := range cases {
			h, err := sni.Parse(c.Stream, 0)
			if err != nil {
				continue
			}
			hellos++
			p := f.of(h)
			if got, want := string(p.ja4[:]), h.JA4(); got != want {
				t.Errorf("%s: got %s, want %s", c.Name, got, want)
			}
			if got, want := p.alpn, strings.Join(h.ALPN, ","); got != want {
				t.Errorf("%s: got %q, want %q", c.Name, got, want)
			}
		}
	}
	if hellos < 20 {
		t.Fatalf("%d hellos, want more", hellos)
	}
}

func TestFingerprintsAreShared(t *testing.T) {
	f := newFingerprints(true)
	h := func(alpn ...string) *sni.Hello { return &sni.Hello{CipherSuites: []uint16{0x1301}, ALPN: alpn} }
	p := f.of(h("h2", "http/1.1"))
	if f.of(h("h2", "http/1.1")) != p {
		t.Error("alike hellos have fingerprints of their own")
	}
	for _, other := range []*sni.Hello{h("h2"), h("h2", "http/1.1", "x"), h("h2,http/1.1"), h()} {
		if f.of(other) == p {
			t.Errorf("%q has the fingerprint of another", other.ALPN)
		}
	}
	known := h("h2", "http/1.1")
	if got := testing.AllocsPerRun(100, func() { f.of(known) }); got > 0 {
		t.Errorf("%v allocations for a known hello, want none", got)
	}
}

// TestFingerprintsAreBounded is a client that never says the same twice.
func TestFingerprintsAreBounded(t *testing.T) {
	f := newFingerprints(true)
	for i := range 10 * keepPrints {
		h := &sni.Hello{CipherSuites: []uint16{uint16(i)}, ALPN: []string{fmt.Sprint("p", i)}}
		if i%2 == 0 {
			h.ALPN[0] = strings.Repeat("p", maxPrintKey)
		}
		if got, want := f.of(h).alpn, h.ALPN[0]; got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	if len(f.known) > keepPrints {
		t.Errorf("%d fingerprints are kept, limit %d", len(f.known), keepPrints)
	}
	for key := range f.known {
		if len(key) > maxPrintKey {
			t.Errorf("a key of %d bytes is kept", len(key))
		}
	}
}
