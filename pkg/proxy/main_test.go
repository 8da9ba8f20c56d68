package proxy_test

import (
	"os"
	"runtime"
	"testing"
)

// TestMain leaves processors to the goroutines of the tests beside the loops, as
// the program does: a loop that waits for events holds one. Started with a role, it
// is a peer of TestRandomSessions instead.
func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(playRole(role, os.Stdout))
	}
	runtime.GOMAXPROCS(2 + max(2, runtime.NumCPU()))
	os.Exit(m.Run())
}
