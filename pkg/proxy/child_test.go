package proxy_test

import (
	"bytes"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/loop"
	"github.com/snicketlb/snicket/pkg/proxy"
)

// logged keeps what a data plane logs.
type logged struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logged) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.buf.String(), text)
}

func startLogged(t testing.TB, loops int, s proxy.State, l *logged) *harness {
	t.Helper()
	return startWith(t, s, proxy.Options{Loops: loops, Log: slog.New(slog.NewTextHandler(l, nil))})
}

// socket is one not connected yet, for when no descriptor is to be had later.
func (h *harness) socket() int {
	h.t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		h.t.Fatal(err)
	}
	return fd
}

// connect takes a socket of socket to the listener.
func (h *harness) connect(fd int) {
	h.t.Helper()
	if errno := loop.TCPAddress(netip.MustParseAddrPort(h.addr), 0).Connect(fd); errno != 0 {
		h.t.Fatal(errno)
	}
}

// asConn is a connected socket as a net.Conn that closes with the test.
func asConn(t testing.TB, fd int) *net.TCPConn {
	t.Helper()
	f := os.NewFile(uintptr(fd), "client")
	defer func() { _ = f.Close() }()
	c, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(lab.Patience))
	return c.(*net.TCPConn)
}
