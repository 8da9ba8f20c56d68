package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// fillers are routes by the hundred, numbered from n.
func fillers(n int) string {
	var text strings.Builder
	for i := range 2 * runLength {
		fmt.Fprintf(&text, "[[routes]]\nhosts = [\"h%d.test\"] # one\npool = 'p'\n", n+i)
	}
	return text.String()
}

// checkCut fails unless a text is read in runs, if it is, as it is read whole.
func checkCut(t *testing.T, text string) (cut bool) {
	t.Helper()
	got, headers, ok := (*known)(nil).parseCut(&source{}, text)
	if !ok {
		return false
	}
	want, wanted, problems := parseFile(&source{text: text})
	if problems != nil {
		t.Fatalf("read in runs, though %v", problems)
	}
	ofRoutes := func(h header) bool { return h.path[0] == "routes" } // whose own are where they belong
	same := func(a, b header) bool { return reflect.DeepEqual(a, b) }
	if got, want := slices.DeleteFunc(headers, ofRoutes), slices.DeleteFunc(wanted, ofRoutes); !slices.EqualFunc(got, want, same) {
		t.Fatalf("headers %v, want %v", got, want)
	}
	compareValues(t, "", got, want)
	return true
}

func compareValues(t *testing.T, path string, got, want *value) {
	if got.kind != want.kind || got.line != want.line || !reflect.DeepEqual(got.scalar, want.scalar) || !slices.Equal(got.keys(), want.keys()) || len(got.array) != len(want.array) {
		t.Fatalf("%s: got %+v, want %+v", path, got, want)
	}
	if strings.HasPrefix(path, "/routes/") && strings.Count(path, "/") == 2 {
		if a, b := got.src.text[got.from:got.to], want.src.text[want.from:want.to]; a != b {
			t.Fatalf("%s: text %q, want %q", path, a, b)
		}
	}
	for i, key := range got.keys() {
		compareValues(t, path+"/"+key, got.keyed.values[i], want.keyed.values[i])
	}
	for i := range got.array {
		compareValues(t, fmt.Sprintf("%s/%d", path, i), got.array[i], want.array[i])
	}
}

func TestCut(t *testing.T) {
	for _, test := range []struct {
		name, middle string
		cut          bool
	}{
		{"nothing", "", true},
		{"a pool", "[pools.p]\nbackends = [\"10.0.0.1:1\"]\n", true},
		{"parts", "[[routes]]\nhosts = [\"x\"]\n[routes.tls]\nacme = true\n [ routes . http ]\n[[routes.http.deny]]\npath = \"/\"\n", true},
		{"a list over lines", "[[routes]]\nhosts = [\n\"x\",\n[]]\n", false},
		{"a list in lines of its own", "[[routes]]\nhosts = [\n\"x\",\n]\n", true},
		{"comments", "# [[routes]]\n  # x\n\n", true},
		{"ends of lines", "[[routes]]\r\nhosts = [\"x\"]\r\n\r\n", true},
		{"spaces", "\t[[ routes ]] # x\nhosts = [\"x\"]\n", true},
		{"a string over lines", "[[routes]]\nname = '''\n[[routes]]\n'''\n", false},
		{"a string over routes", "[[routes]]\nname = '''\n" + fillers(1000) + "'''\n", false},
		{"a string in a pool", "[pools.p]\nx = '''\n[[routes]]\n[[routes]]\n'''\n", false},
		{"lists within a list", "[pools.p]\nx = [\n[1],\n[[routes]]\n", false},
		{"quotes", "[\"routes\".tls]\n", false},
		{"a part elsewhere", "[pools.p]\n[routes.tls]\n", false},
		{"another table by the name", "[routes]\n", false},
		{"no TOML", "[[routes]]\nhosts = x\n", false},
		{"no TOML elsewhere", "[pools.p]\nx = y\n", false},
		{"a key twice", "[pools.p]\n[pools.p]\n", false},
		{"a header and more", "[[routes]] x = 1\n", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := checkCut(t, fillers(0)+test.middle+fillers(5000)); got != test.cut {
				t.Errorf("read in runs: %t, want %t", got, test.cut)
			}
		})
	}
	t.Run("a table above", func(t *testing.T) {
		for _, head := range []string{"routes = []\n", "[routes]\nx = 1\n", "routes.x = 1\n", "routes = [{}]\n[x]\ny = '''\n[[routes]]\n'''\n"} {
			if checkCut(t, head+fillers(0)) {
				t.Errorf("read in runs below %q", head)
			}
		}
	})
}

// FuzzCut: a file read in runs is read as it is read whole.
func FuzzCut(f *testing.F) {
	f.Add("routes = [{}]\n[x]\ny = '''\n[[routes]]\n'''\n", "", "")
	f.Add("x = '''\n", "[[routes]]\n'''\n", "")
	f.Add("", "[[routes]]\na = [\n", "]\n[routes.tls]")
	f.Add("[pools.p]\n", "[routes.x]\n", "[[routes]] # x\r\n")
	a, b := fillers(0), fillers(5000)
	f.Fuzz(func(t *testing.T, head, middle, tail string) { checkCut(t, head+a+middle+b+tail) })
}
