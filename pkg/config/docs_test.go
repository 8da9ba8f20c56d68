package config_test

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/snicketlb/snicket/pkg/config"
)

const (
	reference = "../../docs/configuration.md"
	examples  = "../../examples/configs/*.toml"
)

// TestReferenceKeys holds the reference against the schema: a section for each
// table, in it a heading for each key, in the same order.
func TestReferenceKeys(t *testing.T) {
	text, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	section := regexp.MustCompile("^## (?:`\\[+([a-zA-Z._]+)\\]+`|(The file))$")
	key := regexp.MustCompile("^#### `([a-z_]+)`$")
	documented := map[string][]string{}
	var order []string
	table := "none"
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if m := section.FindStringSubmatch(line); m != nil {
			table = m[1] // "" for the file itself
			order = append(order, table)
		} else if m := key.FindStringSubmatch(line); m != nil {
			documented[table] = append(documented[table], m[1])
		}
	}
	if want := config.Tables(); !slices.Equal(order, want) {
		t.Errorf("sections for the tables %q, want %q", order, want)
	}
	for _, table := range config.Tables() {
		if got, want := documented[table], config.KeysOf(table); !slices.Equal(got, want) {
			t.Errorf("keys in section %q:\n%q, want\n%q", table, got, want)
		}
		delete(documented, table)
	}
	if len(documented) > 0 {
		t.Errorf("keys outside of a table's section: %v", documented)
	}
}

// TestReferenceExamples loads every block of TOML in the reference: without problems,
// and the first two, the smallest file and its defaults, to the same configuration.
func TestReferenceExamples(t *testing.T) {
	t.Setenv("STATE_DIRECTORY", "")
	text, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```toml\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	if len(blocks) < 10 {
		t.Fatalf("found %d blocks of TOML", len(blocks))
	}
	dir := filesOfExamples(t)
	var loaded []*config.Config
	for _, block := range blocks {
		c, problems := config.Parse(filepath.Join(dir, "snicket.toml"), []byte(block[1]))
		for _, p := range problems {
			t.Errorf("%v\n%s", p, block[1])
		}
		loaded = append(loaded, withoutPlaces(c))
	}
	if got, want := loaded[1], loaded[0]; !reflect.DeepEqual(got, want) {
		t.Errorf("the file with every default loads to\n%+v\nthe smallest to\n%+v", got, want)
	}
}

// TestExamples loads the configurations that ship with Snicket: without problems, and
// without leaning on files that only their authors have.
func TestExamples(t *testing.T) {
	paths, err := filepath.Glob(examples)
	if err != nil || len(paths) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			name := filepath.Join(filesOfExamples(t), "snicket.toml")
			c, problems := config.Parse(name, text)
			if len(problems) > 0 {
				t.Fatalf("problems:\n%v", problems)
			}
			checkRoundTrip(t, name, c)
		})
	}
}

// filesOfExamples returns a directory with every file that examples name, each long
// enough to be a secret.
func filesOfExamples(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{
		"www.pem", "www.key", "certs/www.pem", "certs/www.key", "internal-ca.pem", "snicket.pem", "snicket.key",
		"clients.pem", "clients.crl", "ech/key.pem", "ticket.secret", "backends.json",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, make([]byte, 48), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
