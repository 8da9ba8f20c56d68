package loop

import (
	"fmt"
	"net"
	"os"
	"syscall"
)

// NetConn gives a connected stream socket to package net, for goroutines: fd is
// closed, and the connection has a descriptor of its own of the same socket. fd must
// be registered with no loop any more (see [Loop.Remove]): a registration belongs to
// the socket, so it would outlive fd. After an error the socket is closed.
//
// Package net arms a keepalive of its own and TCP_NODELAY, whatever was set before.
func NetConn(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "socket")
	if f == nil {
		return nil, fmt.Errorf("socket for goroutines: %w", os.ErrInvalid)
	}
	defer func() { _ = f.Close() }() // of its own descriptor, which nobody else has
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("socket for goroutines: %w", err)
	}
	return c, nil
}

// Control calls f with the descriptor of a connection of package net, for what that
// does not offer; f must not keep it. Of a connection without one, or closed, nothing
// is called.
func Control(c net.Conn, f func(fd int)) {
	s, ok := c.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { f(int(fd)) }) // closed meanwhile
}
