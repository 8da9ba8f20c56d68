package proxy_test

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/certs"
	"github.com/snicketlb/snicket/pkg/proxy"
	"github.com/snicketlb/snicket/pkg/terminate"
)

// ask makes r, which terminates, ask its clients for certificates of members.
func (c ca) ask(t testing.TB, r *proxy.Route, members ca, o terminate.ClientsOptions) {
	t.Helper()
	clients, err := terminate.NewClients(&terminate.Trust{Authorities: members.a.Pool()}, o)
	if err != nil {
		t.Fatal(err)
	}
	r.TLS.Clients = clients
	r.TLS.Fixed = terminate.ServerConfig(terminate.ServerOptions{
		Store: r.TLS.Store, ALPN: []string{"h2"}, Policy: terminate.Policy{Clients: clients},
	})
}

// as is a client with a certificate, whomever the server names as its authorities.
func as(cfg *tls.Config, cert *certs.Certificate) *tls.Config {
	cfg = cfg.Clone()
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert.Certificate, nil }
	return cfg
}

// told are the TLVs of the PROXY header that a backend has heard, those within the SSL
// TLV among them (PROXY protocol §2.2).
func told(t testing.TB, heard []byte) map[byte]string {
	t.Helper()
	all := readTLVs(t, heard[:16+int(binary.BigEndian.Uint16(heard[14:]))])
	ssl := all[tlvSSL]
	if len(ssl) < 5 {
		t.Fatalf("TLVs %q", all)
	}
	delete(all, tlvSSL)
	all[client], all[verify] = ssl[:1], ssl[1:5]
	maps.Copy(all, readTLVs(t, append(make([]byte, 13), "\x11\x00\x00............"+ssl[5:]...)))
	return all
}

// The TLVs (PROXY protocol §2.2); client and verify are fields of the SSL TLV.
const (
	client byte = iota
	tlvALPN
	tlvAuthority
	tlvSSL = iota + 0x1d
	version
	cn
	cipher
	sigAlg
	keyAlg
	group
	scheme
	cert
	verify = 0xff
)

