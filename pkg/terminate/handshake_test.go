package terminate_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/snicketlb/snicket/pkg/certs"
	"github.com/snicketlb/snicket/pkg/terminate"
)

// dial runs a client against Accept and returns both outcomes.
func dial(t *testing.T, r *rig, server, client *tls.Config) (near, far *tls.Conn, nearErr, farErr error) {
	t.Helper()
	return dialFor(t, r, server, client, strings.ToLower(client.ServerName))
}

// dialFor is dial of a session that is routed by name.
func dialFor(t *testing.T, r *rig, server, client *tls.Config, name string) (near, far *tls.Conn, nearErr, farErr error) {
	t.Helper()
	a, fd := socketPair(t, "tcp")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	p := r.port(fd, nil)
	result := p.acceptFor(server, name)
	far = tls.Client(a, client)
	farErr = far.HandshakeContext(ctx)
	if farErr != nil {
		a.Close() // what Accept may still wait for
	}
	got := <-result
	return got.conn, far, got.err, farErr
}

func TestHandshake(t *testing.T) {
	l := newLab(t)
	trust := l.authority.Pool()
	rsaCert, err := l.authority.Issue(certs.IssueOptions{Names: []string{host}, RSA: true})
	if err != nil {
		t.Fatal(err)
	}
	store := certs.Fixed(rsaCert, l.cert)
	with := func(o terminate.ServerOptions) *tls.Config {
		o.Store = store
		return terminate.ServerConfig(o)
	}
	plain := with(terminate.ServerOptions{})
	h2 := with(terminate.ServerOptions{ALPN: []string{"h2", "http/1.1"}})
	for _, tt := range []struct {
		name    string
		server  *tls.Config
		client  *tls.Config
		far     string // part of the client's error
		near    string // part of ours
		version uint16
		alpn    string
		key     x509.PublicKeyAlgorithm
	}{
		{name: "1.3", server: plain, client: &tls.Config{ServerName: host}, version: tls.VersionTLS13, key: x509.ECDSA},
		{name: "1.2", server: plain, client: &tls.Config{ServerName: host, MaxVersion: tls.VersionTLS12}, version: tls.VersionTLS12, key: x509.ECDSA},
		{
			name: "1.2 RSA", server: plain, version: tls.VersionTLS12, key: x509.RSA,
			client: &tls.Config{ServerName: host, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}},
		},
		{name: "upper case", server: plain, client: &tls.Config{ServerName: "APP.Test"}, version: tls.VersionTLS13, key: x509.ECDSA},
		{name: "ALPN", server: h2, client: &tls.Config{ServerName: host, NextProtos: []string{"http/1.1", "h2"}}, version: tls.VersionTLS13, alpn: "h2", key: x509.ECDSA},
		{name: "ALPN not offered", server: plain, client: &tls.Config{ServerName: host, NextProtos: []string{"h2"}}, version: tls.VersionTLS13, key: x509.ECDSA},
		{
			name: "ALPN mismatch", server: h2, client: &tls.Config{ServerName: host, NextProtos: []string{"imap"}},
			far: "no application protocol", near: "unsupported application protocols",
		},
		{name: "unknown name 1.3", server: plain, client: &tls.Config{ServerName: "other.test"}, far: "unrecognized name", near: "no certificate covers"},
		{
			name: "unknown name 1.2", server: plain, client: &tls.Config{ServerName: "other.test", MaxVersion: tls.VersionTLS12},
			far: "unrecognized name", near: "no certificate covers",
		},
		{name: "no name", server: plain, client: &tls.Config{InsecureSkipVerify: true}, far: "unrecognized name", near: "no certificate covers"},
		{
			name: "too old", server: with(terminate.ServerOptions{Policy: terminate.Policy{MinVersion: tls.VersionTLS13}}),
			client: &tls.Config{ServerName: host, MaxVersion: tls.VersionTLS12}, far: "protocol version", near: "unsupported versions",
		},
		{
			name: "key exchange by RSA", server: plain, far: "handshake failure", near: "no cipher suite",
			client: &tls.Config{ServerName: host, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			noLeaks(t)
			tt.client.RootCAs = trust
			r := newRig(t)
			near, far, nearErr, farErr := dial(t, r, tt.server, tt.client)
			if got, want := r.offloaded.Load(), map[bool]int32{true: 1}[tt.key == x509.RSA]; got != want {
				t.Errorf("%d signatures were made off the loop, want %d", got, want)
			}
			if tt.far != "" {
				if farErr == nil || !strings.Contains(farErr.Error(), tt.far) {
					t.Errorf("client: %v, want %q", farErr, tt.far)
				}
				if nearErr == nil || !strings.Contains(nearErr.Error(), tt.near) {
					t.Errorf("handshake: %v, want %q", nearErr, tt.near)
				}
				if got, want := errors.Is(nearErr, terminate.ErrNoCertificate), tt.far == "unrecognized name"; got != want {
					t.Errorf("errors.Is(%v, ErrNoCertificate) = %v", nearErr, got)
				}
				return
			}
			if nearErr != nil || farErr != nil {
				t.Fatalf("handshake: %v; client: %v", nearErr, farErr)
			}
			state := near.ConnectionState()
			if state.Version != tt.version || state.NegotiatedProtocol != tt.alpn {
				t.Errorf("got %s, ALPN %q; want %s, %q", tls.VersionName(state.Version), state.NegotiatedProtocol, tls.VersionName(tt.version), tt.alpn)
			}
			if got := far.ConnectionState().PeerCertificates[0].PublicKeyAlgorithm; got != tt.key {
				t.Errorf("certificate with %v, want %v", got, tt.key)
			}
			if tt.version == tls.VersionTLS13 && state.CurveID != tls.X25519MLKEM768 {
				t.Errorf("key exchange %v, want X25519MLKEM768", state.CurveID)
			}
		})
	}
}

