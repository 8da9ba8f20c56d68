package health

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// direct is a backend that a connector can probe: an address that needs no
// look-up, and a probe of kind tcp that writes nothing.
type direct struct {
	family   int
	to, from syscall.Sockaddr // from is nil for the kernel's choice
	port     uint16
}

// directTo returns p as a direct probe, nil if it is none.
func directTo(p Prober) *direct {
	tcp, ok := p.(TCP)
	if !ok || tcp.Dial != nil || len(tcp.Preface) > 0 {
		return nil
	}
	address, err := netip.ParseAddrPort(tcp.Address)
	if err != nil || address.Addr().Zone() != "" {
		return nil
	}
	to := netip.AddrPortFrom(address.Addr().Unmap(), address.Port())
	d := &direct{family: syscall.AF_INET6, to: sockaddr(to), port: to.Port()}
	other := "tcp4"
	if to.Addr().Is4() {
		d.family, other = syscall.AF_INET, "tcp6"
	}
	if tcp.Network == other || tcp.Network == "unix" {
		return nil
	}
	if source := tcp.Source.Unmap(); source.IsValid() {
		if source.Is4() != to.Addr().Is4() || source.Zone() != "" {
			return nil
		}
		d.from = sockaddr(netip.AddrPortFrom(source, 0))
	}
	return d
}

