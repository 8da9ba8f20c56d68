//go:build e2e

package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/admin"
)

// patient is a backend that echoes, and answers probes of kind http when and as it is told.
type patient struct {
	*lab.Server
	asked, left chan struct{} // a probe has come, and has gone unanswered
	answers     chan int
}

func newPatient(t *testing.T) *patient {
	p := &patient{asked: make(chan struct{}, 100), left: make(chan struct{}, 100), answers: make(chan int)}
	p.Server = lab.Serve(t, p.handle, lab.Options{})
	return p
}

func (p *patient) handle(c *lab.Conn) {
	first := make([]byte, 1)
	if _, err := io.ReadFull(c, first); err != nil {
		return
	}
	if first[0] != 'G' {
		if _, err := c.Write(first); err == nil {
			lab.Echo()(c)
		}
		return
	}
	gone := make(chan struct{})
	go func() { // until whoever asks has closed
		defer close(gone)
		_, _ = io.Copy(io.Discard, c)
	}()
	p.asked <- struct{}{}
	select {
	case status := <-p.answers:
		fmt.Fprintf(c, "HTTP/1.1 %d it is\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", status)
		_ = c.CloseWrite()
		<-gone
	case <-gone:
		p.left <- struct{}{}
	}
}

// says answers the probe that waits, and waits until the next one does: by then the answer
// has been counted.
func (p *patient) says(t testing.TB, statuses ...int) {
	t.Helper()
	for _, status := range statuses {
		select {
		case p.answers <- status:
		case <-time.After(lab.Patience):
			t.Fatal("no probe waits")
		}
		p.hears(t, p.asked)
	}
}

func (p *patient) hears(t testing.TB, what <-chan struct{}) {
	t.Helper()
	select {
	case <-what:
	case <-time.After(lab.Patience):
		t.Fatal("no probe comes, or goes")
	}
}

// TestUpgradeRemembers upgrades a balancer that knows a lot of its backends and clients. The
// new process goes on from there: with counts of rise and fall, a slow start, an ejection,
// limits of addresses that are reached, and the sequence of ids.
func TestUpgradeRemembers(t *testing.T) {
	nearly, early, down, slow := newPatient(t), newPatient(t), newPatient(t), newPatient(t)
	patients := []*patient{nearly, early, down, slow}
	var addresses []string
	for _, p := range patients {
		addresses = append(addresses, p.Addr())
	}
	closed, echo := lab.FreeAddr(t), lab.Serve(t, lab.Echo(), lab.Options{})
	addr := lab.FreeAddr(t)
	config := func(rate string) string {
		return listener(addr) + "[limits]\nloops = 2\nexcept = [\"127.0.0.1/32\"]\nper_ip_connections = 2\n" + rate +
			passthrough("load.test", "load", addresses, `balance = "round-robin"`, `slow_start = "1h"`,
				"[pools.load.health]", `kind = "http"`, `interval = "1ms"`, `timeout = "10m"`, "rise = 3", "fall = 3") +
			passthrough("fails.test", "fails", []string{closed, echo.Addr()}, `balance = "round-robin"`,
				"[pools.fails.health]", "enabled = false", "[pools.fails.eject]", "failures = 1", `for = "1h"`)
	}
	b := run(t, config(""))
	for _, p := range patients {
		p.hears(t, p.asked)
	}
	nearly.says(t, 200, 503, 503)
	early.says(t, 200, 503)
	down.says(t, 503, 200)
	slow.says(t, 503, 200, 200, 200)
	b.WaitLine(`msg="backend ready" pool=load backend=` + slow.Addr())
	downBefore := b.backend(down.Addr())
	fails, load := lab.Hello("fails.test"), lab.Hello("load.test")
	for range 2 { // in turn
		exchangeEcho(t, dial(t, addr), fails)
	}
	ejection := fmt.Sprintf(`msg="backend ejected" pool=fails backend=%s why="[^"]*" until=(\S+)`, closed)
	until := b.WaitLine(ejection)[1]
	for range 2 {
		exchangeEcho(t, dialFrom(t, "127.0.1.1", addr), load)
	}
	if ok, line := b.reload(config("per_ip_rate = \"1/m\"\n")); !ok {
		t.Fatal(line)
	}
	exchangeEcho(t, dialFrom(t, "127.0.1.2", addr), load)
	before := b.sessionIDs()

	mark := b.Mark()
	b.upgrade(b.PID())
	for _, p := range patients {
		p.hears(t, p.left)  // of the old process
		p.hears(t, p.asked) // by the new one
	}
	// The ejection: as long as before.
	if match, _ := b.WaitLineAfter(mark, ejection); match[1] != until {
		t.Errorf("it lasts until %s, want %s as before", match[1], until)
	}
	for range 2 {
		exchangeEcho(t, dial(t, addr), fails)
	}
	if got := b.backendOf("fails", closed); got.State != "ejected" || got.Total != 0 {
		t.Errorf("got %+v, want it ejected, and picked for no session", got)
	}
	// The slow start: a twentieth of its weight at first, and the hour has hardly begun.
	for range 42 {
		exchangeEcho(t, dial(t, addr), load)
	}
	if got := b.backend(slow.Addr()); got.State != "ready" || got.Total > 7 {
		t.Errorf("got %d of 42 sessions for a backend in its slow start: %+v", got.Total, got)
	}
	for from, want := range map[string]string{"127.0.1.1": "over-limit", "127.0.1.2": "rate-limited"} {
		refusedFrom(t, from, addr, load)
		if r := b.waitRecord(mark, record{"outcome": want}); !strings.HasPrefix(r["client"], from) {
			t.Errorf("it was %s that is %s, want %s", r["client"], want, from)
		}
	}
	goOn(t, before, b.sessionIDs())
	b.keepCount(nearly, early, down, &downBefore)
}