// TestTicketsStayOnTheRoute resumes on one configuration and not on another.
func TestTicketsStayOnTheRoute(t *testing.T) {
	noLeaks(t)
	l, r := newLab(t), newRig(t)
	store := certs.Fixed(l.cert)
	other := terminate.ServerConfig(terminate.ServerOptions{Store: store})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		client := &tls.Config{ServerName: host, RootCAs: l.authority.Pool(), MaxVersion: version, ClientSessionCache: tls.NewLRUClientSessionCache(4)}
		visit := func(server *tls.Config) bool {
			near, far, nearErr, farErr := dial(t, r, server, client)
			if nearErr != nil || farErr != nil {
				t.Fatalf("handshake: %v; client: %v", nearErr, farErr)
			}
			r.do(func() { _ = near.CloseWrite() })
			if _, err := io.ReadAll(far); err != nil { // takes the ticket in
				t.Fatal(err)
			}
			return near.ConnectionState().DidResume
		}
		for i, step := range []struct {
			server *tls.Config
			want   bool
		}{{l.server, false}, {l.server, true}, {other, false}} {
			if got := visit(step.server); got != step.want {
				t.Errorf("%s, visit %d: resumed %v, want %v", tls.VersionName(version), i+1, got, step.want)
			}
		}
	}
}

func TestHandshakeTimeout(t *testing.T) {
	noLeaks(t)
	l, r := newLab(t), newRig(t)
	_, fd := socketPair(t, "tcp")
	p := r.port(fd, nil)
	result := p.accept(l.server)
	r.do(func() {
		p.shake.Abort(context.DeadlineExceeded)
		p.step()
	})
	if got := <-result; !errors.Is(got.err, context.DeadlineExceeded) {
		t.Errorf("got %v, want %v", got.err, context.DeadlineExceeded)
	}
}

