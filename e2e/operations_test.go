//go:build e2e

package e2e_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
)

// step is a command of a document, with what it says it prints.
type step struct {
	line    int
	command string
	prints  []string
	beside  string // a command that is run elsewhere, while this one runs
}

// steps reads what stands behind a $ in the document's blocks, and the commands of its table.
func steps(t *testing.T, path string) (commands, table []step) {
	t.Helper()
	row := regexp.MustCompile("^\\| `(snicket [^`]+)`")
	block := false
	for i, line := range strings.Split(read(t, path), "\n") {
		command, isCommand := strings.CutPrefix(line, "$ ")
		here, elsewhere := strings.CutSuffix(command, "   # elsewhere")
		last := len(commands) - 1
		switch {
		case strings.HasPrefix(line, "```"):
			block = !block
		case block && elsewhere:
			commands[last].beside = here
		case block && isCommand:
			commands = append(commands, step{line: i + 1, command: command})
		case block && last >= 0 && commands[last].line+len(commands[last].prints) == i:
			commands[last].prints = append(commands[last].prints, line)
		case !block && row.MatchString(line):
			plain := regexp.MustCompile(` \[[^]]*\]`).ReplaceAllString(row.FindStringSubmatch(line)[1], "")
			table = append(table, step{line: i + 1, command: strings.Replace(plain, "NAME", "www.example.com", 1)})
		}
	}
	return commands, table
}

// pattern is what a line of a document stands for: numbers and dates are others, gaps of a table as wide as they are.
func pattern(line string) *regexp.Regexp {
	var parts []string
	for field := range strings.FieldsSeq(line) {
		quoted := regexp.QuoteMeta(field)
		quoted = strings.ReplaceAll(quoted, "…", ".*")
		if !regexp.MustCompile(`\d\.\d+\.\d`).MatchString(field) { // an address is what it is
			quoted = regexp.MustCompile(`\d+`).ReplaceAllString(quoted, `\d+`)
		}
		parts = append(parts, quoted)
	}
	return regexp.MustCompile(`(?m)^\s*` + strings.Join(parts, `\s+`) + `\s*$`)
}

// TestOperations runs every command of docs/operations.md, in its order and as it stands, on a machine that is as the
// document has it: it has the document's addresses and paths, in namespaces of its own.
func TestOperations(t *testing.T) {
	commands, table := steps(t, "../docs/operations.md")
	if len(commands) < 15 || len(table) < 8 {
		t.Fatalf("found %d commands and %d in the table", len(commands), len(table))
	}
	m := newMachine(t)
	m.start(filepath.Join(m.dir, "load"), "serve", "-listen", "10.0.1.5:8443").WaitLine("^listening")
	m.start(filepath.Join(m.dir, "load"), "serve", "-listen", "10.0.1.6:8443").WaitLine("^listening")
	m.start(filepath.Join(m.dir, "load"), "serve", "-listen", "10.0.1.7:8443").WaitLine("^listening")
	m.start("/usr/bin/snicket", "run").WaitLine(`\bmsg=ready\b`)
	held, leave := m.hold(42)
	defer leave()
	for _, s := range table {
		m.run(s)
	}
	for _, s := range commands {
		switch s.command {
		case "snicket drain web/b2 --wait":
			// Who is there stays until the operator waits for it.
			waiting := m.start("bash", "-c", s.command)
			m.wait("draining", func() bool { return strings.Contains(m.output("snicket backends web"), "draining") })
			leave()
			if code := waiting.Wait(0); code != 0 {
				t.Errorf("line %d: %s: exit status %d", s.line, s.command, code)
			}
			for _, want := range s.prints {
				waiting.WaitLine(pattern(want).String())
			}
			if got := result(held); got["ok"] != 42 {
				t.Errorf("got %v of the sessions held, want all ok: the removed backend's have drain to end", got)
			}
			continue
		case "snicket upgrade":
			held, leave := m.hold(28)
			m.run(s)
			leave()
			if got := result(held); got["ok"] != 28 {
				t.Errorf("line %d: after the upgrade the sessions held are %v, want all ok", s.line, got)
			}
			continue
		case "snicket refused":
			m.output("openssl s_client -connect 127.0.0.1:443 -servername www.example.com -alpn http/1.1 </dev/null 2>&1 || true")
		}
		m.run(s)
	}
}

// machine has namespaces of its own, for files and for the network.
type machine struct {
	t   *testing.T
	dir string // where its operator is
	pid int
}

const machineSetup = `
set -eu
cd "$1"
mount -t tmpfs world world
for dir in etc usr; do
	mkdir world/$dir world/$dir.work
	mount -t overlay overlay -o lowerdir=/$dir,upperdir=world/$dir,workdir=world/$dir.work /$dir
done
mount -t tmpfs run /run
ip link set lo up
for address in 10.0.1.5 10.0.1.6 10.0.1.7; do ip addr add $address/32 dev lo; done
rm -rf /etc/snicket
mkdir -p /etc/snicket/certs /run/snicket
cp snicket.toml /etc/snicket/
install -m 0600 old/blog.pem /etc/snicket/certs/
install -m 0755 new/snicket /usr/bin/snicket
install -m 0755 editor /usr/bin/editor
echo up
exec sleep infinity
`

