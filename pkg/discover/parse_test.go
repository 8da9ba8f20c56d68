package discover_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/snicketlb/snicket/pkg/config"
	"github.com/snicketlb/snicket/pkg/discover"
)

func TestParseFile(t *testing.T) {
	got, err := discover.ParseFile("/etc/b/backends.json", []byte(`[
  "10.0.1.5:8080", "[2001:DB8::5]:443",
  {"address": "10.0.1.6:8080", "name": "b2", "weight": 2, "backup": true, "max_connections": 500},
  {"backup": false, "address": "unix:run/app.sock"},
  {"address": "App.internal:443"}
]
`))
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, b := range got {
		lines = append(lines, fmt.Sprintf("%s at %s, kind %d, weight %d, tier %d, max %d", b.Name, b.Address, b.Address.Kind, b.Weight, b.Tier, b.MaxConnections))
	}
	const want = `10.0.1.5:8080 at 10.0.1.5:8080, kind 1, weight 1, tier 0, max 0
[2001:db8::5]:443 at [2001:db8::5]:443, kind 1, weight 1, tier 0, max 0
b2 at 10.0.1.6:8080, kind 1, weight 2, tier 1, max 500
unix:/etc/b/run/app.sock at unix:/etc/b/run/app.sock, kind 2, weight 1, tier 0, max 0
app.internal:443 at app.internal:443, kind 3, weight 1, tier 0, max 0`
	if got := strings.Join(lines, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestParseFileRefuses(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"nothing", " \n", "f.json:2: the file is empty (byte 2): write the whole file under another name, then rename it"},
		{"half a file", "[\"10.0.0.1:1\",\n \"10.0", "f.json:2: unexpected end of JSON input (byte 21): write the whole file"},
		{"a comma too many", "[\n\"10.0.0.1:1\",\n]", "f.json:3: invalid character ']' looking for beginning of value (byte 16): "},
		{"something behind", "[\"10.0.0.1:1\"]\nx", "f.json:2: invalid character 'x' after top-level value (byte 15): "},
		{"no list", ` {"address": "10.0.0.1:1"}`, `f.json:1: the file is not a list (byte 1): write ["10.0.0.5:443"]`},
		{"null", "null", "f.json:1: the file is not a list (byte 0)"},
		{"an empty list", "\n[ ]", "f.json:2: the list has no backends (byte 1): "},
		{"a number", "[\n\n1]", "f.json:3: an entry is neither a string nor an object (byte 3): "},
		{"no port", `["10.0.0.1"]`, `f.json:1: backend "10.0.0.1" has no port (byte 1): write "10.0.0.1:443"`},
		{"no address", "[\"10.0.0.1:1\",\n {\"weight\": 2}]", "f.json:2: a backend without an address (byte 16): write "},
		{"an address that is none", "[{\"weight\": 2,\n\"address\" : 7}]", "f.json:2: address is no string (byte 27)"},
		{"a bad address in an object", "[{\"weight\": 2,\n\"address\" : \"x\"}]", `f.json:2: backend "x" has no port (byte 27): write "x:443"`},
		{"an unknown key", `[{"address": "10.0.0.1:1", "wieght": 2}]`, `f.json:1: unknown key "wieght" (byte 27): did you mean "weight"?`},
		{"a key in capitals", `[{"address": "10.0.0.1:1", "Weight": 2}]`, `f.json:1: unknown key "Weight" (byte 27): did you mean "weight"?`},
		{"a key twice", `[{"address": "10.0.0.1:1", "address": "10.0.0.2:1"}]`, `f.json:1: key "address" twice (byte 27): drop one of them`},
		{"weight 0", `[{"address": "10.0.0.1:1", "weight": 0}]`, `f.json:1: weight is "0", want a whole number from 1 to 256 (byte 37)`},
		{"weight 257", `[{"address": "10.0.0.1:1", "weight": 257}]`, `weight is "257", want`},
		{"half a weight", `[{"address": "10.0.0.1:1", "weight": 1.5}]`, `weight is "1.5", want`},
		{"weight null", `[{"address": "10.0.0.1:1", "weight": null}]`, `weight is "null", want`},
		{"weight in quotes", `[{"address": "10.0.0.1:1", "weight": "2"}]`, `weight is "\"2\"", want`},
		{"fewer than no connections", `[{"address": "10.0.0.1:1", "max_connections": -1}]`, `max_connections is "-1", want a whole number from 0`},
		{"backup 1", `[{"address": "10.0.0.1:1", "backup": 1}]`, "backup is neither true nor false (byte 37)"},
		{"an empty name", `[{"address": "10.0.0.1:1", "name": ""}]`, "name is empty (byte 35)"},
		{"a name with a slash", `[{"address": "10.0.0.1:1", "name": "a/b"}]`, `"a/b" is no name for a backend (byte 1): use letters`},
		{"a name twice", "[\"10.0.0.1:1\",\n\"10.0.0.1:1\"]", `f.json:2: backend "10.0.0.1:1" is also in line 1 (byte 15): drop it`},
		{"several", "[\"a\", \"b\", 3]", `f.json:1: backend "a" has no port (byte 1): write "a:443" (and 2 more)`},
		{"too many", "[" + strings.Repeat(`"a:1",`, discover.MaxBackends) + `"b:1"]`, `is also in line 1`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := discover.ParseFile("f.json", []byte(tt.text))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v and the error %v\nwant one with %s", got, err, tt.want)
			}
		})
	}
}