func TestBackend(t *testing.T) {
	l := newLab(t)
	trust := l.authority.Pool()
	stranger, err := certs.NewAuthority("stranger")
	if err != nil {
		t.Fatal(err)
	}
	expired, err := l.authority.Issue(certs.IssueOptions{Names: []string{host}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	identity, err := l.authority.Issue(certs.IssueOptions{CommonName: "balancer", Client: true})
	if err != nil {
		t.Fatal(err)
	}
	server := &tls.Config{Certificates: []tls.Certificate{l.cert.Certificate}}
	for _, tt := range []struct {
		name      string
		o         terminate.BackendOptions
		server    *tls.Config
		sni, alpn string
		want      string // part of the error
		wantSNI   string
		wantALPN  string
	}{
		{name: "client's name", o: terminate.BackendOptions{Roots: trust}, server: server, sni: host, wantSNI: host},
		{name: "pool's name", o: terminate.BackendOptions{Roots: trust, ServerName: host}, server: server, sni: "client.test", wantSNI: host},
		{name: "no name", o: terminate.BackendOptions{Roots: trust}, server: server, want: "no server name to verify"},
		{name: "no name, unverified", o: terminate.BackendOptions{InsecureSkipVerify: true}, server: server},
		{name: "other name", o: terminate.BackendOptions{Roots: trust}, server: server, sni: "x.test", want: "certificate is valid for app.test, not x.test"},
		{name: "other authority", o: terminate.BackendOptions{Roots: stranger.Pool()}, server: server, sni: host, want: "certificate signed by unknown authority"},
		{
			name: "expired", o: terminate.BackendOptions{Roots: trust}, sni: host, want: "certificate has expired",
			server: &tls.Config{Certificates: []tls.Certificate{expired.Certificate}},
		},
		{
			name: "ALPN", o: terminate.BackendOptions{Roots: trust}, sni: host, alpn: "h2", wantSNI: host, wantALPN: "h2",
			server: &tls.Config{Certificates: server.Certificates, NextProtos: []string{"http/1.1", "h2"}},
		},
		{
			name: "ALPN refused", o: terminate.BackendOptions{Roots: trust}, sni: host, alpn: "h2", want: "no application protocol",
			server: &tls.Config{Certificates: server.Certificates, NextProtos: []string{"http/1.1"}},
		},
		{name: "h2 without ALPN", o: terminate.BackendOptions{Roots: trust}, server: server, sni: host, alpn: "h2", want: `ALPN "" selected, "h2" offered`},
		{name: "http/1.1 without ALPN", o: terminate.BackendOptions{Roots: trust}, server: server, sni: host, alpn: "http/1.1", wantSNI: host},
		{
			name: "client certificate", o: terminate.BackendOptions{Roots: trust, Certificate: &identity.Certificate}, sni: host, wantSNI: host,
			server: &tls.Config{Certificates: server.Certificates, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: trust},
		},
		{
			name: "client certificate missing", o: terminate.BackendOptions{Roots: trust}, sni: host, want: "certificate required",
			server: &tls.Config{Certificates: server.Certificates, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: trust},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			noLeaks(t)
			far, near, err := reencrypt(t, terminate.NewBackend(tt.o), tt.server, tt.sni, tt.alpn)
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Fatalf("got %v, want %q", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := far.ConnectionState().ServerName; got != tt.wantSNI {
				t.Errorf("server name %q, want %q", got, tt.wantSNI)
			}
			if got := near.ConnectionState().NegotiatedProtocol; got != tt.wantALPN {
				t.Errorf("ALPN %q, want %q", got, tt.wantALPN)
			}
		})
	}
}

// reencrypt runs Connect against a server and exchanges the ends, so that
// tickets and late alerts arrive.
func reencrypt(t *testing.T, b *terminate.Backend, server *tls.Config, sni, alpn string) (far, near *tls.Conn, err error) {
	t.Helper()
	a, fd := socketPair(t, "tcp")
	return reencryptOver(t, newRig(t), b, tls.Server(a, server), fd, terminate.Peer{ClientSNI: sni, ALPN: alpn})
}

func reencryptOver(t *testing.T, r *rig, b *terminate.Backend, far *tls.Conn, fd int, peer terminate.Peer) (*tls.Conn, *tls.Conn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	done := make(chan struct{})
	p := r.port(fd, nil)
	go func() {
		defer close(done)
		if far.HandshakeContext(ctx) == nil {
			_ = far.CloseWrite()
		}
	}()
	got := <-p.connect(b, peer)
	if got.err == nil {
		got.err = p.readToEnd(got.conn)
	}
	r.do(func() { p.close(false) })
	<-done
	return far, got.conn, got.err
}

// TestBackendResumes resumes with the same backend, name and protocol alone.
func TestBackendResumes(t *testing.T) {
	noLeaks(t)
	l, r := newLab(t), newRig(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
			Certificates: []tls.Certificate{l.cert.Certificate}, NextProtos: []string{"h2", "http/1.1"}, MaxVersion: version,
		})
		if err != nil {
			t.Fatal(err)
		}
		b := terminate.NewBackend(terminate.BackendOptions{Roots: l.authority.Pool(), SessionCache: 8})
		none := terminate.NewBackend(terminate.BackendOptions{Roots: l.authority.Pool()})
		swapped := terminate.NewBackend(terminate.BackendOptions{SessionCache: 8})
		swapped.Swap(terminate.BackendOptions{Roots: l.authority.Pool(), SessionCache: 8})
		for i, step := range []struct {
			b    *terminate.Backend
			alpn string
			want bool
		}{
			{b, "h2", false},
			{b, "h2", true},
			{b, "http/1.1", false},
			{b, "http/1.1", true},
			{b, "", false},
			{none, "h2", false},
			{none, "h2", false},
			{swapped, "h2", false},
			{swapped, "h2", true},
		} {
			fd := dialFD(t, listener)
			accepted, err := listener.Accept()
			if err != nil {
				t.Fatal(err)
			}
			far := accepted.(*tls.Conn)
			peer := terminate.Peer{Address: listener.Addr().String(), ClientSNI: host, ALPN: step.alpn}
			_, near, err := reencryptOver(t, r, step.b, far, fd, peer)
			if err != nil {
				t.Fatal(err)
			}
			if got := near.ConnectionState().DidResume; got != step.want {
				t.Errorf("%s, visit %d: resumed %v, want %v", tls.VersionName(version), i+1, got, step.want)
			}
			far.Close()
			// The same again keeps its sessions.
			swapped.Swap(terminate.BackendOptions{Roots: l.authority.Pool(), SessionCache: 8})
		}
		listener.Close()
	}
}
