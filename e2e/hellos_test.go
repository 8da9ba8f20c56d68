//go:build e2e

package e2e_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/sni/hellotest"
)

func hellos(t *testing.T) []hellotest.Case {
	t.Helper()
	cases, err := hellotest.Load("../sni/testdata/hellos")
	if err != nil {
		t.Fatal(err)
	}
	return cases
}

// namedBackends starts the two backends of the table: each answers the first byte with its name.
func namedBackends(t *testing.T) (a, rest *lab.Server, heardA, heardRest *lab.Recorder) {
	t.Helper()
	heardA, heardRest = lab.NewRecorder(), lab.NewRecorder()
	a = lab.Serve(t, lab.Announce("a", heardA), lab.Options{})
	rest = lab.Serve(t, lab.Announce("default", heardRest), lab.Options{})
	return a, rest, heardA, heardRest
}

// TestHellos sends the hello table to Snicket: each hello reaches the right backend byte for byte, or no backend at
// all, with the outcome in the access log and an alert the client can read.
func TestHellos(t *testing.T) {
	a, rest, heardA, heardRest := namedBackends(t)
	addr := lab.FreeAddr(t)
	b := run(t, listener(addr)+
		passthrough("a.test", "a", []string{a.Addr()}, "[pools.a.health]", "enabled = false")+
		"[[routes]]\nname = \"rest\"\nhosts = [\"*\", \"-\"]\npool = \"rest\"\n"+
		poolOf("rest", []string{rest.Addr()}, "[pools.rest.health]", "enabled = false"))

	for _, tt := range hellos(t) {
		t.Run(tt.Name, func(t *testing.T) {
			mark := b.Mark()
			beforeA, beforeRest := heardA.Count(), heardRest.Count()
			c := dial(t, addr)
			answer, ending := exchange(t, c, tt.Segments(), lab.Patience)
			if got, want := verdict(answer, ending), wanted(tt); got != want {
				t.Errorf("client got %q, want %q", got, want)
			}
			switch tt.Backend {
			case "a":
				compare(t, heardA.Wait(t, beforeA, len(tt.Stream)), tt.Stream)
			case "default":
				compare(t, heardRest.Wait(t, beforeRest, len(tt.Stream)), tt.Stream)
			}
			c.Close()
			r := b.waitRecord(mark, record{"client": c.LocalAddr().String()})
			if r["outcome"] != tt.Outcome {
				t.Errorf("got outcome %q (error %q), want %q", r["outcome"], r["error"], tt.Outcome)
			}
			reached := heardA.Count() - beforeA + heardRest.Count() - beforeRest
			if want := map[bool]int{true: 0, false: 1}[tt.Backend == "none"]; reached != want {
				t.Errorf("%d backends heard of it, want %d", reached, want)
			}
		})
	}
}

func wanted(tt hellotest.Case) string {
	switch {
	case tt.Backend != "none":
		return "to " + tt.Backend
	case tt.Alert != hellotest.NoAlert:
		return fmt.Sprintf("alert %d", tt.Alert)
	}
	return "closed"
}

func compare(t *testing.T, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("the backend received %d bytes that differ from the %d sent", len(got), len(want))
	}
}

// exchange sends the segments, each once the one before has been acknowledged or a moment has passed, and then reads
// until a whole line has come, or the end, for patience at most.
func exchange(t *testing.T, c *net.TCPConn, segments [][]byte, patience time.Duration) (answer []byte, ending error) {
	t.Helper()
	c.SetNoDelay(true)
	for i, segment := range segments {
		if _, err := c.Write(segment); err != nil {
			break // refused early: what it answered is still to be read
		}
		if i < len(segments)-1 {
			untilSent(c)
		}
	}
	c.SetDeadline(time.Now().Add(patience))
	buf := make([]byte, 4096)
	for {
		n, err := c.Read(buf)
		answer = append(answer, buf[:n]...)
		if err != nil {
			return answer, err
		}
		if bytes.HasSuffix(answer, []byte("\n")) && answer[0] != 'H' { // not an error page: read that to its end
			return answer, nil
		}
	}
}

