package server_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/certs"
	"github.com/snicketlb/snicket/pkg/server"
)

// An access log that takes nothing is told of once, with what it cost at the end,
// and disturbs no session.
func TestAccessLogOnAFullDisk(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	backend := lab.Serve(t, lab.Echo(), lab.Options{TLS: ca.Server(t, "a.test")})
	r := start(t, nil, "[log]\naccess = \"/dev/full\"\n"+passthrough("a.test", backend.Addr()))
	hangUp(t, r.session(ca, "a.test"))
	r.log.wait(t, `level=ERROR msg="access log loses records" error="write /dev/full: no space left on device"`, 1)
	hangUp(t, r.session(ca, "a.test"))
	r.signals <- syscall.SIGTERM
	r.wait()
	r.log.wait(t, `msg=stopped cut=0 records_lost=2$`, 1)
	if got := strings.Count(r.log.String(), "loses records"); got != 1 {
		t.Errorf("got told %d times, want once", got)
	}
}

// A FIFO without a reader is refused with its line, at a start and at a reload; one
// whose reader sleeps delays neither a reload nor the end.
func TestAccessLogFIFO(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	backend := lab.Serve(t, lab.Echo(), lab.Options{TLS: ca.Server(t, "a.test")})
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("[log]\naccess = %q\n", fifo) + passthrough("a.test", backend.Addr())
	path := lab.WriteFile(t, filepath.Join(t.TempDir(), "snicket.toml"), []byte(preamble+text))
	s, err := server.New(path, server.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var bad *server.ConfigError
	if err = s.Run(t.Context(), nil); !errors.As(err, &bad) || bad.Problems[0].Pos.Line != 7 || !strings.Contains(bad.Problems[0].Hint, "start the reader") {
		t.Fatalf("got %v, want a problem at line 7 and a hint", err)
	}

	r := start(t, nil, passthrough("a.test", backend.Addr()))
	r.write(preamble + text)
	r.signals <- syscall.SIGHUP
	r.log.wait(t, `msg="reload failed" problems="[^"]*snicket.toml:7: access log: .*FIFO without a reader`, 1)

	reader, err := os.OpenFile(fifo, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	r.reload(1, text)
	// More than the pipe holds.
	for range 300 {
		r.session(ca, "a.test").Close()
	}
	backend.WaitOpen(t, 0)
	r.reload(2, passthrough("a.test", backend.Addr()))
	r.signals <- syscall.SIGTERM
	r.wait()
	r.log.wait(t, `msg=stopped cut=0 records_lost=\d+$`, 1)
}

// Logs that nobody reads keep no signal from being obeyed.
func TestLogsThatStall(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	backend := lab.Serve(t, lab.Echo(), lab.Options{TLS: ca.Server(t, "a.test")})
	goOn := make(chan struct{})
	defer close(goOn)
	r := start(t, nil, passthrough("a.test", backend.Addr()))
	hangUp(t, r.session(ca, "a.test"))
	r.access.wait(t, `outcome=ok`, 1)
	r.access.stall(goOn)
	r.log.stall(goOn)
	hangUp(t, r.session(ca, "a.test"))
	r.write(preamble + "[[routes]]\nhosts = [\"b.test\"]\nbackends = [\"" + backend.Addr() + "\"]\n")
	r.signals <- syscall.SIGHUP
	r.signals <- syscall.SIGTERM // taken when the reload is over
	r.wait()
}

// A session that a drain has to cut is counted.
func TestStoppedCounts(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	backend := lab.Serve(t, lab.Echo(), lab.Options{TLS: ca.Server(t, "a.test")})
	r := start(t, nil, "[timeouts]\ndrain = \"10ms\"\n"+passthrough("a.test", backend.Addr()))
	cut := r.session(ca, "a.test")
	r.signals <- syscall.SIGTERM
	ended(t, cut)
	r.wait()
	r.log.wait(t, `msg=stopped cut=1$`, 1)
}

// A reload says what changed, in words, also where the file is the same; and no
// warning twice.
func TestReloadSaysWhatChanged(t *testing.T) {
	lab.Leaks(t)
	dir := t.TempDir()
	a, err := certs.NewAuthority("root")
	if err != nil {
		t.Fatal(err)
	}
	issue(t, dir, "www", a, certs.IssueOptions{Names: []string{"a.test"}})
	issue(t, dir, "new", a, certs.IssueOptions{Names: []string{"a.test"}})
	lab.WriteFile(t, filepath.Join(dir, "ca.pem"), a.PEM())
	text := fmt.Sprintf(`
[[routes]]
hosts = ["a.test"]
mode = "terminate"
pool = "web"
[routes.tls]
certificates = [%q]
[pools.web]
backends = ["127.0.0.1:8443"]
[pools.web.health]
enabled = false
`, filepath.Join(dir, "www.pem"))
	r := start(t, nil, text)
	r.log.wait(t, `msg=ready `, 1)
	warnings := strings.Count(r.log.String(), "level=WARN")
	if warnings == 0 {
		t.Fatal("got no warning of a plain backend on 8443")
	}
	other := strings.ReplaceAll(text, "www.pem", "new.pem")
	for i, tc := range []struct{ name, text, want string }{
		{"nothing", text, `generation=2 changes=none$`},
		// Files are watched as well: who sees the new one first tells of it.
		{"a certificate", text, `generation=3 (certificates="renewed: www.pem"|changes=none)$`},
		{"another certificate", other, `generation=4 routes="changed: a.test" certificates="added: new.pem; removed: www.pem"$`},
		{"settings", other + "[timeouts]\nidle = \"2h\"\n[log]\naccess = \"off\"\n", `generation=5 routes="changed: a.test" settings="timeouts, log"$`},
		{"a listener", other + "[listeners.more]\naddress = \"127.0.0.3:0\"\n", `generation=6 listeners="added: more" routes="changed: a.test" settings="timeouts, log"$`},
		{"a second listener", other + "[listeners.more]\naddress = \"127.0.0.3:0\"\n[listeners.third]\naddress = \"127.0.0.2:0\"\n", `generation=7 listeners="added: third"$`},
		{"the rest", strings.Replace(other, "[[routes]]", "[tls.tickets]\nrotate = \"13h\"\n[acme]\nemail = \"a@a.test\"\n[[routes]]", 1), `settings="tls, acme"$`},
	} {
		if tc.name == "a certificate" {
			issue(t, dir, "www", a, certs.IssueOptions{Names: []string{"a.test"}})
		}
		if got := r.reload(i+1, tc.text); !matches(tc.want, got) {
			t.Errorf("%s: got %s, want %s", tc.name, got, tc.want)
		}
	}
	if got := strings.Count(r.log.String(), "renewed: www.pem"); got != 1 {
		t.Errorf("got told %d times of the certificate, want once", got)
	}
	if got := strings.Count(r.log.String(), "level=WARN"); got != warnings {
		t.Errorf("got %d warnings after reloads that brought none, want %d", got, warnings)
	}
}

// A certificate that ran out takes down its own host, not the process: neither a
// start nor a reload is refused, and both say so loudly.
func TestRunWithAnExpiredCertificate(t *testing.T) {
	lab.Leaks(t)
	dir := t.TempDir()
	a, err := certs.NewAuthority("root")
	if err != nil {
		t.Fatal(err)
	}
	issue(t, dir, "old", a, certs.IssueOptions{Names: []string{"old.test"}, NotBefore: certificateTime(-48), NotAfter: certificateTime(-24)})
	ca := lab.NewAuthority(t, "ca")
	backend := lab.Serve(t, lab.Echo(), lab.Options{TLS: ca.Server(t, "a.test")})
	text := fmt.Sprintf(`
[[routes]]
hosts = ["old.test"]
mode = "terminate"
backends = ["127.0.0.1:8080"]
[routes.tls]
certificates = [%q]
`, filepath.Join(dir, "old.pem")) + passthrough("a.test", backend.Addr())
	r := start(t, nil, text)
	const warning = `level=WARN msg="certificate is not valid now, clients will refuse it" warning=".*snicket.toml:12: warning: .*old.pem: .* expired on `
	r.log.wait(t, warning, 1)
	r.session(ca, "a.test")
	r.reload(1, text+"[timeouts]\nidle = \"2h\"\n")
	r.log.wait(t, warning, 2)
	r.session(ca, "a.test")
	if _, problems := server.Check(r.path); problems.Err() == nil {
		t.Error("got nothing from check, want the certificate refused")
	}
	if _, err := server.Explain(r.path, server.Query{Name: "a.test"}); err != nil {
		t.Errorf("explain: %v", err)
	}
	// What is wrong at any time is refused still.
	issue(t, dir, "old", a, certs.IssueOptions{Names: []string{"old.test"}, RSA: true, RSABits: 1024})
	r.signals <- syscall.SIGHUP
	r.log.wait(t, `msg="reload failed" problems=".*RSA key of 1024 bits`, 1)
}

// Check says that no syslog listens, where records are to go there.
func TestCheckSyslog(t *testing.T) {
	dir := t.TempDir()
	file := lab.WriteFile(t, filepath.Join(dir, "snicket.toml"), []byte("[log]\naccess = \"syslog\"\n"+passthrough("a.test", "127.0.0.1:443")))
	dead, live := filepath.Join(dir, "dead"), filepath.Join(dir, "live")
	if fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM, 0); err != nil {
		t.Fatal(err)
	} else if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: dead}); err != nil {
		t.Fatal(err)
	} else {
		syscall.Close(fd)
	}
	syslog(t, live)
	stream, err := net.Listen("unix", filepath.Join(dir, "stream"))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	for _, tc := range []struct{ name, at, want string }{
		{"datagrams", live, ""},
		{"streams", stream.Addr().String(), ""},
		{"ended", dead, "connect: connection refused"},
		{"none", filepath.Join(dir, "none"), "connect: no such file or directory"},
		{"a file", file, "connect: connection refused"},
	} {
		var got, want string
		for _, p := range server.CheckWithSyslog(file, tc.at) {
			got += fmt.Sprintf("%d: %s: %s", p.Pos.Line, p.Text, p.Hint)
		}
		if tc.want != "" {
			want = fmt.Sprintf("2: access log: dial unixgram %s: %s: no syslog listens here; name a file", tc.at, tc.want)
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", tc.name, got, want)
		}
	}
}

