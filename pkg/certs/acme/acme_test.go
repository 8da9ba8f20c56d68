package acme_test

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/internal/lab/pebble"
	"github.com/snicketlb/snicket/pkg/certs"
	"github.com/snicketlb/snicket/pkg/certs/acme"
)

// verify checks that clients take c for host.
func verify(t testing.TB, ca *pebble.Authority, c *certs.Certificate, host string) {
	t.Helper()
	leaf, err := x509.ParseCertificate(c.Certificate.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	between := x509.NewCertPool()
	for _, der := range c.Certificate.Certificate[1:] {
		x, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		between.AddCert(x)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: ca.Roots(), Intermediates: between}); err != nil {
		t.Errorf("%s: %v", host, err)
	}
}

// TestIssue has two names' certificates issued, and holds that a second Manager takes
// them from the storage before its Manage returns, with no further order.
func TestIssue(t *testing.T) {
	ca := pebble.Start(t, pebble.Options{})
	lab.Leaks(t, "certmagic.NewRateLimiter", "pebble/v2/va.New") // both have no end
	dir := t.TempDir()
	b := newBox()
	m := manager(t, options(ca, dir, b))
	ca.ServeTLS(edge(t, m.TLSALPN))
	m.Manage([]string{"a.test", "b.test", "a.test"})
	for _, host := range []string{"a.test", "b.test"} {
		verify(t, ca, b.certificate(t, host), host)
	}
	b.logged(t, `level=INFO msg="certificate obtained" host=a.test`)
	if strings.Contains(b.log(), "level=WARN") {
		t.Errorf("warnings:\n%s", b.log())
	}
	if orders, accounts := ca.Orders(), ca.Accounts(); orders != 2 || accounts != 1 {
		t.Errorf("%d orders, %d accounts; want 2, 1", orders, accounts)
	}
	if got := m.Missing(); len(got) != 0 {
		t.Errorf("missing %q", got)
	}
	if m.Open() || m.TLSALPN("a.test") != nil {
		t.Error("a challenge is open still")
	}
	m.Close()
	m.Manage([]string{"late.test"})

	again := newBox()
	m = manager(t, options(ca, dir, again))
	m.Manage([]string{"a.test", "b.test"})
	if got := again.find("a.test"); got == nil || got.SHA256 != b.find("a.test").SHA256 {
		t.Error("a.test was not delivered at once")
	}
	m.Manage([]string{"b.test"})
	again.mu.Lock()
	if got := again.find("a.test"); got != nil {
		t.Error("a.test is not managed any more and still delivered")
	}
	if got := again.find("b.test"); got == nil {
		t.Error("b.test is not delivered")
	}
	again.mu.Unlock()
	m.Manage([]string{"a.test", "b.test"}) // what was forgotten is in the storage still
	again.certificate(t, "a.test")
	m.Close()
	if orders, accounts := ca.Orders(), ca.Accounts(); orders != 2 || accounts != 1 {
		t.Errorf("%d orders, %d accounts; want 2, 1: nothing new", orders, accounts)
	}
	ca.Down(true) // which ends the connection that it was asked by, idle since
}

// TestRenew holds that certificates are renewed, each with a key of its own, and that
// the new one is delivered without a moment in which there is none.
func TestRenew(t *testing.T) {
	ca := pebble.Start(t, pebble.Options{RenewAtOnce: true})
	b := newBox()
	o := options(ca, t.TempDir(), b)
	o.CheckEvery = time.Second
	gap := false
	o.Deliver = func(all []*certs.Certificate) {
		gap = gap || b.find("a.test") != nil && len(all) == 0
		b.deliver(all)
	}
	m := manager(t, o)
	ca.ServeTLS(edge(t, m.TLSALPN))
	m.Manage([]string{"a.test"})
	first := b.certificate(t, "a.test")
	var second *certs.Certificate
	b.wait(t, "a renewed certificate", func() bool {
		second = b.find("a.test")
		return second.SHA256 != first.SHA256
	})
	m.Close()
	verify(t, ca, second, "a.test")
	if second.NotAfter.Before(first.NotAfter) {
		t.Errorf("it expires at %v, the former at %v", second.NotAfter, first.NotAfter)
	}
	if first.PrivateKey.(*ecdsa.PrivateKey).Equal(second.PrivateKey) {
		t.Error("the key is that of the former one")
	}
	if gap {
		t.Error("for a while there was none")
	}
	b.logged(t, `level=INFO msg="certificate renewed" host=a.test`)
}

// TestHTTP01 has a certificate issued where nobody answers on port 443.
func TestHTTP01(t *testing.T) {
	ca := pebble.Start(t, pebble.Options{})
	b := newBox()
	o := options(ca, t.TempDir(), b)
	o.HTTP = true
	m := manager(t, o)
	ca.ServeHTTP(plainEdge(t, m))
	m.Manage([]string{"a.test"})
	verify(t, ca, b.certificate(t, "a.test"), "a.test")
	if got, ok := m.HTTP01("a.test", "token"); ok {
		t.Errorf("answered %q, with no challenge open", got)
	}
}

