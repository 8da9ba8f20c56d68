package certs_test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/snicketlb/snicket/pkg/certs"
)

// TestFacts: what is told of a certificate is what its leaf says, however it came here.
func TestFacts(t *testing.T) {
	a := authority(t)
	until := time.Now().AddDate(0, 2, 0).UTC().Truncate(time.Second)
	for _, tt := range []struct {
		name string
		o    certs.IssueOptions
		key  string
	}{
		{"ECDSA", certs.IssueOptions{Names: []string{"a.test", "*.a.test"}, NotAfter: until}, "ECDSA P-256"},
		{"RSA", certs.IssueOptions{Names: []string{"r.test"}, NotAfter: until, RSA: true}, "RSA 2048"},
		{"no names", certs.IssueOptions{CommonName: "nobody", NotAfter: until}, "ECDSA P-256"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			issued := issue(t, a, tt.o)
			leaf := issued.Leaf
			again, err := certs.New(issued.Certificate)
			if err != nil {
				t.Fatal(err)
			}
			for how, c := range map[string]*certs.Certificate{"issued": issued, "loaded": written(t, issued), "made": again} {
				if !slices.Equal(c.Names, tt.o.Names) || c.Key != tt.key || !c.NotAfter.Equal(until) || !c.NotBefore.Equal(leaf.NotBefore) {
					t.Errorf("%s: got %+v", how, c.Facts)
				}
				if want := fmt.Sprintf("%032X", leaf.SerialNumber); c.Issuer != "CN=test root" || strings.TrimLeft(c.Serial, "0") != strings.TrimLeft(want, "0") || len(c.Serial)%2 != 0 {
					t.Errorf("%s: got issuer %q, serial %q, want CN=test root, %q", how, c.Issuer, c.Serial, want)
				}
				if c.SHA256 != sha256.Sum256(leaf.Raw) {
					t.Errorf("%s: another fingerprint", how)
				}
				if how != "issued" && c.Leaf != nil {
					t.Errorf("%s: the leaf is kept", how)
				}
			}
		})
	}
	broken := issue(t, a, certs.IssueOptions{}).Certificate
	broken.Certificate = [][]byte{{1}}
	if _, err := certs.New(broken); err == nil {
		t.Error("no error for a certificate that is none")
	}
	broken.Certificate = nil
	if _, err := certs.New(broken); err == nil {
		t.Error("no error for an empty chain")
	}
}

// written writes c into files and loads it from there.
func written(t *testing.T, c *certs.Certificate) *certs.Certificate {
	t.Helper()
	got, problems := certs.Load(writePair(t, filepath.Join(t.TempDir(), "c"), c), "")
	if got == nil {
		t.Fatal(problems)
	}
	return got
}

// writePair writes c as NAME.pem and NAME.key, and returns the first.
func writePair(t *testing.T, name string, c *certs.Certificate) string {
	t.Helper()
	chain, key := pems(t, c)
	for file, text := range map[string]string{name + ".pem": chain, name + ".key": key} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return name + ".pem"
}

// TestLoaderShares: certificates of one authority hold its certificate once, and check as
// those do that were loaded alone.
func TestLoaderShares(t *testing.T) {
	root := authority(t)
	inter, err := root.Intermediate("test intermediate")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var files []string
	for _, name := range []string{"a.test", "b.test"} {
		files = append(files, writePair(t, filepath.Join(dir, name), issue(t, inter, certs.IssueOptions{Names: []string{name}})))
	}
	var reads []string
	loader := certs.NewLoader(func(name string) ([]byte, error) {
		reads = append(reads, filepath.Base(name))
		return os.ReadFile(name)
	})
	var loaded []*certs.Certificate
	for _, file := range files {
		c, problems := loader.Load(file, "")
		if c == nil {
			t.Fatal(problems)
		}
		loaded = append(loaded, c)
		if problems := c.Check(time.Now(), root.Pool()); len(problems) > 0 {
			t.Error(problems)
		}
	}
	for i := 1; i < 3; i++ {
		if &loaded[0].Certificate.Certificate[i][0] != &loaded[1].Certificate.Certificate[i][0] {
			t.Errorf("certificate %d of the chain is held twice", i+1)
		}
	}
	if got, want := strings.Join(reads, " "), "a.test.pem a.test.key b.test.pem b.test.key"; got != want {
		t.Errorf("got reads of %s, want %s", got, want)
	}
}