func TestSSLTLV(t *testing.T) {
	ca, members := authority(t), authority(t)
	ann := members.issue(t, certs.IssueOptions{CommonName: "ann", Client: true})
	eve := authority(t).issue(t, certs.IssueOptions{CommonName: "eve", Client: true})
	large := members.issue(t, certs.IssueOptions{CommonName: "large", Names: manyNames(200), Client: true})
	endless := authority(t).issue(t, certs.IssueOptions{CommonName: strings.Repeat("x", 5000), Client: true})
	modern := map[byte]string{
		client: "\x01", verify: "\x00\x00\x00\x01", version: "TLSv1.3", cipher: "TLS_AES_128_GCM_SHA256",
		group: "X25519MLKEM768", scheme: "ecdsa_secp256r1_sha256", sigAlg: "ecdsa-with-SHA256", keyAlg: "EC256",
		tlvALPN: "h2", tlvAuthority: "a.test",
	}
	old := with(modern, map[byte]string{version: "TLSv1.2", cipher: "ECDHE-ECDSA-AES128-GCM-SHA256", group: "x25519"})
	for _, tt := range []struct {
		name   string
		max    uint16
		cert   *certs.Certificate
		want   map[byte]string
		cn     string
		verify string
	}{
		{name: "nobody", want: modern},
		{name: "nobody 1.2", max: tls.VersionTLS12, want: old},
		{
			name: "verified", cert: ann, cn: "ann", verify: "ok",
			want: with(modern, map[byte]string{client: "\x07", verify: "\x00\x00\x00\x00", cn: "ann", cert: string(ann.Leaf.Raw)}),
		},
		{
			name: "verified 1.2", max: tls.VersionTLS12, cert: ann, cn: "ann", verify: "ok",
			want: with(old, map[byte]string{client: "\x07", verify: "\x00\x00\x00\x00", cn: "ann", cert: string(ann.Leaf.Raw)}),
		},
		{
			name: "not verified", cert: eve, cn: "eve", verify: "x509: certificate signed by unknown authority",
			want: with(modern, map[byte]string{client: "\x07", verify: "\x00\x00\x00\x14", cn: "eve", cert: string(eve.Leaf.Raw)}),
		},
		{
			name: "too large to tell", cert: large, cn: "large", verify: "ok",
			want: with(modern, map[byte]string{client: "\x07", verify: "\x00\x00\x00\x00", cn: "large"}),
		},
		{
			name: "even its name", cert: endless, cn: strings.Repeat("x", 64) + "…", verify: "x509: certificate signed by unknown authority",
			want: with(modern, map[byte]string{client: "\x07", verify: "\x00\x00\x00\x14"}),
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			heard := lab.NewRecorder()
			srv := lab.Serve(t, lab.Announce("a", heard), lab.Options{})
			r := route("a.test", srv.Addr())
			ca.terminate(t, r)
			ca.ask(t, r, members, terminate.ClientsOptions{Auth: terminate.RequestCertificate})
			r.Pool.ProxyProtocol = 2
			r.Pool.TLVs = proxy.TLVs{Authority: true, ALPN: true, SSL: true}
			h := start(t, state(t, r))
			cfg := ca.client("a.test", "h2")
			cfg.MaxVersion, cfg.ClientSessionCache = tt.max, tls.NewLRUClientSessionCache(1)
			if tt.cert != nil {
				cfg = as(cfg, tt.cert)
			}
			for visit := range 2 {
				c := h.tls(cfg)
				if got := ask(t, c, "x"); got != "a\n" {
					t.Errorf("read %q", got)
				}
				rec := h.want(proxy.OK)
				if rec.ClientCN != tt.cn || !strings.HasPrefix(rec.ClientVerify, tt.verify) || len(rec.ClientVerify) > 260 || rec.Resumed != (visit == 1) {
					t.Errorf("visit %d: client %q, verify %q, resumed %v", visit, rec.ClientCN, rec.ClientVerify, rec.Resumed)
				}
				want := maps.Clone(tt.want)
				if visit == 1 { // the server has shown nothing, the client showed it before
					delete(want, scheme)
					delete(want, sigAlg)
					delete(want, keyAlg)
					if tt.cert != nil {
						want[client] = "\x05"
					}
				}
				got := told(t, heard.Heard(visit))
				if !maps.Equal(got, want) {
					t.Errorf("visit %d: got\n%q\nwant\n%q", visit, got, want)
				}
			}
		})
	}
}

func with(base, more map[byte]string) map[byte]string {
	all := maps.Clone(base)
	maps.Copy(all, more)
	return all
}

// manyNames makes a certificate of n times 25 bytes and more.
func manyNames(n int) []string {
	var names []string
	for i := range n {
		names = append(names, "name-"+string(rune('a'+i%26))+"-of-many.example"+strings.Repeat("x", i/26)+".test")
	}
	return names
}