// TestStaple holds that a certificate comes with what its authority's OCSP responder says
// of it.
func TestStaple(t *testing.T) {
	ca := pebble.Start(t, pebble.Options{OCSP: true})
	b := newBox()
	m := manager(t, options(ca, t.TempDir(), b))
	ca.ServeTLS(edge(t, m.TLSALPN))
	m.Manage([]string{"a.test"})
	c := b.certificate(t, "a.test")
	r, err := ocsp.ParseResponse(c.OCSPStaple, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%X", r.SerialNumber.Bytes()); r.Status != ocsp.Good || got != c.Serial {
		t.Errorf("status %d of %s, want good of %s", r.Status, got, c.Serial)
	}
}

// TestSharedStorage has each validation answered by the Manager that did not ask for it.
func TestSharedStorage(t *testing.T) {
	ca := pebble.Start(t, pebble.Options{})
	dir := t.TempDir()
	boxes := [2]*box{newBox(), newBox()}
	var both [2]*acme.Manager
	for i, b := range boxes {
		both[i] = manager(t, options(ca, dir, b))
	}
	asked := make(chan int, 100)
	ca.ServeTLS(edge(t, func(host string) *tls.Certificate {
		for i, m := range both {
			if !m.Open() {
				asked <- i
				return m.TLSALPN(host)
			}
		}
		return nil
	}))
	for _, m := range both {
		m.Manage([]string{"a.test"})
	}
	for _, b := range boxes {
		verify(t, ca, b.certificate(t, "a.test"), "a.test")
	}
	if len(asked) == 0 {
		t.Error("nobody was asked")
	}
	if got := ca.Orders(); got != 1 {
		t.Errorf("%d orders, want 1 for both", got)
	}
	if one, other := boxes[0].find("a.test"), boxes[1].find("a.test"); one.SHA256 != other.SHA256 {
		t.Error("they have different certificates")
	}
}

// TestExternalAccount holds that an authority which asks for it is given the binding, and
// that an operator is told what is missing.
func TestExternalAccount(t *testing.T) {
	const key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
	ca := pebble.Start(t, pebble.Options{Accounts: map[string]string{"kid-1": key}})
	b := newBox()
	m := manager(t, options(ca, t.TempDir(), b))
	ca.ServeTLS(edge(t, m.TLSALPN))
	m.Manage([]string{"a.test"})
	b.logged(t, `hint="external_account in [acme] takes what the authority gave you"`)
	m.Close()
	if got := ca.Accounts(); got != 0 {
		t.Fatalf("%d accounts, want none", got)
	}

	b = newBox()
	o := options(ca, t.TempDir(), b)
	o.KeyID, o.HMACKey, o.Email = "kid-1", key, "ops@example.com"
	m = manager(t, o)
	ca.ServeTLS(edge(t, m.TLSALPN))
	m.Manage([]string{"a.test"})
	verify(t, ca, b.certificate(t, "a.test"), "a.test")
	if got := ca.Accounts(); got != 1 {
		t.Errorf("%d accounts, want 1", got)
	}
}

// TestFormer holds that certificates of the Manager before are handed out until there
// are new ones.
func TestFormer(t *testing.T) {
	ca := pebble.Start(t, pebble.Options{})
	ca.Down(true)
	former, err := certs.New(lab.NewAuthority(t, "former").Issue(t, lab.Certificate{Names: []string{"a.test"}}))
	if err != nil {
		t.Fatal(err)
	}
	b := newBox()
	o := options(ca, t.TempDir(), b)
	o.Former = []*certs.Certificate{former}
	m := manager(t, o)
	m.Manage([]string{"a.test", "b.test"})
	if got := b.find("a.test"); got != former {
		t.Error("the former one is not handed out")
	}
	if got := m.Missing(); len(got) != 1 || got[0] != "b.test" {
		t.Errorf("missing %q, want b.test", got)
	}
}

