//go:build e2e

package e2e_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
)

// watching is a browser that looks at a dashboard, step by step.
type watching struct {
	*lab.Process
	t    testing.TB
	goOn *os.File
	mark int
}

// watchDashboard opens a dashboard in Chromium.
func watchDashboard(t *testing.T, url string) *watching {
	t.Helper()
	lab.Require(t, "chromium", "chromium")
	dir := npm(t, "testdata/dashboard", "dashboard.js")
	in, goOn, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close() // the browser has its own
	t.Cleanup(func() { goOn.Close() })
	p := lab.Start(t, lab.Command{Path: "node", Args: []string{"dashboard.js", url}, Dir: dir, Stdin: in, Env: []string{"HOME=" + dir}})
	return &watching{p, t, goOn, 0}
}

// npm copies files into a directory of the test's own, with the packages that package.json beside them names.
func npm(t *testing.T, from string, files ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, name := range append(files, "package.json", "package-lock.json") {
		lab.WriteFile(t, filepath.Join(dir, name), []byte(read(t, filepath.Join(from, name))))
	}
	install := exec.CommandContext(t.Context(), lab.Require(t, "npm", "npm"), "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	return dir
}

// step waits until the browser has come to a step, and returns what it says of it.
func (w *watching) step(name string) string {
	w.t.Helper()
	match, next := w.WaitLineAfter(w.mark, `^(?:step `+name+`\b ?(.*)|failed: .*)$`)
	if strings.HasPrefix(match[0], "failed") {
		w.t.Fatalf("before %s: %s", name, match[0])
	}
	w.mark = next
	return match[1]
}

// proceed has the browser go on.
func (w *watching) proceed() {
	w.t.Helper()
	if _, err := io.WriteString(w.goOn, "\n"); err != nil {
		w.t.Fatal(err)
	}
}

// TestDashboard looks at the dashboard by Chromium while a backend goes down, names of the network are hostile, Snicket
// ends and another begins, and a thousand routes come. testdata/dashboard/dashboard.js is what the person does.
func TestDashboard(t *testing.T) {
	const hostile = "<img src=x onerror=window.hostile=1>"
	ca := lab.NewAuthority(t, "ca")
	one, two := lab.Serve(t, lab.Echo(), lab.Options{TLS: ca.Server(t, "a.test")}), lab.Serve(t, lab.Echo(), lab.Options{TLS: ca.Server(t, "a.test")})
	addr, dashboard := lab.FreeAddr(t), lab.FreeAddr(t)
	cert, key := ca.WriteServer(t, "t.test")
	preamble := listener(addr) + fmt.Sprintf("[admin]\naddress = %q\n", dashboard)
	pool := fmt.Sprintf("[pools.web]\nbackends = [{ address = %q, name = \"b1\" }, { address = %q, name = \"b2\" }]\n", one.Addr(), two.Addr()) +
		"[pools.web.health]\ninterval = \"100ms\"\nrise = 1\nfall = 1\n"
	b := run(t, preamble+"[[routes]]\nname = \"shop\"\nhosts = [\"a.test\"]\npool = \"web\"\n"+
		"[[routes]]\nhosts = [\"r.test\"]\nmode = \"reject\"\n"+
		fmt.Sprintf("[[routes]]\nhosts = [\"t.test\"]\nmode = \"terminate\"\npool = \"web\"\n[routes.tls]\ncertificates = [{ cert = %q, key = %q }]\n", cert, key)+pool)
	b.WaitLines(0, `msg="backend ready"`, 2)
	held := dialTLS(t, addr, ca.Client("a.test"))
	exchangeEcho(t, held, []byte("ping"))

	w := watchDashboard(t, "http://"+dashboard+"/")
	w.step("loaded")
	two.Close()
	match, _ := b.WaitLineAfter(0, `time=(\S+) .*msg="backend down" pool=web backend=b2`)
	w.proceed()
	logged, err := time.Parse(time.RFC3339, match[1])
	if err != nil {
		t.Fatal(err)
	}
	shown, err := strconv.ParseInt(w.step("down"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("shown %v behind the log", time.UnixMilli(shown).Sub(logged))

	w.proceed()
	w.step("hostile")
	for _, name := range []string{hostile, "none.test"} {
		if err := tls.Client(dial(t, addr), ca.Client(name)).HandshakeContext(t.Context()); err == nil {
			t.Errorf("%q was let in", name)
		}
	}
	w.proceed()
	w.step("restart")
	b.Signal(syscall.SIGKILL)
	b.Wait(lab.Patience)
	w.proceed()
	w.step("gone")
	again := lab.Start(t, lab.Command{Path: program(t, "cmd/snicket"), Args: []string{"run", "-c", b.file}, Env: []string{"RUNTIME_DIRECTORY=" + filepath.Dir(b.file)}})
	again.WaitLine(`\bmsg=ready\b`)
	w.proceed()
	w.step("many")
	var routes strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&routes, "[[routes]]\nname = \"route-%d\"\nhosts = [\"r%d.test\"]\npool = \"web\"\n", i, i)
	}
	routes.WriteString("[[routes]]\nname = \"fleet\"\nhosts = [\"fleet.test\"]\npool = \"fleet\"\n[pools.fleet]\nbackends = [")
	for i := range 40 {
		fmt.Fprintf(&routes, "\"127.9.0.%d:443\", ", 1+i)
	}
	routes.WriteString("]\n[pools.fleet.health]\nenabled = false\n")
	lab.WriteFile(t, b.file, []byte(preamble+routes.String()+pool))
	again.Signal(syscall.SIGHUP)
	again.WaitLine(`\bmsg="reload done"`)
	w.proceed()
	w.step("done")
	t.Log(w.WaitLine(`^frame of .*$`)[0])
}
