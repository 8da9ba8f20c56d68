package lab

import (
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
)

// Ports of FreeAddr lie below the range the kernel gives to outgoing connections (32768 and up), so that no client of
// a test takes one between being found free and being listened on.
const (
	firstPort = 12000
	lastPort  = 31999
)

//nolint:gochecknoglobals // the ports one test process has handed out belong to the process, not to a test
var nextPort atomic.Uint32

// FreeAddr returns an address of 127.0.0.1, "IP:port", that nothing listens on, for programs that must be told one.
// No two calls of one process return the same one until all have been used.
func FreeAddr(t testing.TB) string {
	t.Helper()
	return FreeAddrOf(t, "127.0.0.1")
}

// FreeAddrOf is FreeAddr for another of this machine's addresses.
func FreeAddrOf(t testing.TB, ip string) string {
	t.Helper()
	const ports = lastPort - firstPort + 1
	for range ports {
		port := firstPort + (processOffset()+nextPort.Add(1))%ports
		addr := net.JoinHostPort(ip, strconv.Itoa(int(port)))
		l, err := net.Listen("tcp", addr)
		if err == nil {
			l.Close()
			return addr
		}
	}
	t.Fatalf("no free port on %s", ip)
	return ""
}

// processOffset spreads test processes that run at the same time over the ports.
func processOffset() uint32 { return uint32(os.Getpid()) * 101 }
