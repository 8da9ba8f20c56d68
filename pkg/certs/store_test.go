package certs_test

import (
	"crypto/tls"
	"testing"
	"time"

	"github.com/snicketlb/snicket/pkg/certs"
)

// hellos by what they can use.
var (
	modern  = &tls.ClientHelloInfo{SupportedVersions: []uint16{tls.VersionTLS13}, SignatureSchemes: []tls.SignatureScheme{tls.PSSWithSHA256, tls.ECDSAWithP256AndSHA256}}
	rsaOnly = &tls.ClientHelloInfo{SupportedVersions: []uint16{tls.VersionTLS13}, SignatureSchemes: []tls.SignatureScheme{tls.PSSWithSHA256}}
	p384    = &tls.ClientHelloInfo{SupportedVersions: []uint16{tls.VersionTLS13}, SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP384AndSHA384}}
	old     = &tls.ClientHelloInfo{
		SupportedVersions: []uint16{tls.VersionTLS12}, SupportedCurves: []tls.CurveID{tls.CurveP256},
		CipherSuites:     []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256},
		SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256, tls.PKCS1WithSHA256},
	}
	oldRSA = &tls.ClientHelloInfo{
		SupportedVersions: []uint16{tls.VersionTLS12}, SupportedCurves: []tls.CurveID{tls.CurveP256},
		CipherSuites:     []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256},
		SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256, tls.PKCS1WithSHA256},
	}
)

func TestSelect(t *testing.T) {
	a := authority(t)
	soon, later := time.Now().AddDate(0, 0, 1), time.Now().AddDate(0, 0, 9)
	made := map[string]*certs.Certificate{}
	add := func(id string, o certs.IssueOptions) *certs.Certificate {
		made[id] = issue(t, a, o)
		return made[id]
	}
	own := []*certs.Certificate{
		add("rsa", certs.IssueOptions{Names: []string{"a.test"}, RSA: true, NotAfter: later}),
		add("ecdsa soon", certs.IssueOptions{Names: []string{"a.test"}, NotAfter: soon}),
		add("ecdsa later", certs.IssueOptions{Names: []string{"a.test"}, NotAfter: later}),
		add("own wildcard", certs.IssueOptions{Names: []string{"*.Wild.test"}}),
		add("own ecdsa", certs.IssueOptions{Names: []string{"b.test"}}),
	}
	shared := []*certs.Certificate{
		add("shared exact", certs.IssueOptions{Names: []string{"x.wild.test", "s.test", "*.s.test"}}),
		add("shared a", certs.IssueOptions{Names: []string{"a.test"}}),
		add("shared exact below wildcard", certs.IssueOptions{Names: []string{"e.s.test"}, NotAfter: soon}),
		add("shared rsa", certs.IssueOptions{Names: []string{"b.test"}, RSA: true}),
	}
	strict := certs.NewStore(certs.NewSet(own), certs.NewSet(shared), certs.StoreOptions{})
	lax := certs.NewStore(certs.NewSet(own), certs.NewSet(shared), certs.StoreOptions{Default: true})
	laxShared := certs.NewStore(nil, certs.NewSet(shared), certs.StoreOptions{Default: true})
	for _, tt := range []struct {
		name  string
		store *certs.Store
		host  string
		hello *tls.ClientHelloInfo
		want  string // "" for none
	}{
		{"ECDSA, the latest", strict, "a.test", modern, "ecdsa later"},
		{"ECDSA in 1.2", strict, "a.test", old, "ecdsa later"},
		{"no hello", strict, "a.test", nil, "ecdsa later"},
		{"RSA", strict, "a.test", rsaOnly, "rsa"},
		{"RSA in 1.2", strict, "a.test", oldRSA, "rsa"},
		{"no key fits", strict, "a.test", p384, "ecdsa later"},
		{"own wildcard before shared exact", strict, "x.wild.test", modern, "own wildcard"},
		{"shared RSA where own does not fit", strict, "b.test", rsaOnly, "shared rsa"},
		{"exact before wildcard", strict, "e.s.test", modern, "shared exact below wildcard"},
		{"wildcard", strict, "f.s.test", modern, "shared exact"},
		{"wildcard is one label", strict, "g.f.s.test", modern, ""},
		{"wildcard is not its parent", strict, "wild.test", modern, ""},
		{"unknown", strict, "other.test", modern, ""},
		{"one label", strict, "test", modern, ""},
		{"no name", strict, "", modern, ""},
		{"default, unknown", lax, "other.test", modern, "rsa"},
		{"default, no name", lax, "", modern, "rsa"},
		{"default, known", lax, "b.test", modern, "own ecdsa"},
		{"default of the shared", laxShared, "", modern, "shared exact"},
		{"empty with default", certs.NewStore(nil, nil, certs.StoreOptions{Default: true}), "", modern, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.store.Select(tt.host, tt.hello)
			name := ""
			for id, c := range made {
				if got == &c.Certificate {
					name = id
				}
			}
			if name != tt.want || got == nil != (tt.want == "") {
				t.Errorf("got %q (%v), want %q", name, got != nil, tt.want)
			}
		})
	}
}

