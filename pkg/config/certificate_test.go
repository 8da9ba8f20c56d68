package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/snicketlb/snicket/pkg/config"
)

// TestCertificateEntries: an entry names the files that are there when it is asked.
func TestCertificateEntries(t *testing.T) {
	dir := write(t, map[string]string{
		"[etc]/snicket.toml": `[tls]
certificates = [
  "one.pem",
  "certs/*.pem",
  "more",
  { cert = "two.pem", key = "one.pem" },
]
[[routes]]
hosts = ["a.test"]
backends = ["10.0.0.5:443"]
`,
		"[etc]/one.pem": "", "[etc]/two.pem": "", "[etc]/certs/b.pem": "", "[etc]/certs/b.key": "", "[etc]/more/m.pem": "",
	})
	c, problems := config.Load("[etc]/snicket.toml")
	if problems.Err() != nil {
		t.Fatal(problems)
	}
	etc := filepath.Join(dir, "[etc]")
	expect := func(when string, want ...string) {
		t.Helper()
		var got []string
		for _, e := range c.TLS.CertificateEntries {
			for _, f := range e.Files() {
				text := fmt.Sprintf("%d: %s %s", f.Pos.Line, f.Cert, filepath.Base(f.Key))
				got = append(got, strings.ReplaceAll(text, etc+"/", ""))
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", when, got, want)
		}
	}
	const one, two, more = "3: one.pem one.pem", "6: two.pem one.pem", "5: more/m.pem m.pem"
	expect("at first", one, "4: certs/b.pem b.key", more, two)
	change := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	change(os.WriteFile(filepath.Join(etc, "certs/a.pem"), nil, 0o600))
	change(os.WriteFile(filepath.Join(etc, "certs/.c.pem"), nil, 0o600))
	change(os.WriteFile(filepath.Join(etc, "more/m.key"), nil, 0o600))
	change(os.Remove(filepath.Join(etc, "two.pem")))
	expect("with files more and one gone", one, "4: certs/a.pem a.pem", "4: certs/b.pem b.key", "5: more/m.pem m.key", two)
	change(os.RemoveAll(filepath.Join(etc, "certs")))
	expect("without a directory", one, "5: more/m.pem m.key", two)
}
