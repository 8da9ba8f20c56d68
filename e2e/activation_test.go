//go:build e2e

package e2e_test

import (
	"path/filepath"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
)

// TestSocketActivation starts snicket by systemd-socket-activate, which does what a
// socket unit does: listens first, and passes its sockets to the program it starts.
func TestSocketActivation(t *testing.T) {
	backend := lab.Serve(t, lab.Announce("here", nil), lab.Options{})
	one, two := lab.FreeAddr(t), lab.FreeAddr(t)
	config := "[listeners.https]\naddress = \"systemd:https\"\n" + passthrough("a.test", "a", []string{backend.Addr()})
	file := lab.WriteFile(t, filepath.Join(t.TempDir(), "snicket.toml"), []byte(config))
	p := lab.Start(t, lab.Command{Path: "systemd-socket-activate", Args: []string{
		"-l", one, "-l", two, "-E", "RUNTIME_DIRECTORY", "--fdname=https:https", program(t, "cmd/snicket"), "run", "-c", file,
	}, Env: []string{"RUNTIME_DIRECTORY=" + filepath.Dir(file)}})
	p.WaitLine("Listening on")
	// The first connection starts it, and waits for it.
	serves := func() {
		t.Helper()
		for _, addr := range []string{one, two, one, two} {
			c := dial(t, addr)
			answer, ending := exchange(t, c, [][]byte{lab.Hello("a.test")}, lab.Patience)
			if got := verdict(answer, ending); got != "to here" {
				t.Errorf("got %q by %s, want the backend", got, addr)
			}
		}
	}
	serves()
	b := &balancer{t: t, file: file, Process: p}
	for range 2 { // the sockets can be had from nowhere else
		mark := b.Mark()
		b.operate("upgrade")
		b.WaitLineAfter(mark, `msg="took over"`)
		serves()
	}
	lab.WriteFile(t, file, []byte(listener(lab.FreeAddr(t))+passthrough("a.test", "a", []string{backend.Addr()})))
	b.operate("reload") // which does not want them
	b.operate("upgrade")
	lab.WriteFile(t, file, []byte(config))
	b.operate("reload")
	serves()
}