func TestCovers(t *testing.T) {
	a := authority(t)
	own := []*certs.Certificate{issue(t, a, certs.IssueOptions{Names: []string{"a.test", "*.w.test"}})}
	strict := certs.NewStore(nil, certs.NewSet(own), certs.StoreOptions{})
	lax := certs.NewStore(certs.NewSet(own), nil, certs.StoreOptions{Default: true})
	for _, tt := range []struct {
		host        string
		strict, lax bool
	}{
		{"a.test", true, true},
		{"b.test", false, false},
		{"x.w.test", true, true},
		{"*.w.test", true, true},
		{"w.test", false, false},
		{"y.x.w.test", false, false},
		{"*.a.test", false, false},
		{"**.w.test", false, true},
		{"*", false, true},
		{"-", false, true},
	} {
		if got := strict.Covers(tt.host); got != tt.strict {
			t.Errorf("Covers(%q) = %v, want %v", tt.host, got, tt.strict)
		}
		if got := lax.Covers(tt.host); got != tt.lax {
			t.Errorf("with default: Covers(%q) = %v, want %v", tt.host, got, tt.lax)
		}
	}
}

func TestSelectAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	a := authority(t)
	s := certs.Fixed(issue(t, a, certs.IssueOptions{Names: []string{"a.test", "*.w.test"}}))
	for _, name := range []string{"a.test", "x.w.test", "other.test", ""} {
		if got := testing.AllocsPerRun(100, func() { s.Select(name, modern); s.Select(name, old) }); got != 0 {
			t.Errorf("%q: %v allocations, want 0", name, got)
		}
	}
}

func BenchmarkSelect(b *testing.B) {
	a := authority(b)
	s := certs.Fixed(issue(b, a, certs.IssueOptions{Names: []string{"*.w.test"}}))
	b.ReportAllocs()
	for b.Loop() {
		if s.Select("x.w.test", modern) == nil {
			b.Fatal("no certificate")
		}
	}
}

// TestStoreLeavesClientsOut: a certificate that clients would refuse covers nothing, and
// is no default either.
func TestStoreLeavesClientsOut(t *testing.T) {
	a := authority(t)
	client := issue(t, a, certs.IssueOptions{Names: []string{"a.test"}, Client: true})
	server := issue(t, a, certs.IssueOptions{Names: []string{"b.test"}})
	own, shared := []*certs.Certificate{client}, []*certs.Certificate{client, server}
	s := certs.NewStore(certs.NewSet(own), certs.NewSet(shared), certs.StoreOptions{Default: true})
	for _, name := range []string{"a.test", "b.test", ""} {
		if got := s.Select(name, nil); got != &server.Certificate {
			t.Errorf("%q is served %v", name, got)
		}
	}
	s = certs.NewStore(certs.NewSet(own), certs.NewSet(shared), certs.StoreOptions{})
	if s.Covers("a.test") {
		t.Error("a client's certificate covers a.test")
	}
	if own[0] != client || shared[0] != client {
		t.Error("the caller's slices have changed")
	}
}
