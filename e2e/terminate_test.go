//go:build e2e

package e2e_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
)

// edge is a balancer that terminates a.test in front of one laboratory server.
type edge struct {
	*balancer
	addr    string
	edge    *lab.Authority
	backend *lab.Server
}

func newEdge(t *testing.T, handler lab.Handler, reencrypt bool, settings string) edge {
	t.Helper()
	e := edge{addr: lab.FreeAddr(t), edge: lab.NewAuthority(t, "edge authority")}
	cert, key := e.edge.WriteServer(t, "a.test")
	off := "[pools.a.health]\nenabled = false\n"
	if reencrypt {
		inner := lab.NewAuthority(t, "backend authority")
		e.backend = lab.Serve(t, handler, lab.Options{TLS: inner.Server(t, "a.test")})
		e.balancer = run(t, listener(e.addr)+settings+
			reencrypted("a.test", "a", cert, key, inner.WriteCA(t), []string{e.backend.Addr()})+off)
		return e
	}
	e.backend = lab.Serve(t, handler, lab.Options{})
	e.balancer = run(t, listener(e.addr)+settings+terminated("a.test", "a", cert, key, []string{e.backend.Addr()})+off)
	return e
}

// TestCapture looks at the wire between the balancer and its backend: plain text to a plain backend, none to a
// re-encrypted one.
func TestCapture(t *testing.T) {
	const secret = "the quick brown fox jumps over the lazy dog"
	for _, reencrypt := range []bool{false, true} {
		t.Run(fmt.Sprintf("re-encrypt %v", reencrypt), func(t *testing.T) {
			e := newEdge(t, lab.Echo(), reencrypt, "")
			lab.Require(t, "tcpdump", "tcpdump")
			file := filepath.Join(t.TempDir(), "wire.pcap")
			dump := lab.Start(t, lab.Command{Path: "tcpdump", Args: []string{
				"-i", "lo", "-U", "--immediate-mode", "-Z", "root", "-w", file, "--print", "-l", "tcp port " + port(t, e.backend.Addr()),
			}})
			dump.WaitLine("listening on lo")
			if got := ask(t, e.addr, e.edge.Client("a.test"), secret); got != secret {
				t.Fatalf("got %q, want the echo", got)
			}
			dump.WaitLines(0, `Flags \[F`, 2) // each packet is printed once it is written
			dump.Signal(syscall.SIGINT)
			dump.Wait(0)
			wire, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if len(wire) < 500 {
				t.Fatalf("captured %d bytes: not a session", len(wire))
			}
			if got := bytes.Contains(wire, []byte(secret)); got == reencrypt {
				t.Errorf("plain text on the wire: got %v, want %v", got, !reencrypt)
			}
		})
	}
}

// TestCutStream ends a backend's side without close_notify, and a client's: a cut is never sold as an end.
func TestCutStream(t *testing.T) {
	t.Run("TLS backend cut by FIN", func(t *testing.T) {
		e := newEdge(t, func(c *lab.Conn) {
			io.ReadFull(c, make([]byte, 1))
			c.Write([]byte("half of it"))
			c.TCP().CloseWrite() // no close_notify
			io.Copy(io.Discard, c)
		}, true, "")
		c := dialTLS(t, e.addr, e.edge.Client("a.test"))
		c.Write([]byte("x"))
		if got, err := io.ReadAll(c); err == nil {
			t.Errorf("got %q and a clean end, want an error", got)
		}
	})
	t.Run("backend reset", func(t *testing.T) {
		for _, reencrypt := range []bool{false, true} {
			e := newEdge(t, lab.ResetAfter(1), reencrypt, "")
			c := dialTLS(t, e.addr, e.edge.Client("a.test"))
			c.Write([]byte("x"))
			if _, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("re-encrypt %v: got %v, want a reset", reencrypt, err)
			}
		}
	})
	t.Run("client cut by FIN", func(t *testing.T) {
		seen := make(chan error, 1)
		e := newEdge(t, func(c *lab.Conn) {
			_, err := io.Copy(io.Discard, struct{ io.Reader }{c})
			seen <- err
		}, false, "")
		tcp := dial(t, e.addr)
		c := tls.Client(tcp, e.edge.Client("a.test"))
		if _, err := c.Write([]byte("half of it")); err != nil {
			t.Fatal(err)
		}
		tcp.CloseWrite() // no close_notify
		if err := <-seen; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the plain backend got %v, want a reset", err)
		}
	})
}