func TestCheckPlaces(t *testing.T) {
	dir := t.TempDir()
	file := lab.WriteFile(t, filepath.Join(dir, "file"), []byte("mine"))
	stale := filepath.Join(dir, "stale.sock")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: stale}); err != nil {
		t.Fatal(err)
	}
	syscall.Close(fd)
	log := func(access string) string { return fmt.Sprintf("[log]\naccess = %q\n", access) }
	socket := func(path string) string { return fmt.Sprintf("[listeners.l]\naddress = %q\n", "unix:"+path) }
	for _, tc := range []struct{ name, text, want string }{
		{"a new log", log(dir + "/new.log"), ""},
		{"an old log", log(file), ""},
		{"a log that is a directory", log(dir), `2: access log: open DIR: is a directory: name a file in it`},
		{"a log without its directory", log(dir + "/none/access.log"), `2: access log: stat DIR/none: no such file or directory: create the directory`},
		{"a log below a file", log(file + "/access.log"), `2: access log: stat DIR/file/access.log: not a directory: `},
		{"a new socket", socket(dir + "/new.sock"), ""},
		{"a stale socket", socket(stale), ""},
		{"a socket that is a file", socket(file), `2: listener "l": DIR/file is a file that is no socket: name another path`},
		{"a socket without its directory", socket(dir + "/none/s.sock"), `2: listener "l": stat DIR/none: no such file or directory: create the directory`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := lab.WriteFile(t, filepath.Join(t.TempDir(), "snicket.toml"), []byte(tc.text+passthrough("a.test", "127.0.0.1:443")))
			_, problems := server.Check(path)
			var got string
			for _, p := range problems {
				got += strings.ReplaceAll(fmt.Sprintf("%d: %s: %s", p.Pos.Line, p.Text, p.Hint), dir, "DIR")
			}
			if got != tc.want && (tc.want == "" || !strings.HasPrefix(got, tc.want)) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			if _, err := server.New(path, server.Options{Stderr: io.Discard}); (err != nil) != (tc.want != "") {
				t.Errorf("run: got %v, want an error %v", err, tc.want != "")
			}
		})
	}
	if _, err := os.Stat(dir + "/new.log"); err == nil {
		t.Error("check made the log")
	}
}
