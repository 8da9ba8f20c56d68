package upgrade_test

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/health"
	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/config"
	"github.com/snicketlb/snicket/pkg/discover"
	"github.com/snicketlb/snicket/pkg/proxy"
	"github.com/snicketlb/snicket/pkg/registry"
	"github.com/snicketlb/snicket/pkg/relay"
	"github.com/snicketlb/snicket/pkg/upgrade"
)

// pair is both sides, which hold no descriptor behind the test.
func pair(t *testing.T) (old, next *upgrade.Conn) {
	t.Helper()
	lab.Leaks(t)
	old, next, err := upgrade.Pair()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { old.Close(); next.Close() })
	return old, next
}

// file is a descriptor of a new open file, and what tells it from all others.
func file(t *testing.T) (fd int, inode uint64) {
	t.Helper()
	fds := make([]int, 2)
	if err := unix.Pipe2(fds, unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	unix.Close(fds[1])
	return fds[0], inodeOf(t, fds[0])
}

func inodeOf(t *testing.T, fd int) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

// TestSessions sends sessions of all kinds: what arrives is what was sent, with the same
// open files in the same places.
func TestSessions(t *testing.T) {
	old, next := pair(t)
	var sent []proxy.Transfer
	var inodes []uint64
	open := func() int {
		fd, inode := file(t)
		inodes = append(inodes, inode)
		return fd
	}
	for i := range 500 {
		m := proxy.Transfer{
			ID: proxy.SessionID(i), Address: ":443", Listener: "https", Peer: netip.MustParseAddrPort("[fe80::1%eth0]:1234"),
			SNI: "a.test", Accepted: int64(i), LastByte: -5, Retries: 3, Sent: true, BackendFD: -1,
		}
		m.ClientFD = open()
		switch i % 3 {
		case 0:
			m.Opening = &proxy.OpeningTransfer{Bytes: make([]byte, 1+100*i), Header: 7, Limited: proxy.OverLimit, Addr: netip.MustParseAddr("192.0.2.1")}
		default:
			m.BackendFD = open()
			r := &proxy.RelayTransfer{Route: "r", Pool: "p", Backend: "b", Idle: time.Hour, Half: true}
			for w := range r.Stand.Ways {
				r.Stand.Ways[w] = relay.WayStand{Bytes: 1 << 40, Read: -1, Write: -1, Whole: w == 0}
				if i%3 == 2 {
					r.Stand.Ways[w].Piped, r.Stand.Ways[w].Read, r.Stand.Ways[w].Write = 4096, open(), open()
				} else {
					r.Stand.Ways[w].Held = []byte("caught")
				}
			}
			r.Stand.Errnos[1] = uint16(unix.ECONNRESET)
			m.Relay = r
		}
		sent = append(sent, m)
	}
	with := upgrade.All{Heritage: proxy.Heritage{Next: []proxy.SessionID{1, 2}, Rates: []proxy.AddrRate{{Addr: netip.MustParseAddr("2001:db8::"), Due: 9}}}, State: known()}
	done := make(chan error, 1)
	go func() { done <- errors.Join(old.SendHave(len(sent)), old.SendSessions(sent, &with)) }()
	got, h, err := next.Sessions(lab.Patience)
	if err := errors.Join(err, <-done); err != nil {
		t.Fatal(err)
	}
	defer proxy.CloseAll(got)
	defer proxy.CloseAll(sent)
	if !reflect.DeepEqual(h, with) {
		t.Errorf("got %+v, want %+v", h, with)
	}
	if len(got) != len(sent) {
		t.Fatalf("got %d sessions, want %d", len(got), len(sent))
	}
	for i := range got {
		got[i].Descriptors(func(fd *int) {
			if inodeOf(t, *fd) != inodes[0] {
				t.Errorf("session %d has another's file", i)
			}
			inodes = inodes[1:]
		})
		// Numbers are each process's own.
		a, b := plain(got[i]), plain(sent[i])
		if !reflect.DeepEqual(a, b) {
			t.Errorf("session %d: got %+v, want %+v", i, a, b)
		}
	}
}

// plain is m without its descriptors.
func plain(m proxy.Transfer) proxy.Transfer {
	if m.Relay != nil {
		r := *m.Relay
		m.Relay = &r
	}
	m.Descriptors(func(fd *int) { *fd = 1 })
	return m
}

// known is all that can be known of backends.
func known() upgrade.State {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	return upgrade.State{
		Statuses: []registry.Status{{
			Pool: "p", ID: "b", Probed: registry.Probed{State: health.Down, Since: at, Why: "refused", Certificate: registry.Certificate{NotAfter: at, Names: "a b"}},
			Ejected: registry.Ejected{Until: at, Reason: "x"}, Wished: registry.Wished{State: registry.WishDrain, Since: at, By: "root"},
		}},
		Checks:    []upgrade.Check{{ID: "p/b", State: health.Up, Since: at, Failures: 2, Agent: health.AgentReport{Weight: 50, Weighs: true}}},
		Ejections: []health.EjectionState{{Pool: "p", ID: "b", Ejected: true, Level: 3, Until: at}},
		Ramps:     []upgrade.Ramp{{Pool: "p", ID: "b", Since: at}},
		Tickets:   []byte("secret"),
		Names:     map[string][]netip.Addr{"app.internal": {netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("fe80::1%eth0")}},
		Found: []upgrade.Found{{
			Pool: "p", Asked: discover.Settings{File: "backends.json"},
			Backends: []discover.Backend{{Name: "b", Weight: 2, Address: config.Address{Kind: config.AddressIP, AddrPort: netip.MustParseAddrPort("192.0.2.1:443"), Port: 443}}},
		}},
	}
}

// TestGo has a process that has waited too long for the word find out, for sure, whether it
// was said: if not, the other one cannot say it any more.
func TestGo(t *testing.T) {
	t.Run("said in time", func(t *testing.T) {
		old, next := pair(t)
		said := old.SendGo()
		if heard := next.Go(lab.Patience); said != nil || heard != nil {
			t.Errorf("said: %v, heard: %v, want both", said, heard)
		}
	})
	t.Run("not at all", func(t *testing.T) {
		old, next := pair(t)
		heard := next.Go(time.Millisecond)
		if said := old.SendGo(); said == nil || !errors.Is(heard, os.ErrDeadlineExceeded) {
			t.Errorf("heard: %v, want a timeout, and said behind it: %v, want an error", heard, said)
		}
	})
	t.Run("at the last moment", func(t *testing.T) {
		for range 200 {
			old, next := pair(t)
			done := make(chan error, 1)
			go func() { done <- old.SendGo() }()
			heard := next.Go(50 * time.Microsecond)
			if said := <-done; (said == nil) != (heard == nil) {
				t.Fatalf("said: %v, heard: %v, which is not the same", said, heard)
			}
			old.Close()
			next.Close()
		}
	})
}

// TestManySockets sends more sockets of one address than travel at a time.
func TestManySockets(t *testing.T) {
	old, next := pair(t)
	var fds []int
	var inodes []uint64
	for range 300 {
		fd, inode := file(t)
		fds, inodes = append(fds, fd), append(inodes, inode)
	}
	done := make(chan error, 1)
	go func() {
		done <- errors.Join(old.SendSockets(upgrade.Sockets{For: upgrade.ForListener, Text: ":443"}, fds), old.SendNoMoreSockets())
	}()
	n := 0
	for {
		s, got, err := next.Sockets()
		if err != nil {
			t.Fatal(err)
		}
		if s.Last {
			break
		}
		for _, fd := range got {
			if s.Text != ":443" || s.For != upgrade.ForListener || inodeOf(t, fd) != inodes[n] {
				t.Errorf("socket %d is another one, for %q", n, s.Text)
			}
			n++
			unix.Close(fd)
		}
	}
	if err := <-done; err != nil || n != len(fds) {
		t.Errorf("got %d sockets, %v, want %d", n, err, len(fds))
	}
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// TestRefused tells why there is no going on, whatever is waited for.
func TestRefused(t *testing.T) {
	old, next := pair(t)
	next.Refuse("no room", "no time")
	err := old.Able(lab.Patience)
	refused, ok := errors.AsType[*upgrade.Refusal](err)
	if !ok || len(refused.Problems) != 2 || refused.Error() != "no room; no time" {
		t.Errorf("got %v, want the refusal", err)
	}
}

// TestBroken reads what no process should say: it is an error, and holds nothing.
func TestBroken(t *testing.T) {
	header := func(kind byte, files uint16, size uint32) []byte {
		b := []byte{kind, 0}
		return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(b, files), size)
	}
	for name, tt := range map[string]struct {
		says func(c *upgrade.Conn)
		want string
	}{
		"another protocol": {func(c *upgrade.Conn) { _ = c.Greet(&upgrade.Greeting{Protocol: 9, Version: "v9"}) }, "version v9 speaks upgrade protocol 9, this one 2"},
		"out of turn":      {func(c *upgrade.Conn) { _ = c.SendAble() }, "waiting for greeting: got able"},
		"its end":          {func(c *upgrade.Conn) { c.Close() }, "the other process has ended"},
		"half a message":   {func(c *upgrade.Conn) { _, _ = c.Raw().Write(header(1, 0, 100)); c.Close() }, "greeting: the other process has ended"},
		"too large":        {func(c *upgrade.Conn) { _, _ = c.Raw().Write(header(1, 0, 1<<31)) }, "got greeting of 2147483648 bytes"},
		"no descriptors":   {func(c *upgrade.Conn) { _, _ = c.Raw().Write(append(header(1, 3, 1), 0)) }, "0 descriptors came of 3"},
		"no gob":           {func(c *upgrade.Conn) { _, _ = c.Raw().Write(append(header(1, 0, 4), 0xff, 0xff, 0xff, 0xff)) }, "greeting: "},
		"no kind":          {func(c *upgrade.Conn) { _, _ = c.Raw().Write(header(99, 0, 0)) }, "got message 99"},
	} {
		t.Run(name, func(t *testing.T) {
			old, next := pair(t)
			tt.says(next)
			if _, err := old.Greeting(lab.Patience); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
}

// TestSilence gives up a process that says nothing.
func TestSilence(t *testing.T) {
	old, _ := pair(t)
	err := old.Able(time.Millisecond)
	if netError := net.Error(nil); !errors.As(err, &netError) || !netError.Timeout() || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v, want a timeout", err)
	}
}

// TestNotFollowing finds no process to follow in the usual environment.
func TestNotFollowing(t *testing.T) {
	if c, err := upgrade.Inherited(); c != nil || err != nil {
		t.Errorf("got %v, %v, want none", c, err)
	}
	t.Setenv("SNICKET_UPGRADE", "two")
	if _, err := upgrade.Inherited(); err == nil {
		t.Error("two is a descriptor")
	}
	if text, ok := os.LookupEnv("SNICKET_UPGRADE"); ok {
		t.Errorf("the variable is there still: %q", text)
	}
}
