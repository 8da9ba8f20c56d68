package upgrade

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// Command is the process to start.
type Command struct {
	Path   string
	Args   []string // without the program's name
	Stdout *os.File // its output goes where this process's goes; nil: nowhere
	Stderr *os.File
}

// A Child is a process that was started to follow this one.
type Child struct {
	*Conn
	PID   int
	cmd   *exec.Cmd
	ended chan struct{} // closed once it has been waited for
}

// Start runs a new process in this one's environment, without what the service manager
// has said to this one alone. A goroutine waits for its end, and lives until then or until
// this process ends.
func Start(c Command) (*Child, error) {
	conn, other, err := pair()
	if err != nil {
		return nil, err
	}
	defer other.Close()
	cmd := exec.Command(c.Path, c.Args...)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "LISTEN_") || strings.HasPrefix(v, "WATCHDOG_PID=") || strings.HasPrefix(v, variable+"=")
	})
	cmd.ExtraFiles = []*os.File{other}
	cmd.Env = append(cmd.Env, fmt.Sprintf("%s=%d", variable, 3))
	if c.Stdout != nil {
		cmd.Stdout = c.Stdout
	}
	if c.Stderr != nil {
		cmd.Stderr = c.Stderr
	}
	if err := cmd.Start(); err != nil {
		conn.Close()
		return nil, err
	}
	child := &Child{Conn: conn, PID: cmd.Process.Pid, cmd: cmd, ended: make(chan struct{})}
	go func() {
		defer close(child.ended)
		_ = cmd.Wait() // its state tells
	}()
	return child, nil
}

// Terminate ends the process, which the other side of the Conn finds out. Any goroutine may
// call it.
func (c *Child) Terminate() { _ = c.cmd.Process.Kill() } // fails once it has ended

// Kill ends the process, if it has not ended by itself, and tells how it ended.
func (c *Child) Kill() error {
	c.Close()
	c.Terminate()
	<-c.ended
	if s := c.cmd.ProcessState; s.Exited() && s.ExitCode() != 0 {
		return errors.New(s.String())
	}
	return nil
}
