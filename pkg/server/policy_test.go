package server_test

import (
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/certs"
	"github.com/snicketlb/snicket/pkg/server"
)

// members are an authority for clients with its files.
type members struct {
	*certs.Authority
	ca, crl string // files
}

func newMembers(t *testing.T) members {
	t.Helper()
	a, err := certs.NewAuthority("members")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	m := members{Authority: a, ca: filepath.Join(dir, "members.pem"), crl: filepath.Join(dir, "members.crl")}
	exchange(t, m.ca, a.PEM())
	return m
}

// exchange replaces a file at once, as one ought to.
func exchange(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func (m members) client(t *testing.T, name string) *certs.Certificate {
	t.Helper()
	c, err := m.Issue(certs.IssueOptions{CommonName: name, Client: true})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// list is a CRL in PEM.
func (m members) list(t *testing.T, o certs.RevokeOptions, revoked ...*certs.Certificate) []byte {
	t.Helper()
	for _, c := range revoked {
		o.Revoked = append(o.Revoked, c.Leaf)
	}
	der, err := m.Revoke(o)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

// as is a client of a.test with a certificate.
func (d ticketed) as(c *certs.Certificate) *tls.Config {
	cfg := d.ca.Client("a.test")
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &c.Certificate, nil }
	return cfg
}

// visit makes a session with an echo, and reports how it failed.
func (r *running) visit(cfg *tls.Config) error {
	r.t.Helper()
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: lab.Patience}, "tcp", r.address, cfg)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(lab.Patience))
	if _, err := io.WriteString(c, "ping"); err != nil {
		return err
	}
	_, err = io.ReadFull(c, make([]byte, 4))
	return err
}

// TestClientCertificatesFollowFiles exchanges the files of a policy while the server
// runs, nobody being told: what they hold counts from the next handshake on.
func TestClientCertificatesFollowFiles(t *testing.T) {
	d, m := newTicketed(t), newMembers(t)
	ann, eve := m.client(t, "ann"), m.client(t, "eve")
	exchange(t, m.crl, m.list(t, certs.RevokeOptions{}))
	r := start(t, nil, d.config(fmt.Sprintf("client_ca = %q\ncrl = %q\n", m.ca, m.crl), ""))
	resuming := d.as(eve)
	resuming.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	for _, cfg := range []*tls.Config{d.as(ann), d.as(eve), resuming} {
		if err := r.visit(cfg); err != nil {
			t.Fatal(err)
		}
	}
	r.access.wait(t, `outcome=ok .*client_cn="ann".* client_verify="ok"`, 1)

	exchange(t, m.crl, m.list(t, certs.RevokeOptions{}, eve))
	r.log.wait(t, `msg=reloaded what=client_ca files="members.crl, members.pem"`, 1)
	for _, cfg := range []*tls.Config{d.as(eve), resuming} {
		if err := r.visit(cfg); err == nil {
			t.Error("a revoked client is let in")
		}
	}
	r.access.wait(t, `outcome=client-tls-failed error="handshake with the client: client certificate: revoked \(serial [0-9A-F]+\)".* client_cn="eve"`, 2)
	if err := r.visit(d.as(ann)); err != nil {
		t.Errorf("the other client: %v", err)
	}

	exchange(t, m.crl, []byte("half of a list"))
	r.log.wait(t, `msg="file is not taken" why="client_ca: .*members.crl: is not PEM`, 1)
	checkFault(t, r.server, "client_ca", "members.crl: is not PEM", "what was loaded before stays")
	if err := r.visit(d.as(ann)); err != nil {
		t.Errorf("while the list is broken: %v", err)
	}
	if err := r.visit(d.as(eve)); err == nil {
		t.Error("a broken list lets a revoked client in")
	}

	others := newMembers(t)
	exchange(t, m.crl, others.list(t, certs.RevokeOptions{}))
	exchange(t, m.ca, others.PEM())
	r.log.wait(t, `msg=reloaded what=client_ca`, 2)
	if err := r.visit(d.as(ann)); err == nil {
		t.Error("a client of the former authority is let in")
	}
	if err := r.visit(d.as(others.client(t, "bob"))); err != nil {
		t.Errorf("a client of the new authority: %v", err)
	}

	exchange(t, m.crl, others.list(t, certs.RevokeOptions{NextUpdate: time.Now().Add(-time.Second)}))
	r.log.wait(t, `level=WARN msg="clients are refused" why=".*members.crl: CRL is not of this time`, 1)
	checkFault(t, r.server, "client_ca", "members.crl: CRL is not of this time", "clients are refused")
	if err := r.visit(d.as(others.client(t, "bob"))); err == nil {
		t.Error("a client is let in by a list that is out of date")
	}
	r.access.wait(t, `client certificate: CRL is not of this time`, 1)
}

