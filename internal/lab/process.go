package lab

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Command is a program to [Start].
type Command struct {
	Path  string   // looked up in $PATH; a missing one fails the test
	Args  []string // without the program's name
	Env   []string // added to this process's environment
	Dir   string   // working directory; default a fresh temporary one
	Stdin io.Reader
	Netns string // name of a network namespace to run in; needs root
}

// Line is one line that a process wrote, without its newline.
type Line struct {
	Stderr bool // else stdout
	Text   string
}

// Process is a running program. It is killed when the test ends. Its methods may be called from any goroutine.
type Process struct {
	t    testing.TB
	cmd  *exec.Cmd
	done chan struct{} // closed once the process has been waited for

	mu    sync.Mutex // mu guards the fields below
	more  *sync.Cond // of mu; a new line, or the end
	lines []Line
	ended bool
	err   error // of Wait
}

// Require fails the test, with what to install, when a program is not there. Tests of this laboratory never skip: a
// green run that tried nothing says nothing.
func Require(t testing.TB, program, debianPackage string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatalf("%s is not installed: apt-get install %s", program, debianPackage)
	}
	return path
}

// Start runs a program. Its lines are kept; see [Process.WaitLine].
func Start(t testing.TB, c Command) *Process {
	t.Helper()
	path, err := exec.LookPath(c.Path)
	if err != nil {
		t.Fatalf("%v: .ci/run installs what the tests need", err)
	}
	args := c.Args
	if c.Netns != "" {
		args = append([]string{"netns", "exec", c.Netns, path}, args...)
		path = Require(t, "ip", "iproute2")
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), c.Env...)
	cmd.Dir = c.Dir
	if cmd.Dir == "" {
		cmd.Dir = t.TempDir()
	}
	cmd.Stdin = c.Stdin
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &Process{t: t, cmd: cmd, done: make(chan struct{})}
	p.more = sync.NewCond(&p.mu)
	var readers sync.WaitGroup
	readers.Go(func() { p.read(stdout, false) })
	readers.Go(func() { p.read(stderr, true) })
	go func() {
		defer close(p.done)
		readers.Wait()
		err := cmd.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.ended, p.err = true, err
		p.more.Broadcast()
	}()
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("%s said:\n%s", c.Path, p.tail(40))
		}
	})
	return p
}

func (p *Process) read(r io.Reader, stderr bool) {
	buf := bufio.NewReader(r)
	for {
		text, err := buf.ReadString('\n')
		if text != "" {
			p.mu.Lock()
			p.lines = append(p.lines, Line{stderr, strings.TrimSuffix(text, "\n")})
			p.more.Broadcast()
			p.mu.Unlock()
		}
		if err != nil {
			return
		}
	}
}

// PID returns the process's id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Mark returns a place in the process's output: after what it has said so far. See [Process.WaitLineAfter].
func (p *Process) Mark() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.lines)
}

// Lines returns what the process has said since mark, in order.
func (p *Process) Lines(mark int) []Line {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Line{}, p.lines[min(mark, len(p.lines)):]...)
}

// WaitLine waits for a line that pattern matches, among those already said too, and returns its submatches. The test
// fails when the process ends or [Patience] does before.
func (p *Process) WaitLine(pattern string) []string {
	p.t.Helper()
	match, _ := p.WaitLineAfter(0, pattern)
	return match
}

// WaitLineAfter is WaitLine from a mark on. It also returns the mark after the line found.
func (p *Process) WaitLineAfter(mark int, pattern string) (match []string, next int) {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	found := p.waitFor(Patience, func(lines []Line) bool {
		for ; mark < len(lines); mark++ {
			if match = re.FindStringSubmatch(lines[mark].Text); match != nil {
				return true
			}
		}
		return false
	})
	if !found {
		p.t.Fatalf("%s: no line matches %q\n%s", p.cmd.Path, pattern, p.tail(30))
	}
	return match, mark + 1
}

// WaitLines waits until at least n lines since mark match pattern, and returns the submatches of each.
func (p *Process) WaitLines(mark int, pattern string, n int) [][]string {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	var matches [][]string
	found := p.waitFor(Patience, func(lines []Line) bool {
		for ; mark < len(lines); mark++ {
			if m := re.FindStringSubmatch(lines[mark].Text); m != nil {
				matches = append(matches, m)
			}
		}
		return len(matches) >= n
	})
	if !found {
		p.t.Fatalf("%s: %d lines match %q, want %d\n%s", p.cmd.Path, len(matches), pattern, n, p.tail(30))
	}
	return matches
}

// waitFor waits until the condition holds over the lines, or the process has ended, or d is over.
func (p *Process) waitFor(d time.Duration, condition func([]Line) bool) bool {
	late := false
	timer := time.AfterFunc(d, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		late = true
		p.more.Broadcast()
	})
	defer timer.Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		if condition(p.lines) {
			return true
		}
		if late || p.ended {
			return false
		}
		p.more.Wait()
	}
}

// WaitReachable waits until addr accepts a TCP connection: for programs that do not say when they are ready.
func (p *Process) WaitReachable(addr string) {
	p.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(Patience); time.Now().Before(deadline); <-tick.C {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return
		}
		if p.hasEnded() {
			break
		}
	}
	p.t.Fatalf("%s does not listen on %s\n%s", p.cmd.Path, addr, p.tail(30))
}

func (p *Process) hasEnded() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ended
}

// Signal sends a signal to the process.
func (p *Process) Signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Fatal(err)
	}
}

// Wait waits for the process to end by itself and returns its exit status, -1 when a signal ended it. The test fails
// when it does not end within d, or [Patience] when d is 0.
func (p *Process) Wait(d time.Duration) int {
	p.t.Helper()
	if d == 0 {
		d = Patience
	}
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(d):
		p.t.Fatalf("%s still runs after %v\n%s", p.cmd.Path, d, p.tail(30))
		return -1
	}
}

// Kill ends the process and the group it leads by SIGKILL and waits for it. It may be called at any time, repeatedly.
func (p *Process) Kill() {
	if !p.hasEnded() {
		syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	}
	<-p.done
}

func (p *Process) tail(n int) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var b strings.Builder
	for _, l := range p.lines[max(0, len(p.lines)-n):] {
		fmt.Fprintf(&b, "\t%s\n", l.Text)
	}
	if p.ended {
		fmt.Fprintf(&b, "\tended: %v\n", p.err)
	}
	return b.String()
}
