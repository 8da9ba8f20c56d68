package server

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/snicketlb/snicket/pkg/certs"
	"github.com/snicketlb/snicket/pkg/config"
	"github.com/snicketlb/snicket/pkg/watch"
)

// shelf is a directory of certificates with what a plan holds of it.
type shelf struct {
	t         testing.TB
	dir       string
	authority *certs.Authority
	secrets   *secrets
	now       time.Time
	said      []string
}

func newShelf(t testing.TB) *shelf {
	t.Helper()
	a, err := certs.NewAuthority("ca")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	return &shelf{t: t, dir: t.TempDir(), authority: a, now: now, secrets: newSecrets(now, func(p config.Problem) { t.Error(p) })}
}

func (s *shelf) write(name string, content []byte) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), content, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *shelf) remove(name string) {
	s.t.Helper()
	if err := os.Remove(filepath.Join(s.dir, name)); err != nil {
		s.t.Fatal(err)
	}
}

// put writes a new certificate as NAME.pem and NAME.key.
func (s *shelf) put(name string) {
	s.t.Helper()
	chain, key := s.issue(name)
	s.write(name+".pem", chain)
	s.write(name+".key", key)
}

// issue makes a certificate for NAME.test.
func (s *shelf) issue(name string) (chain, key []byte) {
	s.t.Helper()
	c, err := s.authority.Issue(certs.IssueOptions{Names: []string{name + ".test"}})
	if err != nil {
		s.t.Fatal(err)
	}
	chain, key, err = c.PEM()
	if err != nil {
		s.t.Fatal(err)
	}
	return chain, key
}

// look is a look at the files after a while, and returns what it changed and when the
// next is due.
func (s *shelf) look(after time.Duration) (changed string, wait time.Duration) {
	s.t.Helper()
	s.now = s.now.Add(after)
	r := s.secrets.renew(s.now)
	s.secrets.meetUncovered(s.now)
	said, left := s.secrets.troubles.over(s.now)
	for _, of := range said {
		s.said = append(s.said, strings.ReplaceAll(of.why, s.dir+"/", "")+", "+of.so)
	}
	wait = sooner(r.wait, left)
	s.secrets.eye.next()
	return differenceText(r.files, "renewed"), wait
}

// TestRenew holds what is taken, what stays and what is said of it, look by look.
func TestRenew(t *testing.T) {
	s := newShelf(t)
	for _, name := range []string{"a", "b", "own"} {
		s.put(name)
	}
	glob := config.CertificateEntry{Pattern: filepath.Join(s.dir, "[a-m].pem")}
	file := config.CertificateEntry{Cert: filepath.Join(s.dir, "own.pem"), Key: filepath.Join(s.dir, "own.key")}
	s.secrets.common = s.secrets.list([]config.CertificateEntry{glob}, glob.Files())
	route := &config.Route{Name: "r", Hosts: []config.Host{{Pattern: "own.test"}, {Pattern: "b.test"}}}
	route.TLS = &config.RouteTLS{CertificateEntries: []config.CertificateEntry{file}, Certificates: file.Files()}
	live := s.secrets.serve(route, false)
	first := live.Store()

	nothing := func() {}
	for _, step := range []struct {
		name    string
		change  func()
		after   time.Duration
		changed string
		wait    time.Duration
		said    string // "" for nothing
	}{
		{name: "nothing", change: nothing},
		{name: "renewed, and new", change: func() { s.put("a"); s.put("c") }, changed: "renewed: a.pem; added: c.pem"},
		{name: "the same again", change: func() { s.write("x.pem", nil) }},
		{name: "empty", change: func() { s.write("own.pem", nil) }, wait: settle},
		{name: "still", change: nothing, after: settle, said: "own.pem: is empty: a PEM file is text that begins with -----BEGIN CERTIFICATE-----, the one before stays"},
		{name: "and still", change: nothing, after: time.Hour},
		{name: "gone", change: func() { s.remove("own.pem") }, wait: settle},
		{name: "for a while", change: nothing, after: settle, said: "own.pem: cannot be read: no such file or directory, the one before stays"},
		{name: "back", change: func() { s.put("own") }, changed: "renewed: own.pem"},
		{name: "no key for a moment", change: func() { s.remove("own.key") }, wait: settle},
		{name: "and back", change: func() { s.put("own") }, after: settle, changed: "renewed: own.pem"},
		{name: "gone from a pattern", change: func() { s.remove("b.pem") }, wait: settle},
		{name: "not yet", change: nothing, after: settle / 2, wait: settle / 2},
		{name: "back in time", change: func() { s.put("b") }, after: settle / 2, changed: "renewed: b.pem"},
		{name: "gone again", change: func() { s.remove("b.pem"); s.remove("b.key") }, wait: settle},
		{name: "for good", change: nothing, after: settle, changed: "removed: b.pem", wait: settle},
		{name: "and a host with it", change: nothing, after: settle, said: `route "r": no certificate covers "b.test", its clients are refused`},
		{name: "new and broken", change: func() { s.write("d.pem", []byte("x")) }, wait: settle},
		{name: "and left out", change: nothing, after: settle, said: "d.pem: is not PEM: a PEM file is text that begins with -----BEGIN CERTIFICATE-----, it is left out"},
		{name: "a key in the file, which had one beside it", change: func() {
			chain, err := os.ReadFile(filepath.Join(s.dir, "c.pem"))
			key, keyErr := os.ReadFile(filepath.Join(s.dir, "c.key"))
			if err != nil || keyErr != nil {
				t.Fatal(err, keyErr)
			}
			s.write("c.pem", append(chain, key...))
			s.remove("c.key")
		}, changed: "renewed: c.pem"},
	} {
		step.change()
		s.said = nil
		changed, wait := s.look(step.after)
		if changed != step.changed || wait != step.wait || strings.Join(s.said, "; ") != step.said {
			t.Errorf("%s: got %q, %v to wait, %q said; want %q, %v, %q", step.name, changed, wait, s.said, step.changed, step.wait, step.said)
		}
	}
	if now := live.Store(); now == first || !now.Covers("own.test") || !now.Covers("c.test") || now.Covers("b.test") || !first.Covers("b.test") {
		t.Error("the store of now does not cover what it should, or the former one was changed")
	}
	if got, want := len(s.secrets.pairs), 4; got != want { // a, c, d, own
		t.Errorf("%d pairs are kept, want %d", got, want)
	}
}

