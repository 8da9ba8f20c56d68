package proc_test

import (
	"os"
	"os/exec"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/benchmarks/internal/proc"
)

// child starts a shell that has a child of its own and waits until both live; both end when its input is closed.
func child(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("sh", "-c", "sh -c 'echo up; read line'; true")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	if _, err := out.Read(make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

func TestTree(t *testing.T) {
	pid := child(t)
	tree, err := proc.Tree(pid)
	if err != nil {
		t.Fatal(err)
	}
	if len(tree) != 2 || tree[0] != pid {
		t.Errorf("got %v, want %d and its child", tree, pid)
	}
	own, err := proc.Tree(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(own, tree[1]) {
		t.Errorf("got %v, want the grandchild %d in it", own, tree[1])
	}
	if _, err := proc.Tree(1 << 30); err == nil {
		t.Error("got a tree of a process that does not exist, want an error")
	}
}

func TestCPUCountsAllThreads(t *testing.T) {
	self := []int{os.Getpid()}
	before, err := proc.CPU(self)
	if err != nil {
		t.Fatal(err)
	}
	const spin = 50 * time.Millisecond
	done := make(chan struct{})
	for range 2 {
		go func() {
			defer func() { done <- struct{}{} }()
			start := time.Now()
			for time.Since(start) < spin {
				runtime.KeepAlive(start)
			}
		}()
	}
	<-done
	<-done
	after, err := proc.CPU(self)
	if err != nil {
		t.Fatal(err)
	}
	// On a busy machine less than asked for is used, never nothing; more than two threads had is a wrong unit.
	if used := after.Sub(before).Total; used <= 0 || used > 100*spin {
		t.Errorf("got %v of processor time for two threads of %v, want between nothing and that", used, spin)
	}
	if _, err := proc.CPU([]int{1 << 30}); err == nil {
		t.Error("got the time of a process that does not exist, want an error")
	}
}

func TestMem(t *testing.T) {
	self := []int{os.Getpid()}
	before, err := proc.Mem(self)
	if err != nil {
		t.Fatal(err)
	}
	// Populated by the kernel: written from here, the race detector's shadow of it
	// would count as well.
	held, err := unix.Mmap(-1, 0, 32<<20, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(held) }()
	after, err := proc.Mem(self)
	if err != nil {
		t.Fatal(err)
	}
	if grown := after.Private - before.Private; grown < 24<<20 || grown > 64<<20 {
		t.Errorf("got %d bytes more after touching %d", grown, len(held))
	}
	if after.PSS < after.Private {
		t.Errorf("got PSS %d below its anonymous part %d", after.PSS, after.Private)
	}
}

func TestDescriptors(t *testing.T) {
	self := []int{os.Getpid()}
	before, err := proc.Descriptors(self)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		f, err := os.Open("/proc/self/stat")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
	}
	after, err := proc.Descriptors(self)
	if err != nil {
		t.Fatal(err)
	}
	if got := after - before; got != 3 {
		t.Errorf("got %d more descriptors, want 3", got)
	}
}