// TestPolicyOfRoutes gives each route what its configuration says, [tls] being the rest.
func TestPolicyOfRoutes(t *testing.T) {
	d, m := newTicketed(t), newMembers(t)
	ann := m.client(t, "ann")
	offers := func(least, most uint16, curves ...tls.CurveID) *tls.Config {
		cfg := d.ca.Client("a.test")
		cfg.MinVersion, cfg.MaxVersion, cfg.CurvePreferences = least, most, curves
		return cfg
	}
	asking := fmt.Sprintf("client_ca = %q\n", m.ca)
	for _, tt := range []struct {
		name       string
		route, all string
		client     *tls.Config
		want       string // part of the client's error; "" if let in
		record     string
	}{
		{name: "default 1.2", client: offers(0, tls.VersionTLS12)},
		{name: "default 1.1", client: offers(tls.VersionTLS10, tls.VersionTLS11), want: "protocol version"},
		{name: "modern", route: "profile = \"modern\"\n", client: offers(0, tls.VersionTLS12), want: "protocol version"},
		{name: "modern for all", all: "profile = \"modern\"\n", client: offers(0, tls.VersionTLS12), want: "protocol version"},
		{name: "intermediate again", all: "profile = \"modern\"\n", route: "profile = \"intermediate\"\n", client: offers(0, tls.VersionTLS12)},
		{name: "max_version", route: "max_version = \"1.2\"\n", client: offers(tls.VersionTLS13, 0), want: "protocol version"},
		{name: "curves", route: "curves = [\"P-384\"]\n", client: offers(0, 0, tls.CurveP384)},
		{name: "other curves", route: "curves = [\"P-384\"]\n", client: offers(0, 0, tls.X25519), want: "handshake failure"},
		{name: "client_ca", route: asking, client: d.ca.Client("a.test"), want: "certificate required"},
		{name: "client_ca for all", all: asking, client: d.ca.Client("a.test"), want: "certificate required"},
		{name: "none again", all: asking, route: "client_auth = \"none\"\n", client: d.as(ann), record: `client_cn=- .*client_verify=-`},
		{name: "request", all: asking, route: "client_auth = \"request\"\n", client: d.ca.Client("a.test"), record: `client_cn=- .*client_verify=-`},
		{name: "client_names", route: asking + "client_names = [\"ann\"]\n", client: d.as(ann)},
		{name: "other client_names", route: asking + "client_names = [\"*.clients.test\"]\n", client: d.as(ann), want: "bad certificate"},
		{
			name: "unverified", route: asking + "client_auth = \"request\"\n", client: d.as(newMembers(t).client(t, "eve")),
			record: `client_cn="eve" .*client_verify="x509: certificate signed by unknown authority`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := start(t, nil, d.config(tt.route, tt.all))
			err := r.visit(tt.client)
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %v, want %q", err, tt.want)
				}
				r.access.wait(t, `outcome=client-tls-failed`, 1)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			r.access.wait(t, `outcome=ok .*`+tt.record, 1)
		})
	}
}

