package archtest_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/snicketlb/snicket/internal/archtest"
)

// TestHouse holds the rules over the module as it stands.
func TestHouse(t *testing.T) {
	packages := list(t)
	own := 0
	for _, p := range packages {
		if p.ImportPath == archtest.Module+"/internal/archtest" {
			own++
		}
	}
	if own != 1 {
		t.Fatalf("go list printed this package %d times, want once: the rules would hold over nothing", own)
	}
	for _, line := range archtest.Check(packages, archtest.House()) {
		t.Error(line)
	}
}

func list(t *testing.T) []archtest.Package {
	t.Helper()
	// The test cache knows the files a test opens, not those of a program it runs: without this, a run after a
	// forbidden import would be answered from the cache.
	if err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		_, err = os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone since it was listed
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Standard,Imports", archtest.Module+"/...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.Bytes())
	}
	var packages []archtest.Package
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p archtest.Package
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		packages = append(packages, p)
	}
}

// TestCheck shows that each rule bites, on made-up graphs.
func TestCheck(t *testing.T) {
	const m = archtest.Module + "/"
	std := archtest.Package{ImportPath: "net", Standard: true}
	toml := archtest.Package{ImportPath: "github.com/BurntSushi/toml", Imports: []string{"net"}}
	tests := []struct {
		name     string
		packages []archtest.Package
		want     []string
	}{
		{
			name:     "a library of the standard library alone",
			packages: []archtest.Package{std, {ImportPath: m + "sni", Imports: []string{"net"}}},
		},
		{
			name:     "a library imports a module",
			packages: []archtest.Package{std, toml, {ImportPath: m + "sni", Imports: []string{"github.com/BurntSushi/toml"}}},
			want: []string{
				"sni imports github.com/BurntSushi/toml: it is not the door of that module",
				"sni is standard library only: sni → github.com/BurntSushi/toml",
			},
		},
		{
			name:     "a library imports a sister",
			packages: []archtest.Package{std, {ImportPath: m + "sni"}, {ImportPath: m + "balancer", Imports: []string{m + "sni"}}},
			want:     []string{"balancer imports sni: not downward"},
		},
		{
			name: "an import upward",
			packages: []archtest.Package{
				std,
				{ImportPath: m + "pkg/proxy", Imports: []string{"net"}},
				{ImportPath: m + "pkg/relay", Imports: []string{m + "pkg/proxy"}},
			},
			want: []string{"pkg/relay imports pkg/proxy: not downward"},
		},
		{
			name: "the data plane reaches the configuration through another package",
			packages: []archtest.Package{
				std, toml,
				{ImportPath: m + "pkg/config", Imports: []string{"github.com/BurntSushi/toml"}},
				{ImportPath: m + "pkg/certs", Imports: []string{m + "pkg/config"}},
				{ImportPath: m + "pkg/terminate", Imports: []string{m + "pkg/certs"}},
			},
			want: []string{
				"pkg/certs imports pkg/config: not downward",
				"pkg/certs must never reach pkg/config: pkg/certs → pkg/config",
				"pkg/terminate must never reach pkg/config: pkg/terminate → pkg/certs → pkg/config",
			},
		},
		{
			name: "a second door",
			packages: []archtest.Package{
				std, toml,
				{ImportPath: m + "pkg/server", Imports: []string{"github.com/BurntSushi/toml"}},
			},
			want: []string{"pkg/server imports github.com/BurntSushi/toml: it is not the door of that module"},
		},
		{
			name: "a package below a door's module",
			packages: []archtest.Package{
				{ImportPath: "golang.org/x/sys/unix"},
				{ImportPath: "golang.org/x/sysadmin"},
				{ImportPath: m + "pkg/loop", Imports: []string{"golang.org/x/sys/unix", "golang.org/x/sysadmin"}},
			},
			want: []string{"pkg/loop imports golang.org/x/sysadmin: it is not the door of that module"},
		},
		{
			name:     "the laboratory in the program",
			packages: []archtest.Package{{ImportPath: m + "internal/lab"}, {ImportPath: m + "pkg/server", Imports: []string{m + "internal/lab"}}},
			want:     []string{"pkg/server imports internal/lab: not downward"},
		},
		{
			name:     "a package without a room",
			packages: []archtest.Package{{ImportPath: m + "pkg/util"}},
			want:     []string{"pkg/util: no room of this name in the house: add its rules to House"},
		},
		{
			name:     "examples are free",
			packages: []archtest.Package{toml, {ImportPath: m + "examples/route", Imports: []string{"github.com/BurntSushi/toml"}}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := archtest.Check(tt.packages, archtest.House())
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q\nwant %q", got, tt.want)
			}
		})
	}
}
