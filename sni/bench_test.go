package sni_test

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/snicketlb/snicket/sni"
)

func BenchmarkParse(b *testing.B) {
	for _, name := range []string{"client-openssl", "client-go", "chrome-like", "split-inside-name", "records-32", "large-20k", "large-64k-and-one"} {
		b.Run(name, func(b *testing.B) {
			stream := hello(b, name)
			var p sni.Parser
			b.SetBytes(int64(len(stream)))
			b.ReportAllocs()
			for b.Loop() {
				p.Reset(0)
				p.Parse(stream)
			}
		})
	}
}

// BenchmarkParseByteByByte is a client that makes the balancer ask after every byte.
func BenchmarkParseByteByByte(b *testing.B) {
	for _, name := range []string{"client-openssl", "chrome-like", "large-20k"} {
		b.Run(name, func(b *testing.B) {
			stream := hello(b, name)
			var p sni.Parser
			b.SetBytes(int64(len(stream)))
			b.ReportAllocs()
			for b.Loop() {
				p.Reset(0)
				for n := range len(stream) + 1 {
					p.Parse(stream[:n])
				}
			}
		})
	}
}

func BenchmarkJA4(b *testing.B) {
	h, err := sni.Parse(hello(b, "chrome-like"), 0)
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 0, 64)
	b.ReportAllocs()
	for b.Loop() {
		buf = h.AppendJA4(buf[:0])
	}
}

// BenchmarkLookup looks for names spread over the whole map.
func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{10, 10000, 1000000} {
		m := newMap(b, manyNames(n))
		var exact, wildcard, none []string
		for p, i := range m.All() {
			if stride := max(1, n>>14) | 1; int(i)%stride != 0 {
				continue
			}
			if p[0] == '*' {
				wildcard = append(wildcard, "x"+p[1:])
			} else {
				exact = append(exact, p)
			}
			none = append(none, "x.y."+p[2:])
		}
		for _, kind := range []struct {
			name  string
			names []string
		}{{"exact", exact}, {"wildcard", wildcard}, {"none", none}} {
			b.Run(fmt.Sprintf("names=%d/%s", n, kind.name), func(b *testing.B) {
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					m.Lookup(kind.names[i])
					if i++; i == len(kind.names) {
						i = 0
					}
				}
			})
		}
	}
}

// BenchmarkNewMap also reports what a name costs in memory, its own text included.
func BenchmarkNewMap(b *testing.B) {
	const n = 1000000
	var m *sni.Map[uint32]
	before := heap()
	b.ReportAllocs()
	for b.Loop() {
		m = newMap(b, manyNames(n))
	}
	b.ReportMetric(float64(heap()-before)/n, "B/name")
	runtime.KeepAlive(m)
}
