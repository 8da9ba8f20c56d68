package loop

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls below are raw: on descriptors that do not block they return at
// once, so telling the scheduler of them (about 60 ns each) buys nothing. They
// retry EINTR where the kernel can give it, and return a bare Errno, 0 for none.

func epollCtl(epfd, op, fd int, ev *unix.EpollEvent) unix.Errno {
	_, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(epfd), uintptr(op), uintptr(fd),
		uintptr(unsafe.Pointer(ev)), 0, 0)
	return errno
}

func epollWaitRaw(epfd int, events []unix.EpollEvent, timeout int) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epfd),
		uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), uintptr(timeout), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

func epollWait(epfd int, events []unix.EpollEvent, timeout int) (int, unix.Errno) {
	n, _, errno := unix.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(epfd),
		uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), uintptr(timeout), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

func wakeUp(fd int) {
	one := [8]byte{}
	binary.NativeEndian.PutUint64(one[:], 1)
	_, _ = Write(fd, one[:])
}

func drain(fd int) {
	var b [8]byte
	_, _ = Read(fd, b[:])
}

// Read reads into b, which must not be empty. 0 and no error is the peer's FIN.
func Read(fd int, b []byte) (int, unix.Errno) {
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return 0, errno
		}
		return int(n), 0
	}
}

// Write writes b, which must not be empty, as far as there is room. The SIGPIPE
// that goes with EPIPE is dropped by the Go runtime.
func Write(fd int, b []byte) (int, unix.Errno) {
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return 0, errno
		}
		return int(n), 0
	}
}

// WriteMore is Write for a socket to which more is about to be sent, or its end:
// what does not fill a segment waits for that (MSG_MORE).
func WriteMore(fd int, b []byte) (int, unix.Errno) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)),
			unix.MSG_MORE|unix.MSG_NOSIGNAL, 0, 0)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return 0, errno
		}
		return int(n), 0
	}
}

// Splice moves up to n bytes from one descriptor to the other, one of which is
// a pipe, without blocking. 0 and no error is the end of from.
func Splice(from, to, n int) (int, unix.Errno) {
	for {
		m, _, errno := unix.RawSyscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(n),
			unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return 0, errno
		}
		return int(m), 0
	}
}

// Shut ends the writing side: what was written goes out, then a FIN.
func Shut(fd int) unix.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0)
	return errno
}

// Close closes fd. The descriptor is gone whatever the kernel says.
func Close(fd int) {
	_, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
}

// Reset closes a socket so that its peer sees a RST (SO_LINGER of 0). Unix
// sockets have none: their peer sees ECONNRESET if it had sent what nobody has
// read, else an end like any other.
func Reset(fd int) {
	l := unix.Linger{Onoff: 1}
	_ = setsockopt(fd, unix.SOL_SOCKET, unix.SO_LINGER, unsafe.Pointer(&l), unsafe.Sizeof(l))
	Close(fd)
}

// Unsent is the number of bytes written to a socket that its peer has not
// acknowledged, a FIN counting as one (SIOCOUTQ); on a Unix socket the memory of
// what its peer has not read; 0 where the socket cannot tell, and where a reset
// or a timeout has ended the connection, so that nobody waits for what cannot be.
func Unsent(fd int) int {
	var n int32
	_, _, errno := unix.RawSyscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCOUTQ, uintptr(unsafe.Pointer(&n)))
	if errno != 0 || n == 0 {
		return 0
	}
	if Gone(fd) {
		return 0 // the kernel counts on what it has dropped
	}
	return int(n)
}

// Gone reports whether the kernel has given up a TCP connection, as it does at a
// reset and at a timeout, also when the error that told of it has been taken. It
// is false for sockets of other kinds.
func Gone(fd int) bool {
	state, ok := tcpState(fd)
	return ok && state == unix.BPF_TCP_CLOSE
}

// Ended reports whether the peer of a stream socket sends no more, which it may have said
// behind bytes that nobody has read yet.
func Ended(fd int) bool {
	p := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
	_, err := unix.Poll(p[:], 0)
	return err == nil && p[0].Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
}

// TCP reports whether fd is a TCP socket.
func TCP(fd int) bool {
	_, ok := tcpState(fd)
	return ok
}

// tcpState is the first byte of struct tcp_info.
func tcpState(fd int) (state uint8, ok bool) {
	size := uint32(1)
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_TCP, unix.TCP_INFO,
		uintptr(unsafe.Pointer(&state)), uintptr(unsafe.Pointer(&size)), 0)
	return state, errno == 0
}

// PendingError takes the error that waits on a socket (SO_ERROR), 0 for none.
// The kernel reports it once.
func PendingError(fd int) unix.Errno {
	var v int32
	size := uint32(4)
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_ERROR,
		uintptr(unsafe.Pointer(&v)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return errno
	}
	return unix.Errno(v)
}

// SetInt sets a socket option that is an int.
func SetInt(fd, level, opt, value int) unix.Errno {
	v := int32(value)
	return setsockopt(fd, level, opt, unsafe.Pointer(&v), 4)
}

func setsockopt(fd, level, opt int, p unsafe.Pointer, size uintptr) unix.Errno {
	_, _, errno := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(opt),
		uintptr(p), size, 0)
	return errno
}

// An Address is where a stream socket connects to or binds: an IP address and
// port, or a Unix socket's path. It is kept in the kernel's form, so that a
// connect converts nothing. It is immutable and may be shared by loops.
type Address struct {
	raw    [unix.SizeofSockaddrUnix]byte
	size   uint32
	family uint16
}

