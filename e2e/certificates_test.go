//go:build e2e

package e2e_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
)

// pair is a certificate and its key in PEM.
type pair struct {
	chain, key []byte
	serial     *big.Int
}

func newPair(t testing.TB, a *lab.Authority, c lab.Certificate) pair {
	t.Helper()
	issued := a.Issue(t, c)
	p := pair{serial: issued.Leaf.SerialNumber}
	for _, der := range issued.Certificate {
		p.chain = append(p.chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	der, err := x509.MarshalPKCS8PrivateKey(issued.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	p.key = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	return p
}

// write puts the pair into NAME.pem and NAME.key: in place, or moved there.
func (p pair) write(t testing.TB, name string, inPlace bool) {
	t.Helper()
	suffix := ".new"
	if inPlace {
		suffix = ""
	}
	lab.WriteFile(t, name+".pem"+suffix, p.chain)
	lab.WriteFile(t, name+".key"+suffix, p.key)
	if inPlace {
		return
	}
	for _, kind := range []string{".pem", ".key"} {
		if err := os.Rename(name+kind+suffix, name+kind); err != nil {
			t.Fatal(err)
		}
	}
}

// handshakes shakes hands over and over until stop is closed, one connection after the other, and counts what comes of it.
func handshakes(addr string, conf *tls.Config, stop <-chan struct{}, good *atomic.Int64, failed func(error)) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		c, err := tls.DialWithDialer(&net.Dialer{Timeout: lab.Patience}, "tcp", addr, conf)
		if err != nil {
			failed(err)
			continue
		}
		good.Add(1)
		c.Close()
	}
}

// TestCertificatesReplaced replaces a certificate 100 times under load, by files moved into place and by files written in
// place: no handshake fails, of new clients or of those that resume, a client sees the new serial number after each, and
// a session from the beginning lives on.
func TestCertificatesReplaced(t *testing.T) {
	const replacements = 100
	authority := lab.NewAuthority(t, "e2e")
	echo := lab.Serve(t, lab.Echo(), lab.Options{})
	dir, addr := t.TempDir(), lab.FreeAddr(t)
	name := filepath.Join(dir, "a.test")
	newPair(t, authority, lab.Certificate{Names: []string{"a.test"}}).write(t, name, false)
	b := run(t, listener(addr)+fmt.Sprintf("[tls]\ncertificates = [%q]\n[[routes]]\nhosts = [\"a.test\"]\nmode = \"terminate\"\nbackends = [%q]\n", dir, echo.Addr()))

	long := dialTLS(t, addr, authority.Client("a.test"))
	long.SetDeadline(time.Now().Add(8 * lab.Patience))
	exchangeEcho(t, long, []byte("from the beginning"))
	var (
		load     sync.WaitGroup
		good     atomic.Int64
		mu       sync.Mutex // guards failures
		failures []error
	)
	stop := make(chan struct{})
	for i := range 4 {
		conf := authority.Client("a.test")
		if i%2 == 1 {
			conf.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		}
		load.Go(func() {
			handshakes(addr, conf, stop, &good, func(err error) {
				mu.Lock()
				defer mu.Unlock()
				failures = append(failures, err)
			})
		})
	}
	end := sync.OnceFunc(func() { close(stop); load.Wait() })
	defer end()
	for i := range replacements {
		next := newPair(t, authority, lab.Certificate{Names: []string{"a.test"}})
		mark := b.Mark()
		next.write(t, name, i%2 == 1)
		b.WaitLineAfter(mark, `msg="certificates reloaded" files="renewed: a\.test\.pem"`)
		c := dialTLS(t, addr, authority.Client("a.test"))
		if got := c.ConnectionState().PeerCertificates[0].SerialNumber; got.Cmp(next.serial) != 0 {
			t.Fatalf("replacement %d: got serial %v, want %v", i, got, next.serial)
		}
		c.Close()
	}
	end()
	if len(failures) > 0 {
		t.Errorf("%d of %d handshakes failed, the first with %v", len(failures), good.Load()+int64(len(failures)), failures[0])
	}
	if good.Load() < replacements {
		t.Errorf("got %d handshakes, too few to tell", good.Load())
	}
	exchangeEcho(t, long, []byte("to the end"))
	t.Logf("%d handshakes, %d failed, while %d certificates were replaced", good.Load(), len(failures), replacements)
}

// TestCertificateKindsByOpenSSL has openssl choose: RSA and ECDSA side by side, in both versions, exact over wildcard, and the
// refusal of a name without a certificate. What comes later beside them is chosen by the same rules.
func TestCertificateKindsByOpenSSL(t *testing.T) {
	authority := lab.NewAuthority(t, "e2e")
	ca := authority.WriteCA(t)
	echo := lab.Serve(t, lab.Echo(), lab.Options{})
	dir, addr := t.TempDir(), lab.FreeAddr(t)
	in := func(name string) string { return filepath.Join(dir, name) }
	pairs := map[string]pair{}
	put := func(name string, c lab.Certificate) {
		t.Helper()
		pairs[name] = newPair(t, authority, c)
		pairs[name].write(t, in(name), false)
	}
	put("ecdsa", lab.Certificate{Names: []string{"a.test"}})
	put("rsa", lab.Certificate{Names: []string{"a.test"}, RSA: true})
	put("wild-ecdsa", lab.Certificate{Names: []string{"*.w.test"}})
	put("wild-rsa", lab.Certificate{Names: []string{"*.w.test"}, RSA: true})
	b := run(t, listener(addr)+fmt.Sprintf("[tls]\ncertificates = [\"%s/*.pem\"]\n[[routes]]\nhosts = [\"a.test\", \"*.w.test\", \"x.w.test\"]\nmode = \"terminate\"\nbackends = [%q]\n", dir, echo.Addr()))
	shown := func(host string, args ...string) string {
		t.Helper()
		args = append([]string{"s_client", "-connect", addr, "-servername", host, "-CAfile", ca, "-verify_return_error", "-verify_hostname", host}, args...)
		out := mustTool(t, "", "openssl", args...)
		block, _ := pem.Decode([]byte(out[max(0, strings.Index(out, "-----BEGIN CERTIFICATE-----")):]))
		if block == nil {
			t.Fatalf("no certificate in the output of openssl:\n%s", out)
		}
		for name, p := range pairs {
			first, _ := pem.Decode(p.chain)
			if bytes.Equal(first.Bytes, block.Bytes) {
				return name
			}
		}
		return "another"
	}
	expect := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: got %s, want %s", what, got, want)
		}
	}
	for _, version := range []string{"-tls1_2", "-tls1_3"} {
		expect(version, shown("a.test", version), "ecdsa")
		expect(version+" wildcard", shown("y.w.test", version), "wild-ecdsa")
	}
	expect("1.3, RSA alone", shown("a.test", "-tls1_3", "-sigalgs", "rsa_pss_rsae_sha256"), "rsa")
	expect("1.3, ECDSA alone", shown("a.test", "-tls1_3", "-sigalgs", "ecdsa_secp256r1_sha256"), "ecdsa")
	expect("1.2, RSA alone", shown("a.test", "-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"), "rsa")
	expect("1.2, ECDSA alone", shown("a.test", "-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"), "ecdsa")

	mark := b.Mark()
	put("exact", lab.Certificate{Names: []string{"x.w.test"}, RSA: true})
	b.WaitLineAfter(mark, `msg="certificates reloaded" files="added: exact\.pem"`)
	// A host of its own has but an RSA certificate; ECDSA of the wildcard serves who cannot use it.
	expect("exact over wildcard", shown("x.w.test", "-tls1_3"), "exact")
	expect("exact over wildcard, ECDSA alone", shown("x.w.test", "-tls1_3", "-sigalgs", "ecdsa_secp256r1_sha256"), "wild-ecdsa")
	expect("the wildcard beside it", shown("y.w.test"), "wild-ecdsa")

	mark = b.Mark()
	put("later", lab.Certificate{Names: []string{"a.test"}, NotAfter: time.Now().AddDate(2, 0, 0)})
	b.WaitLineAfter(mark, `msg="certificates reloaded" files="added: later\.pem"`)
	expect("the one that expires last", shown("a.test"), "later")
	if out, status := tool(t, "", "openssl", "s_client", "-connect", addr, "-servername", "other.test"); status == 0 || !strings.Contains(out, "unrecognized name") {
		t.Errorf("got status %d of a name that no route has, want an alert:\n%s", status, out)
	}
}
