//go:build e2e

package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
)

// ownLog runs a program in a mount namespace of its own where /dev/log is the file log in a directory.
const ownLog = `set -e
d=$1; shift
mkdir -p "$d/dev"
mount --rbind /dev "$d/dev"
mount -t tmpfs none /dev
ln -s "$d"/dev/* /dev/
ln -s "$d/log" /dev/log
exec "$@"`

// withLog is a command that runs snicket where /dev/log is dir/log.
func withLog(t *testing.T, dir string, args ...string) lab.Command {
	return lab.Command{
		Path: lab.Require(t, "unshare", "util-linux"),
		Args: append([]string{"--mount", "sh", "-c", ownLog, "sh", dir, program(t, "cmd/snicket")}, args...),
		Env:  []string{"RUNTIME_DIRECTORY=" + dir},
	}
}

// rsyslog listens for datagrams at dir/log, and writes what it reads of each message to dir/messages.
func rsyslog(t *testing.T, dir string) *lab.Process {
	conf := lab.WriteFile(t, filepath.Join(dir, "rsyslog.conf"), fmt.Appendf(nil, `
module(load="imuxsock" SysSock.Use="off")
input(type="imuxsock" Socket="%[1]s/log" RateLimit.Interval="0")
template(name="read" type="string" string="%%syslogfacility-text%%.%%syslogseverity-text%% %%programname%%:%%msg%%\n")
action(type="omfile" file="%[1]s/messages" template="read")
`, dir))
	return lab.Start(t, lab.Command{
		Path: lab.Require(t, "rsyslogd", "rsyslog"), Args: []string{"-n", "-f", conf, "-i", filepath.Join(dir, "pid")},
	})
}

// socat listens for one stream at dir/log, and appends what it says to dir/messages.
func socat(t *testing.T, dir string) *lab.Process {
	return lab.Start(t, lab.Command{
		Path: lab.Require(t, "socat", "socat"), Args: []string{
			"-u", "UNIX-LISTEN:" + filepath.Join(dir, "log") + ",unlink-early", "OPEN:" + filepath.Join(dir, "messages") + ",creat,append",
		},
	})
}

// TestSyslog has records of sessions go to syslog while that is restarted, and while it stays away: what comes during a
// restart arrives, what is lost is counted, and then all goes on.
func TestSyslog(t *testing.T) {
	for _, tc := range []struct {
		name, begins string
		start        func(*testing.T, string) *lab.Process
	}{
		{"rsyslog by datagrams", "daemon.info snicket: time=", rsyslog},
		{"socat by streams", "<30>", socat},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			backend := lab.Serve(t, lab.Echo(), lab.Options{})
			addr, seen := lab.FreeAddr(t), lab.FreeAddr(t)
			file := lab.WriteFile(t, filepath.Join(dir, "snicket.toml"), []byte(
				listener(addr)+passthrough("a.test", "a", []string{backend.Addr()})+
					fmt.Sprintf("[admin]\naddress = %q\n[log]\naccess = \"syslog\"\n", seen)))

			p := lab.Start(t, withLog(t, dir, "check", "-c", file))
			p.WaitLine(`snicket.toml:\d+: access log: .*: no syslog listens here; name a file`)
			if got := p.Wait(0); got != 1 {
				t.Errorf("got exit status %d of a check without syslog, want 1", got)
			}
			syslog := tc.start(t, dir)
			listens := func() bool {
				// Of a stream only from outside: it takes one.
				info, err := os.Stat(filepath.Join(dir, "log"))
				return err == nil && info.Mode().Type() == os.ModeSocket
			}
			await(t, "syslog listens", listens)

			p = lab.Start(t, withLog(t, dir, "run", "-c", file))
			p.WaitLine(`\bmsg=ready\b`)
			arrived := func() int {
				text, _ := os.ReadFile(filepath.Join(dir, "messages")) // made with the first
				return strings.Count(string(text), " outcome=ok ")
			}
			sessions := 0
			some := func() {
				for range 5 {
					c := dial(t, addr)
					exchangeEcho(t, c, lab.Hello("a.test"))
					c.Close()
					sessions++
				}
			}
			some()
			await(t, "the first records arrive", func() bool { return arrived() == sessions })

			syslog.Kill() // its socket stays behind
			some()
			syslog = tc.start(t, dir)
			await(t, "those of a restart arrive", func() bool { return arrived() == sessions })

			syslog.Signal(syscall.SIGTERM)
			syslog.Wait(0)
			some()
			p.WaitLine(`msg="access log loses records" error=".*(no such file|refused)`)
			tc.start(t, dir)
			some()
			lost, err := strconv.Atoi(p.WaitLine(`msg="access log is written again" lost=(\d+)`)[1])
			if err != nil || lost < 1 || lost > 10 {
				t.Errorf("got %d lost, want some of those while it was away", lost)
			}
			await(t, "all but those lost arrive", func() bool { return arrived() == sessions-lost })
			if got, want := mustTool(t, "", "curl", "-fsS", "http://"+seen+"/metrics"), fmt.Sprintf("\nsnicket_log_dropped_total %d\n", lost); !strings.Contains(got, want) {
				t.Errorf("got no %q in the metrics", want)
			}
			text, err := os.ReadFile(filepath.Join(dir, "messages"))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(string(text), tc.begins) {
				t.Errorf("got %.60q, want that it begins %q", text, tc.begins)
			}
		})
	}
}
