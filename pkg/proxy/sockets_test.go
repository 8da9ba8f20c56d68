package proxy_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/loop"
	"github.com/snicketlb/snicket/pkg/proxy"
)

// sockLine is one socket as /proc/net/tcp tells of it.
type sockLine struct {
	local, remote netip.AddrPort
	unsent        int
	unread        int
	timer         string // 00 none, 01 retransmit, 02 keepalive, 04 zero window probe
}

// sockLines reads the IPv4 sockets of this network namespace.
func sockLines(t testing.TB) []sockLine {
	t.Helper()
	f, err := os.Open("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []sockLine
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Fields(s.Text())
		const timeWait = "06" // the shadow of a former socket of the port
		if len(fields) < 6 || fields[0] == "sl" || fields[3] == timeWait {
			continue
		}
		l := sockLine{local: hexAddr(t, fields[1]), remote: hexAddr(t, fields[2]), timer: fields[5][:2]}
		if _, err := fmt.Sscanf(fields[4], "%X:%X", &l.unsent, &l.unread); err != nil {
			t.Fatal(err)
		}
		out = append(out, l)
	}
	return out
}

func hexAddr(t testing.TB, s string) netip.AddrPort {
	t.Helper()
	var ip, port uint32
	if _, err := fmt.Sscanf(s, "%X:%X", &ip, &port); err != nil {
		t.Fatal(err)
	}
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], ip)
	return netip.AddrPortFrom(netip.AddrFrom4(b), uint16(port))
}

// sideOf is the socket whose peer is that address.
func sideOf(t testing.TB, local, remote string) (sockLine, bool) {
	t.Helper()
	for _, l := range sockLines(t) {
		if (local == "" || l.local.String() == local) && (remote == "" || l.remote.String() == remote) {
			return l, true
		}
	}
	return sockLine{}, false
}

// unread is what the data plane has not read of a client's bytes.
func unread(t testing.TB, h *harness, c net.Conn) int {
	t.Helper()
	l, ok := sideOf(t, h.addr, c.LocalAddr().String())
	if !ok {
		return -1
	}
	return l.unread
}

func unixListener(t testing.TB, name, path string) proxy.Listener {
	t.Helper()
	a, ok := loop.UnixAddress(path)
	if !ok {
		t.Fatalf("path %q", path)
	}
	return proxy.Listener{Name: name, Address: a, Text: "unix:" + path}
}

func dialUnix(t testing.TB, path string) *net.UnixConn {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(lab.Patience))
	return c.(*net.UnixConn)
}

// stale leaves the file of a Unix socket that nobody listens on.
func stale(t testing.TB, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
}

// taken waits until the data plane has read c's whole hello. The kernel counts
// a FIN that nobody has read as one byte.
func (h *harness) taken(c net.Conn) {
	h.t.Helper()
	eventually(h.t, "the hello is taken", func() bool {
		left := unread(h.t, h, c)
		return (left == 0 || left == 1) && h.p.Counters().Hellos == 0
	})
}
