package config_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/snicketlb/snicket/pkg/config"
)

// write makes files in a new directory, with paths below it as keys, and goes there.
func write(t *testing.T, files map[string]string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	return dir
}

func texts(problems config.Problems) []string {
	var out []string
	for _, p := range problems {
		out = append(out, p.String())
	}
	return out
}

func TestLoadMissingFile(t *testing.T) {
	write(t, nil)
	c, problems := config.Load("snicket.toml")
	if c == nil {
		t.Error("no configuration, which a caller that looks for more problems would follow")
	}
	want := []string{"snicket.toml: no such file or directory: the file is named by -c FILE"}
	if got := texts(problems); !slices.Equal(got, want) {
		t.Errorf("problems %q, want %q", got, want)
	}
	if problems.Err() == nil {
		t.Error("no error")
	}
}

// TestLoadOddFiles: nothing that stands in a file's place is waited for, or taken for a
// configuration that routes nothing.
func TestLoadOddFiles(t *testing.T) {
	write(t, map[string]string{"empty.toml": "", "comment.toml": "# nothing yet\n", "dir/x": ""})
	if err := syscall.Mkfifo("fifo.toml", 0o600); err != nil {
		t.Fatal(err)
	}
	const nothing = `is empty: begin with [[routes]], hosts = ["…"], backends = ["…"]; a full disk or a half-done write leaves such a file`
	for _, tc := range []struct{ path, want string }{
		{"empty.toml", nothing},
		{"fifo.toml", nothing}, // nobody writes
		{"/dev/null", nothing},
		{"/dev/zero", "is more than the limit of 64MiB: the file is named by -c FILE"},
		{"dir", "is a directory: the file is named by -c FILE"},
		{"comment.toml", ""},
	} {
		_, problems := config.Load(tc.path)
		if got, want := fmt.Sprint(problems.Err()), tc.path+": "+tc.want; got != want && (tc.want != "" || problems.Err() != nil) {
			t.Errorf("%s: got %s, want %s", tc.path, got, want)
		}
	}
	// An included file may be empty, and be as large as the main one.
	write(t, map[string]string{"main.toml": "include = [\"empty.toml\", \"large.toml\"]\n", "empty.toml": "", "large.toml": ""})
	if err := os.Truncate("large.toml", 65<<20); err != nil {
		t.Fatal(err)
	}
	_, problems := config.Load("main.toml")
	if got, want := fmt.Sprint(problems.Err()), `main.toml:1: include "large.toml": is more than the limit of 64MiB`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	// A pipe that somebody writes to is read to its end, as of `-c <(PROGRAM)`.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	go func() {
		w.WriteString("[[routes]]\nhosts = [\"a.test\"]\n")
		w.WriteString("mode = \"reject\"\n")
		w.Close()
	}()
	c, problems := config.Load(fmt.Sprintf("/proc/self/fd/%d", r.Fd()))
	if problems.Err() != nil || len(c.Routes) != 1 || c.Routes[0].Mode != config.Reject {
		t.Errorf("got %+v, %v; want the route in the pipe", c.Routes, problems)
	}
}

