package config_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/snicketlb/snicket/pkg/config"
)

// checkAfter fails unless what is read after former is what is read without it.
func checkAfter(t *testing.T, path string, former *config.Config) *config.Config {
	t.Helper()
	got, problems := config.LoadAfter(path, former)
	want, wanted := config.Load(path)
	text, _ := os.ReadFile(path)
	if !reflect.DeepEqual(problems, wanted) {
		t.Fatalf("problems\n%v\nwant\n%v\nof\n%s", problems, wanted, text)
	}
	if !reflect.DeepEqual(exported(got), exported(want)) {
		t.Fatalf("read after another\n%+v\nwant\n%+v\nof\n%s", exported(got), exported(want), text)
	}
	if problems.Err() != nil {
		return former
	}
	return got
}

// exported is c with its Positions and without what only the package knows.
func exported(c *config.Config) *config.Config {
	out := *c
	v := reflect.ValueOf(&out).Elem()
	v.Set(copied(v, false))
	return &out
}

// TestLoadAfter edits a file at random, line by line and route by route, also so that it
// is no configuration, and reads it after what was read last.
func TestLoadAfter(t *testing.T) {
	dir := t.TempDir()
	path, beside := filepath.Join(dir, "snicket.toml"), filepath.Join(dir, "more.toml")
	route := func(n int) []string {
		text := fmt.Sprintf("[[routes]]\nhosts = [\"h%d.test\", \"i%d.test\"]\npool = \"p\"\n", n, n)
		switch n % 7 {
		case 0:
			text += "  # [[routes]]\nfrom = [\"10.0.0.0/8\",\n\"192.0.2.0/24\"]\n"
		case 1:
			text = strings.Replace(text, "pool = \"p\"\n", "mode = \"reject\" # refused\n\n", 1)
		case 2:
			text += "[routes.timeouts]\nidle = \"5m\"\n"
		case 3:
			text = strings.Replace(text, "pool = \"p\"", "backends = [\"10.0.0.1:1\"]\r", 1)
		case 4:
			text += "alpn = ['''h2''']\n\n"
		}
		return strings.SplitAfter(strings.TrimSuffix(text, "\n"), "\n")
	}
	odd := []string{
		"[[routes]]\n", "[[ routes ]]\n", "[routes.timeouts]\n", "[routes]\n", "[pools.q]\n", "backends = [\"10.0.0.2:2\"]\n", "\n", "# x\n",
		"x = '''\n", "'''\n", "\"\"\"\n", "[\"routes\".timeouts]\n", "hosts = [\n", "]\n", "[[routes]] hosts = []\n", "routes = []\n",
		"[timeouts]\n", "idle = \"7m\"\n", "[listeners.more]\naddress = \":8443\"\n", "mode = \"reject\"\n", "pool = \"q\"\n", "\ufeff",
		"[pools.p.health]\nsend = '''\n",
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	write := func(path string, lines []string) {
		var text strings.Builder
		for _, line := range lines {
			text.WriteString(strings.TrimSuffix(line, "\n"))
			text.WriteByte('\n')
		}
		if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	head := []string{"include = [\"more.toml\"]\n", "[pools.p]\n", "backends = [\"10.0.0.9:443\"]\n"}
	good, lines, further, next := 0, slices.Clone(head), []string(nil), 100
	for n := range 12 {
		lines = append(lines, route(n)...)
		further = append(further, route(20+n)...)
	}
	var former *config.Config
	wasLines, wasFurther := lines, further // when they were good
	for range 2000 {
		file := &lines
		if random.IntN(3) == 0 {
			file = &further
		}
		*file = slices.Clone(*file)
		for range 1 + random.IntN(2) {
			at := random.IntN(len(*file) + 1)
			last := min(at+random.IntN(6), len(*file))
			switch random.IntN(6) {
			case 0:
				*file = slices.Delete(*file, at, last)
			case 1:
				*file = slices.Insert(*file, at, odd[random.IntN(len(odd))])
			case 2:
				*file = slices.Insert(*file, at, (*file)[at:last]...)
			case 3, 4: // before a route, where it harms nothing
				for at < len(*file) && !strings.HasPrefix((*file)[at], "[[routes]]") {
					at++
				}
				*file = slices.Insert(*file, at, route(next)...)
				next++
			case 5: // a whole route
				for at < len(*file) && !strings.HasPrefix((*file)[at], "[[routes]]") {
					at++
				}
				for last = min(at+1, len(*file)); last < len(*file) && !strings.HasPrefix((*file)[last], "["); {
					last++
				}
				*file = slices.Delete(*file, at, last)
			}
		}
		write(path, lines)
		write(beside, further)
		now := checkAfter(t, path, former)
		switch {
		case now != former:
			former, wasLines, wasFurther = now, lines, further
			good++
		case random.IntN(4) > 0: // else the fault stays for a while
			lines, further = wasLines, wasFurther
		}
		if len(lines) > 200 {
			lines = slices.Clone(head)
		}
		if len(further) > 200 {
			further = nil
		}
	}
	if good < 500 {
		t.Errorf("of the files %d were good", good)
	}
}

// Routes whose text has not changed are the same rows, unless they stand elsewhere.
func TestLoadAfterShares(t *testing.T) {
	path := filepath.Join(t.TempDir(), "snicket.toml")
	load := func(text string, former *config.Config) *config.Config {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, problems := config.LoadAfter(path, former)
		if problems != nil {
			t.Fatal(problems)
		}
		return c
	}
	const first, b, c, pool = "[[routes]]\nhosts = [\"a.test\"]\nmode = \"reject\"\n", "[[routes]]\nhosts = [\"b.test\"]\npool = \"p\"\n",
		"[[routes]]\nhosts = [\"c.test\"]\npool = \"p\"\n", "[pools.p]\nbackends = [\"10.0.0.1:1\"]\n"
	was := load(first+b+c+pool, nil)
	for _, test := range []struct {
		name, text  string
		same, moved []bool // of each route: whether Same holds, and whether it is another row
	}{
		{"nothing", first + b + c + pool, []bool{false, true, true}, []bool{true, false, false}},
		{"a pool", first + b + c + pool + "retries = 1\n", []bool{false, true, true}, []bool{true, false, false}},
		{"a line above", "\n" + first + b + c + pool, []bool{false, true, true}, []bool{true, true, true}},
		{"one route", first + strings.Replace(b, "\n", "\nmax_connections = 1\n", 1) + c + pool, []bool{false, false, true}, []bool{true, true, true}},
		{"timeouts", first + b + c + pool + "[timeouts]\nidle = \"5m\"\n", []bool{false, false, false}, []bool{true, true, true}},
		{"a listener", first + b + c + pool + "[listeners.x]\naddress = \":1\"\n", []bool{false, false, false}, []bool{true, true, true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			now := load(test.text, was)
			for i, r := range now.Routes {
				if got := r.Same(was.Routes[i]); got != test.same[i] {
					t.Errorf("route %s is the same: %t, want %t", r.Name, got, test.same[i])
				}
				if got := r != was.Routes[i]; got != test.moved[i] {
					t.Errorf("route %s is another row: %t, want %t", r.Name, got, test.moved[i])
				}
			}
		})
	}
}

// What stands twice is refused, however much else has moved.
func TestLoadAfterTwice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "snicket.toml")
	write := func(routes ...string) {
		t.Helper()
		text := "[pools.p]\nbackends = [\"10.0.0.1:1\"]\n" + strings.Join(routes, "")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var routes []string
	for i := range 60 {
		routes = append(routes, fmt.Sprintf("[[routes]]\nname = \"n%d\"\nhosts = [\"h%d.test\"]\npool = \"p\"\n", i, i))
	}
	write(routes...)
	c := checkAfter(t, path, nil)
	slices.Reverse(routes)
	write(routes...)
	checkAfter(t, path, c)
	for _, again := range []string{
		routes[30],
		strings.Replace(routes[30], "h29", "x", 1),
		strings.Replace(routes[30], "n29", "x", 1),
		strings.Replace(routes[30], "\"h29.test\"", "\"x\", \"h29.test\"", 1),
	} {
		write(append(slices.Clone(routes), again)...)
		if checkAfter(t, path, c) != c {
			t.Errorf("%q is taken", again)
		}
	}
}

// A configuration keeps nothing of those before but the routes that it shares with them:
// each route has a text of its own to be known by, not the file in which that was.
func TestLoadAfterKeeps(t *testing.T) {
	const routes, loads = 5000, 60
	path := filepath.Join(t.TempDir(), "snicket.toml")
	var text strings.Builder
	text.WriteString("[listeners.x]\naddress = \":1\"\n[pools.p]\nbackends = [\"10.0.0.1:1\"]\n")
	for i := range routes {
		fmt.Fprintf(&text, "[[routes]]\nhosts = [\"h%d.test\"]\npool = \"p\"\n", i)
	}
	var c *config.Config
	load := func(n int) int64 {
		for range n {
			fmt.Fprintf(&text, "[[routes]]\nhosts = [\"more%d.test\"]\npool = \"p\"\n", text.Len())
			if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
				t.Fatal(err)
			}
			next, problems := config.LoadAfter(path, c)
			if problems != nil {
				t.Fatal(problems)
			}
			c = next
		}
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := load(2)
	if grown := load(loads) - before; grown > loads*int64(text.Len())/64 {
		t.Errorf("%d loads of %d bytes each left %d", loads, text.Len(), grown)
	}
	if got := len(c.Routes); got != routes+2+loads {
		t.Errorf("%d routes", got)
	}
}
