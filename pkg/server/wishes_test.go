package server_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
)

// A wish keeps new sessions away, is shown, lives over a reload, and ends with ready.
func TestWishes(t *testing.T) {
	lab.Leaks(t)
	ca, one, two := echoes(t)
	text := pool(unprobed, one, two)
	o := operate(t, text)

	held := o.session(ca, "a.test")
	name, stays, other := "b1", one, two
	if two.Accepted() == 1 {
		name, stays, other = "b2", two, one
	}
	b := must(o.SetState(t.Context(), "web", name, "drain"))
	if b.State != "draining" || b.Wish == nil || b.Wish.Value != "drain" || b.Wish.By == "" || time.Since(b.Wish.Since) > time.Hour || b.Sessions != 1 {
		t.Errorf("got %+v, wish %+v; want it draining, with one session", b, b.Wish)
	}
	o.log.wait(t, `msg=operator does=drain pool=web backend=`+name+` by=\S+ uid=\d+ gid=\d+ pid=\d+`, 1)
	o.log.wait(t, `msg="backend drains" pool=web backend=`+name+` why="operator \S+ wishes it"`, 1)
	for range 4 {
		hangUp(t, o.session(ca, "a.test"))
	}
	o.reload(1, text+"[timeouts]\nidle = \"2h\"\n")
	for range 4 {
		hangUp(t, o.session(ca, "a.test"))
	}
	if got := stays.Accepted(); got != 1 {
		t.Errorf("got %d connections to the backend that drains, want the one of before", got)
	}
	if got := other.Accepted(); got != 8 {
		t.Errorf("got %d connections to the other, want 8", got)
	}
	o.echo(held)
	since := b.Wish.Since
	if b = o.backend(t, "web", name); b.State != "draining" || !b.Wish.Since.Equal(since) {
		t.Errorf("got %+v after a reload, want the wish of before", b)
	}
	if b = must(o.SetState(t.Context(), "web", name, "ready")); b.State != "ready" || b.Wish != nil {
		t.Errorf("got %+v after ready, want no wish", b)
	}
	o.session(ca, "a.test")
	o.session(ca, "a.test") // fewer are on the one that was to drain, or as many
	stays.WaitAccepted(t, 2)
}

// avoids opens some sessions, none of which may reach b, which has had none.
func (o *operated) avoids(ca *lab.Authority, b *lab.Server) {
	o.t.Helper()
	for range 4 {
		hangUp(o.t, o.session(ca, "a.test"))
	}
	if got := b.Accepted(); got != 0 {
		o.t.Errorf("got %d connections to a backend that is to get none", got)
	}
}

// Down is down whatever probes say, and ready does not overrule a failing probe.
func TestWishesAndProbes(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	backend := lab.Serve(t, lab.Echo(), lab.Options{TLS: ca.Server(t, "a.test")})
	o := operate(t, pool(quick, backend))
	o.log.wait(t, `msg="backend ready"`, 1)
	if b := must(o.SetState(t.Context(), "web", "b1", "down")); b.State != "down" || b.Probe != "ready" || !strings.Contains(b.Why, "operator") {
		t.Errorf("got %+v, want it down by an operator, and its probe good", b)
	}
	o.refused(ca, "a.test", "internal error")
	if status, body := o.get(t, "/readyz"); status != http.StatusServiceUnavailable || body != "pool web: every backend is down\n" {
		t.Errorf("got %d %q, want not ready, and why", status, body)
	}
	if b := must(o.SetState(t.Context(), "web", "b1", "ready")); b.State != "ready" {
		t.Errorf("got %+v, want it ready", b)
	}
	hangUp(t, o.session(ca, "a.test"))
	if status, body := o.get(t, "/readyz"); status != http.StatusOK || body != "ok\n" {
		t.Errorf("got %d %q, want ready", status, body)
	}
	backend.Close()
	o.log.wait(t, `msg="backend down" pool=web backend=b1 why=.*refused`, 1)
	if b := must(o.SetState(t.Context(), "web", "b1", "ready")); b.State != "down" || b.Probe != "down" {
		t.Errorf("got %+v, want it down, as its probe says", b)
	}
}

// A wish holds for a backend that has left for a moment, as a name does that resolves to
// less, and its return is no way around it.
func TestWishesOutliveTheirBackends(t *testing.T) {
	lab.Leaks(t)
	ca, one, two := echoes(t)
	file := filepath.Join(t.TempDir(), "backends.json")
	both := fmt.Sprintf("[%q, %q]", one.Addr(), two.Addr())
	put(t, file, both)
	o := operate(t, webRoute+fmt.Sprintf("[pools.web.discover]\nfile = %q\n", file)+unprobed)
	o.log.wait(t, `msg="backends discovered"`, 1)
	must(o.SetState(t.Context(), "web", one.Addr(), "drain"))
	const drains = `msg="backend drains" pool=web backend=\S+ why="operator \S+ wishes it"`
	o.log.wait(t, drains, 1)
	put(t, file, fmt.Sprintf("[%q]", two.Addr()))
	o.log.wait(t, `msg="backend removed" pool=web backend=`+one.Addr(), 1)
	if _, err := o.SetState(t.Context(), "web", one.Addr(), "ready"); err == nil {
		t.Error("got a wish for a backend that is gone")
	}
	put(t, file, both)
	o.log.wait(t, drains, 2)
	if b := o.backend(t, "web", one.Addr()); b.State != "draining" || b.Wish == nil || b.Wish.Value != "drain" {
		t.Errorf("got %+v, wish %+v; want the wish of before", b, b.Wish)
	}
	o.avoids(ca, one)
}

// With too few ready, backends are tried that probes have down, but none that an
// operator has: it does not count among those of which too few are ready.
func TestWishesInPanic(t *testing.T) {
	lab.Leaks(t)
	ca, one, two := echoes(t)
	o := operate(t, pool("panic_below = 0.9\nbalance = \"round-robin\"\n"+unprobed, one, two))
	must(o.SetState(t.Context(), "web", "b1", "down"))
	o.avoids(ca, one)
}

func TestWeightWishes(t *testing.T) {
	lab.Leaks(t)
	ca, one, two := echoes(t)
	text := pool(unprobed, one, two)
	o := operate(t, text)
	if b := must(o.SetWeight(t.Context(), "web", "b1", 0)); b.Weight != 0 || b.WeightDeclared != 1 || b.WeightWish == nil || b.WeightWish.Value != "0" {
		t.Errorf("got %+v, want weight 0, by a wish", b)
	}
	o.reload(1, text+"[timeouts]\nidle = \"2h\"\n")
	o.avoids(ca, one)
	if b := must(o.ResetWeight(t.Context(), "web", "b1")); b.Weight != 1 || b.WeightWish != nil {
		t.Errorf("got %+v, want the declared weight", b)
	}
	held := o.session(ca, "a.test")
	o.session(ca, "a.test")
	one.WaitAccepted(t, 1)
	o.echo(held)
}
