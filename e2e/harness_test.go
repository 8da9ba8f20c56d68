//go:build e2e

package e2e_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
)

var programs struct {
	sync.Mutex
	dir   string
	built map[string]error
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "snicket-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	programs.dir, programs.built = dir, map[string]error{}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// program builds a command of this module, once for all tests, and returns the binary's path.
func program(t testing.TB, pkg string) string {
	t.Helper()
	programs.Lock()
	defer programs.Unlock()
	path := filepath.Join(programs.dir, filepath.Base(pkg))
	err, done := programs.built[pkg]
	if !done {
		cmd := exec.Command("go", "build", "-trimpath", "-o", path, "github.com/snicketlb/snicket/"+pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, failed := cmd.CombinedOutput(); failed != nil {
			err = fmt.Errorf("go build %s: %w\n%s", pkg, failed, out)
		}
		programs.built[pkg] = err
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// balancer is a running snicket.
type balancer struct {
	*lab.Process
	t    testing.TB
	file string
}

// run starts snicket with a configuration and waits until it serves.
func run(t testing.TB, config string) *balancer {
	t.Helper()
	b := start(t, config)
	b.WaitLine(`\bmsg=ready\b`)
	return b
}

// start is run without waiting.
func start(t testing.TB, config string) *balancer {
	t.Helper()
	file := lab.WriteFile(t, filepath.Join(t.TempDir(), "snicket.toml"), []byte(config))
	p := lab.Start(t, lab.Command{Path: program(t, "cmd/snicket"), Args: []string{"run", "-c", file}, Env: []string{"RUNTIME_DIRECTORY=" + filepath.Dir(file)}})
	return &balancer{Process: p, t: t, file: file}
}

// reload writes a new configuration, sends SIGHUP and waits until the log says that it runs, or, when it is bad, why
// not; that line is returned.
func (b *balancer) reload(config string) (ok bool, line string) {
	b.t.Helper()
	lab.WriteFile(b.t, b.file, []byte(config))
	mark := b.Mark()
	b.Signal(syscall.SIGHUP)
	match, _ := b.WaitLineAfter(mark, `.*\bmsg="reload (done|failed)".*`)
	return match[1] == "done", match[0]
}

// record is one line of the access log.
type record map[string]string

// waitRecord waits for a record since mark that holds every key and value of want.
func (b *balancer) waitRecord(mark int, want record) record {
	b.t.Helper()
	for {
		match, next := b.WaitLineAfter(mark, `^time=.* outcome=.*$`)
		r := parseRecord(b.t, match[0])
		if r.holds(want) {
			return r
		}
		mark = next
	}
}

// records returns the records written since mark, so far.
func (b *balancer) records(mark int) []record {
	var records []record
	for _, line := range b.Lines(mark) {
		if !line.Stderr && strings.HasPrefix(line.Text, "time=") && strings.Contains(line.Text, " outcome=") {
			records = append(records, parseRecord(b.t, line.Text))
		}
	}
	return records
}

func (r record) holds(want record) bool {
	for k, v := range want {
		if r[k] != v {
			return false
		}
	}
	return true
}

// parseRecord takes a line of key=value apart; a value that begins with a quote is Go's %q.
func parseRecord(t testing.TB, line string) record {
	t.Helper()
	r := record{}
	for rest := line; rest != ""; {
		key, value, ok := strings.Cut(rest, "=")
		if !ok {
			t.Fatalf("access log: no key=value at %q of %q", rest, line)
		}
		if quoted, err := strconv.QuotedPrefix(value); err == nil {
			rest = strings.TrimPrefix(value[len(quoted):], " ")
			if value, err = strconv.Unquote(quoted); err != nil {
				t.Fatalf("access log: %v in %q", err, line)
			}
		} else {
			value, rest, _ = strings.Cut(value, " ")
		}
		if _, twice := r[key]; twice {
			t.Fatalf("access log: key %q twice in %q", key, line)
		}
		r[key] = value
	}
	return r
}

// dial connects to addr over TCP with a deadline of the laboratory's patience.
func dial(t testing.TB, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, lab.Patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(lab.Patience))
	return c.(*net.TCPConn)
}

// dialTLS connects to addr and shakes hands.
func dialTLS(t testing.TB, addr string, conf *tls.Config) *tls.Conn {
	t.Helper()
	c := tls.Client(dial(t, addr), conf)
	if err := c.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

// ask opens a session over TLS, sends a line and returns everything that comes back.
func ask(t testing.TB, addr string, conf *tls.Config, line string) string {
	t.Helper()
	c := dialTLS(t, addr, conf)
	defer c.Close()
	if _, err := io.WriteString(c, line); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(answer)
}

// listener returns the [listeners.https] table for addr.
func listener(addr string) string {
	return fmt.Sprintf("[listeners.https]\naddress = %q\n", addr)
}

// passthrough returns a route that passes host to backends, named like host, with a pool of that name whose further
// settings are given, one TOML line each.
func passthrough(host, pool string, backends []string, settings ...string) string {
	return fmt.Sprintf("[[routes]]\nhosts = [%q]\npool = %q\n", host, pool) + poolOf(pool, backends, settings...)
}

// terminated returns a route that terminates host with a certificate and passes plain text to backends.
func terminated(host, pool, cert, key string, backends []string, settings ...string) string {
	return fmt.Sprintf("[[routes]]\nhosts = [%q]\npool = %q\nmode = \"terminate\"\n", host, pool) +
		fmt.Sprintf("[routes.tls]\ncertificates = [{ cert = %q, key = %q }]\n", cert, key) +
		poolOf(pool, backends, settings...)
}

// reencrypted returns a route that terminates host and speaks fresh TLS to backends, verified against ca.
func reencrypted(host, pool, cert, key, ca string, backends []string, settings ...string) string {
	return terminated(host, pool, cert, key, backends, settings...) +
		fmt.Sprintf("[pools.%s.tls]\nca = %q\n", pool, ca)
}

func poolOf(pool string, backends []string, settings ...string) string {
	quoted := make([]string, len(backends))
	for i, b := range backends {
		quoted[i] = strconv.Quote(b)
	}
	lines := append([]string{
		fmt.Sprintf("[pools.%s]", pool), fmt.Sprintf("backends = [%s]", strings.Join(quoted, ", ")),
	}, settings...)
	return strings.Join(lines, "\n") + "\n"
}

// tool runs a client program to its end and returns what it printed, stdout and stderr together, and its status.
func tool(t testing.TB, stdin, name string, args ...string) (output string, status int) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%v: .ci/run installs what the tests need", err)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.WaitDelay = lab.Patience
	out, err := cmd.CombinedOutput()
	if ended := (*exec.ExitError)(nil); err != nil && !errors.As(err, &ended) {
		t.Fatalf("%s: %v", name, err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// mustTool is tool for a client that has to succeed.
func mustTool(t testing.TB, stdin, name string, args ...string) string {
	t.Helper()
	out, status := tool(t, stdin, name, args...)
	if status != 0 {
		t.Fatalf("%s %s: exit status %d\n%s", name, strings.Join(args, " "), status, out)
	}
	return out
}

// port returns the port of "IP:port".
func port(t testing.TB, addr string) string {
	t.Helper()
	_, p, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// dialFrom connects to addr from one of this machine's addresses.
func dialFrom(t testing.TB, from, addr string) *net.TCPConn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: lab.Patience}
	c, err := d.DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(lab.Patience))
	return c.(*net.TCPConn)
}

// exchangeEcho sends a message to an echo backend and expects it back.
func exchangeEcho(t testing.TB, c net.Conn, message []byte) {
	t.Helper()
	if _, err := c.Write(message); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(message))
	if _, err := io.ReadFull(c, got); err != nil {
		t.Fatalf("echo of %d bytes: %v", len(message), err)
	}
	if !bytes.Equal(got, message) {
		t.Fatal("the echo is not what was sent")
	}
}