// TestPositions: what can turn out bad after loading says where it was written.
func TestPositions(t *testing.T) {
	dir := write(t, map[string]string{
		"etc/snicket.toml": `include = ["conf.d/*.toml"]
[listeners.https]
accept_proxy_from = []
[listeners.other]
accept_proxy_from = []
address = ":8443"
[[routes]]
name = "first"
hosts = [
  "a.test",
  "b.test",
]
mode = "terminate"
pool = "web"
[routes.tls]
certificates = [
  "../a.pem",
  { key = "../a.key",
    cert = "../a.pem" },
]
client_ca = "../a.pem"
crl = "../a.pem"
[routes.http]
deny = [
  { path = "/a" },
]
redirects = [
  { path = "/b", to = "/c" },
]
[tls]
ech_keys = [
  "../a.key",
]
[tls.tickets]
secret_file = "../secret"
[acme]
ca = "../a.pem"
[log]
access = "x.log"
`,
		"etc/conf.d/web.toml": `[[routes]]
hosts = ["c.test"]
backends = [
  "10.0.0.7:443",
]
[pools.web]
backends = [
  "10.0.0.5:443",
  { name = "b",
    address = "10.0.0.6:443" }
]
[pools.web.tls]
ca = "../../a.pem"
cert = "../../a.pem"
`,
		"a.pem": "", "a.key": "", "secret": strings.Repeat("x", 32),
	})
	for _, secret := range []string{"a.key", "secret"} {
		if err := os.Chmod(filepath.Join(dir, secret), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, problems := config.Load("etc/snicket.toml")
	if len(problems) > 0 {
		t.Fatalf("problems %q", texts(problems))
	}
	const main, web = "etc/snicket.toml", "etc/conf.d/web.toml"
	if want := []string{main, web}; !slices.Equal(c.Files, want) {
		t.Errorf("files %q, want %q", c.Files, want)
	}
	got := map[string]config.Position{
		"listener, address by default": c.Listeners[0].Pos,
		"listener":                     c.Listeners[1].Pos,
		"route":                        c.Routes[0].Pos,
		"first host":                   c.Routes[0].Hosts[0].Pos,
		"second host":                  c.Routes[0].Hosts[1].Pos,
		"certificate":                  c.Routes[0].TLS.Certificates[0].Pos,
		"included route":               c.Routes[1].Pos,
		"pool":                         c.Pools[0].Pos,
		"backend":                      c.Pools[0].Backends[0].Pos,
		"backend as table":             c.Pools[0].Backends[1].Pos,
		"pool's tls":                   c.Pools[0].TLS.Pos,
		"ca":                           c.Pools[0].TLS.CA.Pos,
		"ca of probes":                 c.Pools[0].Health.CA.Pos,
		"client certificate":           c.Pools[0].TLS.Certificate.Pos,
		"pool of a route":              c.Pools[1].Pos,
		"its backend":                  c.Pools[1].Backends[0].Pos,
		"policy":                       c.Routes[0].TLS.Policy.Pos,
		"client ca":                    c.Routes[0].TLS.Policy.ClientCA.Pos,
		"crl":                          c.Routes[0].TLS.Policy.CRL.Pos,
		"http":                         c.Routes[0].HTTP.Pos,
		"deny":                         c.Routes[0].HTTP.Deny[0].Pos,
		"redirect":                     c.Routes[0].HTTP.Redirects[0].Pos,
		"ech key":                      c.TLS.ECHKeys[0].Pos,
		"ticket secret":                c.TLS.Tickets.Secret.Pos,
		"acme":                         c.ACME.Pos,
		"acme's ca":                    c.ACME.CA.Pos,
		"access":                       c.Log.AccessPos,
	}
	want := map[string]config.Position{
		"listener, address by default": {File: main, Line: 2},
		"listener":                     {File: main, Line: 6},
		"route":                        {File: main, Line: 7},
		"first host":                   {File: main, Line: 10},
		"second host":                  {File: main, Line: 11},
		"certificate":                  {File: main, Line: 17},
		"included route":               {File: web, Line: 1},
		"pool":                         {File: web, Line: 6},
		"backend":                      {File: web, Line: 8},
		"backend as table":             {File: web, Line: 10},
		"pool's tls":                   {File: web, Line: 12},
		"ca":                           {File: web, Line: 13},
		"ca of probes":                 {File: web, Line: 13},
		"client certificate":           {File: web, Line: 14},
		"pool of a route":              {File: web, Line: 3},
		"its backend":                  {File: web, Line: 4},
		"policy":                       {File: main, Line: 15},
		"client ca":                    {File: main, Line: 21},
		"crl":                          {File: main, Line: 22},
		"http":                         {File: main, Line: 23},
		"deny":                         {File: main, Line: 25},
		"redirect":                     {File: main, Line: 28},
		"ech key":                      {File: main, Line: 32},
		"ticket secret":                {File: main, Line: 35},
		"acme":                         {File: main, Line: 36},
		"acme's ca":                    {File: main, Line: 37},
		"access":                       {File: main, Line: 39},
	}
	for _, what := range slices.Sorted(maps.Keys(want)) {
		if got[what] != want[what] {
			t.Errorf("%s is at %s, want %s", what, got[what], want[what])
		}
	}
}

// TestIncludeByAbsolutePath: such files are called by their whole path, and a
// directory whose name looks like a pattern is none.
func TestIncludeByAbsolutePath(t *testing.T) {
	dir := write(t, map[string]string{
		"[x]*/snicket.toml": `include = ["more/*.toml", "DIR/more.toml"]`,
		"[x]*/more/a.toml":  "hots = 1",
		"more.toml":         "hots = 2",
	})
	text, err := os.ReadFile("[x]*/snicket.toml")
	if err != nil {
		t.Fatal(err)
	}
	_, problems := config.Parse("[x]*/snicket.toml", []byte(strings.ReplaceAll(string(text), "DIR", dir)))
	const unknown = `:1: unknown key "hots": known here: include, watch, listeners, routes, pools, tls, acme, timeouts, limits, admin, log`
	want := []string{"[x]*/more/a.toml" + unknown, dir + "/more.toml" + unknown}
	if got := texts(problems); !slices.Equal(got, want) {
		t.Errorf("problems %q, want %q", got, want)
	}
}

func TestProblems(t *testing.T) {
	warning := config.Problem{Pos: config.Position{File: "b", Line: 2}, Warning: true, Text: "odd", Hint: "mend it"}
	bad := config.Problem{Pos: config.Position{File: "b", Line: 1}, Text: "bad"}
	first := config.Problem{Pos: config.Position{File: "z"}, Text: "first"}
	elsewhere := config.Problem{Text: "no port left"}
	ps := config.Problems{warning, bad, elsewhere, first, warning}.Sort([]string{"z", "b"})
	want := []string{"z: first", "b:1: bad", "b:2: warning: odd: mend it", "no port left"}
	if got := texts(ps); !slices.Equal(got, want) {
		t.Errorf("sorted %q, want %q", got, want)
	}
	if got, want := ps.Err().Error(), "z: first\nb:1: bad\nno port left"; got != want {
		t.Errorf("error %q, want %q", got, want)
	}
	if got := ps.Warnings(); len(got) != 1 || got[0] != warning || got.Err() != nil {
		t.Errorf("warnings %v, error %v", got, got.Err())
	}
}

// TestIncompleteCertificates: whoever looks for the names that certificates cover is
// told when some are left out for a problem, and when a glob has no files.
func TestIncompleteCertificates(t *testing.T) {
	for _, tt := range []struct {
		name, certificates string
		want               bool
		problem            string // the first one; "" for none
	}{
		{name: "none", certificates: `certificates = []`},
		{name: "a file", certificates: `certificates = ["a.pem"]`},
		{
			name: "a glob without files", certificates: `certificates = ["none/*.pem"]`,
			problem: `snicket.toml:2: warning: certificates: "none/*.pem" matches no file: relative paths start at the file that holds them`,
		},
		{
			name: "a missing file", certificates: `certificates = ["a.pem", "b.pem"]`, want: true,
			problem: `snicket.toml:2: certificates "b.pem": no such file or directory: relative paths start at the file that holds them`,
		},
		{
			name: "a missing key", certificates: `certificates = [{ cert = "a.pem", key = "b.key" }]`, want: true,
			problem: `snicket.toml:2: key "b.key": no such file or directory: relative paths start at the file that holds them`,
		},
		{
			name: "a glob that is none", certificates: `certificates = ["["]`, want: true,
			problem: `snicket.toml:2: certificates: "[": syntax error in pattern: close the bracket, or write [[] for one that means itself`,
		},
		{
			name: "a glob that finds a directory", certificates: `certificates = ["d*"]`, want: true,
			problem: `snicket.toml:2: certificates "DIR/d": is a directory: name the file, or "DIR/*.pem" for all in it`,
		},
		{
			name: "an entry of another type", certificates: `certificates = [5]`, want: true,
			problem: `snicket.toml:2: an entry of certificates is a whole number, not a string: write "www.pem", "certs/*.pem" or { cert = "www.pem", key = "www.key" }`,
		},
		{
			name: "a value of another type", certificates: `certificates = "a.pem"`, want: true,
			problem: `snicket.toml:2: certificates is a string, not a list: put it in brackets: certificates = ["a.pem"]`,
		},
		{
			name: "a misspelled key", certificates: `certificate = ["a.pem"]`, want: true,
			problem: `snicket.toml:2: unknown key "certificate": did you mean "certificates"?`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := write(t, map[string]string{"a.pem": "", "d/x": ""})
			const routes = "[[routes]]\nhosts = [\"a.test\"]\nmode = \"terminate\"\nbackends = [\"10.0.0.5:80\"]\n"
			shared, problems := config.Parse("snicket.toml", []byte("[tls]\n"+tt.certificates+"\n"+routes))
			if got := shared.TLS.Incomplete; got != tt.want {
				t.Errorf("[tls] is incomplete: %v, want %v", got, tt.want)
			}
			got := ""
			if len(problems) > 0 {
				got = strings.ReplaceAll(problems[0].String(), dir, "DIR")
			}
			if got != tt.problem {
				t.Errorf("problem %q, want %q", got, tt.problem)
			}
			own, _ := config.Parse("snicket.toml", []byte(routes+"[routes.tls]\n"+tt.certificates))
			if got := own.Routes[0].TLS.Incomplete; got != tt.want {
				t.Errorf("[routes.tls] is incomplete: %v, want %v", got, tt.want)
			}
		})
	}
}

// A byte order mark, as some editors write one, is no part of the text; a second one is.
func TestByteOrderMark(t *testing.T) {
	const text = "[[routes]]\nhosts = [\"a.test\"]\nmode = \"reject\"\n"
	c, problems := config.Parse("x.toml", []byte("\ufeff"+text))
	if problems != nil || len(c.Routes) != 1 || c.Routes[0].Pos.Line != 1 {
		t.Errorf("got %+v, problems %v", c.Routes, problems)
	}
	if _, problems := config.Parse("x.toml", []byte("\ufeff\ufeff"+text)); problems.Err() == nil {
		t.Error("two are taken")
	}
}
