//go:build e2e

package e2e_test

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/admin"
)

// socket is where the balancer is operated.
func (b *balancer) socket() string { return filepath.Join(filepath.Dir(b.file), "admin.sock") }

// operate runs a command of an operator, which has to succeed, and returns what it prints.
func (b *balancer) operate(args ...string) string {
	b.t.Helper()
	return mustTool(b.t, "", program(b.t, "cmd/snicket"), append(args, "--socket", b.socket())...)
}

// backend is one of pool load, as snicket backends tells of it.
func (b *balancer) backend(name string) admin.Backend {
	b.t.Helper()
	return b.backendOf("load", name)
}

func (b *balancer) backendOf(pool, name string) admin.Backend {
	b.t.Helper()
	var list []admin.Backend
	if err := json.Unmarshal([]byte(b.operate("backends", pool, "--json")), &list); err != nil {
		b.t.Fatal(err)
	}
	for _, one := range list {
		if one.Name == name {
			return one
		}
	}
	b.t.Fatalf("no backend %s in %+v", name, list)
	return admin.Backend{}
}

// more waits until so many more sessions have ended well.
func (b *balancer) more(n int) {
	b.t.Helper()
	b.WaitLines(b.Mark(), `^time=.* outcome=ok `, n)
}

// TestOperateUnderLoad does by the real program what an operator does, while clients come: what is drained, or has no
// weight, gets no new session, no session fails but the one that is killed, and those who look cost nobody anything.
func TestOperateUnderLoad(t *testing.T) {
	const (
		batch = 100 // sessions that show where they go
		// late is how many picks may be under way while something changes: one of each loop.
		late = 4
	)
	var echoes [2]string
	for i := range echoes {
		echoes[i] = load(t, "serve").WaitLine(`^listening (.*)$`)[1]
	}
	addr, metrics := lab.FreeAddr(t), lab.FreeAddr(t)
	entries := [2]string{`{ address = "` + echoes[0] + `", name = "b1" }`, `{ address = "` + echoes[1] + `", name = "b2" }`}
	config := func(backends ...string) string {
		return listener(addr) + "[[routes]]\nhosts = [\"load.test\"]\npool = \"load\"\n" +
			"[pools.load]\nbalance = \"round-robin\"\nbackends = [" + strings.Join(backends, ", ") + "]\n" +
			"[pools.load.health]\nenabled = false\n[admin]\naddress = \"" + metrics + "\"\n"
	}
	b := run(t, config(entries[0], entries[1]))
	first, second := dial(t, addr), dial(t, addr)
	exchangeEcho(t, first, lab.Hello("load.test"))
	exchangeEcho(t, second, lab.Hello("load.test"))
	calls := load(t, "calls", "-target", addr, "-sni", "load.test", "-rate", "200", "-for", "15s")
	calls.WaitLine("^calling")

	// All the while somebody looks.
	done := make(chan struct{})
	var looking sync.WaitGroup
	looking.Go(func() {
		for {
			for _, path := range []string{"/metrics", "/v1/sessions", "/v1/backends"} {
				res, err := http.Get("http://" + metrics + path)
				if err != nil {
					t.Errorf("%s: %v", path, err)
					return
				}
				res.Body.Close()
				if res.StatusCode != http.StatusOK {
					t.Errorf("%s: %s", path, res.Status)
				}
			}
			select {
			case <-done:
				return
			default:
			}
		}
	})
	defer looking.Wait()
	defer close(done)

	b.operate("drain", "load/b1")
	before := b.backend("b1")
	b.more(batch)
	if after := b.backend("b1"); after.Total > before.Total+late || after.Wish == nil || after.State != "draining" {
		t.Errorf("got %d sessions for a backend that drains, then %d; %+v", before.Total, after.Total, after)
	}
	exchangeEcho(t, first, []byte("still here"))
	exchangeEcho(t, second, []byte("still here"))

	// The session that is left there is killed; who waits for the last one is told.
	waiting := lab.Start(t, lab.Command{Path: program(t, "cmd/snicket"), Args: []string{"drain", "load/b1", "--wait", "--socket", b.socket()}})
	var left admin.Sessions
	if err := json.Unmarshal([]byte(b.operate("sessions", "--backend", "load/b1", "--json")), &left); err != nil || len(left.Sessions) != 1 {
		t.Fatalf("got %+v, %v; want the one session of before", left, err)
	}
	mark := b.Mark()
	b.operate("kill", left.Sessions[0].ID)
	b.waitRecord(mark, record{"id": left.Sessions[0].ID, "outcome": "killed", "backend": "b1"})
	waiting.WaitLine(`^load/b1: draining, weight 1, 0 sessions`)

	b.operate("ready", "load/b1")
	before = b.backend("b1")
	b.more(batch)
	if after := b.backend("b1"); after.Total <= before.Total+late {
		t.Errorf("got no session for a backend that is ready again: %+v", after)
	}
	b.operate("weight", "load/b2", "0")
	before = b.backend("b2")
	b.more(batch)
	if after := b.backend("b2"); after.Total > before.Total+late {
		t.Errorf("got %d sessions for a backend without weight, then %d", before.Total, after.Total)
	}
	b.operate("weight", "load/b2", "default")
	b.more(batch)

	// The other session lives on, whichever backend it has; b2 goes, and drains.
	lab.WriteFile(t, b.file, []byte(config(entries[0])))
	if got := b.operate("reload"); !strings.Contains(got, "pool load: backend b2 removed") || !strings.Contains(got, "generation 2 is in force\n") {
		t.Errorf("got %q, want the backend that is gone", got)
	}
	b.more(batch)
	lives := first
	if left.Sessions[0].Client == first.LocalAddr().String() {
		lives = second
	}
	exchangeEcho(t, lives, []byte("still here"))
	if got := result(calls); got["ok"] != total(got) || got["ok"] < 1000 {
		t.Errorf("the load got %v, want all ok", got)
	}
}
