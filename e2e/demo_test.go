//go:build e2e

package e2e_test

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
)

// TestDemo runs `snicket demo` and then the curl lines it prints, literally; each must answer.
func TestDemo(t *testing.T) {
	p := lab.Start(t, lab.Command{Path: program(t, "cmd/snicket"), Args: []string{"demo"}})
	lines := p.WaitLines(0, `^\s*(?:\$ )?(curl .*)$`, 3)
	modes := map[string]bool{}
	for _, match := range lines {
		out, code := tool(t, "", "sh", "-c", match[1])
		if code != 0 || strings.TrimSpace(out) == "" {
			t.Errorf("%s: exit status %d\n%s", match[1], code, out)
		}
		modes[strings.TrimSpace(out)] = true
	}
	if len(modes) < 3 {
		t.Errorf("the three hosts gave %d different answers: %v", len(modes), modes)
	}
	p.Signal(syscall.SIGINT)
	if got := p.Wait(0); got != 0 {
		t.Errorf("got exit status %d after Ctrl-C, want 0", got)
	}
	var ca string
	for _, match := range lines {
		if _, after, ok := strings.Cut(match[1], "--cacert "); ok {
			ca = strings.Fields(after)[0]
		}
	}
	if _, err := os.Stat(ca); err == nil {
		t.Errorf("the demo left its CA file %s behind", ca)
	}
}
