package terminate_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/snicketlb/snicket/pkg/certs"
	"github.com/snicketlb/snicket/pkg/terminate"
)

func TestPolicy(t *testing.T) {
	l := newLab(t)
	offers := func(least, most uint16, curves ...tls.CurveID) *tls.Config {
		return &tls.Config{MinVersion: least, MaxVersion: most, CurvePreferences: curves}
	}
	for _, tt := range []struct {
		name    string
		policy  terminate.Policy
		client  *tls.Config
		version uint16 // 0: refused
		curve   tls.CurveID
		alert   string
	}{
		{name: "default", client: offers(0, 0), version: tls.VersionTLS13, curve: tls.X25519MLKEM768},
		{name: "default, 1.2", client: offers(0, tls.VersionTLS12), version: tls.VersionTLS12, curve: tls.X25519},
		{name: "default, 1.1", client: offers(tls.VersionTLS10, tls.VersionTLS11), alert: "protocol version"},
		{name: "default, 1.0", client: offers(tls.VersionTLS10, tls.VersionTLS10), alert: "protocol version"},
		{name: "older than can be", policy: terminate.Policy{MinVersion: tls.VersionTLS10}, client: offers(tls.VersionTLS10, tls.VersionTLS11), alert: "protocol version"},
		{name: "modern", policy: terminate.Policy{MinVersion: tls.VersionTLS13}, client: offers(0, tls.VersionTLS12), alert: "protocol version"},
		{name: "1.2 alone", policy: terminate.Policy{MaxVersion: tls.VersionTLS12}, client: offers(0, 0), version: tls.VersionTLS12, curve: tls.X25519},
		{name: "1.2 alone, 1.3", policy: terminate.Policy{MaxVersion: tls.VersionTLS12}, client: offers(tls.VersionTLS13, 0), alert: "protocol version"},
		{name: "P-384", client: offers(0, 0, tls.CurveP384), version: tls.VersionTLS13, curve: tls.CurveP384},
		{name: "P-521", client: offers(0, 0, tls.CurveP521), alert: "handshake failure"},
		{name: "P-521 allowed", policy: terminate.Policy{Curves: []tls.CurveID{tls.CurveP521}}, client: offers(0, 0), version: tls.VersionTLS13, curve: tls.CurveP521},
		{name: "no hybrid", policy: terminate.Policy{Curves: []tls.CurveID{tls.X25519, tls.CurveP256}}, client: offers(0, 0), version: tls.VersionTLS13, curve: tls.X25519},
		{name: "hybrid alone", policy: terminate.Policy{Curves: []tls.CurveID{tls.X25519MLKEM768}}, client: offers(0, 0, tls.X25519), alert: "handshake failure"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			noLeaks(t)
			server := terminate.ServerConfig(terminate.ServerOptions{Store: certs.Fixed(l.cert), Policy: tt.policy})
			tt.client.ServerName, tt.client.RootCAs = host, l.authority.Pool()
			near, _, nearErr, farErr := dial(t, newRig(t), server, tt.client)
			if tt.version == 0 {
				if nearErr == nil || farErr == nil || !strings.Contains(farErr.Error(), tt.alert) {
					t.Errorf("got %v; the client %v, want %q", nearErr, farErr, tt.alert)
				}
				return
			}
			if nearErr != nil || farErr != nil {
				t.Fatalf("got %v; the client %v", nearErr, farErr)
			}
			if got := near.ConnectionState(); got.Version != tt.version || got.CurveID != tt.curve {
				t.Errorf("got %s with %v, want %s with %v", tls.VersionName(got.Version), got.CurveID, tls.VersionName(tt.version), tt.curve)
			}
		})
	}
}

// TestForwardSecrecy offers every suite that crypto/tls knows, one by one.
func TestForwardSecrecy(t *testing.T) {
	l := newLab(t)
	rsa, err := l.authority.Issue(certs.IssueOptions{Names: []string{host}, RSA: true})
	if err != nil {
		t.Fatal(err)
	}
	server := terminate.ServerConfig(terminate.ServerOptions{Store: certs.Fixed(l.cert, rsa)})
	var taken []string
	for _, suite := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		if !slices.Contains(suite.SupportedVersions, tls.VersionTLS12) {
			continue
		}
		t.Run(suite.Name, func(t *testing.T) {
			client := &tls.Config{ServerName: host, RootCAs: l.authority.Pool(), MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite.ID}}
			if near, _, _, err := dial(t, newRig(t), server, client); err == nil {
				if near.ConnectionState().CipherSuite != suite.ID {
					t.Errorf("got %#x", near.ConnectionState().CipherSuite)
				}
				taken = append(taken, suite.Name)
			}
		})
	}
	slices.Sort(taken)
	want := []string{
		"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
		"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
	}
	if !slices.Equal(taken, want) {
		t.Errorf("got  %v\nwant %v", taken, want)
	}
}

