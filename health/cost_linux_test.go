package health_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/snicketlb/snicket/health"
)

const backendVariable = "SNICKET_HEALTH_TEST_BACKEND"

// TestBackendProcess is no test: it is the backend of BenchmarkCost, in a process
// of its own so that its work is not counted.
func TestBackendProcess(t *testing.T) {
	if os.Getenv(backendVariable) == "" {
		t.Skip("runs as a child of BenchmarkCost")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(os.Stdout, ln.Addr())
	go func() {
		os.Stdin.Read(make([]byte, 1)) // ends with the parent
		ln.Close()
	}()
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		conn.Close()
	}
}

// BenchmarkCost is what 10,000 targets of kind tcp cost that are probed every 2 s
// as they are in a running balancer: an operation is one interval, and %core is
// the share of a core that this process takes.
//
//	go test ./health -run '^$' -bench Cost -benchtime 5x
func BenchmarkCost(b *testing.B) {
	const n, interval = 10_000, 2 * time.Second
	cmd := exec.Command(os.Args[0], "-test.run", "^TestBackendProcess$")
	cmd.Env = append(os.Environ(), backendVariable+"=1")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		stdin.Close()
		cmd.Wait()
	}()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	targets := make([]health.Target, n)
	for i := range targets {
		targets[i] = health.Target{
			ID: fmt.Sprint(i), Prober: health.TCP{Address: line[:len(line)-1]}, Options: health.Options{Interval: interval},
		}
	}
	c := health.NewChecker(func(tr health.Transition) {
		if tr.Err != nil {
			b.Error(tr.Err)
		}
	}, health.CheckerOptions{})
	c.Update(targets)
	ctx, cancel := context.WithCancel(b.Context())
	var run sync.WaitGroup
	run.Go(func() { c.Run(ctx) })
	tick := time.NewTicker(interval)
	defer tick.Stop()
	<-tick.C // the first round starts from nothing
	<-tick.C
	start, used := time.Now(), processor(b)
	for b.Loop() {
		<-tick.C
	}
	wall := time.Since(start)
	b.ReportMetric(float64(processor(b)-used)/float64(wall)*100, "%core")
	late := 0
	for _, s := range c.All {
		if s.State != health.Up || time.Since(s.LastProbe) > 2*interval {
			late++
		}
	}
	if late > 0 {
		b.Errorf("%d targets are not up or not probed of late", late)
	}
	cancel()
	run.Wait()
}

// processor returns the processor time that this process has used.
func processor(b *testing.B) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
