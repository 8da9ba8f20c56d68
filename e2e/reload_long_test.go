//go:build e2e && long

package e2e_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
)

// TestReloadManyRoutes reloads 100,000 routes again and again, a route more, a route less, beside messages on sessions
// that live. Each takes less than five seconds; how long messages take, beside reloads and without, is printed. Load
// and backend are real-time processes, so that what they wait for is the balancer.
func TestReloadManyRoutes(t *testing.T) {
	echo := lab.Start(t, lab.Command{Path: "chrt", Args: []string{"-f", "1", program(t, "internal/lab/load"), "serve"}}).WaitLine(`^listening (.*)$`)[1]
	addr := lab.FreeAddr(t)
	var text strings.Builder
	text.WriteString(listener(addr) + "[log]\naccess = \"off\"\n" + passthrough("a.test", "a", []string{echo}, "[pools.a.health]", "enabled = false"))
	for i := range 100_000 {
		fmt.Fprintf(&text, "[[routes]]\nhosts = [\"h%d.example.com\"]\npool = \"a\"\n", i)
	}
	config := text.String()
	b := run(t, config)
	pings := func(length string) *lab.Process {
		p := lab.Start(t, lab.Command{Path: "chrt", Args: []string{
			"-f", "1", program(t, "internal/lab/load"), "pings", "-target", addr, "-sni", "a.test", "-n", "8", "-rate", "2000", "-for", length,
		}})
		p.WaitLine("^pinging")
		return p
	}
	t.Logf("without reloads, µs: %v", result(pings("5s")))
	beside := pings("20s")
	var longest time.Duration
	reloads := 0
	for done := false; !done; reloads++ {
		begin := time.Now()
		if ok, line := b.reload(config + strings.Repeat("[[routes]]\nhosts = [\"more.test\"]\nmode = \"reject\"\n", reloads%2)); !ok {
			t.Fatal(line)
		}
		longest = max(longest, time.Since(begin))
		for _, l := range beside.Lines(0) {
			done = done || strings.HasPrefix(l.Text, "result ")
		}
	}
	t.Logf("beside %d reloads, µs: %v", reloads, result(beside))
	t.Logf("the longest reload took %v", longest)
	if longest > 5*time.Second {
		t.Errorf("a reload took %v, want five seconds at most", longest)
	}
}
