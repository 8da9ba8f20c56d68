package terminate_test

import (
	"crypto/tls"
	"testing"

	"github.com/snicketlb/snicket/pkg/certs"
	"github.com/snicketlb/snicket/pkg/terminate"
)

// TestBackendRenew keeps the sessions of a pool unless something changed that a session
// resumed is not held against.
func TestBackendRenew(t *testing.T) {
	a, err := certs.NewAuthority("a")
	if err != nil {
		t.Fatal(err)
	}
	other, err := certs.NewAuthority("other")
	if err != nil {
		t.Fatal(err)
	}
	issue := func() *tls.Certificate {
		c, err := a.Issue(certs.IssueOptions{Names: []string{"client.test"}})
		if err != nil {
			t.Fatal(err)
		}
		return &c.Certificate
	}
	first := issue()
	again := *first // as it is when it is read again
	base := func() terminate.BackendOptions {
		return terminate.BackendOptions{ServerName: "a.test", Roots: a.Pool(), Certificate: &again, SessionCache: 8}
	}
	before := base()
	before.Certificate = first
	b := terminate.NewBackend(before)
	for _, tt := range []struct {
		name  string
		alter func(*terminate.BackendOptions)
		same  bool
	}{
		{"nothing", func(*terminate.BackendOptions) {}, true},
		{"the name", func(o *terminate.BackendOptions) { o.ServerName = "b.test" }, false},
		{"the authorities", func(o *terminate.BackendOptions) { o.Roots = other.Pool() }, false},
		{"the system's authorities", func(o *terminate.BackendOptions) { o.Roots = nil }, false},
		{"no verification", func(o *terminate.BackendOptions) { o.InsecureSkipVerify = true }, false},
		{"our certificate", func(o *terminate.BackendOptions) { o.Certificate = issue() }, false},
		{"no certificate", func(o *terminate.BackendOptions) { o.Certificate = nil }, false},
		{"the size", func(o *terminate.BackendOptions) { o.SessionCache = 9 }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := base()
			tt.alter(&o)
			if got := b.Renew(o) == b; got != tt.same {
				t.Errorf("the same backend: got %v, want %v", got, tt.same)
			}
		})
	}
	if (*terminate.Backend)(nil).Renew(base()) == nil {
		t.Error("nothing follows nothing")
	}
}
