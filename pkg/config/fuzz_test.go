package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snicketlb/snicket/pkg/config"
)

// FuzzLoadAfter: a file read after another is read as it is by itself.
func FuzzLoadAfter(f *testing.F) {
	const (
		a = "[[routes]]\nhosts = [\"a\"]\nmode = \"reject\"\n"
		b = "[[routes]]\nhosts = [\"b\"]\npool = \"p\"\n[pools.p]\nbackends = [\"10.0.0.1:1\"]\n"
	)
	f.Add(a+b, b+a)
	f.Add(a+b, "x = '''\n"+a+a+b+"'''")
	f.Add(a+strings.Replace(b, "]\n", "\n]\n", 1), a+b+"[routes.timeouts]\nidle = \"1s\"")
	path := filepath.Join(f.TempDir(), "snicket.toml")
	f.Fuzz(func(t *testing.T, before, now string) {
		if text := before + now; strings.Contains(text, "/") || strings.Contains(text, "..") || strings.Contains(text, "include") {
			return // patterns that would walk the machine's file system
		}
		former, problems := config.Parse(path, []byte(before))
		if problems.Err() != nil {
			return
		}
		if err := os.WriteFile(path, []byte(now), 0o600); err != nil {
			t.Fatal(err)
		}
		checkAfter(t, path, former)
	})
}

// FuzzLoad: no text makes Parse panic, every problem has its place and fits on a
// line, and a configuration that is accepted survives being written and read again.
func FuzzLoad(f *testing.F) {
	archives, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(archives) == 0 {
		f.Fatalf("no goldens to begin with: %v", err)
	}
	for _, path := range archives {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		_, files := unpack(text)
		f.Add(files[0].data)
	}
	dir := f.TempDir()
	for _, name := range []string{"a.pem", "a.key", "ca.pem", "www.pem"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			f.Fatal(err)
		}
	}
	name := filepath.Join(dir, "snicket.toml")
	f.Fuzz(func(t *testing.T, text []byte) {
		if strings.Contains(string(text), "*/") || strings.Contains(string(text), "..") {
			return // patterns that would walk the machine's file system
		}
		c, problems := config.Parse(name, text)
		if c == nil {
			t.Fatal("no configuration")
		}
		for _, p := range problems {
			if p.Pos.File == "" || p.Text == "" || strings.ContainsAny(p.String(), "\r\n") {
				t.Errorf("problem %q", p)
			}
		}
		if problems.Err() == nil {
			checkRoundTrip(t, name, c)
		}
	})
}