// TestVerification refuses a backend whose certificate another authority issued, or that is for another name.
func TestVerification(t *testing.T) {
	edgeCA, good, foreign := lab.NewAuthority(t, "edge"), lab.NewAuthority(t, "good"), lab.NewAuthority(t, "foreign")
	cert, key := edgeCA.WriteServer(t, "a.test")
	for name, conf := range map[string]*tls.Config{
		"another authority": foreign.Server(t, "a.test"),
		"another name":      good.Server(t, "b.test"),
	} {
		t.Run(name, func(t *testing.T) {
			backend := lab.Serve(t, lab.Echo(), lab.Options{TLS: conf})
			addr := lab.FreeAddr(t)
			b := run(t, listener(addr)+reencrypted("a.test", "a", cert, key, good.WriteCA(t), []string{backend.Addr()})+
				"[pools.a.health]\nenabled = false\n")
			mark := b.Mark()
			c := dialTLS(t, addr, edgeCA.Client("a.test"))
			c.Write([]byte("x"))
			if got, err := io.ReadAll(c); err == nil {
				t.Errorf("got %q and a clean end, want an error", got)
			}
			b.waitRecord(mark, record{"outcome": "backend-tls-failed"})
		})
	}
}

// TestCertificateChoice serves an RSA and an ECDSA certificate for one name, each to the clients that can use it.
func TestCertificateChoice(t *testing.T) {
	ca := lab.NewAuthority(t, "edge")
	ecCert, ecKey := ca.WriteServer(t, "a.test")
	rsaCert, rsaKey := lab.WriteCertificate(t, ca.Issue(t, lab.Certificate{Names: []string{"a.test"}, RSA: true}))
	echo := lab.Serve(t, lab.Echo(), lab.Options{})
	addr := lab.FreeAddr(t)
	run(t, listener(addr)+fmt.Sprintf("[[routes]]\nhosts = [\"a.test\"]\npool = \"a\"\nmode = \"terminate\"\n[routes.tls]\n"+
		"certificates = [{ cert = %q, key = %q }, { cert = %q, key = %q }]\n", rsaCert, rsaKey, ecCert, ecKey)+
		poolOf("a", []string{echo.Addr()}))
	for cipher, want := range map[string]string{
		"ECDHE-ECDSA-AES128-GCM-SHA256": "id-ecPublicKey", "ECDHE-RSA-AES128-GCM-SHA256": "rsaEncryption",
	} {
		out := mustTool(t, "", "sh", "-c", `openssl s_client -connect "$1" -servername a.test -tls1_2 -cipher "$2" </dev/null 2>/dev/null | openssl x509 -noout -text`,
			"sh", addr, cipher)
		if !bytes.Contains([]byte(out), []byte(want)) {
			t.Errorf("%s: no %s key in\n%s", cipher, want, out)
		}
	}
}

// typed is an openssl s_client whose keyboard is the test. It takes one command or line at a time.
type typed struct {
	*lab.Process
	keys io.Writer
	mark int
}

func newTyped(t *testing.T, addr string, args ...string) *typed {
	t.Helper()
	keys, keyboard, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer keys.Close()
	t.Cleanup(func() { keyboard.Close() })
	return &typed{keys: keyboard, Process: lab.Start(t, lab.Command{
		Path: "openssl", Stdin: keys, Args: append([]string{"s_client", "-connect", addr, "-servername", "a.test"}, args...),
	})}
}

// line types a line and waits for one that matches.
func (c *typed) line(t *testing.T, line, pattern string) {
	t.Helper()
	if _, err := io.WriteString(c.keys, line+"\n"); err != nil {
		t.Fatal(err)
	}
	_, c.mark = c.WaitLineAfter(c.mark, pattern)
}

// TestKeyUpdate changes the keys of TLS 1.3 in mid-session, on one side and on both.
func TestKeyUpdate(t *testing.T) {
	for _, reencrypt := range []bool{false, true} {
		t.Run(fmt.Sprintf("re-encrypt %v", reencrypt), func(t *testing.T) {
			e := newEdge(t, lab.Echo(), reencrypt, "")
			mark := e.Mark()
			c := newTyped(t, e.addr, "-tls1_3")
			c.line(t, "with the first keys", "^with the first keys$")
			for i := range 3 {
				c.line(t, "k", "KEYUPDATE")
				c.line(t, fmt.Sprintf("own update %d", i), fmt.Sprintf("^own update %d$", i))
				c.line(t, "K", "KEYUPDATE")
				c.line(t, fmt.Sprintf("both update %d", i), fmt.Sprintf("^both update %d$", i))
			}
			c.line(t, "Q", "DONE")
			e.waitRecord(mark, record{"outcome": "ok", "tls_version": "1.3"})
		})
	}
}

// TestRenegotiation has a client of TLS 1.2 ask for new keys: it is refused, and nobody else is the worse for it.
func TestRenegotiation(t *testing.T) {
	e := newEdge(t, lab.Echo(), false, "")
	mark := e.Mark()
	c := newTyped(t, e.addr, "-tls1_2")
	c.line(t, "at first", "^at first$")
	c.line(t, "R", "unexpected message|no renegotiation")
	e.waitRecord(mark, record{"outcome": "client-reset", "tls_version": "1.2"})
	if got := ask(t, e.addr, e.edge.Client("a.test"), "after it"); got != "after it" {
		t.Errorf("got %q, want the echo", got)
	}
}
