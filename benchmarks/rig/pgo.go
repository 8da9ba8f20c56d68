package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/snicketlb/snicket/benchmarks/internal/peer"
)

const (
	// profileWorkloads are what the profile stands for, each for as long as the others. Bulk that is passed through is
	// the kernel's work and has no say in what the compiler makes.
	profileWorkloads = "connrate,pingpong-64,mixed,tls-full-ecdsa,tls-resumed,tls-stream-8"
	profiledName     = "cpu.pprof" // as benchmarks/profiled writes it
	profileWithin    = 10 * time.Second
)

// profile runs the server that profiles itself under each of profileWorkloads and merges the profiles into o.pgo, where
// `go build` finds it as default.pgo in the directory of the main package.
func profile(ctx context.Context, o options, b *bench, peers []peer.Peer, dir string, out io.Writer) error {
	at := slices.IndexFunc(peers, func(p peer.Peer) bool { return p.Name == "snicket" })
	if at < 0 {
		return errors.New("-pgo profiles snicket, which takes no part")
	}
	chosen, err := choose(workloads(), profileWorkloads)
	if err != nil {
		return err
	}
	args := []string{"tool", "pprof", "-proto", "-output", o.pgo}
	for _, w := range chosen {
		b.profile = filepath.Join(dir, w.name+".pprof")
		r, figure, err := b.measure(ctx, w, peers[at])
		if err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		if r.Failed > 0 {
			return fmt.Errorf("%s: %d sessions failed: %s", w.name, r.Failed, r.Error)
		}
		fmt.Fprintf(os.Stderr, "%s %.4g %s\n", w.name, figure, w.unit)
		args = append(args, b.profile)
	}
	if text, err := exec.CommandContext(ctx, "go", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("merging the profiles: %w: %s", err, text)
	}
	_, err = fmt.Fprintf(out, "profile of %s: %s\n", profileWorkloads, o.pgo)
	return err
}

// finish lets a server that profiles itself come to its end, and keeps what it wrote.
func (r *running) finish(dir, profile string) error {
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-r.ended:
	case <-time.After(profileWithin):
		return errors.Join(fmt.Errorf("%s did not end within %v", r.name, profileWithin), r.complaint())
	}
	text, err := os.ReadFile(filepath.Join(dir, profiledName))
	if err != nil {
		return errors.Join(err, r.complaint())
	}
	return os.WriteFile(profile, text, 0o600)
}
