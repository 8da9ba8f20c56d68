package server_test

import (
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/server"
)

// TestCertificateViews holds what is told of the certificates in force.
func TestCertificateViews(t *testing.T) {
	v := newVault(t)
	serials := map[string]string{
		"shared.pem": v.put("shared", "a.test", "b.test", "x.deep.test"), "wild.pem": v.put("wild", "*.w.test"),
		"own.pem": v.put("own", "b.test"), "unused.pem": v.put("unused", "nobody.test"),
	}
	// The same name and kind, and an end that is sooner.
	cert, key := lab.WriteCertificate(t, v.authority.Issue(t, lab.Certificate{Names: []string{"*.w.test"}, NotAfter: time.Now().AddDate(0, 1, 0)}))
	v.must(os.Rename(cert, v.path("wild-old.pem")))
	v.must(os.Rename(key, v.path("wild-old.key")))
	rsa, rsaKey := lab.WriteCertificate(t, v.authority.Issue(t, lab.Certificate{Names: []string{"*.w.test"}, NotAfter: time.Now().AddDate(0, 1, 0), RSA: true}))
	v.must(os.Rename(rsa, v.path("wild-rsa.pem")))
	v.must(os.Rename(rsaKey, v.path("wild-rsa.key")))
	text := fmt.Sprintf(`
[tls]
certificates = ["%[1]s/[s-z]*.pem"]
[[routes]]
name = "first"
hosts = ["a.test", "x.w.test"]
mode = "terminate"
backends = [%[2]q]
[[routes]]
name = "second"
hosts = ["b.test"]
mode = "terminate"
backends = [%[2]q]
[routes.tls]
certificates = ["%[1]s/own.pem"]
[[routes]]
name = "wild"
hosts = ["*.w.test"]
mode = "terminate"
backends = [%[2]q]
[[routes]]
name = "deep"
hosts = ["**.deep.test", "*"]
mode = "terminate"
backends = [%[2]q]
[routes.tls]
default_certificate = true
`, v.dir, v.backend.Addr())
	path := lab.WriteFile(t, filepath.Join(t.TempDir(), "snicket.toml"), []byte(text))
	s, err := server.New(path, server.Options{})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, c := range s.Certificates() {
		file := filepath.Base(c.File)
		got[file] = fmt.Sprintf("%s: %s, superseded %t", strings.Join(c.Names, " "), strings.Join(c.Routes, " "), c.Superseded)
		if want, ok := serials[file]; ok && !sameSerial(c.Serial, want) {
			t.Errorf("%s: got serial %s, want %s", file, c.Serial, want)
		}
		if c.Issuer != "CN=ca" || c.KeyFile != strings.TrimSuffix(c.File, ".pem")+".key" || c.ACME || c.SHA256 == [32]byte{} || !c.NotAfter.After(c.NotBefore) {
			t.Errorf("%s: got %+v", file, c)
		}
	}
	want := map[string]string{
		"shared.pem":   "a.test b.test x.deep.test: deep first second, superseded false",
		"wild.pem":     "*.w.test: deep first wild, superseded false",
		"wild-old.pem": "*.w.test: deep first wild, superseded true",
		"wild-rsa.pem": "*.w.test: deep first wild, superseded false",
		"own.pem":      "b.test: second, superseded false",
		"unused.pem":   "nobody.test: deep, superseded false",
	}
	for file, w := range want {
		if got[file] != w {
			t.Errorf("%s: got %q, want %q", file, got[file], w)
		}
	}
	if len(got) != len(want) {
		t.Errorf("got %d certificates, want %d: %q", len(got), len(want), got)
	}
}

// sameSerial compares a serial number in hexadecimal with one in decimal.
func sameSerial(hex, decimal string) bool {
	n, ok := new(big.Int).SetString(hex, 16)
	return ok && n.String() == decimal
}
