package terminate_test

import (
	"crypto/tls"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/snicketlb/snicket/pkg/certs"
	"github.com/snicketlb/snicket/pkg/terminate"
)

// TestStolenCertificate shows a certificate without having its key.
func TestStolenCertificate(t *testing.T) {
	for _, auth := range []terminate.ClientAuth{terminate.RequireCertificate, terminate.RequestCertificate} {
		c := newClub(t, terminate.ClientsOptions{Auth: auth})
		stolen := *client(t, c.members, certs.IssueOptions{CommonName: "ann"})
		stolen.PrivateKey = client(t, c.members, certs.IssueOptions{CommonName: "eve"}).PrivateKey
		for name, version := range versions() {
			r := newRig(t)
			if got := c.visit(t, r, c.config, c.guest(version, &stolen)); got.err == nil || !strings.Contains(got.err.Error(), "invalid signature") {
				t.Errorf("auth %d, TLS %s: got %v, want an invalid signature", auth, name, got.err)
			}
		}
	}
}

// TestPolicyIsNotEscaped presents the tickets of one route to another, whose keys are
// made the same on purpose: what a session has proven is judged by the route that it
// comes to.
func TestPolicyIsNotEscaped(t *testing.T) {
	noLeaks(t)
	c := newClub(t, terminate.ClientsOptions{})
	others := newAuthority(t, "others")
	route := func(a *certs.Authority, o terminate.ClientsOptions) *tls.Config {
		clients, err := terminate.NewClients(&terminate.Trust{Authorities: a.Pool()}, o)
		if err != nil {
			t.Fatal(err)
		}
		return terminate.ServerConfig(terminate.ServerOptions{Store: certs.Fixed(c.cert), Policy: terminate.Policy{Clients: clients}})
	}
	routes := map[string]*tls.Config{
		"open":     terminate.ServerConfig(terminate.ServerOptions{Store: certs.Fixed(c.cert)}),
		"request":  route(c.members, terminate.ClientsOptions{Auth: terminate.RequestCertificate}),
		"others":   route(others, terminate.ClientsOptions{}),
		"named":    route(c.members, terminate.ClientsOptions{Names: []string{"admin.test"}}),
		"required": c.config,
	}
	for _, cfg := range routes {
		cfg.SetSessionTicketKeys([][32]byte{{1}})
	}
	ann := client(t, c.members, certs.IssueOptions{CommonName: "ann"})
	bob := client(t, others, certs.IssueOptions{CommonName: "bob"})
	for _, tt := range []struct {
		name     string
		first    string
		cert     *certs.Certificate // what the client shows at first; later it has none
		second   string
		resumes  bool
		want     string // of the second visit
		verified bool
	}{
		{name: "open to required", first: "open", second: "required", want: "client didn't provide a certificate"},
		{name: "asked in vain, to required", first: "request", second: "required", want: "client didn't provide a certificate"},
		{name: "unverified to required", first: "request", cert: bob, second: "required", want: "signed by unknown authority"},
		{name: "other authority's to required", first: "others", cert: bob, second: "required", want: "signed by unknown authority"},
		{name: "without the name", first: "required", cert: ann, second: "named", want: "its name is not among those allowed (CN=ann)"},
		{name: "unverified to request", first: "others", cert: bob, second: "request", resumes: true},
		{name: "verified to open", first: "required", cert: ann, second: "open"},
		{name: "back", first: "required", cert: ann, second: "required", resumes: true, verified: true},
	} {
		for name, version := range versions() {
			t.Run(tt.name+" "+name, func(t *testing.T) {
				r := newRig(t)
				guest := c.guest(version, tt.cert)
				guest.ClientSessionCache = tls.NewLRUClientSessionCache(1)
				if got := c.visit(t, r, routes[tt.first], guest); got.err != nil {
					t.Fatal(got.err)
				}
				guest.GetClientCertificate = nil
				got := c.visit(t, r, routes[tt.second], guest)
				if tt.want != "" {
					if got.err == nil || !strings.Contains(got.err.Error(), tt.want) {
						t.Errorf("got %v, want %q", got.err, tt.want)
					}
					return
				}
				if got.err != nil || got.state.DidResume != tt.resumes {
					t.Fatalf("got %v, resumed %v, want %v", got.err, got.state != nil && got.state.DidResume, tt.resumes)
				}
				if tt.second == "open" {
					if len(got.state.PeerCertificates) > 0 {
						t.Error("a route that asks for none has a certificate")
					}
					return
				}
				if v := got.who; v.Verified() != tt.verified {
					t.Errorf("verdict %+v, want verified %v", v, tt.verified)
				}
			})
		}
	}
}

// TestOtherName serves no hello for another name than the session is for, in a
// handshake or a resumption.
func TestOtherName(t *testing.T) {
	c := newClub(t, terminate.ClientsOptions{Auth: terminate.RequestCertificate})
	for name, cfg := range map[string]*tls.Config{"open": c.server, "asking": c.config} {
		for tlsName, version := range versions() {
			t.Run(name+" "+tlsName, func(t *testing.T) {
				noLeaks(t)
				r := newRig(t)
				guest := c.guest(version, nil)
				guest.ClientSessionCache = tls.NewLRUClientSessionCache(1)
				for _, tt := range []struct {
					routed string
					ok     bool
				}{{"other.test", false}, {host, true}, {"other.test", false}, {"", false}, {"app.teſt", false}, {host, true}} {
					far, fd := socketPair(t, "tcp")
					result := r.port(fd, nil).acceptFor(cfg, tt.routed)
					conn := tls.Client(far, guest)
					_ = far.SetDeadline(time.Now().Add(patience))
					farErr := conn.Handshake()
					if farErr != nil {
						far.Close()
					}
					got := <-result
					if (got.err == nil) != tt.ok {
						t.Errorf("routed by %q: got %v, want let in: %v", tt.routed, got.err, tt.ok)
					}
					if want := `hello for "app.test" in a session for`; !tt.ok && (got.err == nil || !strings.Contains(got.err.Error(), want)) {
						t.Errorf("routed by %q: got %v, want %q", tt.routed, got.err, want)
					}
					if tt.ok { // take the ticket in
						r.do(func() { _ = got.conn.CloseWrite() })
						_, _ = io.ReadAll(conn)
					}
				}
			})
		}
	}
}
