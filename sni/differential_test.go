package sni_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/snicketlb/snicket/sni"
	"github.com/snicketlb/snicket/sni/hellotest"
)

// script is a connection whose peer has sent all it will ever send.
type script struct {
	net.Conn // nil: what is not below must not be called
	in       io.Reader
	out      bytes.Buffer
}

func (s *script) Read(b []byte) (int, error)     { return s.in.Read(b) }
func (s *script) Write(b []byte) (int, error)    { return s.out.Write(b) }
func (*script) Close() error                     { return nil }
func (*script) SetDeadline(time.Time) error      { return nil }
func (*script) SetWriteDeadline(time.Time) error { return nil }
func (*script) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (*script) LocalAddr() net.Addr              { return &net.TCPAddr{} }

var errSeen = errors.New("seen")

// readByCryptoTLS returns what crypto/tls makes of the hello in stream, nil if it refuses.
func readByCryptoTLS(stream []byte) *tls.ClientHelloInfo {
	var seen *tls.ClientHelloInfo
	config := &tls.Config{GetConfigForClient: func(info *tls.ClientHelloInfo) (*tls.Config, error) {
		seen = info
		return nil, errSeen
	}}
	_ = tls.Server(&script{in: bytes.NewReader(stream)}, config).Handshake() // never completes
	return seen
}

// checkAgainstCryptoTLS fails if crypto/tls reads the hello of stream differently, or
// reads one that this package refuses for a reason not listed here.
func checkAgainstCryptoTLS(t *testing.T, stream []byte) {
	t.Helper()
	info := readByCryptoTLS(stream)
	if info == nil {
		return
	}
	h, err := sni.Parse(stream, 0)
	if err != nil {
		if why := stricter(info, err); why == "" {
			t.Fatalf("crypto/tls reads a hello for %q, got error %v", info.ServerName, err)
		}
		return
	}
	if want := strings.ToLower(info.ServerName); h.ServerName != want {
		t.Errorf("got server name %q, crypto/tls %q", h.ServerName, want)
	}
	if !slices.Equal(h.ALPN, info.SupportedProtos) {
		t.Errorf("got ALPN %q, crypto/tls %q", h.ALPN, info.SupportedProtos)
	}
	// Without supported_versions crypto/tls derives a list from legacy_version.
	if len(h.Versions) > 0 && !slices.Equal(h.Versions, info.SupportedVersions) {
		t.Errorf("got versions %x, crypto/tls %x", h.Versions, info.SupportedVersions)
	}
	checkEqualLists(t, "cipher suites", h.CipherSuites, info.CipherSuites)
	checkEqualLists(t, "groups", h.Groups, info.SupportedCurves)
	checkEqualLists(t, "signature schemes", h.SignatureSchemes, info.SignatureSchemes)
	checkEqualLists(t, "extensions", h.Extensions, info.Extensions)
}

func checkEqualLists[T ~uint16](t *testing.T, what string, got []uint16, want []T) {
	t.Helper()
	if !slices.EqualFunc(got, want, func(g uint16, w T) bool { return g == uint16(w) }) {
		t.Errorf("got %s %x, crypto/tls %x", what, got, want)
	}
}

// stricter names the rule by which err refuses what crypto/tls accepts. The list
// is closed: anything else is a fault of one of the two.
func stricter(info *tls.ClientHelloInfo, err error) string {
	switch hellotest.Word(err) {
	case "server-name":
		if sni.CheckName(strings.ToLower(info.ServerName)) != nil {
			return "crypto/tls takes any bytes as a name"
		}
	case "server-names":
		return "crypto/tls minds two names of type host_name alone"
	case "bounds":
		return "crypto/tls takes an empty list of suites or compression methods, and long session ids"
	case "trailing":
		return "crypto/tls keeps what is behind the hello for its next message"
	case "interleaved":
		return "crypto/tls skips warning alerts inside the hello"
	case "not-tls":
		return "crypto/tls skips warning alerts before the hello, and takes major versions to 15"
	case "record-version":
		return "crypto/tls takes major versions to 15"
	case "too-large":
		return "crypto/tls does not count the header among the 65536 bytes"
	}
	return ""
}

func TestHellosAgainstCryptoTLS(t *testing.T) {
	for _, tc := range loadHellos(t) {
		t.Run(tc.Name, func(t *testing.T) { checkAgainstCryptoTLS(t, tc.Stream) })
	}
}

// TestHellosAreServed holds that the good hellos of the table are such that a server
// answers them with its own hello.
func TestHellosAreServed(t *testing.T) {
	// crypto/tls takes no name with a trailing dot, as RFC 6066 §3 has it, and needs
	// supported groups to use its ECDSA certificate.
	refused := []string{"name-trailing-dot", "no-extensions"}
	config := &tls.Config{Certificates: []tls.Certificate{certificate(t)}}
	for _, tc := range loadHellos(t) {
		if tc.Expect != "ok" {
			continue
		}
		t.Run(tc.Name, func(t *testing.T) {
			conn := &script{in: bytes.NewReader(tc.Stream)}
			err := tls.Server(conn, config).Handshake()
			served := conn.out.Len() > 6 && conn.out.Bytes()[0] == 22 && conn.out.Bytes()[5] == 2
			if want := !slices.Contains(refused, tc.Name); served != want {
				t.Errorf("served %v (%v), want %v", served, err, want)
			}
		})
	}
}

// certificate returns a self-signed certificate.
func certificate(tb testing.TB) tls.Certificate {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"a.test"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// FuzzAgainstCryptoTLS looks for hellos that crypto/tls reads differently.
func FuzzAgainstCryptoTLS(f *testing.F) {
	for _, stream := range seeds(f) {
		f.Add(stream)
	}
	f.Fuzz(checkAgainstCryptoTLS)
}
