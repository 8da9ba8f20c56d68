package server_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/admin"
	"github.com/snicketlb/snicket/pkg/server"
)

// vault is a directory of certificates that a test changes while a server runs on it.
type vault struct {
	t         *testing.T
	dir       string
	authority *lab.Authority
	backend   *lab.Server
}

func newVault(t *testing.T) *vault {
	t.Helper()
	return &vault{t, t.TempDir(), lab.NewAuthority(t, "ca"), lab.Serve(t, lab.Echo(), lab.Options{})}
}

func (v *vault) path(name string) string { return filepath.Join(v.dir, name) }

// issue makes a certificate and returns it in PEM, its key, and its serial number.
func (v *vault) issue(names ...string) (chain, key []byte, serial string) {
	v.t.Helper()
	return v.pem(lab.Certificate{Names: names})
}

// issueClient is issue for one that clients show.
func (v *vault) issueClient(name string) (chain, key []byte, serial string) {
	v.t.Helper()
	return v.pem(lab.Certificate{Names: []string{name}, Client: true})
}

func (v *vault) pem(of lab.Certificate) (chain, key []byte, serial string) {
	v.t.Helper()
	c := v.authority.Issue(v.t, of)
	for _, der := range c.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		v.t.Fatal(err)
	}
	return chain, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), c.Leaf.SerialNumber.String()
}

// replace writes a file beside the one of that name and moves it there.
func (v *vault) replace(name string, content []byte) {
	v.t.Helper()
	if err := os.MkdirAll(filepath.Dir(v.path(name)), 0o700); err != nil {
		v.t.Fatal(err)
	}
	lab.WriteFile(v.t, v.path(name)+".new", content)
	v.rename(name+".new", name)
}

func (v *vault) must(err error) {
	v.t.Helper()
	if err != nil {
		v.t.Fatal(err)
	}
}

func (v *vault) rename(from, to string) { v.t.Helper(); v.must(os.Rename(v.path(from), v.path(to))) }

func (v *vault) remove(name string) { v.t.Helper(); v.must(os.RemoveAll(v.path(name))) }

// put writes a new certificate for names as NAME.pem and NAME.key, and returns its
// serial number.
func (v *vault) put(name string, names ...string) string {
	v.t.Helper()
	chain, key, serial := v.issue(names...)
	v.replace(name+".key", key)
	v.replace(name+".pem", chain)
	return serial
}

// config is a route for host that terminates by the shared certificates.
func (v *vault) config(certificates string, hosts ...string) string {
	return fmt.Sprintf(`
[tls]
certificates = [%s]
[[routes]]
hosts = ["%s"]
mode = "terminate"
backends = [%q]
`, strings.ReplaceAll(certificates, "DIR", v.dir), strings.Join(hosts, `", "`), v.backend.Addr())
}

// shown expects that a client that asks for name is shown the certificate of a serial
// number.
func (v *vault) shown(r *running, name, serial string) {
	v.t.Helper()
	c := r.session(v.authority, name)
	defer c.Close()
	if got := c.ConnectionState().PeerCertificates[0].SerialNumber.String(); got != serial {
		v.t.Fatalf("%s is shown %s, want %s", name, got, serial)
	}
}

const reloaded = `msg="certificates reloaded" files="%s"`