// TestClientFilesThatAreNone refuses to start with them, and warns of what is out of time.
func TestClientFilesThatAreNone(t *testing.T) {
	d, m := newTicketed(t), newMembers(t)
	exchange(t, m.crl, m.list(t, certs.RevokeOptions{NextUpdate: time.Now().Add(-time.Second)}))
	empty := lab.WriteFile(t, filepath.Join(t.TempDir(), "empty.pem"), nil)
	for _, tt := range []struct {
		name, route, want string
		fails             bool
	}{
		{name: "no authority", route: fmt.Sprintf("client_ca = %q\n", empty), want: ":12: .*empty.pem: is empty", fails: true},
		{name: "no list", route: fmt.Sprintf("client_ca = %q\ncrl = %q\n", m.ca, m.ca), want: ":13: .*members.pem: holds no CRL", fails: true},
		{name: "old list", route: fmt.Sprintf("client_ca = %q\ncrl = %q\n", m.ca, m.crl), want: `:13: warning: .*members.crl: CRL is not of this time: that of "CN=members" was to be replaced by `},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := lab.WriteFile(t, filepath.Join(t.TempDir(), "snicket.toml"), []byte(preamble+d.config(tt.route, "")))
			_, problems := server.Check(file)
			if (problems.Err() != nil) != tt.fails {
				t.Errorf("got %v, want an error: %v", problems.Err(), tt.fails)
			}
			var all []string
			for _, p := range problems {
				all = append(all, p.String())
			}
			if text := strings.Join(all, "\n"); !matches(tt.want, text) {
				t.Errorf("got %q, want %q", text, tt.want)
			}
		})
	}
}

// TestKeyLog decides by the secrets in the file which session was whose, and that
// nobody else's are there; a file is opened anew behind a reload.
func TestKeyLog(t *testing.T) {
	d := newTicketed(t)
	file := filepath.Join(t.TempDir(), "keys.log")
	logged := fmt.Sprintf("key_log = %q\n", file)
	r := start(t, nil, d.config(logged, ""))
	const warning = `level=WARN msg="secrets of TLS sessions are written to a file: .*" file=.*keys.log routes=shop`
	r.log.wait(t, warning, 1)
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("got %v, %v, want mode 0600", info, err)
	}
	// secrets makes a session and returns those that its client knows.
	secrets := func(version uint16) string {
		var known bytes.Buffer
		cfg := d.ca.Client("a.test")
		cfg.MinVersion, cfg.MaxVersion, cfg.KeyLogWriter = version, version, &known
		if err := r.visit(cfg); err != nil {
			t.Fatal(err)
		}
		if known.Len() == 0 {
			t.Fatal("the client knows no secrets")
		}
		return known.String()
	}
	var first []string
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		first = append(first, secrets(version))
		waitFor(t, file, first[len(first)-1])
	}
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	r.reload(1, d.config(logged, ""))
	r.log.wait(t, warning, 2)
	waitFor(t, file, secrets(tls.VersionTLS13))
	if now, former := descriptors(t, file), descriptors(t, file+".1"); now != 1 || former != 0 {
		t.Errorf("%d descriptors of the file, %d of the former one, want 1 and none", now, former)
	}
	old, err := os.ReadFile(file + ".1")
	if err != nil || string(old) != strings.Join(first, "") {
		t.Errorf("the former file: got %v\n%s\nwant\n%s", err, old, strings.Join(first, ""))
	}

	if err := os.Chmod(file, 0o640); err != nil {
		t.Fatal(err)
	}
	r.signals <- syscall.SIGHUP
	r.log.wait(t, `msg="reload failed" problems=".*key_log: .*keys.log can be read or written by other users \(mode 0640\): chmod 600 .*"`, 1)
	waitFor(t, file, secrets(tls.VersionTLS13)) // the old one runs on

	r.reload(2, d.config("", ""))
	if n := descriptors(t, file); n != 0 {
		t.Errorf("%d descriptors of the file without key_log, want none", n)
	}
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	secrets(tls.VersionTLS13)
	r.access.wait(t, `outcome=ok`, 5)
	if after, err := os.ReadFile(file); err != nil || !bytes.Equal(after, before) {
		t.Errorf("%v: %d bytes have become %d without key_log", err, len(before), len(after))
	}
}

