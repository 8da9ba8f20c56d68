package server

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/snicketlb/snicket/pkg/certs"
	"github.com/snicketlb/snicket/pkg/config"
)

// TestDemands: what a route demands of its clients' certificates reads the same in each
// plan for as long as it is the same, and in no other case.
func TestDemands(t *testing.T) {
	dir := t.TempDir()
	put := func(name string) config.File {
		t.Helper()
		a, err := certs.NewAuthority(name)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name+".pem")
		if err := os.WriteFile(path, a.PEM(), 0o600); err != nil {
			t.Fatal(err)
		}
		return config.File{Path: path}
	}
	ca, other := put("ca"), put("other")
	first := config.TLSPolicy{ClientAuth: config.ClientAuthRequire, ClientCA: ca, ClientNames: []string{"a.test", "b.test"}}
	by := func(change func(p *config.TLSPolicy)) string {
		p := first
		change(&p)
		s := newSecrets(time.Now(), func(p config.Problem) { t.Error(p) })
		return s.demands(&p)
	}
	want := by(func(*config.TLSPolicy) {})
	for _, tt := range []struct {
		name   string
		same   bool
		change func(p *config.TLSPolicy)
	}{
		{"nothing", true, func(*config.TLSPolicy) {}},
		{"what others see", true, func(p *config.TLSPolicy) { p.Pos.Line++ }},
		{"none", false, func(p *config.TLSPolicy) { p.ClientAuth = config.ClientAuthNone }},
		{"a request", false, func(p *config.TLSPolicy) { p.ClientAuth = config.ClientAuthRequest }},
		{"a name fewer", false, func(p *config.TLSPolicy) { p.ClientNames = p.ClientNames[:1] }},
		{"one odd name", false, func(p *config.TLSPolicy) { p.ClientNames = []string{`a.test" "b.test`} }},
		{"another file", false, func(p *config.TLSPolicy) { p.ClientCA = other }},
		{"the file anew", false, func(*config.TLSPolicy) { put("ca") }},
	} {
		if got := by(tt.change); (got == want) != tt.same {
			t.Errorf("%s: got %s, want the same as %s: %t", tt.name, got, want, tt.same)
		}
	}
}
