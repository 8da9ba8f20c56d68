package health_test

import (
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"

	"github.com/snicketlb/snicket/health"
)

// A backend whose backlog is full lets connections hang: only the timeout tells.
func TestTCPFullBacklog(t *testing.T) {
	noLeak(t)
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "backend")
	defer f.Close()
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(name.(*syscall.SockaddrInet4).Port)).String()
	// A backlog of 0 holds one connection.
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, got := probe(t, health.TCP{Address: address}, short); got != "connect: i/o timeout after 60ms" {
		t.Errorf("got %q, want a timeout", got)
	}
}
