package health_test

import (
	"bufio"
	"crypto/tls"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/snicketlb/snicket/health"
)

// handshaking completes a handshake and waits for the probe to end the session.
func handshaking(config *tls.Config) func(net.Conn) {
	return func(conn net.Conn) {
		session := tls.Server(conn, config)
		if session.Handshake() == nil {
			readSome(session)
			session.Close()
		}
	}
}

const day = 24 * time.Hour

func TestTLS(t *testing.T) {
	noLeak(t)
	ca, other := newAuthority(t), newAuthority(t)
	good := ca.issue(t, "a.test", -day, day)
	serving := func(certs ...tls.Certificate) *tls.Config {
		return &tls.Config{Certificates: certs, NextProtos: []string{"h2"}}
	}
	verifying := &tls.Config{RootCAs: ca.pool, ServerName: "a.test", NextProtos: []string{"h2", "http/1.1"}}
	requiring := &tls.Config{Certificates: []tls.Certificate{good}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.pool}
	requiring12 := requiring.Clone()
	requiring12.MaxVersion = tls.VersionTLS12
	presenting := verifying.Clone()
	presenting.Certificates = []tls.Certificate{ca.issue(t, "probe", -day, day)}
	tests := []struct {
		name      string
		serve     func(net.Conn)
		config    *tls.Config
		timeout   time.Duration
		want      string // or its beginning, if it ends in a star
		wantALPN  string
		wantCerts int
	}{
		{name: "verified", serve: handshaking(serving(good)), config: verifying, wantALPN: "h2", wantCerts: 1},
		{
			name: "no ALPN", serve: handshaking(&tls.Config{Certificates: []tls.Certificate{good}}), config: verifying,
			wantCerts: 1,
		},
		{
			name: "expired", serve: handshaking(serving(ca.issue(t, "a.test", -9*day, -3*day-time.Minute))), config: verifying,
			want: "certificate expired 3 days ago", wantALPN: "h2", wantCerts: 1,
		},
		{
			name: "not yet valid", serve: handshaking(serving(ca.issue(t, "a.test", day, 2*day))), config: verifying,
			want: "certificate not valid before *", wantALPN: "h2", wantCerts: 1,
		},
		{
			name: "another name", serve: handshaking(serving(ca.issue(t, "b.test", -day, day))), config: verifying,
			want: "certificate is valid for b.test, not a.test", wantALPN: "h2", wantCerts: 1,
		},
		{
			name: "another CA", serve: handshaking(serving(other.issue(t, "a.test", -day, day))), config: verifying,
			want: "certificate signed by unknown authority*", wantALPN: "h2", wantCerts: 1,
		},
		{
			name: "not verified", serve: handshaking(serving(other.issue(t, "b.test", -9*day, -day))),
			config: &tls.Config{ServerName: "a.test", InsecureSkipVerify: true}, wantCerts: 1,
		},
		{
			name: "no common version", serve: handshaking(serving(good)), config: &tls.Config{ServerName: "a.test", MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10},
			want: "handshake: alert from the backend: protocol version not supported",
		},
		{
			name: "client certificate missing", serve: handshaking(requiring), config: verifying,
			want: "handshake: alert from the backend: certificate required", wantCerts: 1,
		},
		{
			name: "client certificate missing, TLS 1.2", serve: handshaking(requiring12), config: verifying,
			want: "handshake: alert from the backend: handshake failure", wantCerts: 1,
		},
		{name: "client certificate", serve: handshaking(requiring), config: presenting, wantCerts: 1},
		{name: "mute", serve: mute, config: verifying, timeout: short, want: "handshake: i/o timeout after 60ms"},
		{name: "closing", serve: closing, config: verifying, want: "handshake: connection closed by the backend"},
		{name: "resetting", serve: resetting, config: verifying, want: "handshake: connection reset by peer"},
		{
			name: "plain", serve: saying("HTTP/1.1 400 Bad Request\r\n\r\n"), config: verifying,
			want: "handshake: first record does not look like a TLS handshake",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.timeout == 0 {
				tt.timeout = long
			}
			p := health.TLS{TCP: health.TCP{Address: backend(t, listen(t, "tcp"), tt.serve)}, Config: tt.config}
			o, got := probe(t, p, tt.timeout)
			prefix, cut := strings.CutSuffix(tt.want, "*")
			if same := got == tt.want || cut && strings.HasPrefix(got, prefix); !same {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if o.ALPN != tt.wantALPN || len(o.Certificates) != tt.wantCerts {
				t.Errorf("saw ALPN %q and %d certificates, want %q and %d", o.ALPN, len(o.Certificates), tt.wantALPN, tt.wantCerts)
			}
			if tt.want == "" && o.TLSVersion != tls.VersionTLS13 {
				t.Errorf("saw version %#x, want TLS 1.3", o.TLSVersion)
			}
		})
	}
}

// The name asked for is the one configured, and the PROXY header comes before the
// handshake, through a path too.
func TestTLSNameAndPreface(t *testing.T) {
	noLeak(t)
	ca := newAuthority(t)
	const preface = "PROXY UNKNOWN\r\n"
	names, headers := make(chan string, 1), make(chan string, 1)
	config := &tls.Config{GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		names <- h.ServerName
		cert := ca.issue(t, h.ServerName, -day, day)
		return &cert, nil
	}}
	address := backend(t, listen(t, "unix"), func(conn net.Conn) {
		br := bufio.NewReader(conn)
		line, _ := br.ReadString('\n')
		headers <- line
		handshaking(config)(buffered{conn, br})
	})
	p := health.TLS{
		TCP:    health.TCP{Network: "unix", Address: address, Preface: []byte(preface)},
		Config: &tls.Config{RootCAs: ca.pool, ServerName: "a.test"},
	}
	if _, err := probe(t, p, long); err != "" {
		t.Fatal(err)
	}
	if got := <-headers; got != preface {
		t.Errorf("header %q, want %q", got, preface)
	}
	if got := <-names; got != "a.test" {
		t.Errorf("name %q, want a.test", got)
	}
}

// buffered is a connection of which br has read some already.
type buffered struct {
	net.Conn
	br *bufio.Reader
}

func (b buffered) Read(p []byte) (int, error) { return b.br.Read(p) }

// A backend that keeps its side open after the goodbye holds no probe up for
// longer than the probe's patience, and passes.
func TestTLSGoodbyeNeedsNoAnswer(t *testing.T) {
	noLeak(t)
	ca := newAuthority(t)
	config := &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "a.test", -day, day)}}
	address := backend(t, listen(t, "tcp"), func(conn net.Conn) {
		tls.Server(conn, config).Handshake()
		mute(conn)
	})
	p := health.TLS{TCP: health.TCP{Address: address}, Config: &tls.Config{RootCAs: ca.pool, ServerName: "a.test"}}
	if _, got := probe(t, p, long); got != "" {
		t.Errorf("got %q, want a pass", got)
	}
}
