package certs_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/snicketlb/snicket/pkg/certs"
)

// exampleECH is the example of RFC 9934 §3, as openssl ech writes it.
const exampleECH = `-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VuBCIEICjd4yGRdsoP9gU7YT7My8DHx1Tjme8GYDXrOMCi8v1V
-----END PRIVATE KEY-----
-----BEGIN ECHCONFIG-----
AD7+DQA65wAgACA8wVN2BtscOl3vQheUzHeIkVmKIiydUhDCliA4iyQRCwAEAAEA
AQALZXhhbXBsZS5jb20AAA==
-----END ECHCONFIG-----
`

func ech(t testing.TB, publicName string) *certs.ECHKey {
	t.Helper()
	k, err := certs.GenerateECH(publicName)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func echPEM(t testing.TB, k *certs.ECHKey) string {
	t.Helper()
	b, err := k.PEM()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func block(kind string, b []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
}

func pkcs8(t *testing.T, key any) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return block("PRIVATE KEY", der)
}

func TestLoadECH(t *testing.T) {
	k, other := ech(t, "front.test"), ech(t, "front.test")
	private, list, _ := strings.Cut(echPEM(t, k), "-----BEGIN ECHCONFIG")
	list = "-----BEGIN ECHCONFIG" + list
	both := slices.Concat(other.Config, k.Config)
	vector := func(b []byte) []byte { return append([]byte{byte(len(b) >> 8), byte(len(b))}, b...) }
	mandatory := bytes.Clone(k.Config)
	mandatory = append(mandatory[:len(mandatory)-2], 0, 4, 0xff, 1, 0, 0)
	mandatory[3] += 4
	optional := bytes.Clone(mandatory)
	optional[len(optional)-4] = 0x7f
	old := bytes.Clone(k.Config)
	old[1] = 0x0a
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, content string
		want          string // the public names
		problem       string // a part of it
	}{
		{name: "as generated", content: echPEM(t, k), want: "front.test"},
		{name: "the config first", content: list + private, want: "front.test"},
		{name: "of openssl", content: exampleECH, want: "example.com"},
		{name: "a list with another's", content: private + block("ECHCONFIG", vector(both)), want: "front.test"},
		{name: "a list with another version", content: private + block("ECHCONFIG", vector(append(old, k.Config...))), want: "front.test"},
		{name: "an extension that may be passed over", content: private + block("ECHCONFIG", vector(optional)), want: "front.test"},
		{name: "empty", problem: "is empty"},
		{name: "no config", content: private, problem: "holds no ECHCONFIG: snicket ech-keygen"},
		{name: "no key", content: list, problem: "holds no private key: snicket ech-keygen"},
		{name: "another's config", content: private + block("ECHCONFIG", other.ConfigList()), problem: "the public key is another's"},
		{name: "another curve", content: pkcs8(t, p256) + list, problem: "KEM 0x0020, the key is for 0x0010"},
		{name: "a mandatory extension", content: private + block("ECHCONFIG", vector(mandatory)), problem: "a mandatory extension that is not known"},
		{name: "another version alone", content: private + block("ECHCONFIG", vector(old)), problem: "holds no ECHConfig of version 0xfe0d"},
		{name: "no list", content: private + block("ECHCONFIG", k.Config), problem: "the length of the list is wrong"},
		{name: "an empty list", content: private + block("ECHCONFIG", vector(nil)), problem: "the length of the list is wrong"},
		{name: "an RSA key", content: block("RSA PRIVATE KEY", []byte("x")) + list, problem: "private key cannot be used for ECH"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "ech.pem")
			if err := os.WriteFile(file, []byte(tt.content), 0o600); err != nil {
				t.Fatal(err)
			}
			keys, problems := certs.LoadECH(file)
			var names, problem []string
			for _, k := range keys {
				names = append(names, k.PublicName)
			}
			for _, p := range problems {
				problem = append(problem, p.String())
			}
			if got := strings.Join(names, " "); got != tt.want {
				t.Errorf("got keys of %q, want %q", got, tt.want)
			}
			if got := strings.Join(problem, "\n"); !strings.Contains(got, tt.problem) || (got == "") != (tt.problem == "") {
				t.Errorf("got problem %q, want %q", got, tt.problem)
			}
		})
	}
}

// TestLoadECHCut cuts an ECHConfig at each byte: none of its parts passes for a whole.
func TestLoadECHCut(t *testing.T) {
	k := ech(t, "front.test")
	private, _, _ := strings.Cut(echPEM(t, k), "-----BEGIN ECHCONFIG")
	file := filepath.Join(t.TempDir(), "ech.pem")
	for n := range len(k.Config) {
		for _, whole := range []bool{false, true} { // with the length of the config set right
			config := bytes.Clone(k.Config[:n])
			if whole && n >= 4 {
				config[2], config[3] = byte((n-4)>>8), byte(n-4)
			}
			list := append([]byte{byte(n >> 8), byte(n)}, config...)
			if err := os.WriteFile(file, []byte(private+block("ECHCONFIG", list)), 0o600); err != nil {
				t.Fatal(err)
			}
			if keys, problems := certs.LoadECH(file); len(keys) > 0 || len(problems) != 1 {
				t.Errorf("%d of %d bytes: got %d keys, %d problems", n, len(k.Config), len(keys), len(problems))
			}
		}
	}
}

