//go:build e2e

package e2e_test

import (
	"crypto/tls"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
)

// browser is a Chromium with a home of its own, in which one authority is trusted.
type browser struct {
	t        *testing.T
	home     string
	policies string // a directory that stands for the system's; "" for none
}

func newBrowser(t *testing.T, caFile string) *browser {
	t.Helper()
	lab.Require(t, "chromium", "chromium")
	lab.Require(t, "certutil", "libnss3-tools")
	b := &browser{t: t, home: t.TempDir()}
	b.certutil("-N", "--empty-password")
	b.certutil("-A", "-n", "authority", "-t", "C,,", "-i", caFile)
	return b
}

func (b *browser) certutil(args ...string) {
	b.t.Helper()
	mustTool(b.t, "", "mkdir", "-p", filepath.Join(b.home, ".pki/nssdb"))
	mustTool(b.t, "", "certutil", append([]string{"-d", "sql:" + filepath.Join(b.home, ".pki/nssdb")}, args...)...)
}

// identify gives the browser a client certificate, which it then shows to every server that asks.
func (b *browser) identify(certFile, keyFile string) {
	b.t.Helper()
	bundle := filepath.Join(b.home, "client.p12")
	mustTool(b.t, "", "openssl", "pkcs12", "-export", "-in", certFile, "-inkey", keyFile, "-out", bundle, "-passout", "pass:", "-name", "client")
	mustTool(b.t, "", "pk12util", "-i", bundle, "-d", "sql:"+filepath.Join(b.home, ".pki/nssdb"), "-W", "")
	b.policies = filepath.Join(b.home, "policies")
	mustTool(b.t, "", "mkdir", "-p", filepath.Join(b.policies, "managed"))
	lab.WriteFile(b.t, filepath.Join(b.policies, "managed/certificate.json"),
		[]byte(`{"AutoSelectCertificateForUrls": ["{\"pattern\":\"*\",\"filter\":{}}"]}`))
}

// open loads https://a.test at addr and returns the page, and what the browser said of it.
func (b *browser) open(addr string) (page, said string) {
	b.t.Helper()
	command := []string{
		"chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
		"--user-data-dir=" + filepath.Join(b.home, "profile"),
		"--host-resolver-rules=MAP a.test 127.0.0.1, MAP * ~NOTFOUND", // no other address is contacted
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run",
		"--dump-dom", fmt.Sprintf("https://a.test:%s/", port(b.t, addr)),
	}
	if b.policies != "" { // in a mount namespace of its own the policies are the system's
		script := `mkdir -p /etc/chromium/policies && mount --bind "$0" /etc/chromium/policies && exec "$@"`
		command = append([]string{"unshare", "--mount", "sh", "-c", script, b.policies}, command...)
	}
	cmd := exec.CommandContext(b.t.Context(), command[0], command[1:]...)
	cmd.Env = append(cmd.Environ(), "HOME="+b.home)
	var out, err strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &err
	cmd.WaitDelay = lab.Patience
	_ = cmd.Run() // a page that cannot be loaded is what some want
	return out.String(), err.String()
}

// TestChromium loads a page from a terminated host with a browser that verifies it and sends an
// encrypted_client_hello extension that is GREASE.
func TestChromium(t *testing.T) {
	e := newScanned(t, "")
	page, said := newBrowser(t, e.ca).open(e.addr)
	if !strings.Contains(page, "as it should be") {
		t.Errorf("page %q\n%s", page, said)
	}
	e.waitRecord(0, record{"outcome": "ok", "tls_version": "1.3", "alpn": "h2", "sni": "a.test"})
	stranger := lab.NewAuthority(t, "another authority").WriteCA(t)
	if page, said := newBrowser(t, stranger).open(e.addr); !strings.Contains(said, "ERR_CERT_AUTHORITY_INVALID") {
		t.Errorf("page %q from an authority that is not trusted\n%s", page, said)
	}
}

// TestChromiumModern is the same where TLS 1.3 alone is spoken.
func TestChromiumModern(t *testing.T) {
	e := newScanned(t, `profile = "modern"`)
	if page, said := newBrowser(t, e.ca).open(e.addr); !strings.Contains(page, "as it should be") {
		t.Errorf("page %q\n%s", page, said)
	}
}

// TestChromiumClientCertificate: a browser with a certificate of the right authority is let in. One without, or with one
// that is a stranger's, has expired or was revoked, is not.
func TestChromiumClientCertificate(t *testing.T) {
	clients, strangers := lab.NewAuthority(t, "clients"), lab.NewAuthority(t, "strangers")
	somebody := lab.Certificate{Names: []string{"somebody"}, Client: true}
	good, revoked := clients.Issue(t, somebody), clients.Issue(t, somebody)
	stranger := strangers.Issue(t, somebody)
	somebody.NotBefore, somebody.NotAfter = time.Now().AddDate(0, 0, -2), time.Now().AddDate(0, 0, -1)
	expired := clients.Issue(t, somebody)
	crl := lab.WriteFile(t, filepath.Join(t.TempDir(), "clients.crl"), clients.Revoke(t, revoked))
	e := newScanned(t, fmt.Sprintf("client_ca = %q\ncrl = %q", clients.WriteCA(t), crl))
	for _, tt := range []struct {
		name    string
		shown   *tls.Certificate
		refused string // in the error of a record; "" for let in
	}{
		{"good", &good, ""},
		{"none", nil, "handshake"},
		{"stranger", &stranger, "handshake"}, // the browser shows none that the authority did not issue

		{"expired", &expired, "handshake"}, // nor one that has expired
		{"revoked", &revoked, "revoked"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBrowser(t, e.ca)
			if tt.shown != nil {
				b.identify(lab.WriteCertificate(t, *tt.shown))
			}
			mark := e.Mark()
			page, said := b.open(e.addr)
			if got := strings.Contains(page, "as it should be"); got != (tt.refused == "") {
				t.Errorf("page %q\n%s", page, said)
			}
			if tt.refused == "" {
				e.waitRecord(mark, record{"outcome": "ok", "client_cn": "somebody"})
				return
			}
			e.WaitLineAfter(mark, `^time=.* outcome=client-tls-failed error="[^"]*`+tt.refused)
		})
	}
}
