package server

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
)

// A syslogd listens as a syslog does, until it is stopped.
type syslogd struct {
	messages chan string
	stop     func() // its socket's file goes
}

// listenSyslog starts one; network is unix, for streams, or unixgram.
func listenSyslog(t *testing.T, network, path string) *syslogd {
	t.Helper()
	d := &syslogd{messages: make(chan string, 100)}
	switch network {
	case "unixgram":
		c, err := net.ListenUnixgram(network, &net.UnixAddr{Name: path, Net: network})
		if err != nil {
			t.Fatal(err)
		}
		d.stop = func() { c.Close(); os.Remove(path) }
		go func() {
			b := make([]byte, 64<<10)
			for {
				n, err := c.Read(b)
				if err != nil {
					return
				}
				d.messages <- string(b[:n])
			}
		}()
	case "unix":
		l, err := net.Listen(network, path)
		if err != nil {
			t.Fatal(err)
		}
		accepted := make(chan net.Conn, 1)
		d.stop = func() {
			l.Close()
			if c := <-accepted; c != nil {
				c.Close()
			}
		}
		go func() {
			c, err := l.Accept()
			accepted <- c
			for r := bufio.NewReader(c); err == nil; {
				var text string
				if text, err = r.ReadString(0); err == nil {
					d.messages <- strings.TrimSuffix(text, "\x00")
				}
			}
		}()
	}
	return d
}

// next returns the text of the next message, whose form must be right.
func (d *syslogd) next(t *testing.T) string {
	t.Helper()
	form := regexp.MustCompile(fmt.Sprintf(`^<30>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d snicket\[%d\]: ([^\n\x00]*)$`, os.Getpid()))
	select {
	case text := <-d.messages:
		if m := form.FindStringSubmatch(text); m != nil {
			return m[1]
		}
		t.Fatalf("got %q, want a message as syslog has it", text)
	case <-time.After(lab.Patience):
		t.Fatal("no message")
	}
	return ""
}

// Both kinds of sockets take records, and those that come while syslog is restarted, be
// it as another kind, arrive when it is there again.
func TestSyslogRestarts(t *testing.T) {
	for _, kinds := range [][2]string{{"unixgram", "unixgram"}, {"unix", "unix"}, {"unixgram", "unix"}, {"unix", "unixgram"}} {
		t.Run(strings.Join(kinds[:], " then "), func(t *testing.T) {
			lab.Leaks(t)
			path := filepath.Join(t.TempDir(), "log")
			d := listenSyslog(t, kinds[0], path)
			w, err := dialSyslog(path)
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			w.away = time.Hour
			o := newOutlet(w, 1<<20, false)
			o.Write([]byte("one\ntwo\n"))
			for _, want := range []string{"one", "two"} {
				if got := d.next(t); got != want {
					t.Errorf("got %q, want %q", got, want)
				}
			}
			d.stop()
			o.Write([]byte("three\n"))
			o.Write([]byte("four\nfive\n"))
			d = listenSyslog(t, kinds[1], path)
			defer d.stop()
			for _, want := range []string{"three", "four", "five"} {
				if got := d.next(t); got != want {
					t.Errorf("got %q, want %q", got, want)
				}
			}
			if got := o.end(time.Now().Add(lab.Patience)); got != 0 {
				t.Errorf("got %d records lost, want none", got)
			}
		})
	}
}

// What comes while syslog stays away is lost and counted, and told of once; what comes
// after that arrives.
func TestSyslogStaysAway(t *testing.T) {
	lab.Leaks(t)
	path := filepath.Join(t.TempDir(), "log")
	d := listenSyslog(t, "unixgram", path)
	w, err := dialSyslog(path)
	if err != nil {
		t.Fatal(err)
	}
	w.away = time.Millisecond
	o, told := newOutlet(w, 1<<20, false), new(told)
	told.listenTo(o)
	d.stop()
	for _, lines := range []string{"one\ntwo\n", "three\n"} {
		o.Write([]byte(lines))
		o.flush(time.Now().Add(lab.Patience))
	}
	if len(told.failed) != 1 || !errors.Is(told.failed[0], syscall.ENOENT) || o.dropped() != 3 {
		t.Errorf("got told of %v, %d lost; want once that syslog is not there, and 3", told.failed, o.dropped())
	}
	d = listenSyslog(t, "unixgram", path)
	defer d.stop()
	o.Write([]byte("four\n"))
	if got := d.next(t); got != "four" {
		t.Errorf("got %q, want what came when it was there again", got)
	}
	o.flush(time.Now().Add(lab.Patience))
	if len(told.mended) != 1 || told.mended[0] != 3 {
		t.Errorf("got told of %v lost, want once of 3", told.mended)
	}
	// One that waits for it does not hold up the end.
	w.away = time.Hour
	d.stop()
	o.Write([]byte("five\n"))
	if got := o.end(time.Now()); got != 4 {
		t.Errorf("got %d lost in all, want 4", got)
	}
	w.Close()
}

// A record that a datagram cannot hold is lost by itself; a stream holds it.
func TestSyslogLongRecord(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	for _, tc := range []struct {
		network string
		want    []string
		lost    uint64
	}{
		{"unixgram", []string{"one", "two"}, 2},
		{"unix", []string{"one", long, long, "two"}, 0},
	} {
		t.Run(tc.network, func(t *testing.T) {
			lab.Leaks(t)
			path := filepath.Join(t.TempDir(), "log")
			d := listenSyslog(t, tc.network, path)
			defer d.stop()
			w, err := dialSyslog(path)
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			w.wait = time.Hour
			o, told := newOutlet(w, 8<<20, false), new(told)
			told.listenTo(o)
			o.Write([]byte("one\n" + long + "\n" + long + "\ntwo\n"))
			for _, want := range tc.want {
				if got := d.next(t); got != want {
					t.Errorf("got %d bytes, want %d", len(got), len(want))
				}
			}
			o.flush(time.Now().Add(lab.Patience))
			if got := o.dropped(); got != tc.lost {
				t.Errorf("got %d lost, want %d", got, tc.lost)
			}
			if tc.lost > 0 && (len(told.failed) != 1 || !strings.Contains(told.failed[0].Error(), "a record of 1048577 bytes is more than syslog takes")) {
				t.Errorf("got told of %v, want of the size", told.failed)
			}
		})
	}
}

// A syslog that is there and reads nothing holds records up for a moment each, and
// no longer: what it does not take is lost.
func TestSyslogDoesNotRead(t *testing.T) {
	lab.Leaks(t)
	path := filepath.Join(t.TempDir(), "log")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	w, err := dialSyslog(path)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	w.wait = time.Millisecond
	const n = 10_000 // more than a socket's queue holds
	o, told := newOutlet(w, 1<<20, false), new(told)
	told.listenTo(o)
	o.Write(bytes.Repeat([]byte("x\n"), n))
	o.flush(time.Now().Add(lab.Patience))
	if err := c.SetReadDeadline(time.Now().Add(lab.Patience)); err != nil {
		t.Fatal(err)
	}
	lost, taken := o.dropped(), uint64(0)
	for b := make([]byte, 100); lost+taken < n; taken++ {
		if _, err := c.Read(b); err != nil {
			t.Fatalf("%d lost, %d taken: %v", lost, taken, err)
		}
	}
	if lost == 0 || taken == 0 || len(told.failed) != 1 || !errors.Is(told.failed[0], os.ErrDeadlineExceeded) {
		t.Errorf("got %d lost, %d taken, told of %v; want some of each, and why", lost, taken, told.failed)
	}
}
