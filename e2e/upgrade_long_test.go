//go:build e2e && long

package e2e_test

import (
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
)

// TestUpgradeOfMany upgrades five times with 8,000 sessions under load.
func TestUpgradeOfMany(t *testing.T) { upgradeOfMany(t, 8000, 5) }

// upgradeOfMany prints how long sessions stood still.
func upgradeOfMany(t *testing.T, sessions, times int) {
	echo := load(t, "serve").WaitLine(`^listening (.*)$`)[1]
	addr := lab.FreeAddr(t)
	b := run(t, listener(addr)+"[log]\naccess = \"off\"\n"+passthrough("load.test", "load", []string{echo}))
	s := startStreams(t, addr, sessions, 4000)
	pid := b.PID()
	for i := range times {
		done := b.upgrade(pid)
		t.Logf("upgrade %d: %d sessions moved, %d stay, the freeze took %.1f ms, the process before was gone %v behind the answer", i, done.Moved, done.Stay, done.PauseMS, done.gone)
		if done.Moved != sessions {
			t.Errorf("upgrade %d: %d sessions moved, want %d", i, done.Moved, sessions)
		}
		pid = done.PID
	}
	s.finish(t, sessions)
}
