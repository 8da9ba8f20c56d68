package wire

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"runtime"

	"golang.org/x/sys/unix"
)

const (
	bulkWrite = 256 << 10 // one turn of a stream or an upload, so that many share a thread
	bulkRead  = 1 << 20
	listenTag = ^uint64(0)
)

// Serve is the backend: it listens at address and does with each session what its client commands. It calls ready with
// the port in use once it listens. It keeps its thread and returns on an error of its own alone; a session that breaks
// is closed. complaints gets one line for the first session that no client of this package began.
func Serve(address netip.AddrPort, ready func(port uint16), complaints io.Writer) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	fd, err := listen(address)
	if err != nil {
		return err
	}
	p, err := newPoller()
	if err != nil {
		return err
	}
	if err := p.set(unix.EPOLL_CTL_ADD, fd, unix.EPOLLIN, listenTag); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	port, err := boundPort(fd)
	if err != nil {
		return err
	}
	ready(port)
	s := &server{poller: p, listener: fd, bulk: make([]byte, bulkWrite), complaints: complaints}
	for {
		events, err := p.wait(-1)
		if err != nil {
			return err
		}
		for i := range events {
			if t := tag(&events[i]); t == listenTag {
				s.accept()
			} else {
				s.turn(int(t), events[i].Events)
			}
		}
	}
}

// server holds the sessions by their descriptors. A descriptor closed in a batch may be reused only by accept, whose
// new session has no event in that batch yet; a stale event of the old one reads EAGAIN and does nothing.
type server struct {
	*poller
	listener   int
	sessions   []served
	bulk       []byte
	complaints io.Writer
}

type served struct {
	open  bool
	began bool
	mode  Mode
	left  int64  // Answer: bytes still to send
	early []byte // of a command that came in pieces
}

func (s *server) accept() {
	for range 64 {
		fd, _, errno := unix.Syscall6(unix.SYS_ACCEPT4, uintptr(s.listener), 0, 0, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
		if errno != 0 {
			return // EAGAIN, or the client is gone, or no descriptor: the next turn tells
		}
		for int(fd) >= len(s.sessions) {
			s.sessions = append(s.sessions, served{})
		}
		s.sessions[fd] = served{open: true}
		if s.set(unix.EPOLL_CTL_ADD, int(fd), unix.EPOLLIN|unix.EPOLLRDHUP, uint64(fd)) != nil {
			s.close(int(fd))
		}
	}
}

func (s *server) close(fd int) {
	s.sessions[fd] = served{}
	_ = unix.Close(fd)
}

// turn does what one event asks for; a session that ends or breaks is closed here alone.
func (s *server) turn(fd int, events uint32) {
	c := &s.sessions[fd]
	if !c.open {
		return
	}
	if events&(unix.EPOLLERR|unix.EPOLLHUP) != 0 || !s.step(fd, c) {
		s.close(fd)
	}
}

// step returns false when the session is over.
func (s *server) step(fd int, c *served) bool {
	if !c.began {
		return s.begin(fd, c)
	}
	switch c.mode {
	case Answer, Reply:
		return s.answer(fd, c)
	case Stream:
		_, err := unix.Write(fd, s.bulk)
		return err == nil || again(err)
	case Echo:
		n, err := unix.Read(fd, s.bulk)
		if n > 0 {
			// A message is far below a socket's buffer: it fits, or the peer does not read and is not ours.
			w, err := unix.Write(fd, s.bulk[:n])
			return w == n && err == nil
		}
		return again(err)
	default: // Sink, Hold
		n, err := drop(fd, bulkRead)
		return n > 0 || again(err)
	}
}

func (s *server) begin(fd int, c *served) bool {
	n, err := unix.Read(fd, s.bulk[:16<<10])
	if n <= 0 {
		return again(err)
	}
	first := s.bulk[:n]
	if c.early != nil {
		c.early = append(c.early, first...)
		first = c.early
	}
	command, taken, err := ParseCommand(first)
	if errors.Is(err, errShort) {
		if c.early == nil {
			c.early = append(c.early, first...)
		}
		return true
	}
	if err != nil {
		if s.complaints != nil {
			fmt.Fprintln(s.complaints, "backend:", err)
			s.complaints = nil
		}
		return false
	}
	c.began, c.mode, c.left = true, command.Mode, command.Size
	rest := first[taken:]
	c.early = nil
	switch c.mode {
	case Answer, Reply:
		return s.answer(fd, c)
	case Stream:
		return s.set(unix.EPOLL_CTL_MOD, fd, unix.EPOLLOUT, uint64(fd)) == nil
	case Echo:
		if len(rest) > 0 {
			_, err := unix.Write(fd, rest)
			return err == nil
		}
		return true
	case Hold:
		_, err := unix.Write(fd, []byte{1})
		return err == nil
	default:
		return true
	}
}

func (s *server) answer(fd int, c *served) bool {
	n, err := unix.Write(fd, s.bulk[:min(c.left, int64(len(s.bulk)))])
	if again(err) {
		n, err = 0, nil
	}
	if err != nil {
		return false
	}
	if c.left -= int64(n); c.left > 0 {
		return s.set(unix.EPOLL_CTL_MOD, fd, unix.EPOLLOUT, uint64(fd)) == nil
	}
	if c.mode == Answer {
		return false // closing sends the end
	}
	c.mode = Hold
	return s.set(unix.EPOLL_CTL_MOD, fd, unix.EPOLLIN|unix.EPOLLRDHUP, uint64(fd)) == nil
}

// again says that a call shall be made once more when epoll says so.
func again(err error) bool { return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) }
