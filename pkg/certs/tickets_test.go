package certs_test

import (
	"bytes"
	"crypto/tls"
	"encoding/hex"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/snicketlb/snicket/pkg/certs"
)

var (
	secretA = bytes.Repeat([]byte{'a'}, 32)
	secretB = bytes.Repeat([]byte{'b'}, 32)
)

// epoch is the start of some epoch of 12 hours.
func epoch() time.Time { return time.Unix(12*3600*40000, 0) }

const half = 6 * time.Hour

// TestTicketKeys says which keys are the same: a ticket made with the first of one
// schedule is accepted by another if that holds it.
func TestTicketKeys(t *testing.T) {
	policy := certs.NewTicketPolicy("shop")
	a := certs.NewTickets(secretA, 2*half)
	at := func(hours int) time.Time { return epoch().Add(time.Duration(hours) * time.Hour) }
	tests := []struct {
		name    string
		made    [32]byte
		keys    [][32]byte
		accepts bool
	}{
		{"the same process", a.Keys(policy, at(1))[0], a.Keys(policy, at(1)), true},
		{"the same secret elsewhere", a.Keys(policy, at(1))[0], certs.NewTickets(secretA, 2*half).Keys(policy, at(11)), true},
		{"the epoch after it", a.Keys(policy, at(11))[0], a.Keys(policy, at(23)), true},
		{"two epochs after it", a.Keys(policy, at(11))[0], a.Keys(policy, at(24)), false},
		{"of a clock that is ahead", a.Keys(policy, at(12))[0], a.Keys(policy, at(11)), true},
		{"of a clock far ahead", a.Keys(policy, at(24))[0], a.Keys(policy, at(11)), false},
		{"another secret", a.Keys(policy, at(1))[0], certs.NewTickets(secretB, 2*half).Keys(policy, at(1)), false},
		{"another route", a.Keys(policy, at(1))[0], a.Keys(certs.NewTicketPolicy("blog"), at(1)), false},
		{"another demand", a.Keys(policy, at(1))[0], a.Keys(certs.NewTicketPolicy("shop", []byte("ca")), at(1)), false},
		{"another length of epochs", a.Keys(policy, at(1))[0], certs.NewTickets(secretA, half).Keys(policy, at(1)), false},
		{"no secret", certs.NewTickets(nil, half).Keys(policy, at(1))[0], certs.NewTickets(nil, half).Keys(policy, at(1)), false},
		{"before 1970", a.Keys(policy, time.Unix(-1, 0))[0], a.Keys(policy, time.Unix(0, 0)), true},
		{"well before 1970", a.Keys(policy, time.Unix(-12*3600-1, 0))[0], a.Keys(policy, time.Unix(0, 0)), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := slices.Contains(tt.keys, tt.made); got != tt.accepts {
				t.Errorf("accepted %v, want %v", got, tt.accepts)
			}
		})
	}
}

// TestTicketKeyIsFixed holds the derivation: another one would end every session of a
// fleet that is half upgraded. The value comes from another implementation of HKDF.
func TestTicketKeyIsFixed(t *testing.T) {
	key := certs.NewTickets(secretA, 2*half).Keys(certs.NewTicketPolicy("shop"), epoch())[0]
	const want = "ea08a864ec4f50493b92bc24c021dc849acedbe1e13b41b8c425a47fd5d7376b"
	if got := hex.EncodeToString(key[:]); got != want {
		t.Errorf("got key %s, want %s", got, want)
	}
}

func TestTicketPoliciesDiffer(t *testing.T) {
	seen := map[certs.TicketPolicy]string{}
	for name, p := range map[string]certs.TicketPolicy{
		"route": certs.NewTicketPolicy("a"), "other": certs.NewTicketPolicy("ab"),
		"one": certs.NewTicketPolicy("a", []byte("b")), "two": certs.NewTicketPolicy("a", []byte("b"), nil),
		"joined": certs.NewTicketPolicy("a", []byte("bc")), "cut": certs.NewTicketPolicy("a", []byte("b"), []byte("c")),
	} {
		if before, ok := seen[p]; ok {
			t.Errorf("%s and %s are the same policy", name, before)
		}
		seen[p] = name
	}
}