// TestClientRefused ends sessions of clients without the certificate that their route
// demands, however their hello comes: no backend hears of them.
func TestClientRefused(t *testing.T) {
	ca, members := authority(t), authority(t)
	ann := members.issue(t, certs.IssueOptions{CommonName: "ann", Client: true})
	eve := authority(t).issue(t, certs.IssueOptions{CommonName: "eve", Client: true})
	late := members.issue(t, certs.IssueOptions{CommonName: "late", NotAfter: time.Now().Add(-time.Hour), Client: true})
	echo := lab.Serve(t, lab.Echo(), lab.Options{})
	locked, open := route("locked.test", echo.Addr()), route("open.test", echo.Addr())
	ca.terminate(t, locked)
	ca.terminate(t, open)
	ca.ask(t, locked, members, terminate.ClientsOptions{})
	h := start(t, state(t, locked, open))
	shapes := map[string]func(net.Conn) net.Conn{
		"whole":        func(c net.Conn) net.Conn { return c },
		"in segments":  func(c net.Conn) net.Conn { return &sliced{Conn: c, size: 7} },
		"over records": func(c net.Conn) net.Conn { return &sliced{Conn: c, size: 100, records: true} },
	}
	for _, tt := range []struct {
		name   string
		cert   *certs.Certificate
		first  string // a host visited before with the same cache; its ticket is presented
		want   string // of the record
		cn     string
		verify string
	}{
		{name: "good", cert: ann, cn: "ann", verify: "ok"},
		{name: "none", want: "handshake with the client: tls: client didn't provide a certificate"},
		{name: "none, with the ticket of another host", first: "open.test", want: "handshake with the client: tls: client didn't provide a certificate"},
		{
			name: "bad CA", cert: eve, want: "handshake with the client: client certificate: signed by unknown authority", cn: "eve",
			verify: "client certificate: signed by unknown authority",
		},
		{name: "expired", cert: late, want: "handshake with the client: client certificate: has expired or is not yet valid", cn: "late", verify: "client certificate: has expired"},
	} {
		for shape, cut := range shapes {
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				t.Run(tt.name+" "+shape+" "+tls.VersionName(version), func(t *testing.T) {
					cache := &oneTicket{}
					visit := func(cfg *tls.Config) error {
						cfg.MinVersion, cfg.MaxVersion, cfg.ClientSessionCache, cfg.NextProtos = version, version, cache, nil
						if tt.cert != nil {
							cfg = as(cfg, tt.cert)
						}
						c := tls.Client(cut(h.dial()), cfg)
						defer c.Close() // who lingers for it is done
						_ = c.SetDeadline(time.Now().Add(lab.Patience))
						if _, err := io.WriteString(c, "x"); err != nil {
							return err
						}
						if err := c.CloseWrite(); err != nil {
							return err
						}
						_, err := io.ReadAll(c)
						return err
					}
					if tt.first != "" {
						if err := visit(ca.client(tt.first)); err != nil {
							t.Fatal(err)
						}
						h.want(proxy.OK)
						if cache.state == nil {
							t.Fatal("no ticket")
						}
					}
					picked := locked.Pool.Balancer.Backends()[0].Total()
					err := visit(ca.client("locked.test"))
					if tt.want == "" {
						if rec := h.want(proxy.OK); err != nil || rec.ClientCN != tt.cn || rec.ClientVerify != tt.verify {
							t.Errorf("got %v, client %q, verify %q", err, rec.ClientCN, rec.ClientVerify)
						}
						return
					}
					if err == nil || errors.Is(err, syscall.ECONNRESET) {
						t.Errorf("the client got %v, want an alert", err)
					}
					rec := h.want(proxy.ClientTLSFailed)
					if !strings.HasPrefix(rec.Error, tt.want) || rec.ClientCN != tt.cn || !strings.HasPrefix(rec.ClientVerify, tt.verify) {
						t.Errorf("error %q, client %q, verify %q", rec.Error, rec.ClientCN, rec.ClientVerify)
					}
					if rec.Backend != "" || locked.Pool.Balancer.Backends()[0].Total() != picked {
						t.Errorf("backend %q was picked", rec.Backend)
					}
				})
			}
		}
	}
}

// oneTicket is a cache that has the same ticket for every name.
type oneTicket struct{ state *tls.ClientSessionState }

func (c *oneTicket) Get(string) (*tls.ClientSessionState, bool) { return c.state, c.state != nil }
func (c *oneTicket) Put(_ string, s *tls.ClientSessionState)    { c.state = s }

// sliced writes a hello in pieces, each by a write of its own: slices of the stream, or
// records of their own.
type sliced struct {
	net.Conn
	size    int
	records bool
	done    bool
}

