package lab_test

import (
	"syscall"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
)

func TestProcess(t *testing.T) {
	lab.Leaks(t)
	p := lab.Start(t, lab.Command{
		Path: "sh",
		Args: []string{"-c", `echo "ready on 80"; echo oops >&2; read line; echo "got $line"; exit 3`},
	})
	if got := p.WaitLine(`ready on (\d+)`)[1]; got != "80" {
		t.Errorf("got port %q, want 80", got)
	}
	p.WaitLine("^oops$")
	if got := p.Wait(0); got != 3 {
		t.Errorf("got exit status %d, want 3", got)
	}
	var errs int
	for _, l := range p.Lines(0) {
		if l.Stderr {
			errs++
		}
	}
	if errs != 1 {
		t.Errorf("got %d lines on stderr, want 1", errs)
	}
}

func TestProcessMark(t *testing.T) {
	lab.Leaks(t)
	p := lab.Start(t, lab.Command{Path: "sh", Args: []string{"-c", `trap 'echo again' USR1; echo again; while :; do sleep 0.01; done`}})
	_, mark := p.WaitLineAfter(0, "again")
	p.Signal(syscall.SIGUSR1) // not SIGHUP: under nohup it is ignored for good
	p.WaitLineAfter(mark, "again")
	p.Kill()
	if got := p.Wait(0); got != -1 {
		t.Errorf("got exit status %d, want -1 for a signal", got)
	}
}

func TestFreeAddr(t *testing.T) {
	a, b := lab.FreeAddr(t), lab.FreeAddr(t)
	if a == b {
		t.Errorf("got %s twice", a)
	}
	s := lab.Serve(t, lab.Echo(), lab.Options{Addr: a})
	if got := s.Addr(); got != a {
		t.Errorf("got %s, want %s", got, a)
	}
}
