// Command reload measures what a reload of very many routes does to the sessions that live:
// how long the event loops take for a turn, by bpftrace, and how long messages take, by a
// client and a backend with real-time priority. It wants root, bpftrace and chrt(1), and a
// machine with nothing else to do.
//
//	go run ./benchmarks/reload [-routes N] [-every D] [-all] [-none] [-for D]
//
// A reload adds a route at the end of the file, or takes it away; with -all it changes every
// route. Reloads begin D apart, or one behind the other by default.
package main

import (
	"bufio"
	"bytes"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

//go:embed gap.bt
var gapScript []byte

type options struct {
	routes    int
	every     time.Duration
	all, none bool
	length    time.Duration
}

func main() {
	var o options
	flag.IntVar(&o.routes, "routes", 100_000, "routes in the file")
	flag.DurationVar(&o.every, "every", 0, "from the beginning of a reload to the next")
	flag.BoolVar(&o.all, "all", false, "each reload changes every route")
	flag.BoolVar(&o.none, "none", false, "no reloads, to compare with")
	flag.DurationVar(&o.length, "for", 10*time.Second, "how long")
	flag.Parse()
	if err := run(o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "reload: error:", err)
		os.Exit(1)
	}
}

func run(o options, out io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "reload")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	build := exec.Command("go", "build", "-o", dir+"/", "./cmd/snicket", "./internal/lab/load")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("%w; run it at the top of the project", err)
	}
	backend, err := start(nil, "chrt", "-f", "1", dir+"/load", "serve")
	if err != nil {
		return err
	}
	defer backend.end()
	address, err := backend.line("listening ")
	if err != nil {
		return err
	}
	texts := configs(o, address)
	path := filepath.Join(dir, "snicket.toml")
	if err := os.WriteFile(path, texts[0], 0o600); err != nil {
		return err
	}
	balancer, err := start([]string{"RUNTIME_DIRECTORY=" + dir}, dir+"/snicket", "run", "-c", path)
	if err != nil {
		return err
	}
	defer balancer.end()
	listening, err := balancer.line("listener=https address=")
	if err != nil {
		return err
	}
	if _, err := balancer.line("msg=ready"); err != nil {
		return err
	}
	warm := time.Second
	pings, err := start(nil, "chrt", "-f", "1", dir+"/load", "pings", "-target", listening, "-sni", "a.test", "-n", "8", "-rate", "2000",
		"-for", (o.length + 3*warm).String())
	if err != nil {
		return err
	}
	defer pings.end()
	time.Sleep(warm) //nolint:forbidigo // it is time that is measured
	loops, err := busiest(balancer.cmd.Process.Pid)
	if err != nil {
		return err
	}
	if err := os.WriteFile(dir+"/gap.bt", gapScript, 0o600); err != nil {
		return err
	}
	trace, err := start(nil, "bpftrace", append([]string{dir + "/gap.bt"}, loops...)...)
	if err != nil {
		return err
	}
	defer trace.end()
	if _, err := trace.line("Attaching"); err != nil {
		return err
	}
	reloads, longest, err := o.reload(balancer, path, texts)
	if err != nil {
		return err
	}
	if err := trace.cmd.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	messages, err := pings.line("result ")
	if err != nil {
		return err
	}
	rest, _ := io.ReadAll(trace.out)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", balancer.cmd.Process.Pid))
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "reloads: %d, the longest %v\nmessages, µs: %s\nloops, of so many turns: %s\nmemory: %s\n", reloads, longest.Round(time.Millisecond),
		messages, strings.Join(strings.Fields(string(rest)), " "), fields(status, "VmHWM", "VmRSS"))
	return nil
}

// configs are two files, between which reloads change.
func configs(o options, backend string) [2][]byte {
	head := fmt.Sprintf("[listeners.https]\naddress = \"127.0.0.1:0\"\n[log]\naccess = \"off\"\n"+
		"[[routes]]\nhosts = [\"a.test\"]\npool = \"a\"\n[pools.a]\nbackends = [%q]\n[pools.a.health]\nenabled = false\n", backend)
	var plain, other bytes.Buffer
	plain.WriteString(head)
	other.WriteString(head)
	for i := range o.routes {
		route := fmt.Sprintf("[[routes]]\nhosts = [\"h%d.example.com\"]\npool = \"a\"\n", i)
		plain.WriteString(route)
		other.WriteString(route)
		if o.all {
			other.WriteString("max_connections = 9\n")
		}
	}
	if !o.all {
		other.WriteString("[[routes]]\nhosts = [\"more.test\"]\nmode = \"reject\"\n")
	}
	return [2][]byte{plain.Bytes(), other.Bytes()}
}

// reload reloads until o.length is over.
func (o options) reload(balancer *process, path string, texts [2][]byte) (n int, longest time.Duration, err error) {
	for end := time.Now().Add(o.length); time.Now().Before(end); {
		if o.none {
			time.Sleep(time.Until(end)) //nolint:forbidigo // it is time that is measured
			return 0, 0, nil
		}
		n++
		if err := os.WriteFile(path+".new", texts[n%2], 0o600); err != nil {
			return n, longest, err
		}
		if err := os.Rename(path+".new", path); err != nil {
			return n, longest, err
		}
		begin := time.Now()
		if err := balancer.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			return n, longest, err
		}
		if _, err := balancer.line(`msg="reload done"`); err != nil {
			return n, longest, err
		}
		longest = max(longest, time.Since(begin))
		time.Sleep(time.Until(begin.Add(o.every))) //nolint:forbidigo // it is time that is measured
	}
	return n, longest, nil
}

// process is one that was started here.
type process struct {
	cmd *exec.Cmd
	out *bufio.Reader
}

func start(env []string, name string, args ...string) (*process, error) {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), env...)
	out, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	cmd.Stdout, cmd.Stderr = in, in
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &process{cmd, bufio.NewReader(out)}, nil
}

// line waits for one that has text, and returns what is behind it.
func (p *process) line(text string) (string, error) {
	for {
		line, err := p.out.ReadString('\n')
		if _, after, ok := strings.Cut(strings.TrimSuffix(line, "\n"), text); ok {
			return after, nil
		}
		if err != nil {
			return "", fmt.Errorf("%s ended without %q but with %q", strings.Join(p.cmd.Args, " "), text, line)
		}
	}
}

func (p *process) end() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait() // it was killed
}

// busiest returns the two threads of a process that have given the processor away most
// often: its loops, beside traffic.
func busiest(pid int) ([]string, error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil || len(tasks) < 2 {
		return nil, errors.Join(fmt.Errorf("%d threads", len(tasks)), err)
	}
	switches := map[string]int{}
	for _, task := range tasks {
		status, err := os.ReadFile(task + "/status")
		if err != nil {
			return nil, err
		}
		n := strings.Fields(fields(status, "voluntary_ctxt_switches"))
		if switches[filepath.Base(task)], err = strconv.Atoi(n[len(n)-1]); err != nil {
			return nil, err
		}
	}
	return slices.SortedFunc(maps.Keys(switches), func(a, b string) int { return switches[b] - switches[a] })[:2], nil
}

// fields are the lines of a file under /proc that have one of names.
func fields(text []byte, names ...string) string {
	var out []string
	for line := range strings.Lines(string(text)) {
		if name, _, _ := strings.Cut(line, ":"); slices.Contains(names, name) {
			out = append(out, strings.Join(strings.Fields(line), " "))
		}
	}
	return strings.Join(out, ", ")
}
