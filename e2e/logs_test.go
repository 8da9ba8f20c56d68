//go:build e2e

package e2e_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
)

// fullPipe returns the writing end of a pipe that is full, and that nobody reads for the length of the test.
func fullPipe(t *testing.T) *os.File {
	t.Helper()
	var ends [2]int
	if err := syscall.Pipe2(ends[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(ends[0]) })
	for _, size := range []int{4096, 1} {
		for err := error(nil); err == nil; {
			_, err = syscall.Write(ends[1], make([]byte, size))
		}
	}
	if err := syscall.SetNonblock(ends[1], false); err != nil { // as a shell's pipes are
		t.Fatal(err)
	}
	w := os.NewFile(uintptr(ends[1]), "full pipe")
	t.Cleanup(func() { w.Close() })
	return w
}

// runInto starts snicket with its logs going where they are told, and waits until it listens on addr.
func runInto(t *testing.T, config, addr string, stdout, stderr *os.File) (p *lab.Process, file string) {
	t.Helper()
	file = lab.WriteFile(t, filepath.Join(t.TempDir(), "snicket.toml"), []byte(config))
	// The shell's descriptors 3 and 4 are the test's; exec leaves snicket in its place.
	redirect := `exec "$0" run -c "$1"`
	if stdout != nil {
		redirect += fmt.Sprintf(" >/proc/%d/fd/%d", os.Getpid(), stdout.Fd())
	}
	if stderr != nil {
		redirect += fmt.Sprintf(" 2>/proc/%d/fd/%d", os.Getpid(), stderr.Fd())
	}
	p = lab.Start(t, lab.Command{Path: "sh", Args: []string{"-c", redirect, program(t, "cmd/snicket"), file}})
	p.WaitReachable(addr)
	return p, file
}

// TestStalledLogs stalls the readers of the access log, of the log, and of both: signals are obeyed as ever.
func TestStalledLogs(t *testing.T) {
	for _, tc := range []struct {
		name           string
		stdout, stderr bool
	}{{"access log", true, false}, {"log", false, true}, {"both", true, true}} {
		t.Run(tc.name, func(t *testing.T) {
			echo := lab.Serve(t, lab.Echo(), lab.Options{})
			addr, more := lab.FreeAddr(t), lab.FreeAddr(t)
			var stdout, stderr *os.File
			if tc.stdout {
				stdout = fullPipe(t)
			}
			if tc.stderr {
				stderr = fullPipe(t)
			}
			config := listener(addr) + passthrough("a.test", "a", []string{echo.Addr()})
			p, file := runInto(t, config, addr, stdout, stderr)
			held := dial(t, addr)
			exchangeEcho(t, held, lab.Hello("a.test"))
			short := dial(t, addr)
			exchangeEcho(t, short, lab.Hello("a.test"))
			short.Close()

			lab.WriteFile(t, file, []byte(config+fmt.Sprintf("[listeners.more]\naddress = %q\n", more)))
			p.Signal(syscall.SIGHUP)
			p.WaitReachable(more)
			exchangeEcho(t, held, []byte("still here"))

			p.Signal(syscall.SIGTERM)
			waitRefused(t, addr)
			exchangeEcho(t, held, []byte("draining"))
			p.Signal(syscall.SIGTERM)
			if got := p.Wait(0); got != 0 {
				t.Errorf("got exit status %d, want 0", got)
			}
			if !tc.stderr {
				p.WaitLine(`\bmsg=stopped cut=1 records_lost=\d+$`)
			}
		})
	}
}

// TestLogOfLibraries has a backend of HTTP say more than it was asked, of which net/http writes a line: it is one of the
// log, in the log's format, and an event.
func TestLogOfLibraries(t *testing.T) {
	edge := lab.NewAuthority(t, "edge")
	cert, key := edge.WriteServer(t, "a.test")
	backend := lab.Serve(t, func(c *lab.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 Unasked\r\n\r\n")
			_, _ = io.Copy(io.Discard, c) // until it is given up
		}
	}, lab.Options{})
	addr := lab.FreeAddr(t)
	b := start(t, listener(addr)+"[log]\nformat = \"json\"\naccess = \"off\"\n"+
		terminated("a.test", "a", cert, key, []string{backend.Addr()}, "[pools.a.health]", "enabled = false")+"[routes.http]\n")
	b.WaitLine(`"msg":"ready"`)
	c := dialTLS(t, addr, edge.Client("a.test"))
	defer c.Close()
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
	line := b.WaitLine("^.*200 Unasked.*$")[0]
	var said struct{ Level, Msg string }
	if err := json.Unmarshal([]byte(line), &said); err != nil || said.Level != "WARN" || !strings.Contains(said.Msg, "Unsolicited response") {
		t.Errorf("got %s, %v, want a warning in JSON", line, err)
	}
	if events := b.operate("events"); !strings.Contains(events, "200 Unasked") {
		t.Errorf("got %s, want it among the events", events)
	}
}
