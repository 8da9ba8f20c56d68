package discover_test

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/discover"
)

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, to, path string) {
	t.Helper()
	if err := os.Symlink(to, path+".new"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func startFile(t *testing.T, path string) *run {
	t.Helper()
	lab.Leaks(t)
	r, stop := start(t, system{}, t.TempDir(), discover.Settings{File: path})
	t.Cleanup(stop)
	return r
}

func TestAFileIsWatched(t *testing.T) {
	path := filepath.Join(t.TempDir(), "backends.json")
	put(t, path, `["10.0.0.2:443", "10.0.0.1:443"]`)
	r := startFile(t, path)
	if rep := r.next("10.0.0.1:443 10.0.0.2:443", ""); rep.Status.Note != "" || !rep.Changed {
		t.Errorf("got the note %q, changed %t, want none and true", rep.Status.Note, rep.Changed)
	}
	put(t, path, `["10.0.0.3:443"]`)
	r.next("10.0.0.3:443", "")
	// The same set in other words is no news; what comes after it is.
	put(t, path, `[{"address": "10.0.0.3:443", "weight": 1}]`)
	put(t, path, "[\n\"10.0.0.3:443\",\n")
	if rep := r.next("10.0.0.3:443", path+":3: unexpected end of JSON input"); rep.Changed {
		t.Error("got a change from half a file")
	}
	// Written in place, a reader may meet any part of it, and sees the whole in the end.
	if err := os.WriteFile(path, []byte(`["10.0.0.4:443"]`), 0o600); err != nil {
		t.Fatal(err)
	}
	rep := <-r.reports
	for rep.Status.Err != nil {
		rep = <-r.reports
	}
	if got, want := names(rep.Backends), "10.0.0.4:443"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	r.next("10.0.0.4:443", path+": no such file or directory")
	put(t, path, `["10.0.0.5:443"]`)
	r.next("10.0.0.5:443", "")
}

func TestAFileThatComesLater(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "later")
	path := filepath.Join(dir, "backends.json")
	r := startFile(t, path)
	if rep := r.next("", path+": no such file or directory"); rep.Status.Note != "" {
		t.Errorf("got the note %q, want none", rep.Status.Note)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	put(t, path, `["10.0.0.1:443"]`)
	rep := <-r.reports
	if rep.Status.Err != nil { // the directory was there, the file not yet
		rep = <-r.reports
	}
	if got, want := names(rep.Backends), "10.0.0.1:443"; got != want || rep.Status.Note != "" {
		t.Errorf("got %q, note %q, want %q and none", got, rep.Status.Note, want)
	}
}

// TestAMountedConfigMap swaps links as the kubelet does: backends.json leads to
// ..data/backends.json, and ..data to a directory that is replaced.
func TestAMountedConfigMap(t *testing.T) {
	dir := t.TempDir()
	version := func(n int) {
		t.Helper()
		name := fmt.Sprintf("..v%d", n)
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(dir, name, "backends.json"), fmt.Sprintf(`["10.0.0.%d:443"]`, n))
		link(t, name, filepath.Join(dir, "..data"))
		if err := os.RemoveAll(filepath.Join(dir, fmt.Sprintf("..v%d", n-1))); err != nil {
			t.Fatal(err)
		}
	}
	version(1)
	path := filepath.Join(dir, "backends.json")
	link(t, "..data/backends.json", path)
	r := startFile(t, path)
	r.next("10.0.0.1:443", "")
	for n := 2; n < 5; n++ {
		version(n)
		r.next(fmt.Sprintf("10.0.0.%d:443", n), "")
	}
}

// TestALinkToElsewhere replaces the file in the directory that a link leads to.
func TestALinkToElsewhere(t *testing.T) {
	there, path := filepath.Join(t.TempDir(), "real.json"), filepath.Join(t.TempDir(), "backends.json")
	put(t, there, `["10.0.0.1:443"]`)
	link(t, there, path)
	r := startFile(t, path)
	r.next("10.0.0.1:443", "")
	put(t, there, `["10.0.0.2:443"]`)
	r.next("10.0.0.2:443", "")
}

func TestWhatIsNoFileOfBackends(t *testing.T) {
	dir := t.TempDir()
	large := filepath.Join(dir, "large.json")
	if err := os.WriteFile(large, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, discover.MaxFileSize+1); err != nil {
		t.Fatal(err)
	}
	pipe := filepath.Join(dir, "pipe.json")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		large: "large.json: more than the limit of 4194304 bytes",
		pipe:  "pipe.json: is not a regular file", // and is not waited for
		dir:   "is not a regular file",
	} {
		t.Run(filepath.Base(path), func(t *testing.T) { startFile(t, path).next("", want) })
	}
}
