package relay_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/pkg/loop"
	"github.com/snicketlb/snicket/pkg/relay"
)

// rationEnv tells the test binary that it is the child of TestPipesRefused.
const rationEnv = "SNICKET_RELAY_RATION"

// The kernel rations the pipes of a user without privileges, and descriptors of
// everyone: without pipes the relay copies. The child is a process of its own,
// since a ration is a user's and a limit a process's.
func TestPipesRefused(t *testing.T) {
	leakCheck(t)
	for _, by := range []string{"user's ration", "descriptor limit"} {
		t.Run(by, func(t *testing.T) {
			// Not os.Executable: another user may not walk the path to it.
			cmd := exec.Command("/proc/self/exe", "-test.run=^TestRefusedChild$", "-test.v")
			cmd.Env = append(os.Environ(), rationEnv+"="+by)
			cmd.Dir = "/"
			if os.Getuid() == 0 && by == "user's ration" {
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 54321, Gid: 54321}}
			}
			out, err := cmd.CombinedOutput()
			if err != nil || !bytes.Contains(out, []byte("--- PASS: TestRefusedChild")) {
				t.Errorf("child: %v\n%s", err, out)
			}
		})
	}
}

func TestRefusedChild(t *testing.T) {
	by := os.Getenv(rationEnv)
	if by == "" {
		t.Skip("runs within TestPipesRefused")
	}
	g := newStage(t, 4)
	client, cfd := connect(t, "tcp4", 0)
	backend, bfd := connect(t, "tcp4", 0)
	s := g.start(cfd, bfd, nil, 0)
	var give func()
	switch by {
	case "user's ration":
		give = takeAllPipes(t)
	case "descriptor limit":
		give = takeAllDescriptors(t)
	}
	transfer(t, client, backend, 4*relay.ChunkSize)
	g.on(func() {
		if got := g.env.Pipes(); got != 0 {
			t.Errorf("Pipes() = %d where the kernel gives none", got)
		}
	})
	give()
	// Given again, they are used again, after a pause.
	transfer(t, client, backend, (2*relay.PipePause+16)*relay.ChunkSize)
	g.on(func() {
		if got := g.env.Pipes(); got != 1 {
			t.Errorf("Pipes() = %d once the kernel gives them again, want 1", got)
		}
	})
	client.end()
	backend.end()
	if r := s.wait(t); r.status != relay.Ended {
		t.Errorf("result %+v, want Ended", r)
	}
}

func transfer(t *testing.T, from, to peer, n int) {
	t.Helper()
	sent := pattern(n)
	var wg sync.WaitGroup
	wg.Go(func() { from.send(sent) })
	if got := to.receive(n); !bytes.Equal(got, sent) {
		t.Error("wrong bytes")
	}
	wg.Wait()
}

// takeAllPipes takes pipes until the kernel refuses to make one as large as a
// relay wants.
func takeAllPipes(t *testing.T) (give func()) {
	t.Helper()
	var fds []int
	give = func() {
		for _, fd := range fds {
			loop.Close(fd)
		}
	}
	for range 1024 {
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		fds = append(fds, p[:]...)
		_, err := unix.FcntlInt(uintptr(p[1]), unix.F_SETPIPE_SZ, relay.PipeSize)
		if errors.Is(err, unix.EPERM) {
			return give
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Skip("this kernel rations no pipes (fs.pipe-user-pages-soft)")
	return give
}

// takeAllDescriptors lowers the limit below what is open now.
func takeAllDescriptors(t *testing.T) (give func()) {
	t.Helper()
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	now := unix.Rlimit{Cur: 3, Max: was.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &now); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
			t.Error(err)
		}
	}
}