// TestCertificatesAreWatched changes files of certificates in every way they come to be
// changed; each is in force once the log says so, without a reload, and a session from
// before notices nothing.
func TestCertificatesAreWatched(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	first := v.put("certs/a", "a.test")
	wild := v.put("certs/w", "*.w.test")
	r := start(t, nil, v.config(`"DIR/certs/*.pem"`, "a.test", "*.w.test"))
	v.shown(r, "a.test", first)
	v.shown(r, "x.w.test", wild)
	long := r.session(v.authority, "a.test")
	resuming := v.authority.Client("a.test")
	resuming.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	if resumes(r, resuming) {
		t.Fatal("got a resumption of the first session")
	}

	second := v.put("certs/a", "a.test")
	r.log.wait(t, fmt.Sprintf(reloaded, "renewed: a.pem"), 1)
	v.shown(r, "a.test", second)
	v.shown(r, "x.w.test", wild)
	if !resumes(r, resuming) {
		t.Error("a session from before is not resumed")
	}

	exact := v.put("certs/x", "x.w.test")
	r.log.wait(t, fmt.Sprintf(reloaded, "added: x.pem")+` names=x.w.test`, 1)
	v.shown(r, "x.w.test", exact)

	chain, key, both := v.issue("x.w.test")
	v.replace("certs/both.pem", append(chain, key...))
	r.log.wait(t, fmt.Sprintf(reloaded, "added: both.pem"), 1)

	v.remove("certs/x.pem")
	r.log.wait(t, fmt.Sprintf(reloaded, "removed: x.pem")+"$", 1)
	v.shown(r, "x.w.test", both)

	// In place, as some do: what a reader may see in between is passed over.
	chain, key, third := v.issue("a.test")
	lab.WriteFile(t, v.path("certs/a.pem"), chain)
	lab.WriteFile(t, v.path("certs/a.key"), key)
	r.log.wait(t, fmt.Sprintf(reloaded, "renewed: a.pem"), 2)
	v.shown(r, "a.test", third)

	// The same content again is no change: what follows is the next line.
	lab.WriteFile(t, v.path("certs/a.pem"), chain)
	fourth := v.put("certs/a", "a.test")
	r.log.wait(t, fmt.Sprintf(reloaded, "renewed: a.pem"), 3)
	v.shown(r, "a.test", fourth)

	r.echo(long)
	hangUp(t, long)
	if log := r.log.String(); strings.Contains(log, "reload done") {
		t.Errorf("more than certificates was touched:\n%s", log)
	}
}

// TestStrangersAreToldOfOnce: an issuer that nobody here knows is spoken of once, and not
// with each file that it signs, however often that is renewed.
func TestStrangersAreToldOfOnce(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	leaf := func(v *vault, name string) {
		chain, key, _ := v.issue("a.test")
		first, _ := pem.Decode(chain)
		v.replace(name+".key", key)
		v.replace(name+".pem", pem.EncodeToMemory(first))
	}
	leaf(v, "certs/a")
	leaf(v, "certs/b")
	r := start(t, nil, v.config(`"DIR/certs/*.pem"`, "a.test"))
	const told = `level=WARN msg=(configuration|certificate) warning=".*issuer .* is unknown`
	r.log.wait(t, told, 1)
	for n, name := range []string{"a", "b", "a"} {
		leaf(v, "certs/"+name)
		r.log.wait(t, fmt.Sprintf(reloaded, `renewed: [ab]\.pem`), n+1)
	}
	leaf(v, "certs/c")
	r.log.wait(t, fmt.Sprintf(reloaded, "added: c.pem"), 1)
	other := *v
	other.authority = lab.NewAuthority(t, "other")
	leaf(&other, "certs/d")
	r.log.wait(t, fmt.Sprintf(reloaded, "added: d.pem"), 1)
	r.log.wait(t, told+`.*CN=other`, 1)
	if n := len(regexp.MustCompile(told).FindAllString(r.log.String(), -1)); n != 2 {
		t.Errorf("got told %d times of two issuers:\n%s", n, r.log)
	}
}