// descriptors counts those of this process that are of a file.
func descriptors(t *testing.T, file string) (n int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && to == file { // that of this listing is gone
			n++
		}
	}
	return n
}

// waitFor waits until the file holds text.
func waitFor(t *testing.T, file, text string) {
	t.Helper()
	deadline := time.Now().Add(lab.Patience)
	for {
		b, err := os.ReadFile(file)
		if err == nil && strings.Contains(string(b), text) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: got %v\n%s\nwant\n%s", file, err, b, text)
		}
		runtime.Gosched()
	}
}

// cutting cuts the hello of a client into records of size bytes, and each into segments
// before and after its header.
type cutting struct {
	net.Conn
	size int
	done bool
}

func (c *cutting) Write(b []byte) (int, error) {
	if c.done {
		return c.Conn.Write(b)
	}
	c.done = true
	const header = 5 // type, version and length (RFC 8446 §5.1)
	for rest := b[header:]; len(rest) > 0; {
		n := min(c.size, len(rest))
		for _, part := range [][]byte{{b[0], b[1], b[2], byte(n >> 8), byte(n)}, rest[:n]} {
			if _, err := c.Conn.Write(part); err != nil {
				return 0, err
			}
		}
		rest = rest[n:]
	}
	return len(b), nil
}

// TestPolicyOfCutHello cuts hellos for a host that demands certificates, and for one that
// does not, wherever they can be cut: each is served as it deserves, whole or not.
func TestPolicyOfCutHello(t *testing.T) {
	d, m := newTicketed(t), newMembers(t)
	ann := m.client(t, "ann")
	const route = "[[routes]]\nhosts = [%q]\nmode = \"terminate\"\nbackends = [%q]\n"
	r := start(t, nil, fmt.Sprintf(route+"[routes.tls]\nclient_ca = %q\n"+route+"[tls]\ncertificates = [{ cert = %q, key = %q }]\n",
		"a.test", d.backend.Addr(), m.ca, "b.test", d.backend.Addr(), d.cert, d.key))
	visit := func(cfg *tls.Config, size int) error {
		raw, err := net.Dial("tcp", r.address)
		if err != nil {
			t.Fatal(err)
		}
		_ = raw.SetDeadline(time.Now().Add(lab.Patience))
		c := tls.Client(&cutting{Conn: raw, size: size}, cfg)
		defer c.Close()
		if _, err := io.WriteString(c, "ping"); err != nil {
			return err
		}
		_, err = io.ReadFull(c, make([]byte, 4))
		return err
	}
	for _, size := range []int{1, 2, 3, 7, 40, 64, 100, 150, 500} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(fmt.Sprintf("%d bytes, %s", size, tls.VersionName(version)), func(t *testing.T) {
				open, known, unknown := d.ca.Client("b.test"), d.as(ann), d.ca.Client("a.test")
				for _, cfg := range []*tls.Config{open, known, unknown} {
					cfg.MinVersion, cfg.MaxVersion = version, version
				}
				if err := visit(open, size); err != nil {
					t.Errorf("the open host: %v", err)
				}
				if err := visit(known, size); err != nil {
					t.Errorf("with a certificate: %v", err)
				}
				want := "certificate required"
				if version == tls.VersionTLS12 {
					want = "handshake failure"
				}
				if err := visit(unknown, size); err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("without a certificate: got %v, want %q", err, want)
				}
			})
		}
	}
}
