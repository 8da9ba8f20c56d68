package terminate_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snicketlb/snicket/pkg/certs"
	"github.com/snicketlb/snicket/pkg/terminate"
)

// club is a route that asks its clients for certificates, and the authorities that
// issue them.
type club struct {
	*lab
	members *certs.Authority
	clients *terminate.Clients
	config  *tls.Config
	now     atomic.Pointer[time.Time] // nil: the clock
}

func newClub(t testing.TB, o terminate.ClientsOptions) *club {
	t.Helper()
	c := &club{lab: newLab(t), members: newAuthority(t, "members")}
	o.Now = func() time.Time {
		if now := c.now.Load(); now != nil {
			return *now
		}
		return time.Now()
	}
	clients, err := terminate.NewClients(&terminate.Trust{Authorities: c.members.Pool()}, o)
	if err != nil {
		t.Fatal(err)
	}
	c.clients = clients
	c.config = terminate.ServerConfig(terminate.ServerOptions{Store: certs.Fixed(c.cert), Policy: terminate.Policy{Clients: clients}})
	return c
}

func newAuthority(t testing.TB, name string) *certs.Authority {
	t.Helper()
	a, err := certs.NewAuthority(name)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func client(t testing.TB, a *certs.Authority, o certs.IssueOptions) *certs.Certificate {
	t.Helper()
	o.Client = true
	c, err := a.Issue(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// revoke makes c look at a list of a's that names the certificates.
func (c *club) revoke(t testing.TB, a *certs.Authority, o certs.RevokeOptions, revoked ...*certs.Certificate) {
	t.Helper()
	for _, r := range revoked {
		o.Revoked = append(o.Revoked, r.Leaf)
	}
	der, err := a.Revoke(o)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "crl.der")
	if err := os.WriteFile(file, der, 0o600); err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(a.PEM())
	issuer, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	list, problems := certs.LoadRevocations(file, []*x509.Certificate{issuer})
	if list == nil {
		t.Fatal(problems)
	}
	c.clients.Swap(&terminate.Trust{Authorities: a.Pool(), Revocations: list})
}

// guest is a client with a certificate, or without.
func (c *club) guest(version uint16, cert *certs.Certificate) *tls.Config {
	cfg := &tls.Config{ServerName: host, RootCAs: c.authority.Pool(), MinVersion: version, MaxVersion: version}
	if cert != nil {
		// Whatever the server names as its authorities.
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert.Certificate, nil }
	}
	return cfg
}

// admitted is how a visit went.
type admitted struct {
	state *tls.ConnectionState // of the balancer's side; nil if refused
	err   error                // of the balancer's side
	alert string               // what the client was told
	who   terminate.Verdict
}

// visit shakes hands, and takes what the server says after that: in TLS 1.3 a client
// learns of a refusal only then, and gets its tickets.
func (c *club) visit(t testing.TB, r *rig, server, client *tls.Config) admitted {
	t.Helper()
	far, fd := socketPair(t, "tcp")
	result := r.port(fd, nil).acceptFor(server, client.ServerName)
	conn := tls.Client(far, client)
	_ = far.SetDeadline(time.Now().Add(patience))
	err := conn.Handshake()
	if err != nil {
		far.Close()
	}
	got := <-result
	if got.err == nil {
		r.do(func() { _ = got.conn.CloseWrite() })
	}
	if err == nil {
		_, err = io.ReadAll(conn)
	}
	a := admitted{err: got.err, who: got.who}
	if err != nil {
		a.alert = err.Error()
	}
	if got.err == nil {
		state := got.conn.ConnectionState()
		a.state = &state
	}
	return a
}

func versions() map[string]uint16 {
	return map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}
}

