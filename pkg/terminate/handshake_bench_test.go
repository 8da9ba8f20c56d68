package terminate_test

import (
	"crypto/tls"
	"io"
	"testing"

	"github.com/snicketlb/snicket/pkg/certs"
	"github.com/snicketlb/snicket/pkg/terminate"
)

// BenchmarkHandshake is both sides of a session in TLS 1.3, from the connection to its
// orderly end: without client certificates, with one that is required, and one that is
// asked for, at first and resumed.
func BenchmarkHandshake(b *testing.B) {
	for _, tt := range []struct {
		name string
		club func() *club
		open bool
	}{
		{name: "open", club: func() *club { return newClub(b, terminate.ClientsOptions{}) }, open: true},
		{name: "require", club: func() *club { return newClub(b, terminate.ClientsOptions{}) }},
		{name: "request", club: func() *club { return newClub(b, terminate.ClientsOptions{Auth: terminate.RequestCertificate}) }},
	} {
		for _, resumed := range []bool{false, true} {
			name := tt.name + "/full"
			if resumed {
				name = tt.name + "/resumed"
			}
			b.Run(name, func(b *testing.B) {
				c := tt.club()
				server := c.config
				if tt.open {
					server = c.server
				}
				guest := c.guest(tls.VersionTLS13, client(b, c.members, certs.IssueOptions{CommonName: "ann"}))
				if resumed {
					guest.ClientSessionCache = tls.NewLRUClientSessionCache(1)
				}
				r := newRig(b)
				b.ReportAllocs()
				for b.Loop() {
					visitOnce(b, r, server, guest)
				}
			})
		}
	}
}

func visitOnce(b *testing.B, r *rig, server, guest *tls.Config) {
	b.Helper()
	far, fd := socketPair(b, "tcp")
	p := r.port(fd, nil)
	result := p.accept(server)
	conn := tls.Client(far, guest)
	if err := conn.Handshake(); err != nil {
		b.Fatal(err)
	}
	got := <-result
	if got.err != nil {
		b.Fatal(got.err)
	}
	r.do(func() { _ = got.conn.CloseWrite() })
	if _, err := io.ReadAll(conn); err != nil {
		b.Fatal(err)
	}
	r.do(func() { p.close(false) })
	far.Close()
}
