// Command rig holds Snicket against other balancers: what a session, a message and a GiB cost the balancer's
// processes, and what an idle session holds.
//
//	make build && sudo go run ./benchmarks/rig
//
// It makes a network namespace, starts a backend, and for each workload runs the balancers in turn (A B C, B C A, …),
// each alone and anew, under a load of its own process. Figures are compared within a round, as a shared machine
// drifts. It prints tables in Markdown, and writes the raw figures as JSON and plots as SVG. docs/performance.md says
// how to read them; `rig -h` lists the flags, and package peer how to add a balancer by environment variable.
//
// With -soak it runs one balancer for long and fails if something leaked; with -pgo it writes a profile for the compiler.
//
// It measures; it judges nothing. A balancer that fails at a workload is shown with its failures.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/snicketlb/snicket/benchmarks/internal/peer"
	"github.com/snicketlb/snicket/benchmarks/internal/wire"
)

// options are the words of the command line.
type options struct {
	workloads, peers, reference string
	rounds                      int
	window, warm                time.Duration
	account, congestion         string
	snicket, out, name, beside  string
	redraw, pgo                 string
	soak                        time.Duration
	list                        bool
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("rig", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.workloads, "workloads", "all", "`names`, separated by commas; \"tls-*\" is every one that begins so")
	f.StringVar(&o.peers, "peers", "all", "`names`, separated by commas")
	f.StringVar(&o.reference, "reference", "limit,nginx", "`peers` to give ratios to: the first of these that takes part")
	f.IntVar(&o.rounds, "rounds", 15, "how often each peer is measured; below 15 is no verdict")
	f.DurationVar(&o.window, "window", 2*time.Second, "what is measured of each run")
	f.DurationVar(&o.warm, "warm", 500*time.Millisecond, "load before the window")
	f.StringVar(&o.account, "user", "root", "the `account` the balancers run as; \"nobody\" has its pipes rationed")
	f.StringVar(&o.congestion, "congestion", "reno", "TCP congestion `control` of all, one that does not pace; others than reno must be in the machine's tcp_allowed_congestion_control")
	f.StringVar(&o.snicket, "snicket", "bin/snicket", "the `program` under test")
	f.StringVar(&o.out, "out", "benchmarks/results", "`directory` of the JSON and the plots")
	f.StringVar(&o.name, "name", "", "`name` of the JSON file; default: the time, and the account if it is not root")
	f.StringVar(&o.beside, "beside", "", "a `command` beside each balancer under load, as \"strace -c -f -p {pid}\"; nothing is written")
	f.DurationVar(&o.soak, "soak", 0, "instead of measuring, run one peer, snicket unless -peers names another, under the mixed load for so `long`; fails if sessions do or if memory or descriptors grow")
	f.StringVar(&o.pgo, "pgo", "", "instead of measuring, write a processor profile of snicket under a mix of workloads to this `file`, for profile-guided optimisation")
	f.StringVar(&o.redraw, "redraw", "", "print and plot an earlier run's JSON `file` instead of measuring")
	f.BoolVar(&o.list, "list", false, "list workloads and peers")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("%q: an argument without a flag", f.Arg(0))
	}
	if o.rounds < 1 || o.window <= 0 || o.warm < 0 {
		return o, errors.New("-rounds and -window must be above 0, -warm not below")
	}
	if o.soak < 0 || o.soak > 0 && o.pgo != "" {
		return o, errors.New("-soak must not be below 0, nor beside -pgo")
	}
	return o, nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := role(ctx)
	stop()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && os.Getenv(stageVariable) == "" {
		os.Exit(1) // the rig on the stage has said why
	}
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "rig: error:", err)
		os.Exit(1)
	}
}