func untilSent(c *net.TCPConn) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) {
		for range 100 { // as often as the kernel is asked; an acknowledgement may be delayed by 40 ms
			if waiting, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ); err != nil || waiting == 0 {
				return
			}
			runtime.Gosched()
		}
	})
}

// verdict says in a few words what became of a hello, as its client saw it.
func verdict(answer []byte, ending error) string {
	switch {
	case bytes.HasSuffix(answer, []byte("\n")) && ending == nil:
		return "to " + strings.TrimSpace(string(answer))
	case len(answer) >= 7 && answer[0] == 21 && !errors.Is(ending, syscall.ECONNRESET):
		return fmt.Sprintf("alert %d", answer[6])
	case len(answer) > 0:
		return fmt.Sprintf("answered %.12q", answer)
	case errors.Is(ending, syscall.ECONNRESET):
		return "reset"
	case errors.Is(ending, os.ErrDeadlineExceeded):
		return "silence"
	case errors.Is(ending, io.EOF):
		return "closed"
	}
	return ending.Error()
}

// peer is another balancer in front of the table's two backends.
type peer struct {
	name  string
	start func(t *testing.T, addr, a, rest string) *lab.Process
}

var peers = []peer{
	{"haproxy", func(t *testing.T, addr, a, rest string) *lab.Process {
		return startHAProxy(t, fmt.Sprintf(`
global
	maxconn 4000
defaults
	mode tcp
	timeout connect 2s
	timeout client 3s
	timeout server 3s
frontend in
	bind %s
	tcp-request inspect-delay 2s
	tcp-request content accept if { req_ssl_hello_type 1 }
	use_backend a if { req.ssl_sni,lower a.test }
	default_backend rest
backend a
	server a %s
backend rest
	server rest %s
`, addr, a, rest), addr)
	}},
	{"nginx", func(t *testing.T, addr, a, rest string) *lab.Process {
		return startNginx(t, fmt.Sprintf(`
stream {
	map $ssl_preread_server_name $backend {
		a.test %s;
		default %s;
	}
	server {
		listen %s;
		ssl_preread on;
		preread_timeout 2s;
		proxy_timeout 3s;
		proxy_pass $backend;
	}
}
`, a, rest, addr), addr)
	}},
	{"sniproxy", func(t *testing.T, addr, a, rest string) *lab.Process {
		return startSNIProxy(t, fmt.Sprintf(`
listener %s {
	protocol tls
	table hosts
	fallback %s
}
table hosts {
	^a\.test$ %s
	.* %s
}
`, addr, rest, a, rest), addr)
	}},
}

// TestPeers sends the same table to the balancers Debian ships. What each makes of each hello is recorded under
// testdata/peers; the test holds it, so that what the documentation says of them stays true. With SNICKET_RECORD=1
// the files are written anew.
func TestPeers(t *testing.T) {
	for _, p := range peers {
		t.Run(p.name, func(t *testing.T) {
			a, rest, _, _ := namedBackends(t)
			addr := lab.FreeAddr(t)
			p.start(t, addr, a.Addr(), rest.Addr())
			cases := hellos(t)
			lines := make([]string, len(cases))
			t.Run("hellos", func(t *testing.T) {
				for i, tt := range cases {
					t.Run(tt.Name, func(t *testing.T) {
						t.Parallel()
						answer, ending := exchange(t, dial(t, addr), tt.Segments(), 5*time.Second)
						lines[i] = fmt.Sprintf("%-24s %s", tt.Name, verdict(answer, ending))
					})
				}
			})
			file := filepath.Join("testdata", "peers", p.name+".txt")
			if os.Getenv("SNICKET_RECORD") != "" {
				if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			want := strings.Split(strings.TrimSpace(string(text)), "\n")
			if len(want) != len(lines) {
				t.Fatalf("%s has %d lines, the table %d: record anew with SNICKET_RECORD=1", file, len(want), len(lines))
			}
			for i := range lines {
				name, rest, _ := strings.Cut(want[i], " ")
				either := strings.Split(strings.TrimSpace(rest), " or ") // what a peer does now so, now so
				if got := strings.TrimSpace(strings.TrimPrefix(lines[i], name+" ")); !slices.Contains(either, got) {
					t.Errorf("got  %q\nwant %q", lines[i], want[i])
				}
			}
		})
	}
}
