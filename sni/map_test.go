package sni_test

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/snicketlb/snicket/sni"
)

// numbered yields patterns with their positions.
func numbered(patterns ...string) iter.Seq2[string, int] {
	return func(yield func(string, int) bool) {
		for i, p := range patterns {
			if !yield(p, i) {
				return
			}
		}
	}
}

func newMap[V any](tb testing.TB, entries iter.Seq2[string, V]) *sni.Map[V] {
	tb.Helper()
	m, err := sni.NewMap(entries)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

func TestMapLookup(t *testing.T) {
	all := []string{
		"a.example.com", "*.example.com", "**.example.com", "**.b.example.com", "example.com",
		"*.b.example.com", "**.com", "*", "-", "localhost", "*.localhost", "*.c.d.example.com",
	}
	for _, tc := range []struct {
		name     string
		patterns []string
		want     string // "" for none
	}{
		{"a.example.com", all, "a.example.com"},
		{"z.example.com", all, "*.example.com"},
		{"example.com", all, "example.com"},
		{"b.example.com", all, "*.example.com"},
		{"x.b.example.com", all, "*.b.example.com"},
		{"y.x.b.example.com", all, "**.b.example.com"},
		{"y.x.example.com", all, "**.example.com"},
		{"z.c.d.example.com", all, "*.c.d.example.com"},
		{"y.z.c.d.example.com", all, "**.example.com"},
		{"other.com", all, "**.com"},
		{"com", all, "*"},
		{"localhost", all, "localhost"},
		{"a.localhost", all, "*.localhost"},
		{"a.b.localhost", all, "*"},
		{"example.org", all, "*"},
		{"", all, "-"},

		{"", []string{"*"}, ""},
		{"a.test", []string{"-"}, ""},
		{"a.test", nil, ""},
		{"", nil, ""},
		{"example.com", []string{"*.example.com", "**.example.com"}, ""},
		{"a.b.example.com", []string{"*.example.com"}, ""},
		{"a.b.example.com", []string{"*.example.com", "**.example.com"}, "**.example.com"},
		{"a.b.example.com", []string{"*.example.com", "**.com"}, "**.com"},
		{"axexample.com", []string{"*.example.com", "**.example.com"}, ""},
		{"a.b.c.d.e", []string{"**.e", "**.d.e", "**.b.c.d.e", "**.c.d.e"}, "**.b.c.d.e"},
		{"xn--bcher-kva.example", []string{"*.example"}, "*.example"},
	} {
		t.Run(fmt.Sprintf("%s of %d", tc.name, len(tc.patterns)), func(t *testing.T) {
			m := newMap(t, numbered(tc.patterns...))
			pattern, i, ok := m.Lookup(tc.name)
			if pattern != tc.want || ok != (tc.want != "") || ok && tc.patterns[i] != tc.want {
				t.Errorf("got %q, %d, %v, want %q", pattern, i, ok, tc.want)
			}
		})
	}
}

func TestMapZero(t *testing.T) {
	var m sni.Map[string]
	if _, _, ok := m.Lookup("a.test"); ok || m.Len() != 0 {
		t.Errorf("the zero Map has something")
	}
	for p := range m.All() {
		t.Errorf("the zero Map yields %q", p)
	}
}

func TestMapAll(t *testing.T) {
	m := newMap(t, numbered("B.Example.com.", "*", "**.a.test", "-"))
	want := []string{"b.example.com", "*", "**.a.test", "-"}
	var got []string
	for p, i := range m.All() {
		if i != len(got) {
			t.Errorf("pattern %q has value %d, want %d", p, i, len(got))
		}
		got = append(got, p)
	}
	if !slices.Equal(got, want) || m.Len() != len(want) {
		t.Errorf("got %q, Len %d, want %q", got, m.Len(), want)
	}
	for range m.All() {
		break // must not go on
	}
}

func TestNewMapErrors(t *testing.T) {
	for _, tc := range []struct {
		name     string
		patterns []string
		want     []string
	}{
		{"twice", []string{"a.test", "b.test", "a.test"}, []string{`"a.test"`, "twice"}},
		{"twice once normal", []string{"a.test", "A.test."}, []string{`"a.test"`, "twice"}},
		{"wildcard twice", []string{"*.a.test", "*.A.test"}, []string{`"*.a.test"`, "twice"}},
		{"star twice", []string{"*", "-", "*"}, []string{`"*"`, "twice"}},
		{"bad pattern", []string{"a.test", "b..test"}, []string{`"b..test"`, "empty label"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := sni.NewMap(numbered(tc.patterns...))
			if err == nil {
				t.Fatal("got no error")
			}
			for _, part := range tc.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("got %q, want it to say %q", err, part)
				}
			}
		})
	}
}