// TestSucceed: the secrets of the next plan hold the very certificates of the one before
// where files hold the same, and read those that do not.
func TestSucceed(t *testing.T) {
	s := newShelf(t)
	s.put("a")
	s.put("b")
	entry := config.CertificateEntry{Pattern: filepath.Join(s.dir, "*.pem")}
	before := s.secrets.list([]config.CertificateEntry{entry}, entry.Files())
	s.put("b")
	next := newSecrets(s.now, func(p config.Problem) { t.Error(p) })
	next.succeed(s.secrets)
	after := next.list([]config.CertificateEntry{entry}, entry.Files())
	if before.held[0].cert != after.held[0].cert {
		t.Error("a.pem was parsed anew")
	}
	if before.held[1].cert == after.held[1].cert {
		t.Error("b.pem was not read")
	}
}

// TestRenewedSinceATornLook: a reload behind a look that met a new certificate with its
// former key tells of what was in force until then, which is the former certificate.
func TestRenewedSinceATornLook(t *testing.T) {
	s := newShelf(t)
	s.put("a")
	entry := config.CertificateEntry{Pattern: filepath.Join(s.dir, "*.pem")}
	s.secrets.common = s.secrets.list([]config.CertificateEntry{entry}, entry.Files())
	chain, key := s.issue("a")
	s.write("a.pem", chain)
	if changed, wait := s.look(0); changed != "" || wait != settle {
		t.Fatalf("got %q, %v to wait; want nothing changed as yet", changed, wait)
	}
	s.write("a.key", key)
	next := newSecrets(s.now, func(p config.Problem) { t.Error(p) })
	next.succeed(s.secrets)
	next.common = next.list([]config.CertificateEntry{entry}, entry.Files())
	if got, want := differenceText(renewed(s.secrets, next), "renewed"), "renewed: a.pem"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestLooksAtOnce has operators ask for the difference and for the certificates while they
// are renewed: each sees all of a state, and the race detector nothing.
func TestLooksAtOnce(t *testing.T) {
	s := newShelf(t)
	chain, key := s.issue("a")
	s.write("a.pem", append(chain, key...))
	s.write("snicket.toml", []byte("[tls]\ncertificates = [\"a.pem\"]\n[[routes]]\nhosts = [\"a.test\"]\nmode = \"terminate\"\nbackends = [\"127.0.0.1:1\"]\n"))
	of, err := New(filepath.Join(s.dir, "snicket.toml"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	w := watch.New()
	defer w.Close()
	var others sync.WaitGroup
	stop := make(chan struct{})
	for _, ask := range []func() error{
		func() error {
			if got := of.Certificates(); len(got) != 1 || len(got[0].Routes) != 1 {
				return fmt.Errorf("got the certificates %v", got)
			}
			return nil
		},
		func() error { _, err := of.difference(t.Context()); return err },
	} {
		others.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := ask(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 8 {
		chain, key := s.issue("a")
		s.write("new.pem", append(chain, key...)) // one file, so that each state of it is whole
		if err := os.Rename(filepath.Join(s.dir, "new.pem"), filepath.Join(s.dir, "a.pem")); err != nil {
			t.Fatal(err)
		}
		before := of.Certificates()[0].Serial
		if _, err := of.lookAtSecrets(w); err != nil {
			t.Fatal(err)
		}
		if after := of.Certificates()[0].Serial; after == before {
			t.Error("the certificate is not renewed")
		}
	}
	close(stop)
	others.Wait()
}

// BenchmarkTenThousand measures what ten thousand certificates of one pattern cost: a
// start, a look that finds nothing, one that finds one renewed, and a reload, in which all
// are read and few are others.
func BenchmarkTenThousand(b *testing.B) {
	const n = 10_000
	s := newShelf(b)
	for i := range n {
		s.put(fmt.Sprintf("host-%05d", i))
	}
	entry := config.CertificateEntry{Pattern: filepath.Join(s.dir, "*.pem")}
	load := func(former *secrets) *secrets {
		next := newSecrets(s.now, func(p config.Problem) { b.Error(p) })
		next.succeed(former)
		next.common = next.list([]config.CertificateEntry{entry}, entry.Files())
		next.before = nil
		return next
	}
	b.Run("start", func(b *testing.B) {
		for b.Loop() {
			load(nil)
		}
	})
	s.secrets = load(nil)
	w := watch.New()
	defer w.Close()
	look := func() string {
		if err := w.Watch(s.secrets.patterns()); err != nil {
			b.Fatal(err)
		}
		changed, _ := s.look(time.Second)
		return changed
	}
	look()
	b.Run("nothing new", func(b *testing.B) {
		for b.Loop() {
			if changed := look(); changed != "" {
				b.Fatal(changed)
			}
		}
	})
	b.Run("one renewed", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			s.put("host-00042")
			b.StartTimer()
			if changed := look(); changed != "renewed: host-00042.pem" {
				b.Fatal(changed)
			}
		}
	})
	b.Run("reload", func(b *testing.B) {
		for b.Loop() {
			s.secrets = load(s.secrets)
		}
	})
}