func (c *sliced) Write(b []byte) (int, error) {
	if c.done {
		return c.Conn.Write(b)
	}
	c.done = true
	if !c.records {
		for at := 0; at < len(b); at += c.size {
			if _, err := c.Conn.Write(b[at:min(at+c.size, len(b))]); err != nil {
				return 0, err
			}
		}
		return len(b), nil
	}
	message := b[5:] // the record is the whole hello
	for at := 0; at < len(message); at += c.size {
		piece := message[at:min(at+c.size, len(message))]
		record := append([]byte{b[0], b[1], b[2], byte(len(piece) >> 8), byte(len(piece))}, piece...)
		if _, err := c.Conn.Write(record); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

// TestHiddenHostAsks holds that a host which asks for certificates asks who names it
// within an encrypted hello, too, and resumes by keys of its own.
func TestHiddenHostAsks(t *testing.T) {
	members := authority(t)
	ann := members.issue(t, certs.IssueOptions{CommonName: "ann", Client: true})
	d := newHidden(t, func(d *hidden, s *proxy.State) {
		for i, r := range s.Routes {
			key := [][32]byte{{byte(i)}} // as the server gives each route its own
			if r.TLS == nil {
				continue
			}
			if r.Name == "strict.test" {
				clients, err := terminate.NewClients(&terminate.Trust{Authorities: members.a.Pool()}, terminate.ClientsOptions{})
				if err != nil {
					t.Fatal(err)
				}
				r.TLS.Clients = clients
				r.TLS.Fixed = terminate.ServerConfig(terminate.ServerOptions{Store: r.TLS.Store, Policy: terminate.Policy{Clients: clients}, ECH: d.live})
				clients.SetSessionTicketKeys(key)
			}
			for c := range r.TLS.Configs() {
				c.SetSessionTicketKeys(key)
			}
		}
	})
	for _, tt := range []struct {
		name    string
		before  string // the host that the ticket presented is of
		host    string
		cert    *certs.Certificate
		refused bool
		resumes bool
	}{
		{name: "without one", host: "strict.test", refused: true},
		{name: "with one", host: "strict.test", cert: ann},
		{name: "with the ticket of the outer host", before: "front.test", host: "strict.test", refused: true},
		{name: "with the ticket of another hidden host", before: "secret.test", host: "strict.test", refused: true},
		{name: "resumed", before: "strict.test", host: "strict.test", cert: ann, resumes: true},
		{name: "its ticket elsewhere", before: "strict.test", host: "secret.test", cert: ann},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cache := &oneTicket{}
			visit := func(host string) (tls.ConnectionState, error) {
				cfg := d.client(host, d.key)
				if host == "front.test" {
					cfg = d.ca.client(host)
				}
				if cfg.ClientSessionCache = cache; tt.cert != nil {
					cfg = as(cfg, tt.cert)
				}
				c := tls.Client(d.dial(), cfg)
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(lab.Patience))
				if _, err := io.WriteString(c, "?"); err != nil {
					return tls.ConnectionState{}, err
				}
				if err := c.CloseWrite(); err != nil {
					return tls.ConnectionState{}, err
				}
				_, err := io.ReadAll(c)
				return c.ConnectionState(), err
			}
			if tt.before != "" {
				if _, err := visit(tt.before); err != nil {
					t.Fatal(err)
				}
				d.want(proxy.OK)
				if cache.state == nil {
					t.Fatal("no ticket")
				}
			}
			agreed, err := visit(tt.host)
			if tt.refused {
				if rec := d.want(proxy.ClientTLSFailed); err == nil || rec.SNI != tt.host || rec.Backend != "" {
					t.Errorf("got %v, name %q, backend %q", err, rec.SNI, rec.Backend)
				}
				return
			}
			rec := d.want(proxy.OK)
			if err != nil || rec.SNI != tt.host || rec.Resumed != tt.resumes || !agreed.ECHAccepted {
				t.Errorf("got %v, name %q, resumed %v", err, rec.SNI, rec.Resumed)
			}
			if want := map[bool]string{true: "ann"}[tt.host == "strict.test"]; rec.ClientCN != want {
				t.Errorf("client %q, want %q", rec.ClientCN, want)
			}
		})
	}
}
