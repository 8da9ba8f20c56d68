package server

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/snicketlb/snicket/pkg/config"
	"github.com/snicketlb/snicket/pkg/watch"
)

// TestEye: content that changes is seen, whatever the times in the file's inode say, and
// what cannot be read is told apart from what can.
func TestEye(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	e := newEye()
	missing := e.look(path)
	if missing.why == "" {
		t.Error("nothing is wrong with a file that is not there")
	}
	seen := map[content]string{missing: "missing"}
	for _, text := range []string{"one", "two", "six", "longer"} { // within one tick of the clock, most likely
		put(text)
		now := e.look(path)
		if was, ok := seen[now]; ok {
			t.Errorf("%q looks as %q does", text, was)
		}
		seen[now] = text
		if b, err := e.ReadFile(path); err != nil || string(b) != text {
			t.Errorf("got %q, %v, want %q", b, err, text)
		}
		if again := e.look(path); again != now {
			t.Errorf("%q looks different at the second look", text)
		}
	}
	put("two")
	if got := seen[e.look(path)]; got != "two" {
		t.Errorf("two is taken for %q", got)
	}
	if _, err := e.ReadFile(filepath.Dir(path)); err == nil {
		t.Error("a directory was read")
	}
	if got := seen[e.last(path)]; got != "two" {
		t.Errorf("two was taken for %q", got)
	}
	e.next()
	if got := seen[e.last(path)]; got != "two" {
		t.Errorf("two was forgotten for %q in the round in which it was looked at", got)
	}
	e.next()
	if len(e.seen) != 0 {
		t.Errorf("%d files are kept that were not looked at, want none", len(e.seen))
	}
	e.look(path)
	e.forget()
	if got := e.last(path); got != (content{}) {
		t.Errorf("got %v of a file that is forgotten", got)
	}
	if got := seen[e.look(path)]; got != "two" {
		t.Errorf("two is taken for %q", got)
	}
}

// TestFollow: a part is loaded when one of its files has changed since follow was called,
// and only then; what is wrong is said once it has stood for a while, and once.
func TestFollow(t *testing.T) {
	dir := t.TempDir()
	path, other := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "b.crl")
	put := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(path, "good 1")
	now := time.Now()
	s := newSecrets(now, func(config.Problem) {})
	var loaded []string
	s.follow("client_ca", []string{watch.Quote(path), filepath.Join(dir, "*.crl")}, func() error {
		b, err := os.ReadFile(path)
		if err == nil && !strings.HasPrefix(string(b), "good") {
			err = errors.New(path + ": is not good")
		}
		if err == nil {
			loaded = append(loaded, string(b))
		}
		return err
	})
	var logged bytes.Buffer
	log := slog.New(slog.NewTextHandler(&logged, nil))
	var said []string
	look := func(after time.Duration) time.Duration {
		now = now.Add(after)
		s.refresh(now, log)
		of, wait := s.troubles.over(now)
		for _, t := range of {
			said = append(said, t.what+": "+t.why)
		}
		return wait
	}
	expect := func(step string, loads, sayings int) {
		t.Helper()
		if len(loaded) != loads || len(said) != sayings {
			t.Fatalf("%s: got %d loads, %d sayings, want %d and %d: %q, %q", step, len(loaded), len(said), loads, sayings, loaded, said)
		}
	}
	look(0)
	expect("unchanged", 0, 0)
	put(path, "good 2")
	look(0)
	expect("changed", 1, 0)
	put(other, "new")
	look(0)
	expect("a file more", 2, 0)
	look(time.Hour)
	expect("unchanged again", 2, 0)

	put(path, "bad")
	if wait := look(0); wait != settle {
		t.Errorf("got %v to wait, want %v", wait, settle)
	}
	expect("bad", 2, 0)
	if wait := look(settle / 2); wait != settle/2 {
		t.Errorf("got %v to wait, want %v", wait, settle/2)
	}
	look(settle)
	look(time.Hour)
	expect("bad for long", 2, 1)
	if want := "client_ca: " + path + ": is not good"; said[0] != want {
		t.Errorf("got %q, want %q", said[0], want)
	}
	put(path, "bad in another way")
	look(0)
	look(settle)
	expect("as bad as before", 2, 1)
	put(path, "good 3")
	look(0)
	expect("good", 3, 1)
	put(path, "bad")
	look(0)
	put(path, "good 4")
	look(settle)
	expect("bad for a moment", 4, 1)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	look(0)
	look(settle)
	expect("gone", 4, 2)
	if got := strings.Count(logged.String(), `what=client_ca files="b.crl, ca.pem"`); got != 3 {
		t.Errorf("got %d lines of the reloads with both files, want 3:\n%s", got, &logged)
	}
}

// TestWatchSecretsEnds: the watch ends with its context.
func TestWatchSecretsEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "snicket.toml")
	if err := os.WriteFile(path, []byte("[[routes]]\nhosts = [\"a.test\"]\nbackends = [\"127.0.0.1:1\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := New(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.watchSecrets(ctx); err != nil {
		t.Error(err)
	}
}
