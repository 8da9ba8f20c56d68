package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/proxy"
	"github.com/snicketlb/snicket/pkg/server"
)

// lines is a log that a test can wait on.
type lines struct {
	mu      sync.Mutex // guards the fields below
	text    bytes.Buffer
	changed chan struct{} // closed at the next write
	held    <-chan struct{}
}

func newLines() *lines { return &lines{changed: make(chan struct{})} }

// stall makes every write wait for goOn.
func (l *lines) stall(goOn <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = goOn
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	held := l.held
	l.mu.Unlock()
	if held != nil {
		<-held
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(b)
	close(l.changed)
	l.changed = make(chan struct{})
	return len(b), nil
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// wait waits for the n-th match of pattern and returns it with its groups.
func (l *lines) wait(t *testing.T, pattern string, n int) []string {
	t.Helper()
	re := regexp.MustCompile("(?m)" + pattern)
	deadline := time.After(lab.Patience)
	for {
		l.mu.Lock()
		found, changed := re.FindAllStringSubmatch(l.text.String(), -1), l.changed
		l.mu.Unlock()
		if len(found) >= n {
			return found[n-1]
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("no match %d of %s in:\n%s", n, pattern, l)
		}
	}
}

// running is a server that runs for the length of a test.
type running struct {
	t           *testing.T
	path        string
	server      *server.Server
	log, access *lines
	signals     chan os.Signal
	done        chan error
	address     string // of the first listener
	waited      bool
}

// preamble makes everything quick that tests wait for.
const preamble = `
[listeners.https]
address = "127.0.0.1:0"
[limits]
loops = 2
`

func start(t *testing.T, lookup server.Lookup, text string) *running {
	t.Helper()
	return startBy(t, server.Options{Lookup: lookup}, preamble+text)
}

// startBy is start with further options and the whole file.
func startBy(t *testing.T, o server.Options, text string) *running {
	t.Helper()
	r := &running{
		t: t, path: filepath.Join(t.TempDir(), "snicket.toml"), log: newLines(), access: newLines(),
		signals: make(chan os.Signal, 1), done: make(chan error, 1),
	}
	r.write(text)
	bound := make(chan []proxy.Bound, 1)
	o.Stdout, o.Stderr, o.Ready = r.access, r.log, func(b []proxy.Bound) { bound <- b }
	if o.Upgrade != nil && o.Upgrade.Args == nil {
		o.Upgrade.Args = []string{followRole, r.path}
	}
	s, err := server.New(r.path, o)
	if err != nil {
		t.Fatal(err)
	}
	r.server = s
	ctx, cancel := context.WithCancel(context.Background())
	go func() { r.done <- s.Run(ctx, r.signals) }()
	t.Cleanup(func() {
		cancel()
		if !r.waited {
			r.wait()
		}
		if t.Failed() {
			t.Logf("log:\n%s\naccess log:\n%s", r.log, r.access)
		}
	})
	select {
	case b := <-bound:
		r.address = b[0].Address
	case err := <-r.done:
		r.waited = true
		t.Fatalf("run: %v\n%s", err, r.log)
	case <-time.After(lab.Patience):
		t.Fatalf("not ready:\n%s", r.log)
	}
	return r
}

// wait waits for the server's end.
func (r *running) wait() {
	r.t.Helper()
	r.waited = true
	select {
	case err := <-r.done:
		if err != nil {
			r.t.Errorf("got %v from Run, want nil", err)
		}
	case <-time.After(lab.Patience):
		r.t.Fatalf("Run does not return:\n%s", r.log)
	}
}

func (r *running) write(text string) {
	r.t.Helper()
	if err := os.WriteFile(r.path, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// reload makes text the configuration and waits for the n-th reload to be done.
func (r *running) reload(n int, text string) string {
	r.t.Helper()
	r.write(preamble + text)
	r.signals <- syscall.SIGHUP
	return r.log.wait(r.t, `^.*msg="reload done".*$`, n)[0]
}

// dial opens a session to name and waits for its handshake.
func (r *running) dial(a *lab.Authority, name string, alpn ...string) (*tls.Conn, error) {
	config := a.Client(name)
	config.NextProtos = alpn
	return tls.DialWithDialer(&net.Dialer{Timeout: lab.Patience}, "tcp", r.address, config)
}

// session is a session that must come about, to an echo backend.
func (r *running) session(a *lab.Authority, name string, alpn ...string) *tls.Conn {
	r.t.Helper()
	c, err := r.dial(a, name, alpn...)
	if err != nil {
		r.t.Fatalf("%s: %v", name, err)
	}
	r.t.Cleanup(func() { c.Close() })
	r.echo(c)
	return c
}

// echo sends a word and reads it back.
func (r *running) echo(c *tls.Conn) {
	r.t.Helper()
	const word = "ping"
	got := make([]byte, len(word))
	c.SetDeadline(time.Now().Add(lab.Patience))
	if _, err := io.WriteString(c, word); err != nil {
		r.t.Fatalf("write: %v", err)
	}
	if _, err := io.ReadFull(c, got); err != nil || string(got) != word {
		r.t.Fatalf("got %q, %v; want %q", got, err, word)
	}
}

// hangUp ends a session in good order.
func hangUp(t *testing.T, c *tls.Conn) {
	t.Helper()
	c.SetDeadline(time.Now().Add(lab.Patience))
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, c); err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// refused is a session that must be refused with an alert whose text has want.
func (r *running) refused(a *lab.Authority, name, want string) {
	r.t.Helper()
	c, err := r.dial(a, name)
	if err == nil {
		c.Close()
		r.t.Fatalf("%s: got a session, want %q", name, want)
	}
	if !strings.Contains(err.Error(), want) {
		r.t.Fatalf("%s: got %v, want %q", name, err, want)
	}
}

// ended waits for the end of a session, orderly or not.
func ended(t *testing.T, c *tls.Conn) {
	t.Helper()
	c.SetDeadline(time.Now().Add(lab.Patience))
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %v, want the end of the session", err)
	}
}

// book is a resolver of host names that a test writes.
type book struct {
	mu    sync.Mutex // guards names
	names map[string][]netip.Addr
}

func (b *book) set(name string, addresses ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.names == nil {
		b.names = map[string][]netip.Addr{}
	}
	b.names[name] = nil
	for _, a := range addresses {
		b.names[name] = append(b.names[name], netip.MustParseAddr(a))
	}
}

func (b *book) lookup(_ context.Context, name string) ([]netip.Addr, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.names[name]) == 0 {
		return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	}
	return append([]netip.Addr(nil), b.names[name]...), nil
}

// matches reports whether pattern is found in a line.
func matches(pattern, line string) bool { return regexp.MustCompile(pattern).MatchString(line) }

// certificateTime is so many hours from now.
func certificateTime(hours int) time.Time { return time.Now().Add(time.Duration(hours) * time.Hour) }

// passthrough is a route of one host to one backend.
func passthrough(host, backend string) string {
	return fmt.Sprintf("[[routes]]\nhosts = [%q]\nbackends = [%q]\n", host, backend)
}
