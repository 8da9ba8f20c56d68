package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/snicketlb/snicket/benchmarks/internal/peer"
	"github.com/snicketlb/snicket/benchmarks/internal/proc"
	"github.com/snicketlb/snicket/benchmarks/internal/wire"
)

const (
	listenAddress  = "127.0.0.1:8443"
	backendAddress = "127.0.0.1:9000"
	readyWithin    = 2 * time.Minute // a million names take their time
	roleVariable   = "SNICKET_RIG_ROLE"
)

// bench is the stage while it plays: where files go, who the balancers run as, how long is measured.
type bench struct {
	dir          string
	account      string              // the balancers' account
	credential   *syscall.Credential // of account; nil: the rig's own
	certificates map[string]string   // by key kind
	warm, window time.Duration
	beside       string // a command run beside each balancer while it is under load
	profile      string // where the profile goes of a balancer that profiles itself; empty: it does not
}

// measure runs one balancer through one workload, from its start to its end, and returns the result and the main
// figure. The balancer is started anew each time: what one workload left behind is no part of the next.
func (b *bench) measure(ctx context.Context, w workload, p peer.Peer) (r wire.Result, figure float64, err error) {
	dir, err := os.MkdirTemp(b.dir, p.Name+"-")
	if err != nil {
		return r, 0, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // of no use any more, and nobody to tell
	setup := b.setup(w, dir)
	process, err := b.start(ctx, p, setup)
	if err != nil {
		return r, 0, err
	}
	defer process.end()
	spec := w.spec
	spec.Address, spec.Pid, spec.Names = netip.MustParseAddrPort(listenAddress), process.cmd.Process.Pid, len(setup.Names)
	spec.Warm, spec.Window = b.warm, b.window
	if err := process.ready(ctx, spec); err != nil {
		return r, 0, err
	}
	if r, err = b.load(ctx, spec); err != nil {
		return r, 0, errors.Join(err, process.complaint())
	}
	if b.profile != "" {
		return r, w.main(r), process.finish(dir, b.profile)
	}
	if w.double {
		reached := ratio(float64(r.Sessions), r.Seconds)
		spec.New, spec.Rate = 0, 2*reached
		if r, err = b.load(ctx, spec); err != nil {
			return r, 0, errors.Join(err, process.complaint())
		}
		return r, 100 * ratio(ratio(float64(r.Sessions), r.Seconds), reached), nil
	}
	return r, w.main(r), nil
}

func (b *bench) setup(w workload, dir string) peer.Setup {
	names := make([]string, max(w.names, 1))
	for i := range names {
		names[i] = wire.Name(i)
	}
	return peer.Setup{
		Dir: dir, Listen: listenAddress, Backend: backendAddress, Names: names, User: b.account,
		Terminate: w.spec.TLS, Certificate: b.certificates[w.key],
	}
}

// running is a balancer under test and all processes it starts.
type running struct {
	name   string
	cmd    *exec.Cmd
	output string
	ended  chan struct{} // closed when its first process has ended
}

func (b *bench) start(ctx context.Context, p peer.Peer, s peer.Setup) (*running, error) {
	c := p.Configure(p.Program, s)
	for name, text := range c.Files {
		if err := os.WriteFile(filepath.Join(s.Dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
		if err := b.give(filepath.Join(s.Dir, name)); err != nil {
			return nil, err
		}
	}
	if err := b.give(s.Dir); err != nil {
		return nil, err
	}
	output, err := os.Create(filepath.Join(s.Dir, "output"))
	if err != nil {
		return nil, err
	}
	defer output.Close()
	cmd := exec.CommandContext(ctx, c.Args[0], c.Args[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.Dir, output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: b.credential}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", p.Name, err)
	}
	r := &running{name: p.Name, cmd: cmd, output: output.Name(), ended: make(chan struct{})}
	go r.wait()
	return r, nil
}

// give makes a file the balancers' own.
func (b *bench) give(path string) error {
	if b.credential == nil {
		return nil
	}
	return os.Chown(path, int(b.credential.Uid), int(b.credential.Gid))
}

func (r *running) wait() {
	_ = r.cmd.Wait() // how it ended is of interest only when it should not have: ready and load notice
	close(r.ended)
}

// end kills the whole group and waits until all of it is gone: a worker that lives a moment longer than its master
// still holds the port that the next balancer wants. Orphans of the stage are children of the rig, its first process.
func (r *running) end() {
	group := r.cmd.Process.Pid
	_ = syscall.Kill(-group, syscall.SIGKILL)
	<-r.ended
	for {
		if _, err := syscall.Wait4(-group, nil, 0, nil); err != nil && !errors.Is(err, syscall.EINTR) {
			return // ECHILD: nobody is left
		}
	}
}

// ready waits until the balancer serves a session.
func (r *running) ready(ctx context.Context, spec wire.Spec) error {
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	deadline := time.After(readyWithin)
	for {
		err := wire.Try(spec)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.ended:
			return errors.Join(fmt.Errorf("%s ended before it served", r.name), r.complaint())
		case <-deadline:
			return errors.Join(fmt.Errorf("%s did not serve within %v: %w", r.name, readyWithin, err), r.complaint())
		case <-poll.C:
		}
	}
}

// complaint is what the balancer said last.
func (r *running) complaint() error {
	text, err := os.ReadFile(r.output)
	text = bytes.TrimSpace(text)
	if err != nil || len(text) == 0 {
		return err
	}
	return fmt.Errorf("%s said: %s", r.name, text[max(0, len(text)-2000):])
}

// load runs the load in a process of its own, which also reads what the balancer used: it alone knows when.
func (b *bench) load(ctx context.Context, spec wire.Spec) (wire.Result, error) {
	text, err := json.Marshal(spec)
	if err != nil {
		return wire.Result{}, err
	}
	var out, complaints bytes.Buffer
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"=load")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(text), &out, &complaints
	if err := cmd.Start(); err != nil {
		return wire.Result{}, err
	}
	stop, err := b.watch(ctx, spec.Pid)
	if err != nil {
		return wire.Result{}, errors.Join(err, cmd.Cancel(), cmd.Wait())
	}
	err = cmd.Wait()
	stop()
	if err != nil {
		return wire.Result{}, fmt.Errorf("load: %w: %s", err, strings.TrimSpace(complaints.String()))
	}
	var r wire.Result
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		return r, fmt.Errorf("result of the load: %w", err)
	}
	return r, nil
}

// watch starts the command of -beside, with {pid} replaced by all processes of the balancer, separated by commas, and
// returns what ends it. What it says goes to the rig's standard error.
func (b *bench) watch(ctx context.Context, pid int) (stop func(), err error) {
	if b.beside == "" {
		return func() {}, nil
	}
	tree, err := proc.Tree(pid)
	if err != nil {
		return nil, err
	}
	pids := strings.Trim(strings.Join(strings.Fields(fmt.Sprint(tree)), ","), "[]")
	cmd := exec.CommandContext(ctx, "sh", "-c", "exec "+strings.ReplaceAll(b.beside, "{pid}", pids))
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func() {
		_ = cmd.Process.Signal(os.Interrupt) // it may have ended by itself
		_ = cmd.Wait()                       // and its exit code is its own affair
	}, nil
}
