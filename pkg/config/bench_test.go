package config_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/snicketlb/snicket/pkg/config"
)

// BenchmarkParse reads 10,000 routes with a host, a pool and a backend each.
func BenchmarkParse(b *testing.B) {
	var text strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&text, "[[routes]]\nhosts = [\"h%d.example.com\"]\nbackends = [\"10.0.%d.%d:443\"]\n", i, i/250, i%250+1)
	}
	name := b.TempDir() + "/snicket.toml"
	b.SetBytes(int64(text.Len()))
	b.ReportAllocs()
	for b.Loop() {
		if _, problems := config.Parse(name, []byte(text.String())); problems != nil {
			b.Fatal(problems)
		}
	}
}
