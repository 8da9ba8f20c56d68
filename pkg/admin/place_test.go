package admin_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/admin"
)

func TestDefaultSocket(t *testing.T) {
	for name, tc := range map[string]struct {
		env  map[string]string
		uid  int
		want string
	}{
		"systemd":      {map[string]string{"RUNTIME_DIRECTORY": "/run/snicket", "XDG_RUNTIME_DIR": "/run/user/7"}, 7, "/run/snicket/admin.sock"},
		"systemd, two": {map[string]string{"RUNTIME_DIRECTORY": "/run/a:/run/b"}, 7, "/run/a/admin.sock"},
		"root":         {map[string]string{"XDG_RUNTIME_DIR": "/run/user/0"}, 0, "/run/snicket/admin.sock"},
		"user":         {map[string]string{"XDG_RUNTIME_DIR": "/run/user/7"}, 7, "/run/user/7/snicket/admin.sock"},
		"nowhere":      {nil, 7, ""},
	} {
		if got := admin.DefaultSocket(func(key string) string { return tc.env[key] }, tc.uid); got != tc.want {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
}

// answering is a Server that runs, and of whose options a test needs but a few.
func answering(t *testing.T) *admin.Server {
	t.Helper()
	lab.Leaks(t)
	return running(t)
}

// running is the same beside others of one test.
func running(t *testing.T) *admin.Server {
	t.Helper()
	s := admin.New(admin.Options{
		Log: slog.New(slog.DiscardHandler), Metrics: http.NotFoundHandler(), Events: admin.NewEvents(),
		NotReady: func() []string { return nil },
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

// place puts settings into force.
func place(t *testing.T, s *admin.Server, settings admin.Settings) {
	t.Helper()
	c, err := s.Prepare(settings)
	if err != nil {
		t.Fatal(err)
	}
	c.Commit()
}

func socketAt(path string) admin.Settings {
	return admin.Settings{Socket: admin.SocketSettings{Path: path, Mode: 0o600, GID: -1}}
}

// healthz asks over a Unix socket.
func healthz(path string) error {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}}
	c := http.Client{Transport: transport, Timeout: lab.Patience}
	res, err := c.Get("http://snicket/healthz")
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return err
}

func TestSocketFile(t *testing.T) {
	s := answering(t)
	path := filepath.Join(t.TempDir(), "admin.sock")
	mode := func() fs.FileMode {
		t.Helper()
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode()
	}
	place(t, s, socketAt(path))
	if got, want := mode(), fs.ModeSocket|0o600; got != want {
		t.Errorf("got mode %v, want %v", got, want)
	}
	if err := healthz(path); err != nil {
		t.Error(err)
	}
	// A mode that changes is changed, and who answers stays.
	wider := socketAt(path)
	wider.Socket.Mode = 0o660
	place(t, s, wider)
	if got, want := mode(), fs.ModeSocket|0o660; got != want {
		t.Errorf("got mode %v, want %v", got, want)
	}
	if err := healthz(path); err != nil {
		t.Error(err)
	}
	// Another place replaces it.
	moved := filepath.Join(t.TempDir(), "other.sock")
	place(t, s, socketAt(moved))
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v of the former socket, want no file", err)
	}
	if err := healthz(moved); err != nil {
		t.Error(err)
	}
}

// A socket that nobody answers at is replaced, one that somebody does is not, and what
// is no socket is not touched.
func TestSocketThatIsThere(t *testing.T) {
	s := answering(t)
	dir := t.TempDir()
	stale := filepath.Join(dir, "stale.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_, err = s.Prepare(socketAt(stale))
	refused, ok := err.(*admin.PlaceError) //nolint:errorlint // the type that is promised
	if !ok || !refused.Socket || !errors.Is(err, admin.ErrAnswered) {
		t.Errorf("got %v while somebody listens, want ErrAnswered", err)
	}
	l.Close()
	place(t, s, socketAt(stale))
	if err := healthz(stale); err != nil {
		t.Error(err)
	}

	file := lab.WriteFile(t, filepath.Join(dir, "file"), []byte("mine"))
	if _, err := s.Prepare(socketAt(file)); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("got %v for a file that is no socket", err)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "mine" {
		t.Errorf("got %q, %v of that file, want it untouched", text, err)
	}
	if _, err := s.Prepare(socketAt(filepath.Join(dir, "none", "admin.sock"))); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v without a directory, want that it does not exist", err)
	}
}

// A socket that is bound and not answered at yet is another's, too: it begins to once its
// configuration is in force.
func TestSocketOfOneThatBegins(t *testing.T) {
	lab.Leaks(t)
	first, second := running(t), running(t)
	path := filepath.Join(t.TempDir(), "admin.sock")
	c, err := first.Prepare(socketAt(path))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := second.Prepare(socketAt(path)); !errors.Is(err, admin.ErrAnswered) {
		t.Errorf("got %v of a socket that another is about to answer at, want ErrAnswered", err)
	}
	c.Commit()
	if err := healthz(path); err != nil {
		t.Error(err)
	}
}

// Of many that begin at once, where one has left its socket behind, one answers there.
func TestSocketOfManyThatBegin(t *testing.T) {
	lab.Leaks(t)
	dir := t.TempDir()
	for round := range 20 {
		path := filepath.Join(dir, fmt.Sprint(round, ".sock"))
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		l.Close()
		var begin, end sync.WaitGroup
		begin.Add(1)
		changes := make(chan *admin.Change, 8)
		for range cap(changes) {
			s := running(t)
			end.Go(func() {
				begin.Wait()
				c, err := s.Prepare(socketAt(path))
				switch {
				case err == nil:
					changes <- c
				case !errors.Is(err, admin.ErrAnswered):
					t.Error(err)
				}
			})
		}
		begin.Done()
		end.Wait()
		if n := len(changes); n != 1 {
			t.Fatalf("got %d that have the socket, want one", n)
		}
		(<-changes).Commit()
		if err := healthz(path); err != nil {
			t.Fatal(err)
		}
		if left, err := filepath.Glob(path + ".*"); err != nil || len(left) > 0 {
			t.Fatalf("got %q left, %v, want the socket alone", left, err)
		}
	}
}

// Who locks a path and does not come to an end is waited for, and then told of.
func TestSocketThatIsClaimed(t *testing.T) {
	s := answering(t)
	path := filepath.Join(t.TempDir(), "admin.sock")
	f, err := os.Create(path + ".lock")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Prepare(socketAt(path)); !errors.Is(err, admin.ErrAnswered) || !strings.Contains(err.Error(), path+".lock") {
		t.Errorf("got %v, want ErrAnswered and the file", err)
	}
	f.Close() // as when its process ends, which leaves the file
	place(t, s, socketAt(path))
	if err := healthz(path); err != nil {
		t.Error(err)
	}
}

// An address that cannot be had leaves nothing of the same change behind.
func TestChangeIsAllOrNothing(t *testing.T) {
	s := answering(t)
	taken := lab.Serve(t, lab.Mute(), lab.Options{})
	settings := socketAt(filepath.Join(t.TempDir(), "admin.sock"))
	settings.Address = taken.Addr()
	if _, err := s.Prepare(settings); err == nil {
		t.Error("got an address that somebody has")
	}
	if _, err := os.Lstat(settings.Socket.Path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v of the socket, want no file", err)
	}
	settings.Address = ""
	c, err := s.Prepare(settings)
	if err != nil {
		t.Fatal(err)
	}
	c.Abort()
	if _, err := os.Lstat(settings.Socket.Path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v of the socket of a change that was given up, want no file", err)
	}
}

// Clients that say nothing hold places for a while, and then lose them to others.
func TestSilentClients(t *testing.T) {
	s := answering(t)
	path := filepath.Join(t.TempDir(), "admin.sock")
	place(t, s, socketAt(path))
	const more = 40 // than there are places
	for range more {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if err := healthz(path); err != nil {
		t.Errorf("got %v behind silent clients, want an answer", err)
	}
}

// Readers of events follow, get what was before, and cannot hold up who adds.
func TestEvents(t *testing.T) {
	events := admin.NewEvents()
	const many = 5000
	for range many {
		events.Add(admin.Event{Message: "x"})
	}
	kept, more := events.After(0)
	if n := len(kept); n == 0 || n >= many || kept[n-1].Seq != many || kept[0].Seq != uint64(many-n+1) {
		t.Errorf("got %d events from %d to %d, want the latest", n, kept[0].Seq, kept[n-1].Seq)
	}
	if after, _ := events.After(many - 1); len(after) != 1 {
		t.Errorf("got %d events after the last but one", len(after))
	}
	select {
	case <-more:
		t.Error("got more before there is any")
	default:
	}
	got := make(chan admin.Event)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- events.Follow(ctx, many, func(e admin.Event) error { got <- e; return nil })
	}()
	events.Add(admin.Event{Message: "y"})
	select {
	case e := <-got:
		if e.Message != "y" || e.Seq != many+1 {
			t.Errorf("got %+v", e)
		}
	case <-time.After(lab.Patience):
		t.Fatal("no event")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Those who follow events leave room for others, and who leaves gives his place back.
func TestFollowersAreFew(t *testing.T) {
	s := answering(t)
	path := filepath.Join(t.TempDir(), "admin.sock")
	place(t, s, socketAt(path))
	follow := func() (status int, leave func()) {
		t.Helper()
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if err := c.SetDeadline(time.Now().Add(lab.Patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, "GET /v1/events?follow=true HTTP/1.1\r\nHost: snicket\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, func() { c.Close() }
	}
	const most = 8
	var leave func()
	for range most {
		status, end := follow()
		if status != http.StatusOK {
			t.Fatalf("got %d, want to follow", status)
		}
		leave = end
	}
	if status, _ := follow(); status != http.StatusServiceUnavailable {
		t.Errorf("got %d for one more, want 503", status)
	}
	if err := healthz(path); err != nil {
		t.Errorf("got %v beside them, want an answer", err)
	}
	leave()
	// The server hears of it in its own time.
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(lab.Patience); ; {
		status, end := follow()
		if status == http.StatusOK {
			return
		}
		end()
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("the place of one that left is not given back")
		}
	}
}
