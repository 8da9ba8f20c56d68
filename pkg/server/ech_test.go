package server_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
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

// TestECHPublicNameInCapitals: case says nothing in a public name, nor in the hello that a
// client makes of it.
func TestECHPublicNameInCapitals(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	cert, key := ca.WriteServer(t, "front.test", "secret.test")
	backend := lab.Serve(t, lab.Echo(), lab.Options{})
	k, err := certs.GenerateECH("front.test")
	if err != nil {
		t.Fatal(err)
	}
	k.Config = bytes.Replace(k.Config, []byte("front.test"), []byte("Front.TEST"), 1)
	text, err := k.PEM()
	if err != nil {
		t.Fatal(err)
	}
	file := lab.WriteFile(t, filepath.Join(t.TempDir(), "front.pem"), text)
	const route = "[[routes]]\nhosts = [%q]\nmode = \"terminate\"\nbackends = [%q]\n"
	r := start(t, nil, fmt.Sprintf(route+route+"[tls]\ncertificates = [{ cert = %q, key = %q }]\nech_keys = [%q]\n",
		"front.test", backend.Addr(), "secret.test", backend.Addr(), cert, key, file))
	c := ca.Client("secret.test")
	c.EncryptedClientHelloConfigList = k.ConfigList()
	if err := r.visit(c); err != nil {
		t.Errorf("got %v, want a session by the name within", err)
	}
	r.access.wait(t, `sni="secret\.test" .*route=secret\.test .*outcome=ok`, 1)
}

// TestECHEscapesNoPolicy tries to reach a host that demands certificates by naming it
// inside, with tickets of others, and with its own elsewhere.
func TestECHEscapesNoPolicy(t *testing.T) {
	lab.Leaks(t)
	ca, clients := lab.NewAuthority(t, "ca"), lab.NewAuthority(t, "clients")
	cert, key := ca.WriteServer(t, "front.test", "strict.test")
	known := clients.Issue(t, lab.Certificate{Names: []string{"known.test"}, CommonName: "known", Client: true})
	backend := lab.Serve(t, lab.Echo(), lab.Options{})
	file := filepath.Join(t.TempDir(), "front.pem")
	ech := writeECH(t, file)
	const route = "[[routes]]\nhosts = [%q]\nmode = \"terminate\"\nbackends = [%q]\n"
	r := start(t, nil, fmt.Sprintf(route+route+"[routes.tls]\nclient_ca = %q\n"+
		"[tls]\ncertificates = [{ cert = %q, key = %q }]\nech_keys = [%q]\n",
		"front.test", backend.Addr(), "strict.test", backend.Addr(), clients.WriteCA(t), cert, key, file))
	tickets := tls.NewLRUClientSessionCache(1)
	visit := func(name string, within, shows bool) (resumed bool, err error) {
		c := ca.Client(name)
		c.ClientSessionCache = sameKey{tickets}
		if within {
			c.EncryptedClientHelloConfigList = ech.ConfigList()
		}
		if shows {
			c.Certificates = []tls.Certificate{known}
		}
		conn, err := tls.Dial("tcp", r.address, c)
		if err != nil {
			return false, err
		}
		defer conn.Close()
		if _, err := conn.Write([]byte("x")); err != nil {
			return false, err
		}
		_, err = conn.Read(make([]byte, 1)) // brings the ticket along, or the alert
		return conn.ConnectionState().DidResume, err
	}
	for i, step := range []struct {
		name          string
		within, shows bool
		resumed       bool
		refused       string
		what          string
	}{
		{name: "front.test", what: "a ticket of the host outside"},
		{name: "strict.test", within: true, refused: "certificate required", what: "nothing shown, and that ticket"},
		{name: "strict.test", refused: "certificate required", what: "the same in the clear"},
		{name: "strict.test", within: true, shows: true, what: "a certificate"},
		{name: "front.test", what: "the ticket of the host within, outside"},
		{name: "front.test", within: true, resumed: true, what: "the host outside, named inside"},
		{name: "strict.test", within: true, shows: true, what: "a certificate again"},
		{name: "strict.test", within: true, resumed: true, what: "a ticket that holds a certificate"},
	} {
		resumed, err := visit(step.name, step.within, step.shows)
		if (err == nil) != (step.refused == "") || err != nil && !strings.Contains(err.Error(), step.refused) {
			t.Errorf("%d, %s: got %v, want %q", i, step.what, err, step.refused)
		}
		if resumed != step.resumed {
			t.Errorf("%d, %s: resumed %v, want %v", i, step.what, resumed, step.resumed)
		}
	}
	r.access.wait(t, `sni="strict\.test" .*route=strict\.test .*outcome=ok .*client_cn="?known`, 3)
}

// TestECHKeysOfFrontThatAsks has the host outside ask its clients for certificates: those
// with a former key are told of the one of now all the same. Told of none they would take
// it that ECH is over, and name in the clear what was hidden (RFC 9849 §6.1.6).
func TestECHKeysOfFrontThatAsks(t *testing.T) {
	lab.Leaks(t)
	ca, clients := lab.NewAuthority(t, "ca"), lab.NewAuthority(t, "clients")
	cert, key := ca.WriteServer(t, "front.test", "secret.test")
	backend := lab.Serve(t, lab.Echo(), lab.Options{})
	former := writeECH(t, filepath.Join(t.TempDir(), "former.pem"))
	file := filepath.Join(t.TempDir(), "front.pem")
	now := writeECH(t, file)
	const route = "[[routes]]\nhosts = [%q]\nmode = \"terminate\"\nbackends = [%q]\n"
	for _, auth := range []string{"request", "require"} {
		t.Run(auth, func(t *testing.T) {
			r := start(t, nil, fmt.Sprintf(route+"[routes.tls]\nclient_ca = %q\nclient_auth = %q\n"+route+
				"[tls]\ncertificates = [{ cert = %q, key = %q }]\nech_keys = [%q]\n",
				"front.test", backend.Addr(), clients.WriteCA(t), auth, "secret.test", backend.Addr(), cert, key, file))
			c := ca.Client("secret.test")
			c.EncryptedClientHelloConfigList = former.ConfigList()
			_, err := tls.Dial("tcp", r.address, c)
			var rejected *tls.ECHRejectionError
			if !errors.As(err, &rejected) || !bytes.Equal(rejected.RetryConfigList, now.ConfigList()) {
				t.Errorf("got %v, want to be told of the key of now", err)
			}
			c.EncryptedClientHelloConfigList = now.ConfigList()
			if err := r.visit(c); err != nil {
				t.Errorf("with that key: %v", err)
			}
		})
	}
}