// TestTicketsSucceed changes the secret in the middle of an epoch.
func TestTicketsSucceed(t *testing.T) {
	policy := certs.NewTicketPolicy("shop")
	now := epoch().Add(half)
	a := certs.NewTickets(secretA, 2*half)
	b := a.Succeed(secretB, 2*half, now)
	old := a.Keys(policy, now)[0]
	for _, tt := range []struct {
		after time.Duration
		want  bool
	}{{0, true}, {half, true}, {3*half - 1, true}, {3 * half, false}} {
		if got := slices.Contains(b.Keys(policy, now.Add(tt.after)), old); got != tt.want {
			t.Errorf("%v after the change: a former ticket accepted %v, want %v", tt.after, got, tt.want)
		}
	}
	if got, want := b.Keys(policy, now)[0], certs.NewTickets(secretB, 2*half).Keys(policy, now)[0]; got != want {
		t.Error("tickets are made by the former secret")
	}
	if got := a.Succeed(secretA, 2*half, now); got != a {
		t.Error("something changes where nothing did")
	}
	if shorter := a.Succeed(secretA, half, now); shorter == a || !slices.Contains(shorter.Keys(policy, now), old) {
		t.Error("tickets of longer epochs are not accepted any more")
	}
	back := b.Succeed(secretA, 2*half, now)
	if got, want := back.Keys(policy, now)[0], old; got != want {
		t.Error("tickets are not made by the secret that came back")
	}
	many := a
	for i := range 100 {
		many = many.Succeed(bytes.Repeat([]byte{byte(i)}, 32), 2*half, now)
	}
	if got := len(many.Keys(policy, now)); got > 9 {
		t.Errorf("%d keys after a hundred changes", got)
	}
	if got := len(many.Keys(policy, now.Add(4*half))); got != 3 {
		t.Errorf("%d keys once those before the last change have aged out, want 3", got)
	}
}

// TestRandomTicketsSucceed keeps the random secret of a process over changes that say
// nothing of a secret, and accepts its tickets beside one.
func TestRandomTicketsSucceed(t *testing.T) {
	policy := certs.NewTicketPolicy("shop")
	now := epoch()
	a := certs.NewTickets(nil, half)
	if got := a.Succeed(nil, half, now); got != a {
		t.Error("a random secret is exchanged where nothing changed")
	}
	old := a.Keys(policy, now)[0]
	if b := a.Succeed(nil, 2*half, now); !slices.Contains(b.Keys(policy, now), old) {
		t.Error("tickets from before a change of length are not accepted")
	}
	b := a.Succeed(secretA, half, now)
	if !slices.Contains(b.Keys(policy, now), old) {
		t.Error("tickets from before there was a secret are not accepted")
	}
	c := b.Succeed(nil, half, now)
	if key := c.Keys(policy, now)[0]; key == old || key == b.Keys(policy, now)[0] {
		t.Error("no new random secret follows one of a file")
	}
}

// TestTicketsUntil steps from change to change: between two of them no key changes,
// and at each one does.
func TestTicketsUntil(t *testing.T) {
	policy := certs.NewTicketPolicy("shop")
	now := epoch().Add(time.Hour)
	tickets := certs.NewTickets(secretA, 5*time.Hour).Succeed(secretB, 12*time.Hour, now)
	for range 12 {
		keys, until := tickets.Keys(policy, now), tickets.Until(now)
		if !until.After(now) || until.After(now.Add(12*time.Hour)) {
			t.Fatalf("at %v the keys hold until %v", now, until)
		}
		before := until.Add(-1)
		if got := tickets.Keys(policy, before); !slices.Equal(got, keys) {
			t.Errorf("keys of %v changed before %v", now, until)
		}
		if got := tickets.Until(before); !got.Equal(until) {
			t.Errorf("just before %v keys hold until %v", until, got)
		}
		if got := tickets.Keys(policy, until); slices.Equal(got, keys) {
			t.Errorf("keys did not change at %v", until)
		}
		now = until
	}
}

