package wire

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// poller is an epoll instance whose events carry a number of the caller's.
type poller struct {
	fd     int
	events [256]unix.EpollEvent
}

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	return &poller{fd: fd}, nil
}

// set registers fd with tag, or changes what it is registered for.
func (p *poller) set(op, fd int, events uint32, tag uint64) error {
	e := unix.EpollEvent{Events: events, Fd: int32(uint32(tag)), Pad: int32(tag >> 32)}
	return unix.EpollCtl(p.fd, op, fd, &e)
}

func tag(e *unix.EpollEvent) uint64 { return uint64(uint32(e.Fd)) | uint64(uint32(e.Pad))<<32 }

// wait returns the events of at most that many milliseconds; an interrupted wait has none.
func (p *poller) wait(milliseconds int) ([]unix.EpollEvent, error) {
	n, err := unix.EpollWait(p.fd, p.events[:], milliseconds)
	if err == unix.EINTR {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("epoll_wait: %w", err)
	}
	return p.events[:n], nil
}

// drop reads up to n bytes that stay in the kernel (tcp(7), MSG_TRUNC): a receiver that costs next to nothing.
func drop(fd, n int) (int, error) {
	r, _, errno := unix.Syscall6(unix.SYS_RECVFROM, uintptr(fd), 0, uintptr(n), unix.MSG_TRUNC, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(r), nil
}

// dial begins a connection that does not block.
func dial(to *unix.RawSockaddrInet4) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("TCP_NODELAY: %w", err)
	}
	_, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(to)), unix.SizeofSockaddrInet4)
	if errno != 0 && errno != unix.EINPROGRESS {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("connect: %w", errno)
	}
	return fd, nil
}

// listen opens a listener that accepted sockets inherit TCP_NODELAY from.
func listen(address netip.AddrPort) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	for _, o := range [][2]int{{unix.SOL_SOCKET, unix.SO_REUSEADDR}, {unix.IPPROTO_TCP, unix.TCP_NODELAY}} {
		if err := unix.SetsockoptInt(fd, o[0], o[1], 1); err != nil {
			_ = unix.Close(fd)
			return -1, fmt.Errorf("setsockopt: %w", err)
		}
	}
	to := unix.SockaddrInet4{Port: int(address.Port()), Addr: address.Addr().As4()}
	if err := unix.Bind(fd, &to); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("bind %v: %w", address, err)
	}
	if err := unix.Listen(fd, 65535); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("listen %v: %w", address, err)
	}
	return fd, nil
}

func boundPort(fd int) (uint16, error) {
	address, err := unix.Getsockname(fd)
	if err != nil {
		return 0, fmt.Errorf("getsockname: %w", err)
	}
	bound, ok := address.(*unix.SockaddrInet4)
	if !ok {
		return 0, fmt.Errorf("bound to a %T", address)
	}
	return uint16(bound.Port), nil
}

func sockaddr(a netip.AddrPort) *unix.RawSockaddrInet4 {
	to := &unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: a.Addr().As4()}
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&to.Port))[:], a.Port())
	return to
}
