package config

import (
	"slices"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
)

// lines returns each key below v as a dotted path with its line.
func lines(v *value) map[string]int {
	out := map[string]int{}
	var walk func(path string, v *value)
	walk = func(path string, v *value) {
		if path != "" {
			out[path] = int(v.line)
		}
		for _, key := range v.keys() {
			walk(strings.TrimPrefix(path+"."+bareOrQuoted(key), "."), v.at(key))
		}
		for i, item := range v.array {
			walk(path+"["+string(rune('0'+i))+"]", item)
		}
	}
	walk("", v)
	return out
}

func TestScan(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       map[string]int
	}{
		{"nothing", "", map[string]int{}},
		{"comments and blank lines", "# x = 1\n\n  # y\na = 1 # b = 2\r\n\tc = 3", map[string]int{"a": 4, "c": 5}},
		{"dotted keys", "\na.b.c = 1\na.b.d = 2", map[string]int{"a": 2, "a.b": 2, "a.b.c": 2, "a.b.d": 3}},
		{"quoted keys", `"a b".'c "d"'."\u0065" = 1`, map[string]int{`"a b"`: 1, `"a b"."c \"d\""`: 1, `"a b"."c \"d\"".e`: 1}},
		{"spaced keys", "[ a . b ]\nc . d = 1", map[string]int{"a": 1, "a.b": 1, "a.b.c": 2, "a.b.c.d": 2}},
		{"a table before its parent", "[a.b]\nx = 1\n[a]\ny = 2", map[string]int{"a": 1, "a.b": 1, "a.b.x": 2, "a.y": 4}},
		{"array of tables", "[[r]]\na = 1\n[r.t]\nb = 2\n[[r]]\na = 3\n[[r.s]]\nc = 4", map[string]int{
			"r": 1, "r[0]": 1, "r[0].a": 2, "r[0].t": 3, "r[0].t.b": 4, "r[1]": 5, "r[1].a": 6, "r[1].s": 7, "r[1].s[0]": 7, "r[1].s[0].c": 8,
		}},
		{"arrays over lines", "a = [ # one\n  1,\n  [\"]\", '#'],\n  # not = 1\n]\nb = 2", map[string]int{
			"a": 1, "a[0]": 2, "a[1]": 3, "a[1][0]": 3, "a[1][1]": 3, "b": 6,
		}},
		{"inline tables", "a = { b = 1, c.d = \"}\", e = [\n { f = 1 },\n { g = 2 } ] }\nh = 1", map[string]int{
			"a": 1, "a.b": 1, "a.c": 1, "a.c.d": 1, "a.e": 1, "a.e[0]": 2, "a.e[0].f": 2, "a.e[1]": 3, "a.e[1].g": 3, "h": 4,
		}},
		{"inline table over lines", "a = {\n b = 1, # x = 1\n c = 2,\n}", map[string]int{"a": 1, "a.b": 2, "a.c": 3}},
		{"strings over lines", "a = \"\"\"\n[x]\ny = 1 \\\n \\\"\"\"\nz\"\"\"\"\"\nb = '''\n# ''\n\\'''''\nc = 1", map[string]int{"a": 1, "b": 6, "c": 9}},
		{"escapes", `a = "\\"` + "\n" + `b = "\""` + "\n" + `c = '\'` + "\nd = \"\"\ne = ''\nf = 1", map[string]int{"a": 1, "b": 2, "c": 3, "d": 4, "e": 5, "f": 6}},
		{"dates and numbers", "a = 1979-05-27 07:32:00 # x\nb = 0x1F\nc = [1e6,2.5]", map[string]int{"a": 1, "b": 2, "c": 3, "c[0]": 3, "c[1]": 3}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var tree map[string]any
			if _, err := toml.Decode(test.text, &tree); err != nil {
				t.Fatalf("not TOML: %v", err)
			}
			root, _, _ := scan(&source{}, test.text, 1, nil)
			got := lines(root)
			for path, line := range test.want {
				if got[path] != line {
					t.Errorf("%s is in line %d, want %d", path, got[path], line)
				}
			}
			for path := range got {
				if _, ok := test.want[path]; !ok {
					t.Errorf("found %s, which is not there", path)
				}
			}
		})
	}
}

func TestScanHeaders(t *testing.T) {
	_, got, _ := scan(&source{}, "a = '''\n[x]'''\n[[routes]]\n[[routes]]\n[pools.\"a.b\"] # c\n [ routes . tls ]", 1, nil)
	want := []header{{[]string{"routes"}, 4, true}, {[]string{"pools", "a.b"}, 5, false}, {[]string{"routes", "tls"}, 6, false}}
	same := func(a, b header) bool {
		return slices.Equal(a.path, b.path) && a.line == b.line && a.array == b.array
	}
	if !slices.EqualFunc(got, want, same) {
		t.Errorf("headers %v, want %v", got, want)
	}
}

// FuzzScan holds the scanner against what toml makes of the same text: every key and
// element that toml decodes has a place, in a line that exists, and nothing else has.
func FuzzScan(f *testing.F) {
	f.Add("[[r]]\na = [1, {b = 2}]\n[r.t]\n'c' = \"\"\"\n\"\"\"\n")
	f.Add("a.\"b\\u0063\".d = { e = '''\n'''}, # f\n")
	f.Add("x = [[1,\n2], [\"a]\"]]\n[y]\n[y.z]\n")
	f.Fuzz(func(t *testing.T, text string) {
		text = strings.TrimPrefix(text, byteOrderMark) // as it is done to a file
		root, _, _ := scan(&source{}, text, 1, nil)    // ends, whatever the text
		var tree map[string]any
		md, err := toml.Decode(text, &tree)
		if err != nil {
			return
		}
		last := strings.Count(text, "\n") + 1
		compare(t, "", tree, root, last)
		for _, key := range md.Keys() {
			if len(key) == 0 || root.at(key[0]) == nil {
				t.Fatalf("no place for %q", key)
			}
		}
	})
}

// compare fails unless p has the shape of v.
func compare(t *testing.T, path string, v any, p *value, last int) {
	if p == nil {
		t.Fatalf("no place for %s", path)
	}
	if p.line < 1 || int(p.line) > last {
		t.Fatalf("%s is in line %d of %d", path, p.line, last)
	}
	var items []any
	switch v := v.(type) {
	case map[string]any:
		if len(v) != len(p.keys()) {
			t.Fatalf("%s has keys %q, toml has %v", path, p.keys(), v)
		}
		for key, v := range v {
			compare(t, path+"."+key, v, p.at(key), last)
		}
		return
	case []map[string]any:
		for _, item := range v {
			items = append(items, item)
		}
	case []any:
		items = v
	}
	if len(items) != len(p.array) {
		t.Fatalf("%s has %d elements, toml has %d", path, len(p.array), len(items))
	}
	for i, item := range items {
		compare(t, path+"[]", item, p.array[i], last)
	}
}
