package web

import (
	"net/url"
	"strings"
	"testing"
)

func BenchmarkDeny(b *testing.B) {
	r := newRules([]Rule{{Path: "/admin/**"}, {Path: "/v1/*/secret", Methods: []string{"PUT"}}, {Path: "/internal/**"}}, nil)
	for _, bb := range []struct{ name, path string }{
		{"plain", "/v1/customers/4711/orders"},
		{"escaped", "/files/My%20Report.pdf"},
		{"worst", strings.Repeat(`/a;%255c.%252f..%20`, maxOddPath/19)},
	} {
		u, err := url.ParseRequestURI(bb.path)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r.denies("GET", u, nil)
			}
		})
	}
}