// TCPAddress is the address of an IP and port. zone is the interface index of a
// link-local IPv6 address, else 0.
func TCPAddress(a netip.AddrPort, zone uint32) *Address {
	var out Address
	ip := a.Addr().Unmap()
	if ip.Is4() {
		out.family, out.size = unix.AF_INET, unix.SizeofSockaddrInet4
		ip4 := ip.As4()
		copy(out.raw[4:8], ip4[:])
	} else {
		out.family, out.size = unix.AF_INET6, unix.SizeofSockaddrInet6
		ip6 := ip.As16()
		copy(out.raw[8:24], ip6[:])
		binary.NativeEndian.PutUint32(out.raw[24:28], zone)
	}
	binary.NativeEndian.PutUint16(out.raw[0:2], out.family)
	binary.BigEndian.PutUint16(out.raw[2:4], a.Port())
	return &out
}

// UnixAddress is the address of a Unix socket; a leading "@" is Linux's abstract
// name space. It reports false for a path that is empty or too long (107 bytes).
func UnixAddress(path string) (*Address, bool) {
	out := &Address{family: unix.AF_UNIX}
	if path == "" || len(path) >= unix.SizeofSockaddrUnix-2 {
		return nil, false
	}
	binary.NativeEndian.PutUint16(out.raw[0:2], unix.AF_UNIX)
	n := copy(out.raw[2:], path)
	out.size = uint32(2 + n + 1)
	if path[0] == '@' {
		out.raw[2] = 0
		out.size--
	}
	return out, true
}

// Unix reports whether a is the address of a Unix socket.
func (a *Address) Unix() bool { return a.family == unix.AF_UNIX }

// Family is AF_INET, AF_INET6 or AF_UNIX.
func (a *Address) Family() int { return int(a.family) }

// AddrPort is the IP address and port, invalid for a Unix socket.
func (a *Address) AddrPort() netip.AddrPort { return addrPort(a.raw[:], a.size) }

// Socket makes a stream socket of a's family: non-blocking, close-on-exec, and
// plain TCP, never MPTCP.
func (a *Address) Socket() (int, unix.Errno) {
	fd, _, errno := unix.RawSyscall(unix.SYS_SOCKET, uintptr(a.family),
		unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), 0
}

// Connect begins to connect fd to a; EINPROGRESS says that it goes on. On a Unix
// socket EAGAIN says that the backlog is full and that no event will follow.
func (a *Address) Connect(fd int) unix.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&a.raw[0])), uintptr(a.size))
	return errno
}

// Bind binds fd to a.
func (a *Address) Bind(fd int) unix.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&a.raw[0])), uintptr(a.size))
	return errno
}

// Accept takes one connection off fd's queue: its descriptor, non-blocking and
// close-on-exec, and the peer's address, unmapped, invalid for a Unix socket.
func Accept(fd int) (int, netip.AddrPort, unix.Errno) {
	var raw [unix.SizeofSockaddrUnix]byte
	size := uint32(len(raw))
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), uintptr(unsafe.Pointer(&raw[0])),
			uintptr(unsafe.Pointer(&size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return -1, netip.AddrPort{}, errno
		}
		return int(n), addrPort(raw[:], size), 0
	}
}

// LocalAddr is the address that fd is bound to, unmapped; invalid for a Unix
// socket.
func LocalAddr(fd int) netip.AddrPort { return addrOf(unix.SYS_GETSOCKNAME, fd) }

// PeerAddr is the address that fd is connected to, unmapped; invalid for a Unix
// socket, and once the connection is gone.
func PeerAddr(fd int) netip.AddrPort { return addrOf(unix.SYS_GETPEERNAME, fd) }

func addrOf(call uintptr, fd int) netip.AddrPort {
	var raw [unix.SizeofSockaddrUnix]byte
	size := uint32(len(raw))
	_, _, errno := unix.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(&raw[0])),
		uintptr(unsafe.Pointer(&size)))
	if errno != 0 {
		return netip.AddrPort{}
	}
	return addrPort(raw[:], size)
}

func addrPort(raw []byte, size uint32) netip.AddrPort {
	if size < 2 {
		return netip.AddrPort{}
	}
	switch binary.NativeEndian.Uint16(raw[0:2]) {
	case unix.AF_INET:
		ip := netip.AddrFrom4([4]byte(raw[4:8]))
		return netip.AddrPortFrom(ip, binary.BigEndian.Uint16(raw[2:4]))
	case unix.AF_INET6:
		ip := netip.AddrFrom16([16]byte(raw[8:24])).Unmap()
		if zone := binary.NativeEndian.Uint32(raw[24:28]); zone != 0 && ip.IsLinkLocalUnicast() {
			ip = ip.WithZone(strconv.FormatUint(uint64(zone), 10))
		}
		return netip.AddrPortFrom(ip, binary.BigEndian.Uint16(raw[2:4]))
	}
	return netip.AddrPort{}
}

// Path is the file of a Unix socket, empty for an abstract one and for TCP.
func (a *Address) Path() string {
	if !a.Unix() || a.raw[2] == 0 {
		return ""
	}
	return string(a.raw[2 : a.size-1])
}

// Network is the address's network as package net names it.
func (a *Address) Network() string {
	if a.Unix() {
		return "unix"
	}
	return "tcp"
}

// String is the address as package net reads it: IP:port, or a path, with "@"
// for an abstract one.
func (a *Address) String() string {
	if !a.Unix() {
		return a.AddrPort().String()
	}
	if path := a.Path(); path != "" {
		return path
	}
	return "@" + string(a.raw[3:a.size])
}
