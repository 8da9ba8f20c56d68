package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/admin"
	"github.com/snicketlb/snicket/pkg/admin/client"
)

// stage is what scripts of a running balancer find: two backends that speak TLS, and a
// free address for the balancer.
func stage(t *testing.T) func(*testscript.Env) error {
	ca := lab.NewAuthority(t, "ca")
	options := lab.Options{TLS: ca.Server(t, "a.test")}
	one, two := lab.Serve(t, lab.Echo(), options), lab.Serve(t, lab.Echo(), options)
	cert, key := ca.WriteServer(t, "www.test")
	return func(env *testscript.Env) error {
		env.Setenv("CERT", cert)
		env.Setenv("KEY", key)
		env.Setenv("BACKEND1", one.Addr())
		env.Setenv("BACKEND2", two.Addr())
		env.Setenv("LISTEN", lab.FreeAddr(t))
		return nil
	}
}

// expand replaces the variables in files by their values.
func expand(ts *testscript.TestScript, _ bool, files []string) {
	for _, file := range files {
		ts.Check(os.WriteFile(ts.MkAbs(file), []byte(os.Expand(ts.ReadFile(file), ts.Getenv)), 0o600))
	}
}

// serving waits until the balancer with its socket in $SNICKET_SOCKET serves.
func serving(ts *testscript.TestScript, _ bool, _ []string) {
	c := client.New(ts.Getenv(socketVariable))
	defer c.Close()
	await(ts, "balancer that serves", func(ctx context.Context) bool {
		s, err := c.Status(ctx)
		return err == nil && s.Ready
	})
}

// untaken waits until N files are not taken.
func untaken(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	c := client.New(ts.Getenv(socketVariable))
	defer c.Close()
	await(ts, args[0]+" files that are not taken", func(ctx context.Context) bool {
		s, err := c.Status(ctx)
		return err == nil && len(s.Faults) == want
	})
}

// told waits until a command has written a line to a file that matches a pattern.
func told(ts *testscript.TestScript, _ bool, args []string) {
	line := regexp.MustCompile("(?m)" + args[1])
	await(ts, args[1]+" in "+args[0], func(context.Context) bool {
		text, err := os.ReadFile(ts.MkAbs(args[0]))
		return err == nil && line.Match(text)
	})
}

// offered waits until a completion offers a line that matches a pattern: it does not wait
// for a balancer that has no time.
func offered(ts *testscript.TestScript, _ bool, args []string) {
	line := regexp.MustCompile("(?m)" + args[0])
	await(ts, args[0]+" among what is offered", func(context.Context) bool {
		ts.Check(ts.Exec("snicket", append([]string{"complete"}, args[1:]...)...))
		return line.MatchString(ts.ReadFile("stdout"))
	})
}

// session opens a session to a name and keeps it, after one exchange, to the script's
// end.
func session(ts *testscript.TestScript, _ bool, args []string) {
	c, err := dialThrough(ts, args[0])
	ts.Check(err)
	ts.Defer(func() { c.Close() })
	_, err = io.WriteString(c, "ping")
	ts.Check(err)
	_, err = io.ReadFull(c, make([]byte, 4))
	ts.Check(err)
}

// refused tries to open a session to a name, which must fail, and waits until the
// balancer tells of it.
func refused(ts *testscript.TestScript, _ bool, args []string) {
	if c, err := dialThrough(ts, args[0]); err == nil {
		c.Close()
		ts.Fatalf("%s was not refused", args[0])
	}
	c := client.New(ts.Getenv(socketVariable))
	defer c.Close()
	await(ts, "refusal that is told of", func(ctx context.Context) bool {
		list, err := c.Refused(ctx)
		return err == nil && len(list) > 0
	})
}

// await waits until what is true.
func await(ts *testscript.TestScript, what string, is func(context.Context) bool) {
	ctx, cancel := context.WithTimeout(context.Background(), lab.Patience)
	defer cancel()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for !is(ctx) {
		select {
		case <-look.C:
		case <-ctx.Done():
			ts.Fatalf("no %s", what)
		}
	}
}

func dialThrough(ts *testscript.TestScript, name string) (*tls.Conn, error) {
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: lab.Patience}, "tcp", ts.Getenv("LISTEN"),
		&tls.Config{ServerName: name, InsecureSkipVerify: true}) //nolint:gosec // whom it reaches is not what is tested
	if err != nil {
		return nil, err
	}
	return c, c.SetDeadline(time.Now().Add(lab.Patience))
}

// killFirst kills the first session of the JSON that the last command has printed.
func killFirst(ts *testscript.TestScript, _ bool, _ []string) {
	var found admin.Sessions
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &found))
	if len(found.Sessions) == 0 {
		ts.Fatalf("no session to kill")
	}
	ts.Check(ts.Exec("snicket", "kill", found.Sessions[0].ID))
}

func TestTexts(t *testing.T) {
	for want, got := range map[string]string{
		"0s": lasting(0), "12ms": lasting(12*time.Millisecond + 300), "59s": lasting(59*time.Second + 999*time.Millisecond),
		"1m0s": lasting(time.Minute), "3h25m": lasting(3*time.Hour + 25*time.Minute + 7*time.Second), "9d4h": lasting(220*time.Hour + time.Minute),
		"1023 B": bytesText(int64(1023)), "1.0 KiB": bytesText(int64(1024)), "1.5 MiB": bytesText(uint64(3 << 19)), "16384.0 PiB": bytesText(^uint64(0)),
		"a.test": printable("a.test"), `"a b"`: printable("a b"), `"\x1b[2J"`: printable("\x1b[2J"), "no?such host": sentence("no\x1bsuch host"),
		"a, b, c and 2 more": few(strings.Split("abcde", "")), "a, b, c": few(strings.Split("abc", "")),
		"3 denied, 1 no-route": othersText(map[string]uint64{"ok": 9, "no-route": 1, "denied": 3}),
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
