package sni_test

import (
	"errors"
	"fmt"
	"runtime"
	"testing"

	"github.com/snicketlb/snicket/sni"
)

// checkAllocs expects f to allocate at most limit times.
func checkAllocs(t *testing.T, limit float64, f func()) {
	t.Helper()
	if raceEnabled {
		f()
		return
	}
	if got := testing.AllocsPerRun(100, f); got > limit {
		t.Errorf("got %v allocations, limit %v", got, limit)
	}
}

// TestParserAllocs holds that a Parser used again allocates nothing but the server name,
// and an unusual ALPN list once.
func TestParserAllocs(t *testing.T) {
	for _, tc := range []struct {
		hello string
		limit float64
	}{
		{"one-record", 1},
		{"chrome-like", 1},
		{"records-1", 1},
		{"split-inside-name", 1},
		{"large-5k", 1},
		{"name-upper-case", 1},
		{"no-name", 0},
		{"no-extensions", 0},
		{"client-openssl-no-name", 0},
		{"client-java", 1},
	} {
		t.Run(tc.hello, func(t *testing.T) {
			stream := hello(t, tc.hello)
			var p sni.Parser
			checkAllocs(t, tc.limit, func() {
				p.Reset(0)
				p.Parse(stream[:len(stream)/2])
				if _, err := p.Parse(stream); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

// TestNames holds that a name that comes again costs nothing, and that names
// which fall together are told apart.
func TestNames(t *testing.T) {
	var names sni.Names
	var p, q sni.Parser
	p.Remember(&names)
	q.Remember(&names)
	streams := [][]byte{hello(t, "one-record"), hello(t, "name-upper-case")}
	checkAllocs(t, 0, func() {
		for _, parser := range []*sni.Parser{&p, &q} {
			parser.Reset(0)
			if _, err := parser.Parse(streams[0]); err != nil {
				t.Fatal(err)
			}
		}
	})
	for i := range 1000 {
		m := modern(fmt.Sprintf("host-%d.test", i%300))
		p.Reset(0)
		h, err := p.Parse(record(22, 0x0301, m.bytes()))
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("host-%d.test", i%300); h.ServerName != want {
			t.Fatalf("got %q, want %q", h.ServerName, want)
		}
	}
	for _, stream := range streams {
		want, err := sni.Parse(stream, 0)
		if err != nil {
			t.Fatal(err)
		}
		p.Reset(0)
		if h, _ := p.Parse(stream); h.ServerName != want.ServerName {
			t.Errorf("got %q, want %q", h.ServerName, want.ServerName)
		}
	}
}

func TestOutputAllocs(t *testing.T) {
	h, err := sni.Parse(hello(t, "chrome-like"), 0)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 0, 64)
	checkAllocs(t, 0, func() { buf = h.AppendJA4(buf[:0]) })
	checkAllocs(t, 0, func() { buf = sni.AppendAlert(buf[:0], h, sni.AlertInternalError) })
	checkAllocs(t, 0, func() { _ = h.OffersALPN("h2") })
}

func TestLookupAllocs(t *testing.T) {
	m := newMap(t, numbered("a.example.com", "*.example.com", "**.example.org", "*", "-"))
	for _, name := range []string{"a.example.com", "b.example.com", "a.b.c.example.org", "a.b.c.d.test", ""} {
		checkAllocs(t, 0, func() { m.Lookup(name) })
	}
}

// TestRefusalKeepsNothing holds that a length announced costs no memory, and that
// what a large hello cost is given back.
func TestRefusalKeepsNothing(t *testing.T) {
	announced := []byte{22, 3, 1, 0x40, 0, 1, 0, 0xff, 0xf0}
	var p sni.Parser
	checkAllocs(t, 0, func() {
		p.Reset(0)
		if _, err := p.Parse(announced); !errors.Is(err, sni.ErrMore) {
			t.Fatal(err)
		}
	})
	if raceEnabled {
		return
	}
	stream := hello(t, "large-60k")
	parsers := make([]sni.Parser, 200)
	before := heap()
	for i := range parsers {
		p := &parsers[i]
		if _, err := p.Parse(stream); err != nil {
			t.Fatal(err)
		}
		p.Reset(0)
	}
	if per := (heap() - before) / int64(len(parsers)); per > 4<<10 {
		t.Errorf("a Parser keeps %d bytes after a hello of 60 KiB", per)
	}
	runtime.KeepAlive(parsers)
}

// TestMapSize holds the layout of Map to what its comment says.
func TestMapSize(t *testing.T) {
	if raceEnabled {
		return
	}
	const n = 100000
	before := heap()
	m := newMap(t, manyNames(n))
	per := float64(heap()-before) / n
	text := 0
	for p := range m.All() {
		text += len(p)
	}
	// text, its end, two to three slots, and the uint32 that is the value
	if limit := float64(text)/n + 4 + 11 + 4; per > limit+1 {
		t.Errorf("got %.1f bytes a name, want at most %.1f", per, limit)
	}
	runtime.KeepAlive(m)
}

// heap returns the bytes of live objects.
func heap() int64 {
	var s runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}
