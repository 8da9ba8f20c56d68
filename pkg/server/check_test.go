package server_test

import (
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/certs"
	"github.com/snicketlb/snicket/pkg/proxy"
	"github.com/snicketlb/snicket/pkg/server"
)

// issue writes NAME.pem and NAME.key into dir.
func issue(t *testing.T, dir, name string, a *certs.Authority, o certs.IssueOptions) {
	t.Helper()
	c, err := a.Issue(o)
	if err != nil {
		t.Fatal(err)
	}
	chain, key, err := c.PEM()
	if err != nil {
		t.Fatal(err)
	}
	lab.WriteFile(t, filepath.Join(dir, name+".pem"), chain)
	lab.WriteFile(t, filepath.Join(dir, name+".key"), key)
}

func TestCheckCertificates(t *testing.T) {
	dir := t.TempDir()
	a, err := certs.NewAuthority("root")
	if err != nil {
		t.Fatal(err)
	}
	day, now := 24*time.Hour, time.Now()
	for name, o := range map[string]certs.IssueOptions{
		"good":    {Names: []string{"a.test"}},
		"wild":    {Names: []string{"*.a.test"}},
		"expired": {Names: []string{"a.test"}, NotBefore: now.Add(-2 * day), NotAfter: now.Add(-day)},
		"early":   {Names: []string{"a.test"}, NotBefore: now.Add(day), NotAfter: now.Add(2 * day)},
		"weak":    {Names: []string{"a.test"}, RSA: true, RSABits: 1024},
	} {
		issue(t, dir, name, a, o)
	}
	lab.WriteFile(t, filepath.Join(dir, "garbage.pem"), []byte("garbage"))
	lab.WriteFile(t, filepath.Join(dir, "garbage.key"), []byte("garbage"))
	good, err := os.ReadFile(filepath.Join(dir, "good.pem"))
	if err != nil {
		t.Fatal(err)
	}
	wildKey, err := os.ReadFile(filepath.Join(dir, "wild.key"))
	if err != nil {
		t.Fatal(err)
	}
	lab.WriteFile(t, filepath.Join(dir, "mixed.pem"), good)
	lab.WriteFile(t, filepath.Join(dir, "mixed.key"), wildKey)
	lab.WriteFile(t, filepath.Join(dir, "ca.pem"), a.PEM())

	const pool = "[pools.p]\nbackends = [\"127.0.0.1:8080\"]\n"
	route := func(hosts, tls string) string {
		return "[[routes]]\nhosts = [" + hosts + "]\nmode = \"terminate\"\npool = \"p\"\n[routes.tls]\n" + tls + "\n" + pool
	}
	for _, tc := range []struct {
		name, text string
		want       []string // LINE: and a part of the text, one for each problem
	}{
		{"good", route(`"a.test"`, `certificates = ["good.pem"]`), nil},
		{"shared", route(`"a.test", "x.a.test"`, `certificates = ["good.pem"]`) + "[tls]\ncertificates = [\"wild.pem\"]\n", nil},
		{"uncovered", route(`"a.test", "b.test"`, `certificates = ["good.pem"]`), []string{
			`2: no certificate covers "b.test": add one to certificates in [routes.tls] or [tls], or write acme = true`,
		}},
		{"uncovered pattern", route(`"a.test", "*.b.test"`, `certificates = ["good.pem"]`), []string{`2: no certificate covers "*.b.test": add one to certificates in [routes.tls] or [tls]`}},
		{"below a wildcard", route(`"x.y.a.test", "a.test"`, `certificates = ["wild.pem"]`), []string{
			`2: no certificate covers "x.y.a.test"`, `2: no certificate covers "a.test"`,
		}},
		{"any name", route(`"*", "-"`, `certificates = ["good.pem"]`), []string{
			`2: no certificate covers "*": name the hosts, or set default_certificate`, `2: no certificate covers "-"`,
		}},
		{"any name by default", route(`"*", "-"`, "certificates = [\"good.pem\"]\ndefault_certificate = true"), nil},
		{"expired", route(`"a.test"`, `certificates = ["expired.pem"]`), []string{"6: DIR/expired.pem: "}},
		{"not yet valid", route(`"a.test"`, `certificates = ["early.pem"]`), []string{"6: DIR/early.pem: "}},
		{"weak", route(`"a.test"`, `certificates = ["weak.pem"]`), []string{"6: DIR/weak.pem: "}},
		{"key of another", route(`"a.test"`, `certificates = ["mixed.pem"]`), []string{"6: DIR/mixed.pem: the key in DIR/mixed.key "}},
		// What a certificate covers that cannot be read is nobody's guess.
		{"garbage", route(`"b.test"`, `certificates = ["garbage.pem"]`), []string{"6: DIR/garbage.pem: "}},
		{"told once", route(`"a.test"`, `certificates = ["expired.pem"]`) + "[tls]\ncertificates = [\"expired.pem\"]\n", []string{
			"10: DIR/expired.pem: ",
		}},
		{
			"roots and client certificate", route(`"a.test"`, `certificates = ["good.pem"]`) +
				"[pools.p.tls]\nca = \"garbage.pem\"\ncert = \"mixed.pem\"\nkey = \"mixed.key\"\n",
			[]string{"10: DIR/garbage.pem: ", "11: DIR/mixed.pem: the key in DIR/mixed.key "},
		},
		{"no file of client_ca", route(`"a.test"`, "certificates = [\"good.pem\"]\nclient_ca = \"none.pem\""), []string{`7: client_ca "none.pem": no such file or directory`}},
		{"all at once", route(`"b.test"`, `certificates = ["expired.pem"]`) + "colour = 1\n", []string{
			"2: no certificate covers", "6: DIR/expired.pem: ", "9: ",
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := lab.WriteFile(t, filepath.Join(dir, "snicket.toml"), []byte(tc.text))
			_, problems := server.Check(path)
			if (problems.Err() != nil) != (tc.want != nil) {
				t.Errorf("got %v, want an error %v", problems.Err(), tc.want != nil)
			}
			var got []string
			for _, p := range problems {
				if !p.Warning {
					got = append(got, strings.ReplaceAll(fmt.Sprintf("%d: %s: %s", p.Pos.Line, p.Text, p.Hint), dir, "DIR"))
				}
			}
			if len(got) != len(tc.want) {
				t.Fatalf("got %q, want %q", got, tc.want)
			}
			for i := range got {
				if !strings.HasPrefix(got[i], tc.want[i]) {
					t.Errorf("got %q, want %q", got[i], tc.want[i])
				}
			}
		})
	}
}

