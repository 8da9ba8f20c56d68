//go:build e2e

package e2e_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strconv"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
)

// TestIdle holds 8,000 idle sessions. Each costs two descriptors and nothing else that the process can be seen to
// hold; the memory of each is printed. All are whole afterwards.
func TestIdle(t *testing.T) {
	const sessions = 8000
	server := load(t, "serve")
	backend := server.WaitLine(`^listening (.*)$`)[1]
	b, addr := pass(t, backend, "")
	exchangeEcho(t, dial(t, addr), lab.Hello("a.test")) // what the first session makes for good, it makes now
	descriptors, memory := len(lab.Descriptors(t, b.PID())), resident(t, b.PID())

	stdin, release := io.Pipe()
	defer release.Close()
	hold := lab.Start(t, lab.Command{
		Path: program(t, "internal/lab/load"), Stdin: stdin,
		Args: []string{"hold", "-target", addr, "-sni", "a.test", "-n", strconv.Itoa(sessions)},
	})
	hold.WaitLine(fmt.Sprintf(`^holding %d: ok=%d `, sessions, sessions))

	if got, most := len(lab.Descriptors(t, b.PID()))-descriptors, 2*sessions+64; got < 2*sessions || got > most {
		t.Errorf("got %d more descriptors for %d idle sessions, want two each and at most 64 more", got, sessions)
	}
	pipes := 0
	for _, kind := range lab.Descriptors(t, b.PID()) {
		if kind == "pipe" {
			pipes++
		}
	}
	if pipes > 64 {
		t.Errorf("%d descriptors are pipes: an idle session holds none", pipes)
	}
	t.Logf("memory: %d bytes per idle session", (resident(t, b.PID())-memory)/sessions)
	if got := threads(t, b.PID()); got > 64 {
		t.Errorf("%d threads", got)
	}
	release.Close()
	if got := result(hold); got["ok"] != sessions {
		t.Errorf("afterwards got %v, want %d ok", got, sessions)
	}
}

// resident returns a process's resident memory in bytes.
func resident(t *testing.T, pid int) int { return 1024 * status(t, pid, "VmRSS:") }

func threads(t *testing.T, pid int) int { return status(t, pid, "Threads:") }

func status(t *testing.T, pid int, key string) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		fields := bytes.Fields(line)
		if len(fields) >= 2 && string(fields[0]) == key {
			n, err := strconv.Atoi(string(fields[1]))
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no %s in /proc/%d/status", key, pid)
	return 0
}