const machineConfig = `
[[routes]]
name     = "shop"
hosts    = ["www.example.com"]
alpn     = ["h2"]
pool     = "web"

[[routes]]
name     = "rest"
hosts    = ["*.example.com"]
pool     = "web"

[[routes]]
hosts    = ["blog.example.com"]
mode     = "terminate"
backends = ["10.0.1.5:8443"]

[pools.web]
backends = [
  { address = "10.0.1.5:8443", name = "b1" },
  { address = "10.0.1.6:8443", name = "b2" },
  { address = "10.0.1.7:8443", name = "b3" },
]

[tls]
certificates = ["certs/*.pem"]
`

func newMachine(t *testing.T) *machine {
	t.Helper()
	dir := t.TempDir()
	ca := lab.NewAuthority(t, "edge")
	for _, sub := range []string{"world", "old", "new"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, age := range []string{"old", "new"} {
		cert, key := ca.WriteServer(t, "blog.example.com")
		lab.WriteFile(t, filepath.Join(dir, age, "blog.pem"), []byte(read(t, cert)+read(t, key)))
	}
	lab.WriteFile(t, filepath.Join(dir, "snicket.toml"), []byte(machineConfig))
	lab.WriteFile(t, filepath.Join(dir, "editor"), []byte("#!/bin/sh\nexec sed -i '/b3/d' \"$1\"\n"))
	mustTool(t, "", "cp", program(t, "cmd/snicket"), filepath.Join(dir, "new", "snicket"))
	mustTool(t, "", "cp", program(t, "internal/lab/load"), filepath.Join(dir, "load"))
	p := lab.Start(t, lab.Command{Path: "unshare", Args: []string{"--mount", "--net", "bash", "-c", machineSetup, "bash", dir}})
	p.WaitLine(`^up$`)
	return &machine{t: t, dir: dir, pid: p.PID()}
}

// enter is how a command runs there.
func (m *machine) enter(args ...string) []string {
	return append([]string{"--target", strconv.Itoa(m.pid), "--mount", "--net", "--wd=" + m.dir, "--"}, args...)
}

func (m *machine) start(args ...string) *lab.Process { return m.startWith(nil, args...) }

func (m *machine) startWith(stdin io.Reader, args ...string) *lab.Process {
	m.t.Helper()
	return lab.Start(m.t, lab.Command{Path: "nsenter", Args: m.enter(args...), Stdin: stdin})
}

// hold opens sessions of pool web, and returns how to end them, which may be done twice.
func (m *machine) hold(n int) (p *lab.Process, leave func()) {
	m.t.Helper()
	stdin, end := io.Pipe()
	p = m.startWith(stdin, filepath.Join(m.dir, "load"), "hold", "-target", "127.0.0.1:443", "-sni", "a.example.com", "-n", strconv.Itoa(n))
	p.WaitLine(fmt.Sprintf("^holding %d: ok=%d ", n, n))
	return p, func() { end.Close() }
}

// output is what a command prints, which has to succeed.
func (m *machine) output(command string) string {
	m.t.Helper()
	return mustTool(m.t, "", "nsenter", m.enter("bash", "-c", "set -o pipefail; "+command)...)
}

// run runs a step. What it says may come some time later, where something else has to happen meanwhile.
func (m *machine) run(s step) {
	m.t.Helper()
	if s.beside != "" {
		p := m.start("bash", "-c", "exec "+s.command)
		p.WaitLine("listening|waiting")
		tool(m.t, "", "nsenter", m.enter("bash", "-c", s.beside)...)
		p.WaitLine("www.example.com")
		p.Kill()
		return
	}
	said := m.output(s.command)
	missing := func() string {
		rest := said
		for _, want := range s.prints {
			at := pattern(want).FindStringIndex(rest)
			if at == nil {
				return want
			}
			rest = rest[at[1]:]
		}
		return ""
	}
	if want := missing(); want != "" && !regexp.MustCompile(`^snicket (events|certs|backends|refused|status)\b`).MatchString(s.command) {
		m.t.Fatalf("docs/operations.md:%d: %s\nno %q in\n%s", s.line, s.command, want, said)
	}
	defer func() {
		if want := missing(); want != "" {
			m.t.Logf("no %q in\n%s", want, said)
		}
	}()
	m.wait(fmt.Sprintf("docs/operations.md:%d: %s", s.line, s.command), func() bool {
		if missing() == "" {
			return true
		}
		said = m.output(s.command)
		return false
	})
}

func (m *machine) wait(what string, is func() bool) {
	m.t.Helper()
	await(m.t, what, is)
}
