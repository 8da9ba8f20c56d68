package certs_test

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/snicketlb/snicket/pkg/certs"
)

func authority(t testing.TB) *certs.Authority {
	t.Helper()
	a, err := certs.NewAuthority("test root")
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func issue(t testing.TB, a *certs.Authority, o certs.IssueOptions) *certs.Certificate {
	t.Helper()
	c, err := a.Issue(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func pems(t testing.TB, c *certs.Certificate) (chain, key string) {
	t.Helper()
	a, b, err := c.PEM()
	if err != nil {
		t.Fatal(err)
	}
	return string(a), string(b)
}

// reversed returns the PEM blocks of s, last first.
func reversed(s string) string {
	var out string
	for rest := []byte(s); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return out
		}
		out = string(pem.EncodeToMemory(block)) + out
	}
}

func TestLoad(t *testing.T) {
	a := authority(t)
	c := issue(t, a, certs.IssueOptions{Names: []string{"a.test"}})
	chain, key := pems(t, c)
	_, otherKey := pems(t, issue(t, a, certs.IssueOptions{Names: []string{"a.test"}}))
	rsaChain, rsaKey := pems(t, issue(t, a, certs.IssueOptions{Names: []string{"r.test"}, RSA: true}))
	for _, tt := range []struct {
		name    string
		files   map[string]string
		mode    os.FileMode // of the key; 0 for 0600
		cert    string
		key     string
		keyFile string
		want    string // the problem, DIR for the directory
		ok      bool
	}{
		{name: "two files", files: map[string]string{"c.pem": chain, "k.pem": key}, cert: "c.pem", key: "k.pem", keyFile: "k.pem", ok: true},
		{name: "RSA", files: map[string]string{"c.pem": rsaChain, "k.pem": rsaKey}, cert: "c.pem", key: "k.pem", keyFile: "k.pem", ok: true},
		{name: "one file", files: map[string]string{"c.pem": chain + key}, cert: "c.pem", keyFile: "c.pem", ok: true},
		{name: "key first", files: map[string]string{"c.pem": key + chain}, cert: "c.pem", keyFile: "c.pem", ok: true},
		{name: "beside", files: map[string]string{"c.pem": chain, "c.key": key}, cert: "c.pem", keyFile: "c.key", ok: true},
		{
			name: "readable by all", files: map[string]string{"c.pem": chain, "c.key": key}, mode: 0o644, cert: "c.pem", keyFile: "c.key", ok: true,
			want: "DIR/c.key: private key can be read by every user (mode 0644): chmod o-rwx DIR/c.key",
		},
		{name: "readable by the group", files: map[string]string{"c.pem": chain, "c.key": key}, mode: 0o640, cert: "c.pem", keyFile: "c.key", ok: true},
		{name: "no file", cert: "c.pem", want: "DIR/c.pem: cannot be read: no such file or directory"},
		{
			name: "no key", files: map[string]string{"c.pem": chain}, cert: "c.pem",
			want: "DIR/c.key: cannot be read: no such file or directory: the key of DIR/c.pem is looked for here",
		},
		{name: "no PEM", files: map[string]string{"c.pem": "\x30\x82"}, cert: "c.pem", want: "DIR/c.pem: is DER, not PEM: convert it: openssl x509 -inform der -in FILE; PKCS #12: openssl pkcs12 -in FILE"},
		{
			name: "DER as key", files: map[string]string{"c.pem": chain, "k.pem": "\x30\x81\x00"}, cert: "c.pem", key: "k.pem",
			want: "DIR/k.pem: is DER, not PEM: convert it: openssl pkey -inform der -in FILE; PKCS #12: openssl pkcs12 -in FILE",
		},
		{
			name: "empty", files: map[string]string{"c.pem": " \n"}, cert: "c.pem",
			want: "DIR/c.pem: is empty: a PEM file is text that begins with -----BEGIN CERTIFICATE-----",
		},
		{
			name: "plain text", files: map[string]string{"c.pem": "0 is where I would begin\n"}, cert: "c.pem",
			want: "DIR/c.pem: is not PEM: a PEM file is text that begins with -----BEGIN CERTIFICATE-----",
		},
		{
			name: "plain text as key", files: map[string]string{"c.pem": chain, "c.key": "secret"}, cert: "c.pem",
			want: "DIR/c.key: is not PEM: a PEM file is text that begins with -----BEGIN PRIVATE KEY-----",
		},
		{
			name: "cut off", files: map[string]string{"c.pem": chain[:200]}, cert: "c.pem",
			want: "DIR/c.pem: holds PEM that is damaged: copy it again, with its lines -----BEGIN and -----END and all between",
		},
		{
			name: "no certificate", files: map[string]string{"c.pem": "-----BEGIN DH PARAMETERS-----\nAAAA\n-----END DH PARAMETERS-----\n"}, cert: "c.pem",
			want: "DIR/c.pem: holds no certificate: name a file with the certificate and its chain in PEM",
		},
		{
			name: "key as certificate", files: map[string]string{"c.pem": key}, cert: "c.pem",
			want: `DIR/c.pem: holds no certificate: it is a key; name it with its certificate: { cert = "FILE.pem", key = "DIR/c.pem" }`,
		},
		{
			name: "key beside its certificate, by a pattern", files: map[string]string{"fullchain.pem": chain, "privkey.pem": key}, cert: "privkey.pem",
			want: `DIR/privkey.pem: holds no certificate: it is a key; name it with its certificate: { cert = "DIR/fullchain.pem", key = "DIR/privkey.pem" }`,
		},
		{
			name: "certificate beside its key", files: map[string]string{"fullchain.pem": chain, "privkey.pem": key}, cert: "fullchain.pem", key: "fullchain.pem",
			want: `DIR/fullchain.pem: holds no private key: write { cert = "DIR/fullchain.pem", key = "DIR/privkey.pem" }`,
		},
		{
			name: "certificate as key", files: map[string]string{"c.pem": chain}, cert: "c.pem", key: "c.pem",
			want: `DIR/c.pem: holds no private key: write { cert = "DIR/c.pem", key = "FILE.pem" }, or put the key into DIR/c.key`,
		},
		{
			name: "another certificate as key", files: map[string]string{"c.pem": chain, "k.pem": rsaChain}, cert: "c.pem", key: "k.pem",
			want: "DIR/k.pem: holds no private key: it is a certificate; name the file with the key",
		},
		{
			name: "broken certificate", cert: "c.pem", want: "DIR/c.pem: certificate 1 cannot be parsed: x509: malformed certificate",
			files: map[string]string{"c.pem": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"},
		},
		{
			name: "encrypted key", files: map[string]string{"c.pem": chain, "k.pem": strings.ReplaceAll(key, "PRIVATE", "ENCRYPTED PRIVATE")}, cert: "c.pem", key: "k.pem",
			want: "DIR/k.pem: private key is encrypted: take the passphrase off with: openssl pkey -in FILE",
		},
		{
			name: "other key", files: map[string]string{"c.pem": chain, "k.pem": otherKey}, cert: "c.pem", key: "k.pem",
			want: "DIR/c.pem: the key in DIR/k.pem does not match the certificate for a.test: use the key that the certificate was requested with",
		},
		{
			name: "leaf last", files: map[string]string{"c.pem": reversed(chain), "k.pem": key}, cert: "c.pem", key: "k.pem",
			want: "DIR/c.pem: the key belongs to certificate 2, not to the first: put the server's own certificate first, then the one that issued it, and so on",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range tt.files {
				mode := tt.mode
				if mode == 0 || name != tt.keyFile {
					mode = 0o600
				}
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
					t.Fatal(err)
				}
			}
			keyFile := tt.key
			if keyFile != "" {
				keyFile = filepath.Join(dir, keyFile)
			}
			got, problems := certs.Load(filepath.Join(dir, tt.cert), keyFile)
			if (got != nil) != tt.ok {
				t.Fatalf("got %v, %v", got, problems)
			}
			if text := strings.ReplaceAll(join(problems), dir, "DIR"); text != tt.want {
				t.Errorf("problems %q, want %q", text, tt.want)
			}
			for _, p := range problems {
				if p.Warning != tt.ok {
					t.Errorf("%v: warning is %v", p, p.Warning)
				}
			}
			if tt.ok && (got.KeyFile != filepath.Join(dir, tt.keyFile) || got.Leaf != nil || got.Names[0][1:] != ".test") {
				t.Errorf("key file %q, leaf %v", got.KeyFile, got.Leaf)
			}
		})
	}
}

