package terminate_test

import (
	"crypto/tls"
	"errors"
	"strings"
	"testing"

	"github.com/snicketlb/snicket/pkg/certs"
	"github.com/snicketlb/snicket/pkg/terminate"
)

// TestClientsAreJudgedAside holds that what a client shows costs the loop no more than
// reading it: anybody can show a hundred certificates that could all have issued his own,
// and the next is tried until one has.
func TestClientsAreJudgedAside(t *testing.T) {
	noLeaks(t)
	for _, auth := range []terminate.ClientAuth{terminate.RequireCertificate, terminate.RequestCertificate} {
		entered, leave := make(chan struct{}, 1), make(chan struct{})
		c := newClub(t, terminate.ClientsOptions{Auth: auth})
		cert := client(t, c.members, certs.IssueOptions{CommonName: "ann"})
		r := newRig(t)
		r.aside = func() {
			entered <- struct{}{}
			<-leave
		}
		visited := make(chan admitted, 1)
		go func() { visited <- c.visit(t, r, c.config, c.guest(tls.VersionTLS13, cert)) }()
		<-entered
		r.do(func() {}) // the loop serves others meanwhile
		close(leave)
		if got := <-visited; got.err != nil || !got.who.Verified() {
			t.Errorf("auth %d: got %v, verdict %+v", auth, got.err, got.who)
		}
	}
}

// TestEndedWhileJudged ends a handshake whose client is being judged.
func TestEndedWhileJudged(t *testing.T) {
	noLeaks(t)
	c := newClub(t, terminate.ClientsOptions{})
	cert := client(t, c.members, certs.IssueOptions{CommonName: "ann"})
	r := newRig(t)
	entered, leave := make(chan struct{}, 1), make(chan struct{})
	r.aside = func() {
		entered <- struct{}{}
		<-leave
	}
	far, fd := socketPair(t, "tcp")
	p := r.port(fd, nil)
	result := p.acceptFor(c.config, host)
	conn := tls.Client(far, c.guest(tls.VersionTLS13, cert))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = conn.Handshake()
		_, _ = conn.Read(make([]byte, 1))
	}()
	<-entered
	ended := errors.New("ended")
	r.do(func() {
		p.shake.Abort(ended)
		p.step()
	})
	if got := <-result; !errors.Is(got.err, ended) || got.conn != nil {
		t.Errorf("got %v, want %v", got.err, ended)
	}
	close(leave)
	far.Close()
	<-done
}

// TestLongHandshake ends the handshake of a client that shows more than anybody needs to.
func TestLongHandshake(t *testing.T) {
	noLeaks(t)
	c := newClub(t, terminate.ClientsOptions{Auth: terminate.RequestCertificate})
	for _, tt := range []struct {
		name  string
		bytes int
		want  string
	}{
		{name: "long", bytes: 96 << 10},
		{name: "too long", bytes: 144 << 10, want: "handshake of more than 131072 bytes"},
	} {
		for name, version := range versions() {
			t.Run(tt.name+" "+name, func(t *testing.T) {
				r := newRig(t)
				cert := *client(t, c.members, certs.IssueOptions{CommonName: "ann"})
				for n := 0; n < tt.bytes; n += len(cert.Certificate.Certificate[0]) {
					cert.Certificate.Certificate = append(cert.Certificate.Certificate, cert.Certificate.Certificate[0])
				}
				far, fd := socketPair(t, "tcp")
				p := r.port(fd, nil)
				result := p.acceptFor(c.config, host)
				conn, done := tls.Client(far, c.guest(version, &cert)), make(chan struct{})
				go func() {
					defer close(done)
					_ = conn.Handshake()
				}()
				got := <-result
				if tt.want == "" && got.err != nil || tt.want != "" && (got.err == nil || !strings.Contains(got.err.Error(), tt.want)) {
					t.Errorf("got %v, want %q", got.err, tt.want)
				}
				r.do(func() { p.close(true) })
				<-done
			})
		}
	}
}