// TestShown compares what is told of a handshake with what its client has seen.
func TestShown(t *testing.T) {
	noLeaks(t)
	l := newLab(t)
	rsa, err := l.authority.Issue(certs.IssueOptions{Names: []string{host}, RSA: true})
	if err != nil {
		t.Fatal(err)
	}
	for name, cert := range map[string]*certs.Certificate{
		"P-256": l.cert, "RSA": rsa, "P-384": ecdsaOn(t, elliptic.P384()), "P-521": ecdsaOn(t, elliptic.P521()), "Ed25519": ed25519Certificate(t),
	} {
		for tlsName, version := range versions() {
			t.Run(name+" "+tlsName, func(t *testing.T) {
				r := newRig(t)
				server := terminate.ServerConfig(terminate.ServerOptions{Store: certs.Fixed(cert)})
				roots := l.authority.Pool()
				leaf, err := x509.ParseCertificate(cert.Certificate.Certificate[0])
				if err != nil {
					t.Fatal(err)
				}
				roots.AddCert(leaf)
				c := &tls.Config{ServerName: host, RootCAs: roots, MinVersion: version, MaxVersion: version, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
				for _, resumed := range []bool{false, true} {
					far, fd := socketPair(t, "tcp")
					p := r.port(fd, nil)
					result := p.accept(server)
					conn := tls.Client(far, c)
					_ = far.SetDeadline(time.Now().Add(patience))
					if err := conn.Handshake(); err != nil {
						t.Fatal(err)
					}
					got := <-result
					if got.err != nil {
						t.Fatal(got.err)
					}
					state := conn.ConnectionState()
					want := terminate.Shown{}
					if !resumed {
						want.Certificate = &cert.Certificate
						// crypto/tls tells its own tests alone.
						want.Scheme = tls.SignatureScheme(reflect.ValueOf(state).FieldByName("testingOnlyPeerSignatureAlgorithm").Uint())
						if want.Scheme == 0 {
							t.Error("the client has seen no signature")
						}
					}
					if state.DidResume != resumed || got.shown != want {
						t.Errorf("resumed %v: got %v with %v, want %v with %v", state.DidResume, got.shown.Certificate != nil, got.shown.Scheme, want.Certificate != nil, want.Scheme)
					}
					r.do(func() { _ = got.conn.CloseWrite() })
					_, _ = io.ReadAll(conn) // takes the ticket in
				}
			})
		}
	}
}

func ecdsaOn(t *testing.T, curve elliptic.Curve) *certs.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return selfIssued(t, key.Public(), key)
}

func ed25519Certificate(t *testing.T) *certs.Certificate {
	t.Helper()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return selfIssued(t, public, key)
}

// selfIssued is a certificate with a key of a kind that an Authority does not make.
func selfIssued(t *testing.T, public, key any) *certs.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := certs.New(tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestCertificateOfOldVersion has two certificates and a client that could take either
// in TLS 1.3, and one alone in the version that the policy holds it to.
func TestCertificateOfOldVersion(t *testing.T) {
	noLeaks(t)
	l, r := newLab(t), newRig(t)
	issue := func(rsa bool) *certs.Certificate {
		c, err := l.authority.Issue(certs.IssueOptions{Names: []string{host}, RSA: rsa})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	server := terminate.ServerConfig(terminate.ServerOptions{
		Store: certs.Fixed(issue(false), issue(true)), Policy: terminate.Policy{MaxVersion: tls.VersionTLS12},
	})
	for suite, key := range map[uint16]x509.PublicKeyAlgorithm{
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256:   x509.RSA,
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256: x509.ECDSA,
	} {
		far, fd := socketPair(t, "tcp")
		result := r.port(fd, nil).accept(server)
		conn := tls.Client(far, &tls.Config{RootCAs: l.authority.Pool(), ServerName: host, CipherSuites: []uint16{suite}})
		if err := conn.Handshake(); err != nil {
			t.Errorf("%s: %v", tls.CipherSuiteName(suite), err)
			far.Close()
		} else if got := conn.ConnectionState().PeerCertificates[0].PublicKeyAlgorithm; got != key {
			t.Errorf("%s: a certificate of %v, want %v", tls.CipherSuiteName(suite), got, key)
		}
		<-result
	}
}