func TestRequiredCertificate(t *testing.T) {
	c := newClub(t, terminate.ClientsOptions{})
	good := client(t, c.members, certs.IssueOptions{CommonName: "ann"})
	revoked := client(t, c.members, certs.IssueOptions{CommonName: "eve"})
	branch, err := c.members.Intermediate("branch")
	if err != nil {
		t.Fatal(err)
	}
	c.revoke(t, c.members, certs.RevokeOptions{}, revoked)
	server, err := c.members.Issue(certs.IssueOptions{CommonName: "server"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		cert  *certs.Certificate
		want  string // part of our error; "" if let in
		alert string // part of the client's
		old   string // the same in TLS 1.2, if it differs
	}{
		{name: "good", cert: good},
		{name: "none", want: "client didn't provide a certificate", alert: "certificate required", old: "handshake failure"},
		{name: "bad CA", cert: client(t, newAuthority(t, "others"), certs.IssueOptions{CommonName: "bob"}), want: "client certificate: signed by unknown authority", alert: "bad certificate"},
		{
			name: "an authority of the same name", cert: client(t, newAuthority(t, "members"), certs.IssueOptions{CommonName: "mallory"}),
			want: "client certificate: signed by unknown authority", alert: "bad certificate",
		},
		{
			name: "expired", cert: client(t, c.members, certs.IssueOptions{CommonName: "tom", NotAfter: time.Now().Add(-time.Minute)}),
			want: "client certificate: has expired", alert: "bad certificate",
		},
		{
			name: "not yet valid", cert: client(t, c.members, certs.IssueOptions{CommonName: "kim", NotBefore: time.Now().Add(time.Hour)}),
			want: "client certificate: has expired or is not yet valid", alert: "bad certificate",
		},
		{name: "revoked", cert: revoked, want: "client certificate: revoked (serial ", alert: "bad certificate"},
		{name: "issuer without a list", cert: client(t, branch, certs.IssueOptions{CommonName: "joe"}), want: `client certificate: no CRL of its issuer "CN=branch"`, alert: "bad certificate"},
		{name: "for servers", cert: server, want: "client certificate: specifies an incompatible key usage", alert: "bad certificate"},
	} {
		for name, version := range versions() {
			t.Run(tt.name+" "+name, func(t *testing.T) {
				noLeaks(t)
				alert := tt.alert
				if tt.old != "" && version == tls.VersionTLS12 {
					alert = tt.old
				}
				got := c.visit(t, newRig(t), c.config, c.guest(version, tt.cert))
				if tt.want == "" {
					if got.err != nil || got.alert != "" {
						t.Fatalf("got %v; the client %q", got.err, got.alert)
					}
					if v := got.who; !v.Verified() || v.Certificate.Subject.CommonName != "ann" {
						t.Errorf("verdict %+v", v)
					}
					return
				}
				if got.err == nil || !strings.Contains(got.err.Error(), tt.want) {
					t.Errorf("got %v, want %q", got.err, tt.want)
				}
				if !strings.Contains(got.alert, alert) {
					t.Errorf("the client got %q, want %q", got.alert, alert)
				}
				if tt.cert == nil {
					return
				}
				bad, ok := errors.AsType[*terminate.ClientCertificateError](got.err)
				if !ok || !bad.Certificate.Equal(tt.cert.Leaf) {
					t.Errorf("%v does not tell of the client's certificate", got.err)
				}
			})
		}
	}
}

// TestRequestedCertificate lets everybody in and says what is to be thought of them.
func TestRequestedCertificate(t *testing.T) {
	c := newClub(t, terminate.ClientsOptions{Auth: terminate.RequestCertificate})
	revoked := client(t, c.members, certs.IssueOptions{CommonName: "eve"})
	c.revoke(t, c.members, certs.RevokeOptions{}, revoked)
	for _, tt := range []struct {
		name string
		cert *certs.Certificate
		want string // "" if verified, or none
	}{
		{name: "none"},
		{name: "good", cert: client(t, c.members, certs.IssueOptions{CommonName: "ann"})},
		{name: "bad CA", cert: client(t, newAuthority(t, "others"), certs.IssueOptions{CommonName: "bob"}), want: "x509: certificate signed by unknown authority"},
		{name: "expired", cert: client(t, c.members, certs.IssueOptions{CommonName: "tom", NotAfter: time.Now().Add(-time.Minute)}), want: "x509: certificate has expired"},
		{name: "revoked", cert: revoked, want: "revoked (serial "},
	} {
		for name, version := range versions() {
			t.Run(tt.name+" "+name, func(t *testing.T) {
				noLeaks(t)
				r := newRig(t)
				guest := c.guest(version, tt.cert)
				guest.ClientSessionCache = tls.NewLRUClientSessionCache(1)
				for _, resumed := range []bool{false, tt.name != "expired"} { // crypto/tls resumes none such
					got := c.visit(t, r, c.config, guest)
					if got.err != nil || got.alert != "" {
						t.Fatalf("got %v; the client %q", got.err, got.alert)
					}
					if got.state.DidResume != resumed {
						t.Errorf("resumed %v, want %v", got.state.DidResume, resumed)
					}
					v := got.who
					if tt.cert == nil {
						if v.Certificate != nil || v.Err != nil || v.Verified() {
							t.Errorf("verdict on nobody: %+v", v)
						}
						continue
					}
					if !v.Certificate.Equal(tt.cert.Leaf) || v.Verified() != (tt.want == "") {
						t.Errorf("verdict %+v", v)
					}
					if tt.want != "" && (v.Err == nil || !strings.Contains(v.Err.Error(), tt.want)) {
						t.Errorf("verdict %v, want %q", v.Err, tt.want)
					}
				}
			})
		}
	}
}

func TestClientNames(t *testing.T) {
	noLeaks(t)
	c := newClub(t, terminate.ClientsOptions{Names: []string{"*.clients.test", "admin.test", "**.deep.test"}})
	for _, tt := range []struct {
		name  string
		names []string // DNS names; none: the common name alone
		cn    string
		ok    bool
	}{
		{name: "exact", names: []string{"admin.test"}, ok: true},
		{name: "upper case and dot", names: []string{"ADMIN.Test."}, ok: true},
		{name: "pattern", names: []string{"ann.clients.test"}, ok: true},
		{name: "one label", names: []string{"a.b.clients.test"}},
		{name: "deep", names: []string{"a.b.deep.test"}, ok: true},
		{name: "parent", names: []string{"clients.test"}},
		{name: "one of several", names: []string{"other.test", "admin.test"}, ok: true},
		{name: "none of several", names: []string{"other.test", "another.test"}},
		{name: "common name", cn: "admin.test", ok: true},
		{name: "common name beside names", cn: "admin.test", names: []string{"other.test"}},
		{name: "common name beside an address", cn: "admin.test", names: []string{"192.0.2.1"}},
		{name: "common name that is none", cn: "Ann Example"},
		{name: "wildcard that is covered", names: []string{"*.clients.test"}, ok: true},
		{name: "wildcard over what is not", names: []string{"*.test"}},
		{name: "star", names: []string{"*"}},
		{name: "no name"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cert := client(t, c.members, certs.IssueOptions{Names: tt.names, CommonName: tt.cn})
			got := c.visit(t, newRig(t), c.config, c.guest(tls.VersionTLS13, cert))
			if (got.err == nil) != tt.ok {
				t.Errorf("got %v, want let in: %v", got.err, tt.ok)
			}
			if got, want := errors.Is(got.err, terminate.ErrClientName), !tt.ok; got != want {
				t.Errorf("errors.Is(ErrClientName) = %v, want %v", got, want)
			}
		})
	}
	if _, err := terminate.NewClients(&terminate.Trust{}, terminate.ClientsOptions{Names: []string{"a*b.test"}}); err == nil {
		t.Error("a pattern that is none: no error")
	}
}

