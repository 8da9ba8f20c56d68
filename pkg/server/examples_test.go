package server_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/certs"
	"github.com/snicketlb/snicket/pkg/config"
	"github.com/snicketlb/snicket/pkg/server"
)

// TestExamples: of the configurations that ship with Snicket, and of those in the guide
// to TLS, a check has nothing to say, not even a warning, given certificates for their
// hosts and the other files they name.
func TestExamples(t *testing.T) {
	paths, err := filepath.Glob("../../examples/configs/*.toml")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	examples := map[string][]byte{}
	for _, path := range append(paths, "../../examples/ha/snicket.toml") {
		if examples[filepath.Base(path)], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	guide, err := os.ReadFile("../../docs/tls.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```toml\n(.*?)```").FindAllSubmatch(guide, -1)
	if len(blocks) < 4 {
		t.Fatalf("got %d configurations in the guide, want more", len(blocks))
	}
	for i, block := range blocks {
		examples[fmt.Sprintf("tls.md#%d", i+1)] = block[1]
	}
	if len(examples) != len(paths)+1+len(blocks) {
		t.Fatalf("got %d examples: two files have one name", len(examples))
	}
	for name, text := range examples {
		t.Run(name, func(t *testing.T) {
			path := lab.WriteFile(t, filepath.Join(t.TempDir(), "snicket.toml"), text)
			c, _ := config.Load(path) // for its hosts: the files it names are not there yet
			writeNamed(t, filepath.Dir(path), c)
			if _, problems := server.Check(path); len(problems) > 0 {
				t.Errorf("got problems, want none:\n%v\n%s", problems, text)
			}
		})
	}
}

// writeNamed writes into dir what the configurations name; the certificates are for the
// hosts of c.
func writeNamed(t *testing.T, dir string, c *config.Config) {
	t.Helper()
	for _, sub := range []string{"certs", "ech"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	names := []string{"www.example.com"}
	for _, r := range c.Routes {
		for _, h := range r.Hosts {
			if h.Pattern != "*" && h.Pattern != "-" && !strings.HasPrefix(h.Pattern, "**.") {
				names = append(names, h.Pattern)
			}
		}
	}
	a, err := certs.NewAuthority("example")
	if err != nil {
		t.Fatal(err)
	}
	issue(t, dir, "www", a, certs.IssueOptions{Names: names})
	issue(t, filepath.Join(dir, "certs"), "www", a, certs.IssueOptions{Names: names})
	issue(t, dir, "snicket", a, certs.IssueOptions{CommonName: "snicket", Client: true})
	for _, name := range []string{"internal-ca.pem", "clients.pem"} {
		lab.WriteFile(t, filepath.Join(dir, name), a.PEM())
	}
	list, err := a.Revoke(certs.RevokeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	lab.WriteFile(t, filepath.Join(dir, "clients.crl"), list)
	key, err := certs.GenerateECH("front.example.com")
	if err != nil {
		t.Fatal(err)
	}
	text, err := key.PEM()
	if err != nil {
		t.Fatal(err)
	}
	lab.WriteFile(t, filepath.Join(dir, "ech", "key.pem"), text)
	lab.WriteFile(t, filepath.Join(dir, "ticket.secret"), make([]byte, 48))
	lab.WriteFile(t, filepath.Join(dir, "backends.json"), []byte(`["10.0.1.5:443"]`))
}
