package server_test

import (
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
	"github.com/snicketlb/snicket/pkg/server"
)

// syslog listens as syslog does.
func syslog(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetReadDeadline(time.Now().Add(lab.Patience)); err != nil {
		t.Fatal(err)
	}
	return c
}

// message reads the next one.
func message(t *testing.T, c *net.UnixConn) string {
	t.Helper()
	b := make([]byte, 64<<10)
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

// Records go to syslog one by one, and find it again when it was restarted.
func TestAccessLogToSyslog(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	backend := lab.Serve(t, lab.Echo(), lab.Options{TLS: ca.Server(t, "a.test")})
	path := filepath.Join(t.TempDir(), "log")
	first := syslog(t, path)
	r := startBy(t, server.Options{Syslog: path}, preamble+pool(unprobed, backend)+"[log]\naccess = \"syslog\"\n")
	form := regexp.MustCompile(fmt.Sprintf(`^<30>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d snicket\[%d\]: time=\S+ id=\S+ .* outcome=ok .*[^\n]$`, os.Getpid()))
	for range 2 {
		hangUp(t, r.session(ca, "a.test"))
		if got := message(t, first); !form.MatchString(got) {
			t.Errorf("got %q, want a record as syslog has it", got)
		}
	}
	first.Close()
	os.Remove(path)
	second := syslog(t, path)
	hangUp(t, r.session(ca, "a.test"))
	if got := message(t, second); !form.MatchString(got) {
		t.Errorf("got %q of a syslog that was restarted", got)
	}
	// Without one, the reload is refused.
	second.Close()
	os.Remove(path)
	r.write(preamble + pool(unprobed, backend) + "[log]\naccess = \"syslog\"\nlevel = \"debug\"\n")
	r.signals <- syscall.SIGHUP
	r.log.wait(t, `msg="reload failed" problems=".*access log: .*: no syslog listens here; name a file"`, 1)
}

// Of what went well a share is written, of all else everything.
func TestAccessLogSample(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	backend := lab.Serve(t, lab.Echo(), lab.Options{TLS: ca.Server(t, "a.test")})
	// Records of one loop come in the order of their sessions' ends.
	one := strings.Replace(preamble, "loops = 2", "loops = 1", 1) + pool(unprobed, backend)
	r := startBy(t, server.Options{}, one+"[log]\nsample = 0.0\n")
	const each = 5
	for range each {
		hangUp(t, r.session(ca, "a.test"))
		r.refused(ca, "b.test", "unrecognized name")
	}
	r.access.wait(t, `outcome=no-route`, each)
	r.write(one)
	r.signals <- syscall.SIGHUP
	r.log.wait(t, `msg="reload done"`, 1)
	hangUp(t, r.session(ca, "a.test"))
	r.access.wait(t, `outcome=ok`, 1)
	if n := strings.Count(r.access.String(), "outcome=ok"); n != 1 {
		t.Errorf("got %d records of sessions that went well, want the one behind the reload", n)
	}
}

// SIGUSR1 opens the file anew; one that cannot be had leaves the former.
func TestAccessLogIsReopened(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	backend := lab.Serve(t, lab.Echo(), lab.Options{TLS: ca.Server(t, "a.test")})
	dir := filepath.Join(t.TempDir(), "logs")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "access.log")
	r := start(t, nil, pool(unprobed, backend)+fmt.Sprintf("[log]\naccess = %q\n", file))
	records := func(path string) int {
		t.Helper()
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(text), "outcome=ok")
	}
	hangUp(t, r.session(ca, "a.test"))
	await(t, "a record", func() bool { return records(file) == 1 })
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	r.signals <- syscall.SIGUSR1
	r.log.wait(t, `msg="access log is opened anew" access=`+file, 1)
	hangUp(t, r.session(ca, "a.test"))
	await(t, "a record in the new file", func() bool { return records(file) == 1 })
	if n := records(file + ".1"); n != 1 {
		t.Errorf("got %d records in the former file, want 1", n)
	}
	gone := dir + ".gone"
	if err := os.Rename(dir, gone); err != nil {
		t.Fatal(err)
	}
	r.signals <- syscall.SIGUSR1
	r.log.wait(t, `msg="access log stays where it is" problems=".*create the directory"`, 1)
	hangUp(t, r.session(ca, "a.test"))
	await(t, "a record in the file of before", func() bool { return records(filepath.Join(gone, "access.log")) == 2 })
}

// await waits for what no event tells of.
func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for late := time.After(lab.Patience); !is(); {
		select {
		case <-look.C:
		case <-late:
			t.Fatalf("never: %s", what)
		}
	}
}
