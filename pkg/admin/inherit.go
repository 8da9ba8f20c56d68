package admin

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Inherited are the sockets of another process that answers where this one is to answer.
// Their descriptors are the Server's from Inherit on.
type Inherited struct {
	Path     string // of the Unix socket; empty: none
	SocketFD int
	Inode    uint64
	Address  string // as it is configured; empty: none
	TCPFD    int
}

// Inherit has the next Prepare take these sockets, where its settings want them. Others
// are closed by Commit or Abort.
func (s *Server) Inherit(i Inherited) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inherited = &i
}

// Sockets are copies of those that are answered at, for another process. They are the
// caller's.
func (s *Server) Sockets() (i Inherited, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.socket != nil {
		if i.SocketFD, err = copyOf(s.socket.listener); err != nil {
			return Inherited{}, err
		}
		i.Path, i.Inode = s.socket.socket.Path, s.socket.file.ino
	}
	if s.tcp != nil {
		if i.TCPFD, err = copyOf(s.tcp.listener); err != nil {
			i.Close()
			return Inherited{}, err
		}
		i.Address = s.tcp.address
	}
	return i, nil
}

func copyOf(l net.Listener) (int, error) {
	socket, ok := l.(syscall.Conn)
	if !ok {
		return -1, fmt.Errorf("a %T has no descriptor", l)
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	controlled := raw.Control(func(own uintptr) { fd, err = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) })
	return fd, errors.Join(controlled, err)
}

// Close closes the descriptors.
func (i *Inherited) Close() {
	if i.Path != "" {
		_ = unix.Close(i.SocketFD)
		i.Path = ""
	}
	if i.Address != "" {
		_ = unix.Close(i.TCPFD)
		i.Address = ""
	}
}

// Leave answers no more, but to requests under way: another process does, at the same
// sockets.
func (s *Server) Leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range []*place{s.socket, s.tcp} {
		if p == nil {
			continue
		}
		if p.file != nil {
			p.file.theirs = true
		}
		s.retire(p)
	}
	s.socket, s.tcp = nil, nil
}

// takeSocket is the inherited Unix socket, if it is the one wanted.
func (i *Inherited) takeSocket(o SocketSettings) (*socketFile, net.Listener, error) {
	if i == nil || i.Path == "" || i.Path != o.Path {
		return nil, nil, nil
	}
	i.Path = ""
	f := os.NewFile(uintptr(i.SocketFD), o.Path)
	defer f.Close()
	l, err := net.FileListener(f)
	return &socketFile{path: o.Path, ino: i.Inode, theirs: true}, l, err
}

// takeTCP is the same for the address.
func (i *Inherited) takeTCP(address string) (net.Listener, error) {
	if i == nil || i.Address == "" || i.Address != address {
		return nil, nil
	}
	i.Address = ""
	f := os.NewFile(uintptr(i.TCPFD), address)
	defer f.Close()
	return net.FileListener(f)
}
