//go:build e2e

package e2e_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/internal/lab"
)

// TestResumeAcrossProcesses has openssl take a session from one balancer to another: it is resumed if the two share
// the secret of their tickets, whatever has become of the first.
func TestResumeAcrossProcesses(t *testing.T) {
	ca := lab.NewAuthority(t, "edge")
	cert, key := ca.WriteServer(t, "a.test")
	echo := lab.Serve(t, lab.Echo(), lab.Options{})
	secret := func(name string) string {
		return lab.WriteFile(t, filepath.Join(t.TempDir(), name), []byte(strings.Repeat(name, 48)))
	}
	edge := func(file string) (addr string, b *balancer) {
		addr = lab.FreeAddr(t)
		tickets := ""
		if file != "" {
			tickets = fmt.Sprintf("[tls]\ntickets = { secret_file = %q }\n", file)
		}
		return addr, run(t, listener(addr)+terminated("a.test", "a", cert, key, []string{echo.Addr()})+tickets)
	}
	shared := secret("s")
	first, process := edge(shared)
	second, _ := edge(shared)
	strange, _ := edge(secret("x"))
	alone, _ := edge("")
	session := func(addr, verdict string, args ...string) {
		t.Helper()
		c := newTyped(t, addr, args...)
		c.WaitLine("^" + verdict + ", TLSv1")
		c.line(t, "hello", "^hello$") // by then the ticket is there
		c.line(t, "Q", "DONE")
		c.Wait(lab.Patience)
	}
	versions := []string{"-tls1_2", "-tls1_3"}
	saved := map[string]string{}
	for _, version := range versions {
		saved[version] = filepath.Join(t.TempDir(), "session.pem")
		session(first, "New", version, "-sess_out", saved[version])
		if _, err := os.Stat(saved[version]); err != nil {
			t.Fatalf("%s: no session was saved: %v", version, err)
		}
		session(first, "Reused", version, "-sess_in", saved[version])
		session(second, "Reused", version, "-sess_in", saved[version])
		session(strange, "New", version, "-sess_in", saved[version])
		session(alone, "New", version, "-sess_in", saved[version])
	}
	process.Signal(unix.SIGTERM)
	process.Wait(lab.Patience)
	restarted, b := edge(shared)
	for _, version := range versions {
		mark := b.Mark()
		session(restarted, "Reused", version, "-sess_in", saved[version])
		b.waitRecord(mark, record{"outcome": "ok", "resumed": "true"})
	}
}

// TestReencryptToNginx has nginx tell what it was asked for: the name, the protocol agreed on with the client, our
// certificate, and a session resumed from the second time on.
func TestReencryptToNginx(t *testing.T) {
	edge, inner := lab.NewAuthority(t, "edge"), lab.NewAuthority(t, "inner")
	cert, key := edge.WriteServer(t, "a.test")
	backendCert, backendKey := inner.WriteServer(t, "a.test", "fixed.test")
	own, ownKey := lab.WriteCertificate(t, inner.Issue(t, lab.Certificate{Names: []string{"balancer.test"}, Client: true}))
	ca := inner.WriteCA(t)
	for _, tt := range []struct {
		name, settings string
		want           []string // of each session
	}{
		{
			name: "the client's name", settings: "",
			want: []string{"a.test by http/1.1 from NONE reused .", "a.test by http/1.1 from NONE reused r"},
		},
		{
			name: "a name and a certificate", settings: fmt.Sprintf("server_name = \"fixed.test\"\ncert = %q\nkey = %q\n", own, ownKey),
			want: []string{"fixed.test by http/1.1 from SUCCESS reused .", "fixed.test by http/1.1 from SUCCESS reused r"},
		},
		{
			name: "no cache", settings: "session_cache = 0\n",
			want: []string{"a.test by http/1.1 from NONE reused .", "a.test by http/1.1 from NONE reused ."},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			backend, addr := lab.FreeAddr(t), lab.FreeAddr(t)
			startNginx(t, fmt.Sprintf(`http { access_log off; server {
	listen %s ssl;
	ssl_certificate %s;
	ssl_certificate_key %s;
	ssl_client_certificate %s;
	ssl_verify_client optional;
	ssl_session_cache shared:s:1m;
	return 200 "$ssl_server_name by $ssl_alpn_protocol from $ssl_client_verify reused $ssl_session_reused\n";
} }`, backend, backendCert, backendKey, ca), backend)
			run(t, listener(addr)+strings.Replace(terminated("a.test", "a", cert, key, []string{backend}), "[routes.tls]\n", "[routes.tls]\nalpn = [\"http/1.1\"]\n", 1)+
				fmt.Sprintf("[pools.a.tls]\nca = %q\n%s[pools.a.health]\nenabled = false\n", ca, tt.settings))
			for i, want := range tt.want {
				conf := edge.Client("a.test")
				conf.NextProtos = []string{"h2", "http/1.1"}
				c := dialTLS(t, addr, conf)
				if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"); err != nil {
					t.Fatal(err)
				}
				answer, err := io.ReadAll(c)
				if err != nil {
					t.Fatal(err)
				}
				c.Close()
				if !strings.HasSuffix(string(answer), "\r\n"+want+"\n") {
					t.Errorf("session %d: got %q, want %q", i+1, answer, want)
				}
			}
		})
	}
}

// BenchmarkReencrypt measures what one short session to a TLS backend costs the balancer, with sessions to resume and
// without: cpu-µs/op is processor time of its process alone.
func BenchmarkReencrypt(b *testing.B) {
	edge, inner := lab.NewAuthority(b, "edge"), lab.NewAuthority(b, "inner")
	cert, key := edge.WriteServer(b, "a.test")
	ca := inner.WriteCA(b)
	backend := lab.Serve(b, lab.Echo(), lab.Options{TLS: inner.Server(b, "a.test")})
	for _, resumed := range []struct {
		name    string
		client  bool
		backend int
	}{{"full", false, 0}, {"backend-resumed", false, 1024}, {"both-resumed", true, 1024}} {
		b.Run(resumed.name, func(b *testing.B) {
			addr := lab.FreeAddr(b)
			p := run(b, listener(addr)+terminated("a.test", "a", cert, key, []string{backend.Addr()})+
				fmt.Sprintf("[pools.a.tls]\nca = %q\nsession_cache = %d\n[pools.a.health]\nenabled = false\n[log]\naccess = \"off\"\n", ca, resumed.backend))
			conf := edge.Client("a.test")
			if resumed.client {
				conf.ClientSessionCache = tls.NewLRUClientSessionCache(1)
			}
			ask(b, addr, conf, "first")
			before := processorTime(b, p.PID())
			b.ReportAllocs()
			for b.Loop() {
				ask(b, addr, conf, "x")
			}
			b.ReportMetric(float64((processorTime(b, p.PID())-before).Nanoseconds())/1e3/float64(b.N), "cpu-µs/op")
		})
	}
}

// processorTime is what a process has used of the processors, by its clock in the kernel.
func processorTime(t testing.TB, pid int) time.Duration {
	t.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|2), &now); err != nil { // CPUCLOCK_SCHED of include/linux/posix-timers.h
		t.Fatal(err)
	}
	return time.Duration(now.Nano())
}
