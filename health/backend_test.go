package health_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/snicketlb/snicket/health"
)

// listen returns a listener on loopback, or on a path if network is "unix",
// that is closed at the end of the test.
func listen(t *testing.T, network string) net.Listener {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "backend.sock")
	}
	ln, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// backend serves each connection to ln by serve and closes it; all are done when
// the test ends.
func backend(t *testing.T, ln net.Listener, serve func(net.Conn)) string {
	t.Helper()
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		wg.Wait()
	})
	return ln.Addr().String()
}

// Ways in which a backend can be of no use.
func mute(conn net.Conn)    { io.Copy(io.Discard, conn) }
func closing(conn net.Conn) { readSome(conn) }

func resetting(conn net.Conn) {
	readSome(conn)
	conn.(*net.TCPConn).SetLinger(0)
}

func readSome(conn net.Conn) { conn.Read(make([]byte, 4096)) }

func saying(s string) func(net.Conn) {
	return func(conn net.Conn) {
		readSome(conn)
		io.WriteString(conn, s)
	}
}

// closedAddress returns an address at which nothing listens.
func closedAddress(t *testing.T) string {
	ln := listen(t, "tcp")
	ln.Close()
	return ln.Addr().String()
}

// authority is a CA of the test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{pool: x509.NewCertPool()}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotAfter: time.Now().Add(time.Hour),
	}
	var der []byte
	der, a.key = sign(t, template, template, nil)
	var err error
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pool.AddCert(a.cert)
	return a
}

// issue returns a certificate for name that is valid from and to so long from
// now.
func (a *authority) issue(t *testing.T, name string, from, to time.Duration) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(from), NotAfter: time.Now().Add(to),
	}
	der, key := sign(t, template, a.cert, a.key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func sign(t *testing.T, template, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) ([]byte, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if parentKey == nil {
		parentKey = key
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		t.Fatal(err)
	}
	return der, key
}

// probe makes one attempt and returns what it saw and its words, "" for a pass.
func probe(t *testing.T, p health.Prober, timeout time.Duration) (health.Observation, string) {
	t.Helper()
	o, err := health.Try(t.Context(), p, timeout)
	if err != nil {
		return o, err.Error()
	}
	return o, ""
}

// noLeak fails the test if, after all its cleanups that were registered later,
// it has left a goroutine of this package or a descriptor.
func noLeak(t *testing.T) {
	t.Helper()
	// The runtime's poller opens descriptors of its own at first use and keeps them.
	if ln, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		ln.Close()
	}
	before := descriptors()
	t.Cleanup(func() {
		var stacks []string
		after := 0
		// What has been told to end may need a moment to do it.
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end); runtime.Gosched() {
			stacks, after = leftovers(), descriptors()
			if len(stacks) == 0 && after <= before {
				return
			}
		}
		t.Errorf("%d descriptors, %d before; goroutines left:\n%s", after, before, strings.Join(stacks, "\n\n"))
	})
}

func leftovers() []string {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	var left []string
	for i, s := range strings.Split(string(buf), "\n\n") {
		if i > 0 && !strings.Contains(s, "testing.") { // 0 is this one
			left = append(left, s)
		}
	}
	return left
}

// descriptors returns how many this process has open, 0 where that is not known.
func descriptors() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return -1
	}
	return len(entries)
}