func TestParseFileLimit(t *testing.T) {
	list := func(n int) []byte {
		var all []string
		for i := range n {
			all = append(all, fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&255, i&255))
		}
		text, err := json.Marshal(all)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	if got, err := discover.ParseFile("f", list(discover.MaxBackends)); err != nil || len(got) != discover.MaxBackends {
		t.Errorf("got %d backends and %v at the limit", len(got), err)
	}
	if _, err := discover.ParseFile("f", list(discover.MaxBackends+1)); err == nil || !strings.Contains(err.Error(), "more than the limit of 10000 backends") {
		t.Errorf("got %v above the limit", err)
	}
}

// FuzzParseFile holds that any text gives backends by the rules or an error at a place
// that exists, and that what was read reads the same when written again.
func FuzzParseFile(f *testing.F) {
	for _, seed := range []string{
		`["10.0.1.5:8080", {"address": "10.0.1.6:8080", "name": "b2", "weight": 2, "backup": true, "max_connections": 500}]`,
		`["unix:/a", "b.test:1"]`, `[`, `[{}]`, "[{\"address\":\"a:1\"}\n,1]", "\xef\xbb\xbf[]", `[{"n\u0061me":"x"}]`, `{"a":[}`, `"a:1"`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := discover.ParseFile("/d/f", text)
		if err != nil {
			at, ok := errors.AsType[*discover.FileError](err)
			if !ok || at.Offset < 0 || at.Offset > len(text) || at.Line != 1+strings.Count(string(text[:at.Offset]), "\n") || at.Text == "" {
				t.Fatalf("got the error %#v", err)
			}
			if got != nil || strings.ContainsRune(err.Error(), '\n') {
				t.Fatalf("got %v and %q", got, err)
			}
			return
		}
		if len(got) == 0 || len(got) > discover.MaxBackends {
			t.Fatalf("got %d backends", len(got))
		}
		seen := map[string]bool{}
		var again []map[string]any
		for _, b := range got {
			if seen[b.Name] || b.Weight < 1 || b.Weight > config.MaxWeight || b.Tier < 0 || b.Tier > 1 || b.MaxConnections < 0 || b.Address.String() == "" {
				t.Fatalf("got %+v", b)
			}
			seen[b.Name] = true
			again = append(again, map[string]any{
				"address": b.Address.String(), "name": b.Name, "weight": b.Weight, "backup": b.Tier == 1, "max_connections": b.MaxConnections,
			})
		}
		written, err := json.Marshal(again)
		if err != nil {
			t.Fatal(err)
		}
		second, err := discover.ParseFile("/d/f", written)
		if err != nil || fmt.Sprint(second) != fmt.Sprint(got) {
			t.Fatalf("got %v and %v when read again, want %v", second, err, got)
		}
	})
}
