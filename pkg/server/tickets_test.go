package server_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
)

// ticketed is what servers that could share sessions have in common.
type ticketed struct {
	ca        *lab.Authority
	backend   *lab.Server
	cert, key string
}

func newTicketed(t *testing.T) ticketed {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	cert, key := ca.WriteServer(t, "a.test", "b.test")
	return ticketed{ca: ca, backend: lab.Serve(t, lab.Echo(), lab.Options{}), cert: cert, key: key}
}

// config has a route by the name of shop, with keys in its [routes.tls] and settings.
func (d ticketed) config(route, settings string) string {
	return fmt.Sprintf("[[routes]]\nname = \"shop\"\nhosts = [\"a.test\"]\nmode = \"terminate\"\nbackends = [%q]\n[routes.tls]\n%s"+
		"[tls]\ncertificates = [{ cert = %q, key = %q }]\n%s", d.backend.Addr(), route, d.cert, d.key, settings)
}

// client keeps the tickets of all servers, as if they were one.
func (d ticketed) client(version uint16) *tls.Config {
	c := d.ca.Client("a.test")
	c.MinVersion, c.MaxVersion = version, version
	c.ClientSessionCache = sameKey{tls.NewLRUClientSessionCache(1)}
	return c
}

// resumes makes a session of r's, and reports whether it was resumed.
func resumes(r *running, client *tls.Config) bool {
	r.t.Helper()
	c, err := tls.Dial("tcp", r.address, client)
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.Close()
	r.echo(c) // brings the ticket along
	return c.ConnectionState().DidResume
}

func secretFile(t *testing.T, fill byte) string {
	t.Helper()
	return lab.WriteFile(t, filepath.Join(t.TempDir(), "ticket.secret"), bytes.Repeat([]byte{fill}, 48))
}

func secret(file string) string { return fmt.Sprintf("tickets = { secret_file = %q }\n", file) }

// TestSessionsResumeBehindReload reloads with and without a change: sessions from
// before are resumed.
func TestSessionsResumeBehindReload(t *testing.T) {
	d := newTicketed(t)
	r := start(t, nil, d.config("", ""))
	for i, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		client := d.client(version)
		if resumes(r, client) {
			t.Fatal("got a resumption of the first session")
		}
		r.reload(3*i+1, d.config("", ""))
		if !resumes(r, client) {
			t.Errorf("%s: not resumed behind a reload that changes nothing", tls.VersionName(version))
		}
		r.reload(3*i+2, d.config("", "[timeouts]\nidle = \"5m\"\n"))
		if !resumes(r, client) {
			t.Errorf("%s: not resumed behind a reload", tls.VersionName(version))
		}
		r.reload(3*i+3, d.config("", "tickets = { rotate = \"2h\" }\n"))
		if !resumes(r, client) {
			t.Errorf("%s: not resumed behind a change of rotate", tls.VersionName(version))
		}
	}
}

// TestSessionsResumeInFleet has one server resume what another began, if they share the
// secret and demand the same of the clients of a route by the same name.
func TestSessionsResumeInFleet(t *testing.T) {
	d := newTicketed(t)
	shared, other := secretFile(t, 'a'), secretFile(t, 'b')
	clients := lab.NewAuthority(t, "clients").WriteCA(t)
	strange := lab.NewAuthority(t, "others").WriteCA(t)
	request := func(ca string) string { return fmt.Sprintf("client_ca = %q\nclient_auth = \"request\"\n", ca) }
	for _, tt := range []struct {
		name    string
		a, b    string
		resumes bool
	}{
		{name: "the same secret", a: d.config("", secret(shared)), b: d.config("", secret(shared)), resumes: true},
		{name: "another secret", a: d.config("", secret(shared)), b: d.config("", secret(other))},
		{name: "no secret", a: d.config("", ""), b: d.config("", "")},
		{name: "another rotate", a: d.config("", secret(shared)), b: d.config("", fmt.Sprintf("tickets = { secret_file = %q, rotate = \"1h\" }\n", shared))},
		{name: "the same demand", a: d.config(request(clients), secret(shared)), b: d.config(request(clients), secret(shared)), resumes: true},
		{name: "a demand more", a: d.config("", secret(shared)), b: d.config(request(clients), secret(shared))},
		{name: "another authority", a: d.config(request(strange), secret(shared)), b: d.config(request(clients), secret(shared))},
		{
			name: "another name", a: d.config(request(clients)+"client_names = [\"x.test\"]\n", secret(shared)),
			b: d.config(request(clients)+"client_names = [\"y.test\"]\n", secret(shared)),
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, b := start(t, nil, tt.a), start(t, nil, tt.b)
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				client := d.client(version)
				if resumes(a, client) {
					t.Fatal("got a resumption of the first session")
				}
				if got := resumes(b, client); got != tt.resumes {
					t.Errorf("%s: resumed %v, want %v", tls.VersionName(version), got, tt.resumes)
				}
			}
		})
	}
}

// TestTicketSecretChanges exchanges the secret of one of two servers while it runs: what
// it began before is resumed still, by the other one what it begins now, once that has
// the secret too; a file that is no secret changes nothing.
func TestTicketSecretChanges(t *testing.T) {
	d := newTicketed(t)
	mine, theirs := secretFile(t, 'a'), secretFile(t, 'b')
	r, other := start(t, nil, d.config("", secret(mine))), start(t, nil, d.config("", secret(theirs)))
	before := d.client(tls.VersionTLS13)
	resumes(r, before)
	put := func(content string) {
		t.Helper()
		next := mine + ".next"
		lab.WriteFile(t, next, []byte(content))
		if err := os.Rename(next, mine); err != nil {
			t.Fatal(err)
		}
	}
	put("too short")
	r.log.wait(t, `msg="file is not taken".*secret_file: .*secret of 9 bytes`, 1)
	if !resumes(r, before) {
		t.Error("a file that is no secret made an end of the one before")
	}
	put(string(bytes.Repeat([]byte{'b'}, 48)))
	r.log.wait(t, `msg=reloaded.*what=secret_file`, 1)
	after := d.client(tls.VersionTLS13)
	resumes(r, after)
	if !resumes(other, after) {
		t.Error("not resumed by the secret that the two have now")
	}
	if !resumes(r, before) {
		t.Error("not resumed by the secret from before")
	}
	r.reload(1, d.config("", secret(mine)))
	if !resumes(r, after) {
		t.Error("not resumed behind a reload")
	}
}