// TestMountedCertificates swaps a mounted secret as the kubelet does.
func TestMountedCertificates(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	version := func(n int) (serial string) {
		dir := fmt.Sprintf("mount/..v%d", n)
		chain, key, serial := v.issue("a.test")
		v.replace(dir+"/tls.crt", chain)
		v.replace(dir+"/tls.key", key)
		if err := os.Symlink(filepath.Base(dir), v.path("mount/..data_tmp")); err != nil {
			t.Fatal(err)
		}
		v.rename("mount/..data_tmp", "mount/..data")
		v.remove(fmt.Sprintf("mount/..v%d", n-1))
		return serial
	}
	serial := version(1)
	for _, name := range []string{"tls.crt", "tls.key"} {
		if err := os.Symlink("..data/"+name, v.path("mount/"+name)); err != nil {
			t.Fatal(err)
		}
	}
	r := start(t, nil, v.config(`{ cert = "DIR/mount/tls.crt", key = "DIR/mount/tls.key" }`, "a.test"))
	v.shown(r, "a.test", serial)
	for n := 2; n < 5; n++ {
		serial = version(n)
		r.log.wait(t, fmt.Sprintf(reloaded, "renewed: tls.crt"), n-1)
		v.shown(r, "a.test", serial)
	}
}

// TestBrokenCertificates: a pair that cannot be used leaves the one before in force, is
// spoken of once, and is taken as soon as it is whole. A reload in between fails.
func TestBrokenCertificates(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	serial := v.put("a", "a.test")
	r := start(t, nil, v.config(`"DIR/a.pem", "DIR/more*.pem"`, "a.test"))
	for i, tt := range []struct {
		name, why string
		spoil     func()
	}{
		{"another key", `the key in [^ ]*/a.key does not match the certificate for a.test`, func() {
			chain, _, _ := v.issue("a.test")
			v.replace("a.pem", chain)
		}},
		{"a key that clients refuse", `has an RSA key of 1024 bits`, func() {
			cert, key := lab.WriteCertificate(t, v.authority.Issue(t, lab.Certificate{Names: []string{"a.test"}, RSA: true, RSABits: 1024}))
			v.must(os.Rename(key, v.path("a.key")))
			v.must(os.Rename(cert, v.path("a.pem")))
		}},
	} {
		tt.spoil()
		line := r.log.wait(t, `msg="certificate is not taken" .*`+tt.why+`.*$`, 1)[0]
		if want := `so="the one before stays"`; !strings.Contains(line, want) {
			t.Errorf("%s: got %s, want %s in it", tt.name, line, want)
		}
		checkFault(t, r.server, "certificate", tt.why, "the one before stays")
		v.shown(r, "a.test", serial)
		r.signals <- syscall.SIGHUP
		r.log.wait(t, `msg="reload failed"`, i+1)
		v.shown(r, "a.test", serial)
		serial = v.put("a", "a.test")
		r.log.wait(t, fmt.Sprintf(reloaded, "renewed: a.pem"), i+1)
		v.shown(r, "a.test", serial)
		if got := strings.Count(r.log.String(), line[strings.Index(line, "why="):]); got != 1 {
			t.Errorf("%s: told %d times, want once", tt.name, got)
		}
		for faults := r.server.Faults(); len(faults) > 0; faults = r.server.Faults() { // until the look is over
			runtime.Gosched()
		}
	}
	// A new file that cannot be used takes nothing from the others.
	v.replace("more.pem", nil)
	r.log.wait(t, `msg="certificate is not taken" .*more.pem: is empty.* so="it is left out"`, 1)
	checkFault(t, r.server, "certificate", "more.pem: is empty", "it is left out")
	v.shown(r, "a.test", serial)
	v.put("more", "b.test")
	r.log.wait(t, fmt.Sprintf(reloaded, "added: more.pem"), 1)
	r.reload(1, v.config(`"DIR/a.pem", "DIR/more.pem"`, "a.test", "b.test"))
	r.session(v.authority, "b.test")
}

// checkFault: the server tells of one fault, and that is it.
func checkFault(t *testing.T, s *server.Server, what, why, so string) {
	t.Helper()
	got := s.Faults()
	if len(got) != 1 || got[0].What != what || !regexp.MustCompile(why).MatchString(got[0].Why) || got[0].So != so {
		t.Errorf("got faults %+v, want one of %q, %q, %q", got, what, why, so)
	}
	if len(got) == 1 && (got[0].Since.IsZero() || got[0].Since.After(time.Now())) {
		t.Errorf("got a fault since %v", got[0].Since)
	}
}

