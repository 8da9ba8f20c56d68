//go:build e2e

package e2e_test

import (
	"io"
	"net"
	"strings"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
)

// TestFairness runs a bulk stream, 64 ping-pongs and 1,000 new sessions a second over the same loops: each makes
// progress all the time.
func TestFairness(t *testing.T) {
	flood := lab.Serve(t, lab.Flood(), lab.Options{})
	echo := load(t, "serve").WaitLine(`^listening (.*)$`)[1]
	addr := lab.FreeAddr(t)
	run(t, listener(addr)+"[limits]\nloops = 1\n"+
		passthrough("bulk.test", "bulk", []string{flood.Addr()}, "[pools.bulk.health]", "enabled = false")+
		passthrough("echo.test", "echo", []string{echo}, "[pools.echo.health]", "enabled = false"))

	bulk := dial(t, addr)
	bulk.Write(lab.Hello("bulk.test"))
	var players []net.Conn
	for range 64 {
		c := dial(t, addr)
		exchangeEcho(t, c, lab.Hello("echo.test"))
		players = append(players, c)
	}
	calls := load(t, "calls", "-target", addr, "-sni", "echo.test", "-rate", "1000", "-for", "4s")
	calls.WaitLine("^calling")
	stop, streamed := make(chan struct{}), make(chan int64)
	go func() {
		buf := make([]byte, 256<<10)
		var n int64
		for {
			select {
			case <-stop:
				streamed <- n
				return
			default:
			}
			m, err := io.ReadAtLeast(bulk, buf, 1)
			n += int64(m)
			if err != nil {
				streamed <- n
				<-stop
				return
			}
		}
	}()
	rounds := 0
	for done := false; !done; rounds++ {
		for _, c := range players {
			exchangeEcho(t, c, []byte("ping"))
		}
		for _, l := range calls.Lines(0) {
			done = done || strings.HasPrefix(l.Text, "result ")
		}
	}
	close(stop)
	moved := <-streamed
	if got := result(calls); got["ok"] != total(got) || got["ok"] < 1000 {
		t.Errorf("the new sessions got %v, want all ok", got)
	}
	if moved < 64<<20 {
		t.Errorf("the bulk stream moved %d bytes, want at least 64 MiB", moved)
	}
	if rounds < 20 {
		t.Errorf("the 64 ping-pongs went round %d times, want at least 20", rounds)
	}
	t.Logf("bulk %d MiB, %d rounds of 64 ping-pongs, %v", moved>>20, rounds, result(calls))
}
