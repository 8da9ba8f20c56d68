package server_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/certs"
)

// writeECH makes a key for front.test and writes it to file, in one step.
func writeECH(t *testing.T, file string) *certs.ECHKey {
	t.Helper()
	k, err := certs.GenerateECH("front.test")
	if err != nil {
		t.Fatal(err)
	}
	text, err := k.PEM()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(lab.WriteFile(t, file+".next", text), file); err != nil {
		t.Fatal(err)
	}
	return k
}

// TestECH serves hosts by the names within hellos, exchanges the key while it runs, and
// keeps the tickets of hosts apart as if their names had been in the clear.
func TestECH(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	cert, key := ca.WriteServer(t, "front.test", "secret.test")
	backend := lab.Serve(t, lab.Echo(), lab.Options{})
	file := filepath.Join(t.TempDir(), "front.pem")
	first := writeECH(t, file)
	const route = "[[routes]]\nhosts = [%q]\nmode = \"terminate\"\nbackends = [%q]\n"
	text := fmt.Sprintf(route+route+passthrough("through.test", backend.Addr())+
		"[tls]\ncertificates = [{ cert = %q, key = %q }]\nech_keys = [%q]\n",
		"front.test", backend.Addr(), "secret.test", backend.Addr(), cert, key, file)
	r := start(t, nil, text)
	tickets := tls.NewLRUClientSessionCache(1)
	client := func(name string, k *certs.ECHKey) *tls.Config {
		c := ca.Client(name)
		c.ClientSessionCache = sameKey{tickets}
		if k != nil {
			c.EncryptedClientHelloConfigList = k.ConfigList()
		}
		return c
	}
	if resumes(r, client("secret.test", first)) {
		t.Fatal("got a resumption of the first session")
	}
	r.access.wait(t, `sni="secret\.test" .*route=secret\.test .*outcome=ok`, 1)
	if !resumes(r, client("secret.test", first)) {
		t.Error("not resumed within ECH")
	}
	if resumes(r, client("front.test", nil)) {
		t.Error("a session of the host within is resumed at the one outside")
	}
	if resumes(r, client("secret.test", first)) {
		t.Error("a session of the host outside is resumed at the one within")
	}
	if !resumes(r, client("secret.test", nil)) {
		t.Error("a session from within ECH is not resumed by the same name in the clear")
	}

	second := writeECH(t, file)
	r.log.wait(t, `msg=reloaded.*what=ech_keys`, 1)
	_, err := tls.Dial("tcp", r.address, client("secret.test", first))
	var rejected *tls.ECHRejectionError
	if !errors.As(err, &rejected) || !bytes.Equal(rejected.RetryConfigList, second.ConfigList()) {
		t.Fatalf("got %v, want to be told of the new key", err)
	}
	resumes(r, client("secret.test", second))

	if err := os.WriteFile(file, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.log.wait(t, `msg="file is not taken".*ech_keys: .*front\.pem: is not PEM`, 1)
	resumes(r, client("secret.test", second))
	third := writeECH(t, file)
	r.reload(1, text)
	resumes(r, client("secret.test", third))
}
