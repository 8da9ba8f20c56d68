package lab

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// Leaks checks, when the test ends, that it left no goroutine and no descriptor behind: each kind must be at most as
// many as now. Call it first, so that everything the test cleans up is cleaned up before. What ends on its own is
// given [Patience] to do so. A goroutine whose line in the report holds one of spared, such as the name of the function
// that made it, is another module's for good. The test must not run in parallel with others of its process.
func Leaks(t testing.TB, spared ...string) {
	t.Helper()
	// The runtime's own poller and its descriptors exist from the first socket on; let them exist now.
	if l, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		l.Close()
	}
	all := func() []string {
		return slices.DeleteFunc(stacks(), func(line string) bool {
			return slices.ContainsFunc(spared, func(s string) bool { return strings.Contains(line, s) })
		})
	}
	goroutines, descriptors := all(), Descriptors(t, os.Getpid())
	t.Cleanup(func() {
		if t.Failed() {
			return // what it failed at matters more than what it then left
		}
		var left []string
		deadline := time.Now().Add(Patience)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for time.Now().Before(deadline) {
			left = append(surplus(all(), goroutines), surplus(Descriptors(t, os.Getpid()), descriptors)...)
			if len(left) == 0 {
				return
			}
			<-tick.C
		}
		t.Errorf("left behind:\n%s", strings.Join(left, "\n"))
	})
}

// Descriptors returns what each open descriptor of a process refers to, sorted, as /proc/PID/fd names it, such as
// "socket" or "pipe", the numbers of sockets and pipes left out.
func Descriptors(t testing.TB, pid int) []string {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, e := range entries {
		target, err := os.Readlink(dir + "/" + e.Name())
		if err != nil || strings.HasPrefix(target, "/proc/") {
			continue // the directory being read, or closed meanwhile
		}
		if kind, _, ok := strings.Cut(target, ":["); ok {
			target = kind
		}
		kinds = append(kinds, target)
	}
	slices.Sort(kinds)
	return kinds
}

// stacks returns one line per goroutine but the caller's: where it stands and who made it.
func stacks() []string {
	buf := make([]byte, 64<<10)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	var lines []string
	for _, stack := range strings.Split(string(buf), "\n\n")[1:] {
		frames := strings.Split(strings.TrimSpace(stack), "\n")
		top, made := "", ""
		for _, f := range frames[1:] {
			if strings.HasPrefix(f, "\t") {
				continue
			}
			if by, ok := strings.CutPrefix(f, "created by "); ok {
				made, _, _ = strings.Cut(by, " in goroutine")
				continue
			}
			if i := strings.LastIndex(f, "("); i > 0 {
				f = f[:i]
			}
			// The lowest frame is the goroutine's identity: the upper ones change as it works.
			top = f
		}
		if made == "" || strings.HasPrefix(made, "testing.") || strings.HasPrefix(made, "runtime.") {
			continue
		}
		lines = append(lines, "goroutine "+top+", made by "+made)
	}
	slices.Sort(lines)
	return lines
}

// surplus returns the elements of got that want does not hold, counting repeats. Both must be sorted.
func surplus(got, want []string) []string {
	var left []string
	for _, g := range got {
		for len(want) > 0 && want[0] < g {
			want = want[1:]
		}
		if len(want) > 0 && want[0] == g {
			want = want[1:]
			continue
		}
		left = append(left, g)
	}
	return left
}
