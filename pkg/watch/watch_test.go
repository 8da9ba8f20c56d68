package watch_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/watch"
)

// tree is a directory that a test changes while it is watched.
type tree struct {
	t   *testing.T
	dir string
}

func newTree(t *testing.T) tree {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return tree{t, dir}
}

func (r tree) path(name string) string { return filepath.Join(r.dir, name) }

func (r tree) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r tree) mkdir(names ...string) {
	r.t.Helper()
	for _, name := range names {
		r.must(os.MkdirAll(r.path(name), 0o700))
	}
}

// write writes files, whose directories need not be there.
func (r tree) write(names ...string) {
	r.t.Helper()
	for _, name := range names {
		r.mkdir(filepath.Dir(name))
		r.must(os.WriteFile(r.path(name), []byte(name), 0o600))
	}
}

func (r tree) rename(from, to string) { r.t.Helper(); r.must(os.Rename(r.path(from), r.path(to))) }

func (r tree) remove(name string) { r.t.Helper(); r.must(os.RemoveAll(r.path(name))) }

// link makes name lead to a path, in place of what was there.
func (r tree) link(to, name string) {
	r.t.Helper()
	r.must(os.Symlink(to, r.path(name+".tmp")))
	r.rename(name+".tmp", name)
}

func TestWatch(t *testing.T) {
	for _, tt := range []struct {
		name   string
		files  []string
		before func(r tree)
		change func(r tree)
	}{
		{
			name: "written in place", files: []string{"a.pem"},
			before: func(r tree) { r.write("a.pem") }, change: func(r tree) { r.write("a.pem") },
		},
		{
			name: "replaced", files: []string{"a.pem"},
			before: func(r tree) { r.write("a.pem", "new") }, change: func(r tree) { r.rename("new", "a.pem") },
		},
		{
			name: "removed", files: []string{"a.pem"},
			before: func(r tree) { r.write("a.pem") }, change: func(r tree) { r.remove("a.pem") },
		},
		{
			name: "made readable", files: []string{"a.pem"},
			before: func(r tree) { r.write("a.pem"); r.must(os.Chmod(r.path("a.pem"), 0)) },
			change: func(r tree) { r.must(os.Chmod(r.path("a.pem"), 0o600)) },
		},
		{
			name: "not there before", files: []string{"a.pem"},
			before: func(tree) {}, change: func(r tree) { r.write("a.pem") },
		},
		{
			name: "directory not there before", files: []string{"d/a.pem"},
			before: func(tree) {}, change: func(r tree) { r.mkdir("d") },
		},
		{
			name: "nor the one above", files: []string{"d/e/a.pem"},
			before: func(tree) {}, change: func(r tree) { r.mkdir("d/e") },
		},
		{
			name: "a file where the directory should be", files: []string{"d/a.pem"},
			before: func(r tree) { r.write("d") }, change: func(r tree) { r.remove("d") },
		},
		{
			name: "directory replaced", files: []string{"d/a.pem"},
			before: func(r tree) { r.write("d/a.pem", "n/a.pem") },
			change: func(r tree) { r.rename("d", "old"); r.rename("n", "d") },
		},
		{
			name: "a new file of a pattern", files: []string{"d/*.pem"},
			before: func(r tree) { r.mkdir("d") }, change: func(r tree) { r.write("d/b.pem") },
		},
		{
			name: "a new directory of a pattern", files: []string{"live/*/fullchain.pem"},
			before: func(r tree) { r.mkdir("live") }, change: func(r tree) { r.mkdir("live/a.test") },
		},
		{
			name: "a file in a directory of a pattern", files: []string{"live/*/fullchain.pem"},
			before: func(r tree) { r.mkdir("live/a.test") }, change: func(r tree) { r.write("live/a.test/fullchain.pem") },
		},
		{
			name: "the link of a file", files: []string{"live/a.pem"},
			before: func(r tree) {
				r.mkdir("live")
				r.write("archive/1.pem", "archive/2.pem")
				r.link("../archive/1.pem", "live/a.pem")
			},
			change: func(r tree) { r.link("../archive/2.pem", "live/a.pem") },
		},
		{
			name: "the file behind a link", files: []string{"live/*.pem"},
			before: func(r tree) {
				r.mkdir("live")
				r.write("archive/1.pem")
				r.link(r.path("archive/1.pem"), "live/a.pem")
			},
			change: func(r tree) { r.write("archive/1.pem") },
		},
		{
			name: "the link in the middle", files: []string{"a.pem"},
			before: func(r tree) {
				r.mkdir("m")
				r.write("1.pem", "2.pem")
				r.link("../1.pem", "m/link")
				r.link("m/link", "a.pem")
			},
			change: func(r tree) { r.link("../2.pem", "m/link") },
		},
		{
			name: "a mounted secret", files: []string{"secret/tls.crt"},
			before: func(r tree) {
				r.write("secret/..v1/tls.crt", "secret/..v2/tls.crt")
				r.link("..v1", "secret/..data")
				r.link("..data/tls.crt", "secret/tls.crt")
			},
			change: func(r tree) { r.link("..v2", "secret/..data") },
		},
		{
			name: "the link of the directory", files: []string{"current/*.pem"},
			before: func(r tree) { r.mkdir("v1", "v2"); r.link("v1", "current") },
			change: func(r tree) { r.link("v2", "current") },
		},
		{
			name: "a link in a circle that becomes a file", files: []string{"a.pem"},
			before: func(r tree) { r.link("a.pem", "b.pem"); r.link("b.pem", "a.pem") },
			change: func(r tree) { r.write("c.pem"); r.link("c.pem", "b.pem") },
		},
		{
			name: "brackets in names", files: []string{watch.Quote("[d]/[a].pem")},
			before: func(r tree) { r.mkdir("[d]") }, change: func(r tree) { r.write("[d]/[a].pem") },
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lab.Leaks(t)
			r := newTree(t)
			tt.before(r)
			w := watch.New()
			defer w.Close()
			var files []string
			for _, file := range tt.files {
				files = append(files, r.path(file))
			}
			if err := w.Watch(files); err != nil {
				t.Fatal(err)
			}
			tt.change(r)
			await(t, w)
		})
	}
}