// TestFaultsAreShown: operators are shown what is not taken as long as it stands, in the
// form that the API describes.
func TestFaultsAreShown(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	v.put("a", "a.test")
	o := operate(t, v.config(`"DIR/a.pem", "DIR/[b-z]*.pem"`, "a.test"))
	c := o.http(t)
	_, description := o.get(t, "/openapi.yaml")
	d := newDescribed(t, description)
	if got := must(o.Status(t.Context())); len(got.Faults) > 0 || got.MaxConnections < 1 || got.MaxConnections > got.MaxConnectionsDeclared {
		t.Errorf("got %+v, want no fault and a limit that is at most the declared one", got)
	}
	v.remove("a.key")
	v.replace("more.pem", nil)
	o.log.wait(t, `msg="certificate is not taken"`, 2)
	all := must(o.Status(t.Context())).Faults
	if len(all) != 2 {
		t.Fatalf("got %+v, want 2 faults", all)
	}
	for i, want := range []admin.Fault{
		{What: "certificate", File: v.path("a.pem"), Why: v.path("a.key") + ": cannot be read", So: "the one before stays"},
		{What: "certificate", File: v.path("more.pem"), Why: v.path("more.pem") + ": is empty", So: "it is left out"},
	} {
		got := all[i]
		if got.What != want.What || got.File != want.File || !strings.HasPrefix(got.Why, want.Why) || got.So != want.So || got.Since.IsZero() {
			t.Errorf("got %+v, want %+v and since when", got, want)
		}
	}
	d.request(c, "GET", "/v1/status", "", http.StatusOK)
	v.put("a", "a.test")
	v.remove("more.pem")
	await(t, "status without faults", func() bool { return len(must(o.Status(t.Context())).Faults) == 0 })
}

// TestUncoveredHosts: the last certificate of a host goes, which is told, and comes back.
func TestUncoveredHosts(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	v.put("certs/a", "a.test")
	serial := v.put("certs/b", "b.test")
	r := start(t, nil, v.config(`"DIR/certs"`, "a.test", "b.test"))
	v.remove("certs/a.pem")
	r.log.wait(t, fmt.Sprintf(reloaded, "removed: a.pem"), 1)
	r.log.wait(t, `msg="host is no longer covered by a certificate" why="route \\"a.test\\": no certificate covers \\"a.test\\""`, 1)
	checkFault(t, r.server, "host", `route "a.test": no certificate covers "a.test"`, "its clients are refused")
	r.refused(v.authority, "a.test", "unrecognized name")
	v.shown(r, "b.test", serial)
	serial = v.put("certs/a", "a.test")
	r.log.wait(t, fmt.Sprintf(reloaded, "added: a.pem"), 1)
	v.shown(r, "a.test", serial)
}

// TestWatchBehindReload: after a reload the files of the new configuration are watched,
// and those of the one before are not.
func TestWatchBehindReload(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	serial := v.put("a", "a.test")
	v.put("b", "a.test")
	r := start(t, nil, v.config(`"DIR/a.pem"`, "a.test"))
	v.shown(r, "a.test", serial)
	r.reload(1, v.config(`"DIR/b.pem"`, "a.test"))
	for i := range 3 {
		v.put("a", "a.test")
		serial = v.put("b", "a.test")
		r.log.wait(t, fmt.Sprintf(reloaded, "renewed: b.pem"), i+1)
		v.shown(r, "a.test", serial)
	}
	if log := r.log.String(); strings.Contains(log, "renewed: a.pem") {
		t.Errorf("a.pem is watched, which no configuration names:\n%s", log)
	}
}
