package proxy_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/proxy"
)

// A crew is the processes that play one side of TestRandomSessions.
type crew struct {
	t       *testing.T
	members []*lab.Process
	words   []*os.File // to each of them
}

func (c *crew) add(env ...string) *lab.Process {
	c.t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	c.t.Cleanup(func() { _ = w.Close() })
	p := lab.Start(c.t, lab.Command{Path: os.Args[0], Env: env, Stdin: r})
	c.members, c.words = append(c.members, p), append(c.words, w)
	return p
}

// begin has all its sessions begin.
func (c *crew) begin() {
	c.t.Helper()
	for _, w := range c.words {
		if _, err := fmt.Fprintln(w, "go"); err != nil {
			c.t.Error(err)
		}
	}
}

// await waits until every member has said a word, for as long as a session may
// take and its end may take to be told.
func (c *crew) await(word string) {
	c.t.Helper()
	late := time.After(randomPatience + lab.Patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for _, p := range c.members {
		for !said(p, word) {
			select {
			case <-tick.C:
			case <-late:
				c.t.Fatalf("a peer never said %q", word)
			}
		}
	}
}

func said(p *lab.Process, word string) bool {
	for _, l := range p.Lines(0) {
		if l.Text == word {
			return true
		}
	}
	return false
}

// end waits for the end of each and returns what all have done.
func (c *crew) end() (sessions, bytes int) {
	c.t.Helper()
	for i, p := range c.members {
		_ = c.words[i].Close()
		p.Wait(randomPatience + lab.Patience)
		for _, l := range p.Lines(0) {
			if strings.HasPrefix(l.Text, "failed:") || l.Stderr {
				c.t.Error(l.Text)
			}
			if m := totals.FindStringSubmatch(l.Text); m != nil {
				n, _ := strconv.Atoi(m[1])
				b, _ := strconv.Atoi(m[2])
				sessions, bytes = sessions+n, bytes+b
			}
		}
	}
	return sessions, bytes
}

var totals = regexp.MustCompile(`^sessions (\d+) bytes (\d+) failures \d+$`)

// TestRandomSessions opens many sessions and, when all of them are open, has both
// sides of each do what chance says: chunks of any size, pauses, slow readers,
// small buffers, half-closes, ends that wait for the other's, resets. Every stream
// that ends in order is the one that was sent, none that was cut looks like an
// end, and none hangs: a lost wake-up would. What hangs is shown as it stands.
func TestRandomSessions(t *testing.T) {
	seed := rand.Uint64()
	if text := os.Getenv(seedVariable); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%s=%d runs the same sessions again", seedVariable, seed)
	seedWord := fmt.Sprintf("%s=%d", seedVariable, seed)
	backends := &crew{t: t}
	var addresses []string
	for range randomProcesses {
		addresses = append(addresses, backends.add(roleVariable+"=backend", seedWord).WaitLine(`^listening (.*)$`)[1])
	}
	r := route("a.test", addresses...)
	r.Idle, r.Fin = 2*randomPatience, 2*randomPatience // the peers' patience ends first
	s := state(t, r)
	s.Timeouts.Hello, s.Limits.MaxConnections = randomPatience, randomSessions+100
	h := start(t, s)
	clients := &crew{t: t}
	const share = randomSessions / randomProcesses
	for i := range randomProcesses {
		clients.add(roleVariable+"=client", seedWord, "ADDRESS="+h.addr, fmt.Sprintf("FIRST=%d", i*share), fmt.Sprintf("COUNT=%d", share))
	}
	clients.await("open")
	if n := h.p.Active(); n != randomSessions {
		t.Errorf("%d sessions open at once, want %d", n, randomSessions)
	}
	began := time.Now()
	stalled := time.AfterFunc(randomPatience*3/4, func() {
		t.Logf("not over after %v:\n%s", randomPatience*3/4, h.p.Dump())
	})
	backends.begin()
	clients.begin()
	clients.await("over")
	stalled.Stop()
	counts := map[proxy.Outcome]int{}
	for range randomSessions {
		counts[h.record().Outcome]++
	}
	played, down := clients.end()
	served, up := backends.end()
	if played != randomSessions || served != randomSessions {
		t.Errorf("%d sessions played by clients and %d by backends, want %d", played, served, randomSessions)
	}
	t.Logf("%d sessions at once, %d bytes up and %d down in %v: %v", played, up, down, time.Since(began).Round(time.Millisecond), counts)
	clean := 0
	for i := range randomSessions {
		if client, backend := sessionOf(seed, uint64(i)); !client.resets && !backend.resets {
			clean++
		}
	}
	if counts[proxy.OK] < clean || counts[proxy.ClientReset] == 0 || counts[proxy.BackendReset] == 0 ||
		counts[proxy.OK]+counts[proxy.ClientReset]+counts[proxy.BackendReset] != randomSessions {
		t.Errorf("outcomes %v, want at least %d ok and the rest resets", counts, clean)
	}
}