// keepCount wants a backend that is one failure short of fall to go down with the next one,
// one that is two short with the one after it, and one that was down, with one pass of three,
// to be ready after two more, and not for a moment before.
func (b *balancer) keepCount(nearly, early, down *patient, downBefore *admin.Backend) {
	t := b.t
	t.Helper()
	mark := b.Mark()
	state := func(p *patient, want string) {
		t.Helper()
		if got := b.backend(p.Addr()); got.State != want {
			t.Errorf("it is %s, want %s", got.State, want)
		}
	}
	if got := b.backend(down.Addr()); got.State != "down" || !got.Since.Equal(*downBefore.Since) || got.Why != downBefore.Why {
		t.Errorf("got %+v, want it down as before: %+v", got, *downBefore)
	}
	early.says(t, 503)
	state(early, "ready")
	for _, p := range []*patient{nearly, early} {
		p.says(t, 503)
		b.WaitLineAfter(mark, `msg="backend down" pool=load backend=`+p.Addr())
	}
	down.says(t, 200)
	state(down, "down")
	down.says(t, 200)
	b.WaitLineAfter(mark, `msg="backend ready" pool=load backend=`+down.Addr())
}

// refusedFrom opens a session that is reset: at once, in which case dialling or the first
// write fails, or once it has said hello. Of a reset the kernel tells once.
func refusedFrom(t *testing.T, from, addr string, hello []byte) {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: lab.Patience}
	c, err := d.DialContext(t.Context(), "tcp", addr)
	if err == nil {
		defer c.Close()
		c.SetDeadline(time.Now().Add(lab.Patience))
		if _, err = c.Write(hello); err == nil {
			_, err = c.Read(make([]byte, 1))
		}
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("from %s: got %v, want a reset", from, err)
	}
}

// sessionIDs are those of the sessions of now: a prefix of the process, the loop, and a
// number.
func (b *balancer) sessionIDs() map[uint64]bool {
	b.t.Helper()
	var list admin.Sessions
	if err := json.Unmarshal([]byte(b.operate("sessions", "--json")), &list); err != nil {
		b.t.Fatal(err)
	}
	ids := map[uint64]bool{}
	for _, s := range list.Sessions {
		id, err := strconv.ParseUint(s.ID, 16, 64)
		if err != nil || ids[id] {
			b.t.Fatalf("the id %q is none, or comes twice", s.ID)
		}
		ids[id] = true
	}
	return ids
}

// goOn wants the ids of before among those of after, and all new ones above them: loop by
// loop, in the same sequence.
func goOn(t *testing.T, before, after map[uint64]bool) {
	t.Helper()
	highest := map[uint64]uint64{} // by prefix and loop
	for id := range before {
		if !after[id] {
			t.Errorf("session %016x has lost its id", id)
		}
		highest[id>>40] = max(highest[id>>40], id)
	}
	if len(after) <= len(before) {
		t.Errorf("got %d sessions, of %d before, want new ones", len(after), len(before))
	}
	prefix := uint64(0)
	for id := range before {
		prefix = id >> 48
	}
	for id := range after {
		if !before[id] && (id>>48 != prefix || id <= highest[id>>40]) {
			t.Errorf("a new session has the id %016x, behind %016x", id, highest[id>>40])
		}
	}
}
