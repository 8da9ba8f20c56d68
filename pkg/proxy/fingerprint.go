package proxy

import (
	"strings"

	"github.com/snicketlb/snicket/sni"
)

// A fingerprint is what a hello tells of the software behind it. It is immutable,
// and shared by the sessions of a loop whose clients are alike.
type fingerprint struct {
	alpn string   // what was offered, joined by ","
	ja4  [36]byte // zeros where no record wants it
}

// What a fingerprints remembers: the makes of clients are few, and one that
// pretends to be many must not fill the memory.
const (
	keepPrints  = 256
	maxPrintKey = 512 // bytes; a usual one has about 100
)

// fingerprints spares a loop the hashing of hellos that it has seen the like of,
// and its sessions the memory: all that a fingerprint depends on is its key.
type fingerprints struct {
	ja4   bool // wanted
	known map[string]*fingerprint
	moved map[fingerprint]*fingerprint // those of sessions of another process
	key   []byte
}

func newFingerprints(ja4 bool) *fingerprints {
	return &fingerprints{ja4: ja4, known: map[string]*fingerprint{}}
}

// of is the fingerprint of h.
func (f *fingerprints) of(h *sni.Hello) *fingerprint {
	key := f.key[:0]
	for _, proto := range h.ALPN {
		key = append(key, byte(len(proto)))
		key = append(key, proto...)
	}
	key = append(key, 0) // no protocol is empty
	if f.ja4 {
		key = h.AppendJA4Input(key)
	}
	if len(key) > maxPrintKey {
		return f.make(h)
	}
	f.key = key
	p := f.known[string(key)]
	if p == nil {
		p = f.make(h)
		if len(f.known) >= keepPrints {
			clear(f.known)
		}
		f.known[string(key)] = p
	}
	return p
}

// shared is a fingerprint that another process has made.
func (f *fingerprints) shared(made fingerprint) *fingerprint {
	p := f.moved[made]
	if p == nil {
		p = &made
		if f.moved == nil || len(f.moved) >= keepPrints {
			f.moved = map[fingerprint]*fingerprint{}
		}
		f.moved[made] = p
	}
	return p
}

func (f *fingerprints) make(h *sni.Hello) *fingerprint {
	p := &fingerprint{alpn: joinALPN(h.ALPN)}
	if f.ja4 {
		h.AppendJA4(p.ja4[:0])
	}
	return p
}

// joinALPN is the offered protocols as one string; the usual ones cost nothing.
func joinALPN(protos []string) string {
	switch {
	case len(protos) == 0:
		return ""
	case len(protos) == 1:
		return protos[0]
	case len(protos) == 2 && protos[0] == "h2" && protos[1] == "http/1.1":
		return "h2,http/1.1"
	}
	return strings.Join(protos, ",")
}
