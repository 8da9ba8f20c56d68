//go:build e2e

package e2e_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
)

// pane is a terminal of 80 columns and 24 lines within tmux, with a program in it.
type pane struct {
	t      *testing.T
	socket string
}

// openPane runs a line of shell in a terminal of its own.
func openPane(t *testing.T, line string) *pane {
	t.Helper()
	lab.Require(t, "tmux", "tmux")
	p := &pane{t, filepath.Join(t.TempDir(), "tmux")}
	p.tmux("-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", "sh", "-c", line+"; echo ended with $?; exec cat")
	t.Cleanup(func() { exec.Command("tmux", "-S", p.socket, "kill-server").Run() })
	return p
}

func (p *pane) tmux(args ...string) string {
	p.t.Helper()
	return mustTool(p.t, "", "tmux", append([]string{"-S", p.socket}, args...)...)
}

// keys presses keys, by the names that tmux has for them.
func (p *pane) keys(keys ...string) {
	p.t.Helper()
	p.tmux(append([]string{"send-keys"}, keys...)...)
}

// wait waits until the screen holds a pattern, and returns the screen.
func (p *pane) wait(pattern string) string {
	p.t.Helper()
	re := regexp.MustCompile(`(?m)` + pattern)
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for late := time.After(lab.Patience); ; {
		screen := p.tmux("capture-pane", "-p")
		if re.MatchString(screen) {
			return screen
		}
		select {
		case <-look.C:
		case <-late:
			p.t.Fatalf("no %s in\n%s", pattern, screen)
		}
	}
}

// TestTop watches and drains by snicket top in a terminal: 80 by 24, without colour, over a restart.
func TestTop(t *testing.T) {
	ca := lab.NewAuthority(t, "ca")
	one, two := lab.Serve(t, lab.Echo(), lab.Options{TLS: ca.Server(t, "a.test")}), lab.Serve(t, lab.Echo(), lab.Options{TLS: ca.Server(t, "a.test")})
	addr := lab.FreeAddr(t)
	backends := fmt.Sprintf("backends = [{ address = %q, name = \"b1\" }, { address = %q, name = \"b2\" }]\n", one.Addr(), two.Addr())
	b := run(t, listener(addr)+"[[routes]]\nname = \"shop\"\nhosts = [\"a.test\"]\npool = \"web\"\n[pools.web]\n"+backends+
		"[pools.web.health]\ninterval = \"100ms\"\nrise = 1\nfall = 1\n")
	b.WaitLines(0, `msg="backend ready"`, 2)
	top := program(t, "cmd/snicket") + " top --socket " + b.socket()
	p := openPane(t, "NO_COLOR=1 "+top)
	screen := p.wait(`^> shop +0 `)
	if lines := strings.Split(strings.TrimSuffix(screen, "\n"), "\n"); len(lines) != 24 || !strings.HasPrefix(lines[23], "1-3 lists") {
		t.Errorf("got %d lines, want 24 with the keys in the last\n%s", len(lines), screen)
	}
	if colours := regexp.MustCompile(`\x1b\[[0-9;]*[34][0-7][0-9;]*m`).FindString(p.tmux("capture-pane", "-p", "-e")); colours != "" {
		t.Errorf("got colour %q with NO_COLOR", colours)
	}

	held := dialTLS(t, addr, ca.Client("a.test"))
	exchangeEcho(t, held, []byte("ping"))
	p.wait(`^sessions 1 `)
	p.wait(`^> shop +1 `)
	p.keys("3")
	p.wait(`^> a\.test +web/b\d +relay`)

	p.keys("2")
	p.wait(`^> web/b1 +ready`)
	p.keys("Down")
	p.wait(`^> web/b2 +ready`)
	p.keys("d")
	p.wait(`^drain web/b2\? y does it`)
	p.keys("n")
	p.wait(`^nothing done`)
	p.keys("d", "y")
	p.wait(`^web/b2 is draining, with \d sessions`)
	p.wait(`^> web/b2 +draining`)
	p.wait(`^  operator \S+ wishes it`)
	p.keys("r", "y")
	p.wait(`^> web/b2 +ready`)
	one.Close()
	p.wait(`^  web/b1 +down`)
	p.keys("/", "b1", "Enter")
	p.wait(`^> web/b1 +down`)
	p.wait(`^  connect: connection refused`)

	b.Signal(syscall.SIGKILL)
	b.Wait(lab.Patience)
	p.wait(`no answer for .*asking again`)
	again := lab.Start(t, lab.Command{Path: program(t, "cmd/snicket"), Args: []string{"run", "-c", b.file}, Env: []string{"RUNTIME_DIRECTORY=" + filepath.Dir(b.file)}})
	again.WaitLine(`\bmsg=ready\b`)
	p.wait(`^snicket .*  ready  for `)
	p.wait(`^> web/b1 +down`)
	p.keys("q")
	p.wait(`^ended with 0`)

	for _, line := range []string{"TERM=dumb " + top, top + " | cat"} {
		openPane(t, line).wait(`snicket: error: top needs a terminal`)
	}
}