// Entries that can be gone through once are no map, rather than an empty or a partial one.
func TestNewMapOnce(t *testing.T) {
	for _, tc := range []struct{ first, then int }{{2, 0}, {2, 1}, {0, 2}, {1, 2}} {
		n := tc.first
		_, err := sni.NewMap(func(yield func(string, int) bool) {
			for i := range n {
				if !yield(fmt.Sprintf("h%d.test", i), i) {
					return
				}
			}
			n = tc.then
		})
		if err == nil || !strings.Contains(err.Error(), "twice") {
			t.Errorf("%d patterns, then %d: got %v", tc.first, tc.then, err)
		}
	}
}

func TestCheckPattern(t *testing.T) {
	long := strings.Repeat(strings.Repeat("a", 49)+".", 5) // 250 bytes
	for _, tc := range []struct{ pattern, want, err string }{
		{"a.example.com", "a.example.com", ""},
		{"A.Example.COM.", "a.example.com", ""},
		{"*.Example.com", "*.example.com", ""},
		{"**.Example.com.", "**.example.com", ""},
		{"*", "*", ""},
		{"-", "-", ""},
		{"localhost", "localhost", ""},
		{"_dmarc.example.com", "_dmarc.example.com", ""},
		{"xn--bcher-kva.example", "xn--bcher-kva.example", ""},
		{long + "abc", long + "abc", ""},
		{"*." + long + "a", "*." + long + "a", ""},

		{"", "", "empty name"},
		{".", "", "empty name"},
		{"*.", "", "a star stands for whole labels"},
		{"*.*", "", "a star stands for whole labels"},
		{"**", "", "a star stands for whole labels"},
		{"***.a.test", "", "a star stands for whole labels"},
		{"a*.test", "", "a star stands for whole labels"},
		{"a.*.test", "", "a star stands for whole labels"},
		{"*.**.test", "", "a star stands for whole labels"},
		{"a..test", "", "empty label"},
		{"a.test..", "", "empty label"},
		{".a.test", "", "empty label"},
		{"-a.test", "", "begins with a hyphen"},
		{"a test", "", "byte ' '"},
		{"a/b", "", "byte '/'"},
		{"a.test:443", "", "has a port"},
		{"192.0.2.1", "", "IP address"},
		{"::1", "", "IP address"},
		{"bücher.example", "", `A-label, which begins with "xn--"`},
		{long + "abcd", "", "254 bytes, limit 253"},
		{"*." + long + "abc", "", "matches no name"},
		{strings.Repeat("a", 64) + ".test", "", "64 bytes, limit 63"},
	} {
		t.Run(tc.pattern, func(t *testing.T) {
			got, err := sni.CheckPattern(tc.pattern)
			if tc.err == "" {
				if err != nil || got != tc.want {
					t.Errorf("got %q, %v, want %q", got, err, tc.want)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.err) || !strings.Contains(err.Error(), "pattern ") {
				t.Errorf("got %q, %v, want an error that says %q", got, err, tc.err)
			}
		})
	}
}

func TestCheckName(t *testing.T) {
	for _, good := range []string{"a", "a.test", "1.test", "a-.test", "a_b.test", "1.2.3", "1.2.3.4.5", "xn--a", "0x7f.1"} {
		if err := sni.CheckName(good); err != nil {
			t.Errorf("CheckName(%q): %v", good, err)
		}
	}
	for _, bad := range []string{"", ".", "a.", "A.test", "a..b", "-", "-a", "a.-b", "*", "*.a", "1.2.3.4", "999.999.999.999", "::1", "a:1", "a b", "a\x00", "ä"} {
		if sni.CheckName(bad) == nil {
			t.Errorf("CheckName(%q) = nil", bad)
		}
	}
}

// naive finds the most specific pattern for name by trying each, from the words of the
// rules and nothing else.
func naive(patterns []string, name string) (best string) {
	labels := func(s string) []string {
		if s == "" {
			return nil
		}
		return strings.Split(s, ".")
	}
	rank := -1
	for _, p := range patterns {
		r := -1
		switch stars, suffix, _ := strings.Cut(p, "."); {
		case p == "-":
			if name == "" {
				r = 0
			}
		case name == "":
		case p == name:
			r = 1 << 20
		case p == "*":
			r = 0
		case stars == "*" || stars == "**":
			n, s := labels(name), labels(suffix)
			more := len(n) - len(s)
			if more < 1 || !slices.Equal(n[more:], s) {
				break
			}
			if stars == "*" && more == 1 {
				r = 1 << 19
			} else if stars == "**" {
				r = len(s)
			}
		}
		if r > rank {
			best, rank = p, r
		}
	}
	return best
}

// FuzzMap holds Map against naive. Labels are of few letters, so that patterns and
// names meet often.
func FuzzMap(f *testing.F) {
	f.Add("a.b *.b **.b * -", "a.b")
	f.Add("**.a.a **.a *.a.a.a", "a.a.a.a")
	f.Add("a *.a **.a", "a")
	f.Add("*.b.c **.c c", "a.b.c.d.c")
	f.Add("-", "")
	f.Fuzz(func(t *testing.T, words, name string) {
		unique := map[string]bool{}
		for w := range strings.FieldsSeq(words) {
			if normal, err := sni.CheckPattern(w); err == nil {
				unique[normal] = true
			}
		}
		patterns := slices.Collect(maps.Keys(unique))
		m := newMap(t, numbered(patterns...))
		names := append([]string{name, ""}, patterns...)
		for _, p := range patterns {
			names = append(names, "a."+strings.TrimLeft(p, "*."), "a.b."+strings.TrimLeft(p, "*."))
		}
		for _, name := range names {
			if name != "" && sni.CheckName(name) != nil {
				continue
			}
			pattern, i, ok := m.Lookup(name)
			want := naive(patterns, name)
			if pattern != want || ok != (want != "") || ok && patterns[i] != want {
				t.Errorf("%q of %q: got %q, %d, %v, want %q", name, patterns, pattern, i, ok, want)
			}
		}
	})
}

// TestMapLarge looks for every one of many names, and for as many that are not there.
func TestMapLarge(t *testing.T) {
	const n = 50000
	m := newMap(t, manyNames(n))
	for p, i := range m.All() {
		name := strings.Replace(p, "*", "x", 1)
		if got, j, ok := m.Lookup(name); !ok || got != p || i != j {
			t.Fatalf("%q: got %q, %d, %v, want %q", name, got, j, ok, p)
		}
		if got, _, ok := m.Lookup("no." + strings.TrimPrefix(p, "*.") + ".test"); ok {
			t.Fatalf("got %q for a name that has no pattern", got)
		}
	}
}

// manyNames yields n patterns as a large host might have them, one in ten a wildcard, some
// 22 bytes each.
func manyNames(n int) iter.Seq2[string, uint32] {
	return func(yield func(string, uint32) bool) {
		for i := range n {
			format := "shop-%07d.example.com"
			if i%10 == 0 {
				format = "*.c%07d.example.net"
			}
			if !yield(fmt.Sprintf(format, i*7919%10000019), uint32(i)) {
				return
			}
		}
	}
}
