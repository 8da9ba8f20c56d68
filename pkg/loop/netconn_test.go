package loop_test

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/pkg/loop"
)

// A socket that has been on a loop is given to a goroutine: what had come and what
// comes later is read there, deadlines hold, and the loop hears no more of it.
func TestNetConn(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			leakCheck(t)
			address := local("127.0.0.1", 0)
			if network == "unix" {
				address, _ = loop.UnixAddress(filepath.Join(t.TempDir(), "s"))
			}
			ln := listen(t, address)
			if network == "tcp" {
				address = loop.TCPAddress(loop.LocalAddr(ln), 0)
			}
			far, near := connect(t, address, ln)
			defer loop.Close(far)
			l := newLoop(t)
			stop := serve(t, l)
			defer stop()
			events := 0
			var conn net.Conn
			on(l, func() {
				tok, err := l.Add(near, handle(func(loop.Events) { events++ }))
				if err != nil {
					t.Error(err)
					return
				}
				l.Remove(tok, near)
				conn, err = loop.NetConn(near)
				if err != nil {
					t.Error(err)
				}
			})
			if conn == nil {
				t.FailNow()
			}
			defer conn.Close()
			write(t, far, "early")
			got := make([]byte, 5)
			if _, err := io.ReadFull(conn, got); err != nil || string(got) != "early" {
				t.Fatalf("read %q, %v; want early", got, err)
			}
			_ = conn.SetReadDeadline(time.Now().Add(-time.Second))
			if _, err := conn.Read(got); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("read behind the deadline: %v", err)
			}
			_ = conn.SetReadDeadline(time.Time{})
			if _, err := io.WriteString(conn, "back"); err != nil {
				t.Fatal(err)
			}
			await(t, far, unix.POLLIN)
			if n, errno := loop.Read(far, got); errno != 0 || string(got[:n]) != "back" {
				t.Errorf("read %q, %v; want back", got[:n], errno)
			}
			turns(l, 2)
			on(l, func() {
				if events != 0 {
					t.Errorf("the loop was told of %d events", events)
				}
			})
		})
	}
}

func TestNetConnOfNoSocket(t *testing.T) {
	leakCheck(t)
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	defer loop.Close(fds[1])
	if c, err := loop.NetConn(fds[0]); err == nil {
		c.Close()
		t.Error("a pipe has become a connection")
	}
	if _, err := loop.NetConn(-1); !errors.Is(err, os.ErrInvalid) {
		t.Errorf("of no descriptor: %v", err)
	}
}

func TestControl(t *testing.T) {
	leakCheck(t)
	far, near := tcpPair(t, "127.0.0.1")
	defer loop.Close(far)
	conn, err := loop.NetConn(near)
	if err != nil {
		t.Fatal(err)
	}
	isTCP := false
	loop.Control(conn, func(fd int) { isTCP = loop.TCP(fd) })
	if !isTCP {
		t.Error("not called with the socket")
	}
	conn.Close()
	loop.Control(conn, func(int) { t.Error("called for a closed connection") })
	loop.Control(struct{ net.Conn }{}, func(int) { t.Error("called without a descriptor") })
}
