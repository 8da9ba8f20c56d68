package server_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
)

// A file that changes is put into force, an included one as well; what is wrong with it
// is told once; and one that is no longer to be watched is left alone.
func TestConfigIsWatched(t *testing.T) {
	lab.Leaks(t)
	route := func(name string) string {
		return "[[routes]]\nname = \"" + name + "\"\nhosts = [\"" + name + ".test\"]\nmode = \"reject\"\n"
	}
	o := operate(t, route("a")) // not watched yet
	dir := filepath.Dir(o.path)
	const watched = "watch = true\ninclude = [\"conf.d/*.toml\"]\n"
	write := func(path, text string) {
		t.Helper()
		// As editors do: whole, in place of what was there.
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	write(o.path, watched+preamble+route("a"))
	must(o.Reload(t.Context()))

	write(o.path, watched+preamble+route("a")+route("b"))
	o.log.wait(t, `msg="configuration has changed"`, 1) // perhaps at the first look
	o.log.wait(t, `msg="reload done" generation=3 routes="added: b"`, 1)
	if err := os.Mkdir(filepath.Join(dir, "conf.d"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(filepath.Join(dir, "conf.d", "c.toml"), route("c"))
	o.log.wait(t, `msg="configuration has changed" files=c.toml$`, 1)
	o.log.wait(t, `msg="reload done" generation=4 routes="added: c"`, 1)

	write(o.path, watched+preamble+"nonsense")
	o.log.wait(t, `msg="reload failed"`, 1)
	write(o.path, watched+preamble+"nonsense") // once more the same
	write(o.path, watched+preamble+route("a")+route("d"))
	o.log.wait(t, `msg="reload done" generation=5 routes="added: d; removed: b"`, 1)
	if n := strings.Count(o.log.String(), `msg="reload failed"`); n != 1 {
		t.Errorf("got told %d times what is wrong with the same text, want once", n)
	}

	// A mistake that is taken back is over, although nothing is new.
	write(o.path, watched+preamble+"nonsense")
	o.log.wait(t, `msg="reload failed"`, 2)
	write(o.path, watched+preamble+route("a")+route("d"))
	o.log.wait(t, `msg="reload done" generation=6 changes=none`, 1)

	write(o.path, preamble+route("a"))
	o.log.wait(t, `msg="reload done" generation=7`, 1)
	write(o.path, preamble+route("e"))
	if done := must(o.Reload(t.Context())); done.Generation != 8 {
		t.Errorf("got generation %d by a reload, want 8: nothing is watched any more", done.Generation)
	}
}
