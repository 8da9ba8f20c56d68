//go:build e2e

package e2e_test

import (
	"fmt"
	"io"
	"strconv"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
)

// streams are sessions that send all the time, and compare what comes back.
type streams struct {
	*lab.Process
	stop io.Closer
}

// startStreams opens sessions, with so many messages a second in all.
func startStreams(t testing.TB, addr string, sessions, rate int) streams {
	t.Helper()
	in, stop := io.Pipe()
	t.Cleanup(func() { stop.Close() })
	p := lab.Start(t, lab.Command{
		Path: program(t, "internal/lab/load"), Stdin: in,
		Args: []string{"streams", "-target", addr, "-sni", "load.test", "-n", strconv.Itoa(sessions), "-rate", strconv.Itoa(rate)},
	})
	p.WaitLine(fmt.Sprintf(`^holding %d$`, sessions))
	return streams{p, stop}
}

// finish ends them: every byte of each has to be there, and each ends in order.
func (s streams) finish(t testing.TB, sessions int) {
	t.Helper()
	s.stop.Close()
	t.Logf("longest pause of a session: %s", s.WaitLine(`^pause (.*)$`)[1])
	if got := result(s.Process); got["ok"] != sessions || got["ok"] != total(got) {
		t.Errorf("got %v, want %d ok", got, sessions)
	}
}

// TestUpgradeUnderStreams upgrades with a thousand sessions that send all the time.
func TestUpgradeUnderStreams(t *testing.T) {
	const sessions, times = 1000, 3
	echo := load(t, "serve").WaitLine(`^listening (.*)$`)[1]
	addr := lab.FreeAddr(t)
	b := run(t, listener(addr)+"[log]\naccess = \"off\"\n"+passthrough("load.test", "load", []string{echo}))
	s := startStreams(t, addr, sessions, 4000)
	pid := b.PID()
	for i := range times {
		done := b.upgrade(pid)
		t.Logf("upgrade %d: %d sessions moved, the freeze took %.1f ms", i, done.Moved, done.PauseMS)
		if done.Moved != sessions {
			t.Errorf("upgrade %d: %d sessions moved, want %d", i, done.Moved, sessions)
		}
		pid = done.PID
	}
	s.finish(t, sessions)
}
