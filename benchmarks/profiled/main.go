// Command profiled runs the server as `snicket run` does and writes a processor profile of its whole life into the
// working directory, as cpu.pprof: what profile-guided optimisation is made of. The rig builds and runs it (`rig -pgo`);
// the product has no such knob.
//
//	profiled run -c FILE
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"syscall"

	"github.com/snicketlb/snicket/pkg/server"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "profiled: error:", err)
		os.Exit(1)
	}
}

func run(args []string) (err error) {
	if len(args) != 3 || args[0] != "run" || args[1] != "-c" {
		return fmt.Errorf("got %q, want run -c FILE", args)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	s, err := server.New(args[2], server.Options{Stdout: os.Stdout, Stderr: os.Stderr})
	if err != nil {
		return err
	}
	// As cmd/snicket does.
	runtime.GOMAXPROCS(s.Loops() + max(2, runtime.GOMAXPROCS(0)))
	f, err := os.Create("cpu.pprof")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := pprof.StartCPUProfile(f); err != nil {
		return err
	}
	defer pprof.StopCPUProfile()
	return s.Run(ctx, nil)
}