// TestUnreachable holds that an operator is told why there is no certificate, and that
// closing does not wait for an authority that is not there.
func TestUnreachable(t *testing.T) {
	tests := []struct {
		name string
		make func(t *testing.T, ca *pebble.Authority, o *acme.Options)
		want []string
	}{
		{
			name: "down", want: []string{`msg="certificate not obtained" host=a.test`, "tries=1"},
			make: func(_ *testing.T, ca *pebble.Authority, _ *acme.Options) { ca.Down(true) },
		},
		{
			name: "of an unknown authority", want: []string{`hint="ca in [acme] names the roots of the directory's own TLS"`},
			make: func(t *testing.T, _ *pebble.Authority, o *acme.Options) {
				o.Roots = lab.NewAuthority(t, "other").Pool()
			},
		},
		{
			name: "too many orders", want: []string{`hint="the authority limits how much it issues`, "tries=1"},
			make: func(_ *testing.T, ca *pebble.Authority, _ *acme.Options) { ca.Limited(true) },
		},
		{
			name: "it does not reach us", want: []string{`hint="the authority must reach this balancer at the host's address, on port 443`},
			make: func(*testing.T, *pebble.Authority, *acme.Options) {},
		},
		{
			name: "a storage that is none", want: []string{`hint="the user that runs snicket must be able to read and write storage of [acme]"`, "again_in=10m0s"},
			make: func(t *testing.T, _ *pebble.Authority, o *acme.Options) {
				o.Storage = lab.WriteFile(t, t.TempDir()+"/file", nil)
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ca := pebble.Start(t, pebble.Options{})
			b := newBox()
			o := options(ca, t.TempDir(), b)
			tt.make(t, ca, &o)
			m := manager(t, o)
			m.Manage([]string{"a.test"})
			for _, want := range tt.want {
				b.logged(t, want)
			}
			m.Close()
			if got := strings.Count(b.log(), `msg="certificate not obtained"`); got != 1 {
				t.Errorf("told %d times, want once:\n%s", got, b.log())
			}
		})
	}
}

// TestCloseInFlight closes a Manager while its authority validates, and holds that it
// ends the order: nothing stays locked for the next one.
func TestCloseInFlight(t *testing.T) {
	ca := pebble.Start(t, pebble.Options{})
	dir := t.TempDir()
	b := newBox()
	m := manager(t, options(ca, dir, b))
	asked, release := make(chan bool, 100), make(chan struct{})
	ca.ServeTLS(edge(t, func(string) *tls.Certificate {
		asked <- m.Open()
		<-release
		return nil
	}))
	m.Manage([]string{"a.test"})
	if open := <-asked; !open {
		t.Error("validated with no challenge open")
	}
	m.Close()
	close(release)
	if m.Open() {
		t.Error("the challenge is open still")
	}
	for _, left := range []string{"locks/*", "acme/*/challenge_tokens/*"} {
		found, err := filepath.Glob(filepath.Join(dir, left))
		if err != nil || len(found) > 0 {
			t.Errorf("left behind: %q, %v", found, err)
		}
	}
	if strings.Contains(b.log(), "level=WARN") {
		t.Errorf("warnings:\n%s", b.log())
	}
}

// TestFailingHosts holds that hosts which cannot have a certificate, though they are tried
// again and again, leave room for others.
func TestFailingHosts(t *testing.T) {
	ca := pebble.Start(t, pebble.Options{})
	ca.Down(true)
	b := newBox()
	o := options(ca, t.TempDir(), b)
	o.AtATime(1)
	m := manager(t, o)
	hosts := []string{"a.test", "b.test", "c.test"}
	m.Manage(hosts)
	for _, host := range hosts {
		b.logged(t, `msg="certificate not obtained" host=`+host)
	}
}

// TestHangingStorage holds that a storage which does not answer, as one on a network may
// not, gathers no more than a few who wait for it.
func TestHangingStorage(t *testing.T) {
	ca := pebble.Start(t, pebble.Options{})
	ca.Down(true)
	dir := t.TempDir()
	m := manager(t, options(ca, dir, newBox()))
	m.Manage([]string{"a.test"})
	u, err := url.Parse(ca.Directory())
	if err != nil {
		t.Fatal(err)
	}
	token := filepath.Join(dir, "acme", strings.ReplaceAll(u.Host, ":", "-")+"-dir", "challenge_tokens", "a.test.json")
	if err := os.MkdirAll(filepath.Dir(token), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(token, 0o600); err != nil { // to open it is to wait for a writer
		t.Fatal(err)
	}
	const more = 5
	answers := make(chan *tls.Certificate, acme.Loaders+more)
	for range acme.Loaders + more {
		go func() { answers <- m.TLSALPN("a.test") }() // out before the test is
	}
	for range more { // while the others wait
		if got := <-answers; got != nil {
			t.Error("a certificate, of a challenge that nobody could read")
		}
	}
	if got := len(answers); got != 0 {
		t.Errorf("%d more are answered, want none: the storage hangs", got)
	}
	writer, err := os.OpenFile(token, os.O_RDWR, 0) // which does not wait
	if err != nil {
		t.Fatal(err)
	}
	_ = os.Remove(token)
	_ = writer.Close()
	for range acme.Loaders {
		<-answers
	}
}

// TestNotManaged holds that nobody else's challenge is answered, and no file looked for.
func TestNotManaged(t *testing.T) {
	ca := pebble.Start(t, pebble.Options{})
	m := manager(t, options(ca, t.TempDir(), newBox()))
	if got := m.TLSALPN("../../a.test"); got != nil {
		t.Error("answered a challenge for a name that is not managed")
	}
	if got, ok := m.HTTP01("a.test", "x"); ok {
		t.Errorf("answered %q", got)
	}
}
