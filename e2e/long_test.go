//go:build e2e && long

package e2e_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
)

// TestIdleAgain holds 8,000 idle sessions five times over: the descriptors of one turn are gone before the next, and
// the memory that stays does not grow from the second turn on.
func TestIdleAgain(t *testing.T) {
	const sessions = 8000
	backend := load(t, "serve").WaitLine(`^listening (.*)$`)[1]
	b, addr := pass(t, backend, "")
	exchangeEcho(t, dial(t, addr), lab.Hello("a.test"))
	descriptors := len(lab.Descriptors(t, b.PID()))
	second := 0
	for turn := range 5 {
		mark := b.Mark()
		hold := load(t, "hold", "-target", addr, "-sni", "a.test", "-n", strconv.Itoa(sessions))
		if got := result(hold); got["ok"] != sessions {
			t.Fatalf("turn %d: got %v, want %d ok", turn, got, sessions)
		}
		waitRecords(b, mark, sessions)
		if got := len(lab.Descriptors(t, b.PID())); got > descriptors+64 {
			t.Errorf("turn %d: got %d descriptors, %d before", turn, got, descriptors)
		}
		memory := resident(t, b.PID())
		t.Logf("turn %d: %d KiB resident", turn, memory>>10)
		if turn == 1 {
			second = memory
		}
		if turn > 1 && memory > second+second/2 {
			t.Errorf("turn %d: %d KiB resident, %d after the second turn", turn, memory>>10, second>>10)
		}
	}
}

// TestSoak calls for ten minutes: every call is ok, and no descriptor stays.
func TestSoak(t *testing.T) {
	backend := load(t, "serve").WaitLine(`^listening (.*)$`)[1]
	b, addr := pass(t, backend, "[log]\naccess = \"off\"\n")
	exchangeEcho(t, dial(t, addr), lab.Hello("a.test"))
	descriptors := len(lab.Descriptors(t, b.PID()))
	calls := load(t, "calls", "-target", addr, "-sni", "a.test", "-rate", "1500", "-for", "10m")
	calls.Wait(15 * time.Minute)
	if got := result(calls); got["ok"] != total(got) || got["ok"] < 100_000 {
		t.Errorf("got %v, want all ok", got)
	}
	if got := len(lab.Descriptors(t, b.PID())); got > descriptors+64 {
		t.Errorf("got %d descriptors, %d before", got, descriptors)
	}
}
