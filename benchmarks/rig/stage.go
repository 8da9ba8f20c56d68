package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// The rig runs in a network of its own, where ports, congestion control and the backlog are its to choose, and in a
// process tree of its own, whose first process takes all others with it when it ends, however it ends. Both go when
// their last process does, so there is nothing to clean up.

const stageVariable = "SNICKET_RIG_STAGE"

// enter runs this program once more, on the stage, and returns when that one has ended. The interrupt of a terminal
// reaches both; this one waits for the other, which is on its way out.
func enter(ctx context.Context, dir string) error {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), stageVariable+"="+dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWNS,
		Pdeathsig:  syscall.SIGKILL,
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	err := cmd.Run()
	if errors.Is(err, unix.EPERM) {
		return errors.New("making a network namespace needs root")
	}
	return err
}

// prepare sets the stage up from inside: a /proc that shows its processes alone, loopback, the same congestion control
// for all, room for connections that come at once.
func prepare(congestion string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keeping mounts to ourselves: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	if err := up("lo"); err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	for _, setting := range [][2]string{
		{"net/ipv4/tcp_congestion_control", congestion},
		{"net/ipv4/ip_local_port_range", "10000 65000"},
		{"net/core/somaxconn", "4096"},
		{"net/ipv4/tcp_max_syn_backlog", "65535"},
	} {
		if err := os.WriteFile("/proc/sys/"+setting[0], []byte(setting[1]), 0); err != nil {
			return fmt.Errorf("setting %s to %s: %w", setting[0], setting[1], err)
		}
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	limit.Cur = limit.Max
	return unix.Setrlimit(unix.RLIMIT_NOFILE, &limit) // said aloud, the children get it too
}

func up(name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	request, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request)
}

// build makes the programs that come as source: the limit, and tcpproxy, which is left out where its module cannot be
// had. It runs before the stage, which has no way to the outside.
func build(ctx context.Context, dir string) (programs, missing map[string]string) {
	programs, missing = make(map[string]string), make(map[string]string)
	for name, args := range map[string][]string{
		"limit":    {"cc", "-O2", "-Wall", "-pthread", "-o", dir + "/limit", "benchmarks/limit/limit.c"},
		"tcpproxy": {"go", "build", "-C", "benchmarks/tcpproxy", "-o", dir + "/tcpproxy", "."},
	} {
		out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
		if err != nil {
			missing[name] = fmt.Sprintf("%v: %s", err, bytes.TrimSpace(out))
			continue
		}
		programs[name] = dir + "/" + name
	}
	return programs, missing
}
