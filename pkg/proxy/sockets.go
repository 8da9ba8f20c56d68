package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/pkg/loop"
)

// sockets are the listening sockets of one address: one for each loop, or any number
// that all loops share (a Unix socket, which knows no SO_REUSEPORT, and what others have
// made).
type sockets struct {
	address string // Listener.Text
	fds     []int  // by loop, unless shared
	shared  bool
	users   atomic.Int32   // loops that have not retired it
	local   netip.AddrPort // invalid for a Unix socket
	path    string         // of a Unix socket file to remove at the end

	// listener is what the address is called and demands now; last, once it is
	// removed, the table that it was removed with: what has come by then is
	// served as if the removal were still ahead.
	listener atomic.Pointer[Listener]
	last     atomic.Pointer[Table]
}

// bind makes the sockets of l without listening yet. ours tells whether a
// listener of this process holds the port already, on another address.
func bind(l *Listener, loops int, t *Timeouts, ours func(port uint16) bool) (*sockets, error) {
	s := &sockets{address: l.Text, shared: l.Address.Unix()}
	if s.shared {
		return s, s.bindUnix(l)
	}
	if a := l.Address.AddrPort(); a.Port() != 0 && !ours(a.Port()) {
		if err := free(l); err != nil {
			return nil, err
		}
	}
	address := l.Address
	for range loops {
		fd, err := bindTCP(address, l.Dual, true)
		if err != nil {
			s.close()
			return nil, err
		}
		s.fds = append(s.fds, fd)
		setKeepalive(fd, t)
		if !s.local.IsValid() {
			// Port 0: the kernel chose for the first, the others follow.
			s.local = loop.LocalAddr(fd)
			address = loop.TCPAddress(netip.AddrPortFrom(l.Address.AddrPort().Addr(), s.local.Port()), 0)
			if l.Address.AddrPort().Port() != 0 {
				address = l.Address
			}
		}
	}
	return s, nil
}

// free reports whether the address can be had: SO_REUSEPORT would bind beside
// another process of this user without a word, and steal half its connections.
func free(l *Listener) error {
	fd, err := bindTCP(l.Address, l.Dual, false)
	if err != nil {
		return err
	}
	loop.Close(fd)
	return nil
}

func bindTCP(a *loop.Address, dual, reusePort bool) (int, error) {
	fd, errno := a.Socket()
	if errno != 0 {
		return -1, fmt.Errorf("socket: %w", errno)
	}
	if a.Family() == unix.AF_INET6 {
		only := 1
		if dual {
			only = 0
		}
		loop.SetInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only)
	}
	loop.SetInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if reusePort {
		loop.SetInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}
	loop.SetInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) // inherited by what is accepted
	if errno := a.Bind(fd); errno != 0 {
		loop.Close(fd)
		return -1, fmt.Errorf("bind: %w", errno)
	}
	return fd, nil
}

// bindUnix binds a Unix socket; a file that no process listens on is replaced.
func (s *sockets) bindUnix(l *Listener) error {
	fd, errno := l.Address.Socket()
	if errno != 0 {
		return fmt.Errorf("socket: %w", errno)
	}
	errno = l.Address.Bind(fd)
	if path := l.Address.Path(); errno == unix.EADDRINUSE && path != "" {
		probe, perr := l.Address.Socket()
		if perr != 0 {
			loop.Close(fd)
			return fmt.Errorf("socket: %w", perr)
		}
		stale := l.Address.Connect(probe) == unix.ECONNREFUSED
		loop.Close(probe)
		// A file of another kind refuses as well, and is not ours to remove.
		info, err := os.Lstat(path)
		if stale && err == nil && info.Mode().Type() == os.ModeSocket && os.Remove(path) == nil {
			errno = l.Address.Bind(fd)
		}
	}
	if errno != 0 {
		loop.Close(fd)
		return fmt.Errorf("bind: %w", errno)
	}
	s.path = l.Address.Path()
	s.fds = append(s.fds, fd)
	return nil
}

// listen starts the accept queues.
func (s *sockets) listen() error {
	var errs []error
	for _, fd := range s.fds {
		if err := unix.Listen(fd, backlog); err != nil {
			errs = append(errs, fmt.Errorf("listen on %s: %w", s.address, err))
		}
	}
	return errors.Join(errs...)
}

// close closes what no loop has taken over yet.
func (s *sockets) close() {
	for _, fd := range s.fds {
		loop.Close(fd)
	}
	s.fds = nil
	s.unlink()
}

// unlink removes a Unix socket's file.
func (s *sockets) unlink() {
	if s.path != "" {
		_ = os.Remove(s.path)
		s.path = ""
	}
}

// setKeepalive arms TCP keepalive and the bound on unacknowledged bytes. What is
// set on a listening socket is inherited by what it accepts.
func setKeepalive(fd int, t *Timeouts) {
	if t.Keepalive > 0 {
		secs := max(int(t.Keepalive/time.Second), 1)
		loop.SetInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
		loop.SetInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, secs)
		loop.SetInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, secs)
	} else {
		loop.SetInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 0)
	}
	loop.SetInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(t.Unacked/time.Millisecond))
}