// Thousands of certificates may have the same issuer: who that is, is asked once.
func TestCheckUnknownIssuerIsToldOnce(t *testing.T) {
	dir := t.TempDir()
	a, err := certs.NewAuthority("root")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"1", "2"} {
		c, err := a.Issue(certs.IssueOptions{Names: []string{"a.test"}})
		if err != nil {
			t.Fatal(err)
		}
		_, key, err := c.PEM()
		if err != nil {
			t.Fatal(err)
		}
		leaf := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Leaf.Raw})
		lab.WriteFile(t, filepath.Join(dir, name+".pem"), append(leaf, key...))
	}
	path := lab.WriteFile(t, filepath.Join(dir, "snicket.toml"), []byte(`[[routes]]
hosts = ["a.test"]
mode = "terminate"
backends = ["127.0.0.1:8080"]
[tls]
certificates = ["1.pem", "2.pem"]
`))
	_, problems := server.Check(path)
	if len(problems) != 1 || !problems[0].Warning || !strings.Contains(problems[0].String(), `1.pem: issuer "CN=root" is unknown`) {
		t.Errorf("got %v, want one warning, with the first file", problems)
	}
}

func TestCheckClientCertificateNeedsNoName(t *testing.T) {
	dir := t.TempDir()
	a, err := certs.NewAuthority("root")
	if err != nil {
		t.Fatal(err)
	}
	issue(t, dir, "server", a, certs.IssueOptions{Names: []string{"a.test"}})
	issue(t, dir, "client", a, certs.IssueOptions{CommonName: "balancer", Client: true})
	path := lab.WriteFile(t, filepath.Join(dir, "snicket.toml"), []byte(`
[[routes]]
hosts = ["a.test"]
mode = "terminate"
pool = "p"
[tls]
certificates = ["server.pem"]
[pools.p]
backends = ["127.0.0.1:8443"]
[pools.p.tls]
cert = "client.pem"
key = "client.key"
`))
	if _, got := server.Check(path); len(got) != 0 {
		t.Errorf("got %v, want no problem and no warning", got)
	}
}

func TestExplain(t *testing.T) {
	path := lab.WriteFile(t, t.TempDir()+"/snicket.toml", []byte(`
[listeners.one]
address = ":1443"
[listeners.two]
address = ":2443"
[[routes]]
name = "inside"
hosts = ["a.test"]
from = ["10.0.0.0/8"]
backends = ["127.0.0.1:9"]
[[routes]]
name = "outside"
hosts = ["a.test"]
listeners = ["one"]
pool = "inside"
`))
	for _, tc := range []struct {
		query server.Query
		route string
		want  proxy.Outcome
	}{
		{server.Query{Name: "a.test"}, "outside", proxy.OK},
		{server.Query{Name: "a.test", From: netip.MustParseAddr("10.1.1.1")}, "inside", proxy.OK},
		{server.Query{Name: "a.test", Listener: "two"}, "", proxy.Denied},
		{server.Query{Name: "b.test"}, "", proxy.NoRoute},
		{server.Query{}, "", proxy.NoRoute},
	} {
		e, err := server.Explain(path, tc.query)
		if err != nil {
			t.Fatal(err)
		}
		var route string
		if e.Route != nil && e.Outcome == proxy.OK {
			route = e.Route.Name
		}
		if route != tc.route || e.Outcome != tc.want {
			t.Errorf("%+v: got %q, %v; want %q, %v", tc.query, route, e.Outcome, tc.route, tc.want)
		}
	}
	if _, err := server.Explain(path, server.Query{Name: "a.test", Listener: "three"}); err == nil || !strings.Contains(err.Error(), `"three"`) {
		t.Errorf("got %v, want an error about listener three", err)
	}
	var bad *server.ConfigError
	if _, err := server.Explain(path+"x", server.Query{Name: "a.test"}); !errors.As(err, &bad) {
		t.Errorf("got %v, want a ConfigError", err)
	}
}