func await(t *testing.T, w *watch.Watcher) {
	t.Helper()
	select {
	case <-w.Changed():
	case <-time.After(lab.Patience):
		t.Fatal("the change went unseen")
	}
}

// TestMatters: an event wakes only if it is of a file that was asked for, or of what
// leads to it.
func TestMatters(t *testing.T) {
	r := newTree(t)
	r.write("d/a.pem", "v1/tls.crt")
	r.link("v1", "data")
	r.link("data/tls.crt", "tls.crt")
	files := []string{r.path("d/a.pem"), r.path("d/*.key"), r.path("tls.crt"), r.path("none/x.pem")}
	for name, want := range map[string]bool{
		"d/a.pem": true, "d/b.pem": false, "d/z.key": true, "d/a.pem.tmp": false, "d": true,
		"tls.crt": true, "data": true, "v1/tls.crt": true, "v1/tls.key": false, "v1": true, "v2": false,
		"none": true, "other": false,
	} {
		if got := watch.Matters(files, r.path(name)); got != want {
			t.Errorf("%s: got %t, want %t", name, got, want)
		}
	}
}

// TestAgain: each change is told of, also of a file that is watched anew, and none after
// Close.
func TestAgain(t *testing.T) {
	lab.Leaks(t)
	r := newTree(t)
	w := watch.New()
	for _, name := range []string{"a.pem", "b.pem", "a.pem"} {
		if err := w.Watch([]string{r.path(name)}); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			r.write(name)
			await(t, w)
		}
	}
	w.Close()
	watch.New().Close() // one that never watched
}