// role tells which of the rig's processes this one is.
func role(ctx context.Context) error {
	switch os.Getenv(roleVariable) {
	case "backend":
		return wire.Serve(netip.MustParseAddrPort(backendAddress), func(uint16) {}, os.Stderr)
	case "load":
		return runLoad(os.Stdin, os.Stdout)
	}
	o, err := parse(os.Args[1:], os.Stderr)
	if err != nil {
		return err
	}
	if o.redraw != "" {
		return redraw(o, os.Stdout)
	}
	if dir := os.Getenv(stageVariable); dir != "" {
		return perform(ctx, o, dir)
	}
	if o.list {
		return list(os.Stdout)
	}
	if _, err := os.Stat("benchmarks/limit/limit.c"); err != nil {
		return errors.New("run it in the root of the module, where benchmarks/ is")
	}
	dir, err := os.MkdirTemp("", "snicket-rig-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // of no use any more, and nobody to tell
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	programs, missing := build(ctx, dir)
	if o.pgo != "" {
		o.snicket = dir + "/profiled"
		if out, err := exec.CommandContext(ctx, "go", "build", "-o", o.snicket, "./benchmarks/profiled").CombinedOutput(); err != nil {
			return fmt.Errorf("building benchmarks/profiled: %w: %s", err, out)
		}
	}
	for name, why := range missing {
		fmt.Fprintf(os.Stderr, "rig: %s is left out: %s\n", name, why)
	}
	if programs["snicket"], err = filepath.Abs(o.snicket); err != nil {
		return err
	}
	if text, err := json.Marshal(programs); err != nil {
		return err
	} else if err := os.WriteFile(filepath.Join(dir, "programs"), text, 0o600); err != nil {
		return err
	}
	return enter(ctx, dir)
}

func runLoad(in io.Reader, out io.Writer) error {
	var spec wire.Spec
	if err := json.NewDecoder(in).Decode(&spec); err != nil {
		return err
	}
	run := wire.Load
	if spec.TLS {
		run = wire.LoadTLS
	}
	r, err := run(spec)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(r)
}

func list(out io.Writer) error {
	fmt.Fprintln(out, "workloads:")
	for _, w := range workloads() {
		fmt.Fprintf(out, "  %-16s %s (%s)\n", w.name, w.what, w.unit)
	}
	peers, err := peer.All(nil, os.Environ())
	fmt.Fprintln(out, "peers:")
	for _, p := range peers {
		fmt.Fprintf(out, "  %s\n", p.Name)
	}
	return err
}

// perform measures, on the stage.
func perform(ctx context.Context, o options, dir string) error {
	if err := prepare(o.congestion); err != nil {
		return err
	}
	chosen, err := choose(workloads(), o.workloads)
	if err != nil {
		return err
	}
	peers, err := present(o, dir)
	if err != nil {
		return err
	}
	b := &bench{dir: dir, account: o.account, warm: o.warm, window: o.window, beside: o.beside}
	if b.credential, err = account(o.account); err != nil {
		return err
	}
	if b.certificates, err = certificates(dir, b.give); err != nil {
		return err
	}
	backend := exec.CommandContext(ctx, "/proc/self/exe")
	backend.Env = append(os.Environ(), roleVariable+"=backend")
	backend.Stderr = os.Stderr
	if err := backend.Start(); err != nil {
		return err
	}
	defer func() {
		_ = backend.Process.Kill()
		_ = backend.Wait() // it was killed: that is no news
	}()
	switch {
	case o.soak > 0:
		p, err := soaked(o, peers)
		if err != nil {
			return err
		}
		return soak(ctx, o, b, p, os.Stdout)
	case o.pgo != "":
		return profile(ctx, o, b, peers, dir, os.Stdout)
	}
	report := newReport(o, peers)
	for _, w := range chosen {
		if err := rounds(ctx, o, b, w, peers, report); err != nil {
			return err
		}
		if err := report.publish(o, w, os.Stdout); err != nil {
			return err
		}
	}
	return report.finish(o, os.Stdout)
}

// rounds measures every peer that can do w, in turn, each round beginning with another one. A peer that fails is noted
// and left out of the rest.
func rounds(ctx context.Context, o options, b *bench, w workload, peers []peer.Peer, report *report) error {
	var able []peer.Peer
	for _, p := range peers {
		if p.Can(b.setup(w, b.dir), w.spec.Hybrid) {
			able = append(able, p)
		}
	}
	for round := range o.rounds {
		for i := range able {
			p := able[(round+i)%len(able)]
			if report.failure(w, p.Name) != "" {
				continue
			}
			r, figure, err := b.measure(ctx, w, p)
			if ctx.Err() != nil {
				return errors.Join(ctx.Err(), report.write(o))
			}
			fmt.Fprintf(os.Stderr, "%s %d/%d %s %.4g %s\n", w.name, round+1, o.rounds, p.Name, figure, w.unit)
			report.add(w, p.Name, round, r, figure, err)
		}
	}
	return nil
}

// present returns the peers asked for whose program is there. One that was asked for by name must be.
func present(o options, dir string) ([]peer.Peer, error) {
	programs := make(map[string]string)
	text, err := os.ReadFile(filepath.Join(dir, "programs"))
	if err == nil {
		err = json.Unmarshal(text, &programs)
	}
	if err != nil {
		return nil, err
	}
	all, err := peer.All(programs, os.Environ())
	if err != nil {
		return nil, err
	}
	var found []peer.Peer
	asked := strings.Split(o.peers, ",")
	for _, p := range all {
		if o.peers != "all" && !slices.Contains(asked, p.Name) {
			continue
		}
		program, err := exec.LookPath(p.Program)
		switch {
		case err == nil:
			p.Program = program
			found = append(found, p)
		case o.peers != "all" || p.Name == "snicket":
			return nil, fmt.Errorf("%s: %w", p.Name, err)
		default:
			fmt.Fprintf(os.Stderr, "rig: %s is left out: %v\n", p.Name, err)
		}
	}
	for _, name := range asked {
		if o.peers != "all" && !slices.ContainsFunc(found, func(p peer.Peer) bool { return p.Name == name }) {
			return nil, fmt.Errorf("no peer %q; -list shows them", name)
		}
	}
	return found, nil
}

// account returns the credential of the balancers' account; nil for root, which the rig is.
func account(name string) (*syscall.Credential, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil || uid == 0 {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, err
}