// TestTrustSwapped holds that what is trusted counts from the next handshake on,
// also for who resumes, and that a resumed session proves what it proved before.
func TestTrustSwapped(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(t *testing.T, c *club, cert *certs.Certificate)
		want   string // of the second visit; "" if it resumes
	}{
		{name: "nothing", change: func(*testing.T, *club, *certs.Certificate) {}},
		{
			name: "revoked", want: "revoked (serial ",
			change: func(t *testing.T, c *club, cert *certs.Certificate) {
				c.revoke(t, c.members, certs.RevokeOptions{}, cert)
			},
		},
		{
			name: "authority gone", want: "signed by unknown authority",
			change: func(t *testing.T, c *club, _ *certs.Certificate) {
				c.clients.Swap(&terminate.Trust{Authorities: newAuthority(t, "members").Pool()})
			},
		},
		{
			name: "expired", want: "has expired",
			change: func(_ *testing.T, c *club, cert *certs.Certificate) {
				later := cert.Leaf.NotAfter.Add(time.Minute)
				c.now.Store(&later)
			},
		},
		{
			name: "list grown old", want: "CRL is not of this time",
			change: func(t *testing.T, c *club, _ *certs.Certificate) {
				c.revoke(t, c.members, certs.RevokeOptions{NextUpdate: time.Now().Add(-time.Minute)})
			},
		},
	} {
		for name, version := range versions() {
			t.Run(tt.name+" "+name, func(t *testing.T) {
				noLeaks(t)
				c, r := newClub(t, terminate.ClientsOptions{}), newRig(t)
				// It ends before the session could not be resumed for its age.
				cert := client(t, c.members, certs.IssueOptions{CommonName: "ann", NotAfter: time.Now().Add(time.Hour)})
				guest := c.guest(version, cert)
				guest.ClientSessionCache = tls.NewLRUClientSessionCache(1)
				if got := c.visit(t, r, c.config, guest); got.err != nil {
					t.Fatal(got.err)
				}
				tt.change(t, c, cert)
				got := c.visit(t, r, c.config, guest)
				if tt.want == "" {
					if got.err != nil || !got.state.DidResume {
						t.Fatalf("did not resume: %v", got.err)
					}
					if v := got.who; !v.Verified() {
						t.Errorf("verdict %+v", v)
					}
					return
				}
				if got.err == nil || !strings.Contains(got.err.Error(), tt.want) {
					t.Errorf("got %v, want %q", got.err, tt.want)
				}
			})
		}
	}
}