func join(problems []certs.Problem) string {
	var lines []string
	for _, p := range problems {
		lines = append(lines, p.String())
	}
	return strings.Join(lines, "\n")
}

func TestPool(t *testing.T) {
	a := authority(t)
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, a.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	pool, problems := certs.Pool(file)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	leaf := issue(t, a, certs.IssueOptions{Names: []string{"a.test"}}).Leaf
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: "a.test"}); err != nil {
		t.Error(err)
	}
	_, key := pems(t, issue(t, a, certs.IssueOptions{}))
	if err := os.WriteFile(file, []byte(key), 0o600); err != nil {
		t.Fatal(err)
	}
	if pool, problems := certs.Pool(file); pool != nil || join(problems) != file+": holds no certificate: name a file with the certificates of authorities in PEM" {
		t.Errorf("got %v, %q", pool, join(problems))
	}
	if err := syscall.Mkfifo(file+".fifo", 0o600); err != nil {
		t.Fatal(err)
	}
	if pool, problems := certs.Pool(file + ".fifo"); pool != nil || join(problems) != file+".fifo: cannot be read: not a regular file" {
		t.Errorf("got %v, %q of what nobody writes to", pool, join(problems))
	}
	if pool, problems := certs.Pool(file + ".none"); pool != nil || join(problems) != file+".none: cannot be read: no such file or directory" {
		t.Errorf("got %v, %q", pool, join(problems))
	}
}