func TestGenerateECHRefuses(t *testing.T) {
	for name, want := range map[string]string{
		"":               "empty name",
		"localhost":      "one label",
		"192.0.2.1":      "is an IP address",
		"front.192":      "looks like an IP address",
		"front.0x7f":     "looks like an IP address",
		"*.front.test":   "which no name has",
		"a_b.front.test": "is no host name",
		"a-.front.test":  "is no host name",
		"bücher.test":    "is not ASCII",
	} {
		if _, err := certs.GenerateECH(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", name, err, want)
		}
	}
	if k := ech(t, "Front.Test."); k.PublicName != "front.test" {
		t.Errorf("got public name %q, want front.test", k.PublicName)
	}
}

// TestECH has crypto/tls open hellos by keys that were written and read again, and
// turn away those for a key unknown with that of the first.
func TestECH(t *testing.T) {
	a := authority(t)
	cert := issue(t, a, certs.IssueOptions{Names: []string{"front.test", "secret.test"}})
	dir := t.TempDir()
	var keys []*certs.ECHKey
	for i, name := range []string{"front.test", "front.test", "other.test"} {
		file := filepath.Join(dir, string(rune('a'+i))+".pem")
		if err := os.WriteFile(file, []byte(echPEM(t, ech(t, name))), 0o600); err != nil {
			t.Fatal(err)
		}
		loaded, problems := certs.LoadECH(file)
		if len(loaded) != 1 || len(problems) != 0 {
			t.Fatal(problems)
		}
		keys = append(keys, loaded[0], loaded[0])
	}
	e := certs.NewECH(keys)
	if got := strings.Join(e.Names(), " "); got != "front.test other.test" {
		t.Errorf("got names %q", got)
	}
	server := &tls.Config{
		Certificates: []tls.Certificate{cert.Certificate},
		GetEncryptedClientHelloKeys: func(h *tls.ClientHelloInfo) ([]tls.EncryptedClientHelloKey, error) {
			return e.Keys(h.ServerName), nil
		},
	}
	for _, tt := range []struct {
		name  string
		key   *certs.ECHKey
		retry []byte // of which the client is told; nil: ECH is accepted
	}{
		{name: "the first", key: keys[0]},
		{name: "an older one", key: keys[2]},
		{name: "unknown", key: ech(t, "front.test"), retry: keys[0].ConfigList()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			near, far := net.Pipe()
			defer far.Close()
			go func() {
				_ = tls.Server(near, server).Handshake() // the client tells how it went
				near.Close()
			}()
			c := tls.Client(far, &tls.Config{
				RootCAs: a.Pool(), ServerName: "secret.test", EncryptedClientHelloConfigList: tt.key.ConfigList(),
			})
			err := c.Handshake()
			if tt.retry == nil {
				if err != nil || !c.ConnectionState().ECHAccepted {
					t.Errorf("got %v, accepted %v", err, c.ConnectionState().ECHAccepted)
				}
				return
			}
			if rejected, ok := errors.AsType[*tls.ECHRejectionError](err); !ok || !bytes.Equal(rejected.RetryConfigList, tt.retry) {
				t.Errorf("got %v, want a rejection with the first key", err)
			}
		})
	}
	if got := e.Keys("FRONT.test"); len(got) != 2 || !got[0].SendAsRetry || got[1].SendAsRetry {
		t.Errorf("got %d keys, want 2, the first alone to be told of", len(got))
	}
	if got := e.Keys("secret.test"); got != nil {
		t.Errorf("got %d keys for a name that is none", len(got))
	}
}

// TestECHOfP256 uses a key as other makers of them may choose it.
func TestECHOfP256(t *testing.T) {
	private, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public := private.PublicKey().Bytes()
	config := append([]byte{7, 0, 0x10, 0, byte(len(public))}, public...)
	config = append(config, 0, 4, 0, 1, 0, 1, 0, 10)
	config = append(config, "front.test\x00\x00"...)
	config = append([]byte{0xfe, 0x0d, 0, byte(len(config))}, config...)
	list := append([]byte{0, byte(len(config))}, config...)
	file := filepath.Join(t.TempDir(), "ech.pem")
	if err := os.WriteFile(file, []byte(pkcs8(t, private)+block("ECHCONFIG", list)), 0o600); err != nil {
		t.Fatal(err)
	}
	keys, problems := certs.LoadECH(file)
	if len(keys) != 1 || len(problems) != 0 {
		t.Fatal(problems)
	}
	if got := base64.StdEncoding.EncodeToString(keys[0].ConfigList()); got != base64.StdEncoding.EncodeToString(list) {
		t.Errorf("got list %s", got)
	}
}

func FuzzLoadECH(f *testing.F) {
	k := ech(f, "front.test")
	private, _, _ := strings.Cut(echPEM(f, k), "-----BEGIN ECHCONFIG")
	f.Add(k.ConfigList())
	f.Add([]byte{0, 4, 0xfe, 0x0d, 0, 0})
	file := filepath.Join(f.TempDir(), "ech.pem")
	f.Fuzz(func(t *testing.T, list []byte) {
		if err := os.WriteFile(file, []byte(private+block("ECHCONFIG", list)), 0o600); err != nil {
			t.Fatal(err)
		}
		keys, problems := certs.LoadECH(file)
		if len(keys) == 0 && len(problems) == 0 {
			t.Error("neither a key nor a problem")
		}
		for _, key := range keys {
			if !bytes.Contains(list, key.Config) {
				t.Errorf("a config %x that is not in the list", key.Config)
			}
		}
	})
}