// TestTicketsResume has crypto/tls resume with the keys of another process, and not
// with those of another policy.
func TestTicketsResume(t *testing.T) {
	a := authority(t)
	cert := issue(t, a, certs.IssueOptions{Names: []string{"a.test"}})
	now := epoch()
	server := func(secret []byte, p certs.TicketPolicy, at time.Time) *tls.Config {
		cfg := &tls.Config{Certificates: []tls.Certificate{cert.Certificate}}
		cfg.SetSessionTicketKeys(certs.NewTickets(secret, 2*half).Keys(p, at))
		return cfg
	}
	shop, strict := certs.NewTicketPolicy("shop"), certs.NewTicketPolicy("shop", []byte("require"))
	for _, tt := range []struct {
		name string
		cfg  *tls.Config
		want bool
	}{
		{"another process", server(secretA, shop, now), true},
		{"later", server(secretA, shop, now.Add(2*half)), true},
		{"much later", server(secretA, shop, now.Add(4*half)), false},
		{"another secret", server(secretB, shop, now), false},
		{"another policy", server(secretA, strict, now), false},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(tt.name+", "+tls.VersionName(version), func(t *testing.T) {
				client := &tls.Config{
					RootCAs: a.Pool(), ServerName: "a.test", MaxVersion: version,
					ClientSessionCache: tls.NewLRUClientSessionCache(1),
				}
				if visit(t, server(secretA, shop, now), client) {
					t.Fatal("the first session is resumed")
				}
				if got := visit(t, tt.cfg, client); got != tt.want {
					t.Errorf("resumed %v, want %v", got, tt.want)
				}
			})
		}
	}
}

// visit makes one session, and reports whether it was resumed.
func visit(t *testing.T, server, client *tls.Config) bool {
	t.Helper()
	near, far := net.Pipe()
	s := tls.Server(near, server)
	done := make(chan error, 1)
	go func() {
		_, err := s.Write([]byte("x"))
		done <- err
	}()
	c := tls.Client(far, client)
	if _, err := c.Read(make([]byte, 1)); err != nil { // the ticket comes first
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	near.Close()
	far.Close()
	return c.ConnectionState().DidResume
}

func TestSecret(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct {
		name, content, want string
		problem             string
	}{
		{name: "bytes", content: strings.Repeat("\x00\xff", 16), want: strings.Repeat("\x00\xff", 16)},
		{name: "text", content: strings.Repeat("s", 40) + "\n", want: strings.Repeat("s", 40)},
		{name: "text from elsewhere", content: strings.Repeat("s", 40) + "\r\n", want: strings.Repeat("s", 40)},
		{name: "one line break alone", content: strings.Repeat("s", 40) + "\n\n", want: strings.Repeat("s", 40) + "\n"},
		{name: "short", content: strings.Repeat("s", 31), problem: "FILE: secret of 31 bytes, at least 32 are needed: write random bytes, the same for all that share sessions: openssl rand -out FILE 48"},
		{name: "missing", problem: "FILE: cannot be read: no such file or directory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(dir, strings.ReplaceAll(tt.name, " ", "-"))
			if tt.name != "missing" {
				if err := os.WriteFile(file, []byte(tt.content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, problems := certs.Secret(file)
			var problem string
			for _, p := range problems {
				p.File = "FILE"
				problem += p.String()
			}
			if string(got) != tt.want || problem != tt.problem {
				t.Errorf("got %q, %q; want %q, %q", got, problem, tt.want, tt.problem)
			}
		})
	}
}

func BenchmarkTicketKeys(b *testing.B) {
	tickets, policy, now := certs.NewTickets(secretA, 2*half), certs.NewTicketPolicy("shop"), epoch()
	b.ReportAllocs()
	for b.Loop() {
		tickets.Keys(policy, now)
	}
}

// TestTicketsContinue goes on with the secret that another process has drawn.
func TestTicketsContinue(t *testing.T) {
	now := time.Now()
	policy := certs.NewTicketPolicy("a")
	before := certs.NewTickets(nil, time.Hour)
	after := certs.NewTickets(nil, time.Hour)
	if got := after.Continue(before.Drawn()).Keys(policy, now); !slices.Equal(got, before.Keys(policy, now)) {
		t.Error("the keys are others")
	}
	if got := after.Continue(nil); got != after {
		t.Error("there was nothing to go on with, and it did")
	}
	owners := certs.NewTickets(make([]byte, 32), time.Hour)
	if owners.Drawn() != nil || owners.Continue(before.Drawn()) != owners {
		t.Error("a secret of the owner's is one that was drawn")
	}
}