func sockaddr(a netip.AddrPort) syscall.Sockaddr {
	if a.Addr().Is4() {
		return &syscall.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &syscall.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// connector makes direct probes without a goroutine for each: thousands a second
// cost little more than their system calls. Most connections on a fast network are
// there, or refused, before start returns; the others wait in an epoll instance,
// which the runtime's own poller watches.
type connector struct {
	epoll int
	file  *os.File // owns epoll
	done  func(attempt, error)
	wait  sync.WaitGroup

	mu      sync.Mutex             // guards the fields below
	pending map[uint64]*connecting // by the attempt's number
}

// connecting is a connection that is not there yet. Who takes it out of pending
// closes its descriptor.
type connecting struct {
	attempt
	fd    int
	timer *time.Timer
}

// newConnector returns a connector that calls done, from goroutines of its own,
// for each probe that start left open.
func newConnector(done func(attempt, error)) (*connector, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	// os.NewFile gives only what does not block to the poller.
	if err := syscall.SetNonblock(fd, true); err != nil {
		_ = syscall.Close(fd)
		return nil, err
	}
	c := &connector{epoll: fd, file: os.NewFile(uintptr(fd), "epoll"), done: done, pending: make(map[uint64]*connecting)}
	raw, err := c.file.SyscallConn()
	if err != nil {
		_ = c.file.Close()
		return nil, err
	}
	c.wait.Go(func() {
		events := make([]syscall.EpollEvent, 128)
		_ = raw.Read(func(uintptr) bool { return c.drain(events) }) // until the file is closed
	})
	return c, nil
}

// close ends what is pending, and returns when done has been called for all of it.
func (c *connector) close() {
	_ = c.file.Close()
	c.mu.Lock()
	for _, p := range c.pending {
		p.timer.Reset(0)
	}
	c.mu.Unlock()
	c.wait.Wait()
}

// start begins a probe. If it ended at once, start returns true and how; else done
// is called later.
func (c *connector) start(a attempt) (bool, error) {
	fd, err := a.direct.socket()
	if err != nil {
		return true, explain("connect", err)
	}
	err = syscall.Connect(fd, a.direct.to)
	if errors.Is(err, syscall.EINPROGRESS) {
		// On loopback it is over by now, and asking again is cheaper than waiting.
		err = syscall.Connect(fd, a.direct.to)
	}
	if errors.Is(err, syscall.EALREADY) || errors.Is(err, syscall.EINPROGRESS) {
		if err = c.watch(a, fd); err == nil {
			return false, nil
		}
	}
	return true, a.direct.finish(fd, err)
}

// watch leaves a connection to drain and to its timer.
func (c *connector) watch(a attempt, fd int) error {
	p := &connecting{attempt: a, fd: fd}
	c.mu.Lock()
	defer c.mu.Unlock()
	// The kernel gives back the number; the type's field for a descriptor is half of it.
	event := syscall.EpollEvent{
		Events: syscall.EPOLLOUT | syscall.EPOLLONESHOT, Fd: int32(uint32(a.number)), Pad: int32(a.number >> 32),
	}
	if err := syscall.EpollCtl(c.epoll, syscall.EPOLL_CTL_ADD, fd, &event); err != nil {
		return err
	}
	c.pending[a.number] = p
	c.wait.Add(1)
	p.timer = time.AfterFunc(a.timeout, func() { c.expire(a.number) })
	return nil
}

// abandon ends an attempt that is pending, soon and without waiting for it.
func (c *connector) abandon(number uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.pending[number]; p != nil {
		p.timer.Reset(0)
	}
}

// take makes the caller the one who ends the connection; nil if another did.
func (c *connector) take(number uint64) *connecting {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.pending[number]
	delete(c.pending, number)
	return p
}

// expire ends a connection for which there is no more time.
func (c *connector) expire(number uint64) {
	p := c.take(number)
	if p == nil {
		return
	}
	defer c.wait.Done()
	_ = syscall.Close(p.fd)
	c.done(p.attempt, explain("connect", os.ErrDeadlineExceeded))
}

// drain ends the connections that have come to something. It returns false, which
// makes the poller wait for more.
func (c *connector) drain(events []syscall.EpollEvent) bool {
	for {
		n, err := syscall.EpollWait(c.epoll, events, 0)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if n <= 0 {
			return false
		}
		for _, event := range events[:n] {
			p := c.take(uint64(uint32(event.Fd)) | uint64(uint32(event.Pad))<<32)
			if p == nil {
				continue
			}
			p.timer.Stop() // or expire finds nothing
			c.done(p.attempt, p.direct.finish(p.fd, pendingError(p.fd)))
			c.wait.Done()
		}
	}
}

func pendingError(fd int) error {
	switch errno, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_ERROR); {
	case err != nil:
		return err
	case errno != 0:
		return syscall.Errno(errno)
	}
	return nil
}

// socket returns a socket for one probe.
func (d *direct) socket() (int, error) {
	fd, err := syscall.Socket(d.family, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	quiet(fd)
	if d.from == nil {
		return fd, nil
	}
	// The port is chosen with the destination in view, so that they do not run out.
	const bindAddressNoPort = 24 // IP_BIND_ADDRESS_NO_PORT of linux/in.h
	_ = syscall.SetsockoptInt(fd, syscall.SOL_IP, bindAddressNoPort, 1)
	if err := syscall.Bind(fd, d.from); err != nil {
		_ = syscall.Close(fd)
		return -1, err
	}
	return fd, nil
}

// finish closes the socket of a probe that has ended with err.
func (d *direct) finish(fd int, err error) error {
	if err == nil && d.isOwnPort(fd) {
		err = syscall.ECONNREFUSED
	}
	_ = syscall.Close(fd)
	if err != nil {
		return explain("connect", err)
	}
	return nil
}

// isOwnPort reports whether a socket is connected to itself: where nothing listens
// on a port of this machine's, the kernel may choose just that one to come from.
func (d *direct) isOwnPort(fd int) bool {
	if d.port < 1024 {
		return false
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		return false
	}
	switch from := name.(type) {
	case *syscall.SockaddrInet4:
		to, ok := d.to.(*syscall.SockaddrInet4)
		return ok && from.Port == to.Port && from.Addr == to.Addr
	case *syscall.SockaddrInet6:
		to, ok := d.to.(*syscall.SockaddrInet6)
		return ok && from.Port == to.Port && from.Addr == to.Addr
	}
	return false
}

// quiet makes a socket that is about to connect leave no trace: its acknowledgement
// waits for something to go with it, which is the reset of its end. A backend that
// is probed so has nothing to accept. Where that fails it accepts a connection that
// was reset.
func quiet(fd int) {
	_ = syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
	_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_QUICKACK, 0)
}

// quietly makes d dial by quiet sockets.
func quietly(d *net.Dialer) {
	d.Control = func(network, _ string, c syscall.RawConn) error {
		if network == "unix" {
			return nil
		}
		if err := c.Control(func(fd uintptr) { quiet(int(fd)) }); err != nil {
			return fmt.Errorf("socket: %w", err)
		}
		return nil
	}
}
