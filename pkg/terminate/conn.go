package terminate

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// End says how the read side of a transport ended.
type End uint32

// The ways in which a read side ends.
const (
	EndNone  End = iota // it has not
	EndFIN              // the peer closed its sending side
	EndReset            // the peer reset the connection, or it broke
)

// Conn is a net.Conn over a TCP or Unix socket on which some bytes have been
// read already. It serves those first, counts what passes and notes how the
// transport ended, which crypto/tls does not tell: there a FIN between two
// records looks like a close_notify.
//
// Like any net.Conn it may be used by several goroutines, one reading and one
// writing.
type Conn struct {
	raw    net.Conn
	prefix []byte // owned by the reader
	fin    bool   // the reader met a FIN; owned by the reader

	ended    atomic.Uint32 // End
	shut     atomic.Bool   // CloseWrite was called
	noCert   atomic.Bool   // no certificate covers the client's name
	holdTime atomic.Bool   // SetWriteDeadline is ignored
	read     atomic.Uint64
	written  atomic.Uint64

	poll poll // owned by the reader
}

// poll is the state of reads that do not wait. The functions are made once,
// as each would be an allocation a read.
type poll struct {
	on   bool // Read answers errAgain instead of waiting
	raw  syscall.RawConn
	try  func(fd uintptr) bool // reads into buf
	wait func(fd uintptr) bool // waits until there is something to read
	buf  []byte
	n    int
	err  error
	fds  [1]unix.PollFd
	woke bool
}

// NewConn returns a Conn over raw, a *net.TCPConn or *net.UnixConn, that first
// serves prefix, the bytes already read from it. Both belong to the Conn from
// then on.
func NewConn(raw net.Conn, prefix []byte) *Conn {
	return &Conn{raw: raw, prefix: prefix}
}

// Ended returns how the read side ended, as far as reads and writes have met
// it. A reset is never taken back.
func (c *Conn) Ended() End { return End(c.ended.Load()) }

// BytesRead returns the number of bytes served by Read, prefix included.
func (c *Conn) BytesRead() uint64 { return c.read.Load() }

// BytesWritten returns the number of bytes written to the transport.
func (c *Conn) BytesWritten() uint64 { return c.written.Load() }

// errAgain is what Read returns while polling when nothing has arrived. It is
// temporary, so crypto/tls keeps what it has of a record and goes on at the
// next Read.
type errAgain struct{}

func (errAgain) Error() string   { return "nothing to read yet" }
func (errAgain) Timeout() bool   { return true }
func (errAgain) Temporary() bool { return true }

// Read serves the prefix, then the transport.
func (c *Conn) Read(b []byte) (int, error) {
	if len(c.prefix) > 0 {
		n := copy(b, c.prefix)
		if c.prefix = c.prefix[n:]; len(c.prefix) == 0 {
			c.prefix = nil
		}
		c.read.Add(uint64(n))
		return n, nil
	}
	var n int
	var err error
	if c.poll.on && len(b) > 0 {
		n, err = c.pollRead(b)
	} else {
		n, err = c.raw.Read(b)
	}
	c.read.Add(uint64(n))
	if err != nil && !errors.Is(err, errAgain{}) && !isTimeout(err) {
		err = c.noteRead(err)
	}
	return n, err
}

// noteRead notes how a read ended and returns the error that tells it.
func (c *Conn) noteRead(err error) error {
	if !errors.Is(err, io.EOF) {
		c.ended.Store(uint32(EndReset))
		return err
	}
	// The kernel tells of a reset once. If a write took the news, the read
	// finds a plain end: the state of the socket still knows better.
	if c.Ended() == EndReset || !c.shut.Load() && c.dead() {
		c.ended.Store(uint32(EndReset))
		return &net.OpError{Op: "read", Net: c.raw.LocalAddr().Network(), Err: syscall.ECONNRESET}
	}
	c.fin = true
	c.ended.CompareAndSwap(uint32(EndNone), uint32(EndFIN))
	return err
}

// Write writes to the transport.
func (c *Conn) Write(b []byte) (int, error) {
	n, err := c.raw.Write(b)
	c.written.Add(uint64(n))
	if err != nil && isReset(err) {
		c.ended.Store(uint32(EndReset))
	}
	return n, err
}

// CloseWrite sends a FIN: the peer reads an end, and can go on sending.
func (c *Conn) CloseWrite() error {
	c.shut.Store(true)
	if half, ok := c.raw.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// SetLinger sets what Close does with bytes not yet sent, as
// [net.TCPConn.SetLinger] does; 0 makes Close send a RST. On a Unix socket,
// which has none, it does nothing.
func (c *Conn) SetLinger(sec int) error {
	if tcp, ok := c.raw.(*net.TCPConn); ok {
		return tcp.SetLinger(sec)
	}
	return nil
}

// Close closes the transport and sends nothing of TLS.
func (c *Conn) Close() error { return c.raw.Close() }

// Abort closes the transport with a RST. What has not been sent is dropped.
func (c *Conn) Abort() error {
	_ = c.SetLinger(0) // fails only on a socket that is closed
	return c.raw.Close()
}

// CloseLinger closes the transport after an alert has been written. The client
// must be able to read it: closing while unread bytes are left would reset the
// connection and destroy the alert on its way. So it sends a FIN, then reads
// and drops at most 64 KiB for at most a second. It blocks that long.
func (c *Conn) CloseLinger() error {
	_ = c.CloseWrite()
	_ = c.raw.SetReadDeadline(time.Now().Add(time.Second))
	var sink [4096]byte
	for left := 64 << 10; left > 0; {
		n, err := c.raw.Read(sink[:])
		if err != nil {
			break
		}
		left -= n
	}
	return c.raw.Close()
}

// LocalAddr returns the address of this end.
func (c *Conn) LocalAddr() net.Addr { return c.raw.LocalAddr() }

// RemoteAddr returns the address of the peer.
func (c *Conn) RemoteAddr() net.Addr { return c.raw.RemoteAddr() }

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error { return c.raw.SetDeadline(t) }

// SetReadDeadline bounds Read.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.raw.SetReadDeadline(t) }

// SetWriteDeadline bounds Write.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	if c.holdTime.Load() {
		return nil
	}
	return c.raw.SetWriteDeadline(t)
}

// startPolling makes Read return errAgain instead of waiting, so that whoever
// reads can give its buffer back before it calls waitReadable. It is called by
// the reader.
func (c *Conn) startPolling() error {
	sc, ok := c.raw.(syscall.Conn)
	if !ok {
		return errors.ErrUnsupported
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return err
	}
	p := &c.poll
	p.raw, p.on = raw, true
	p.try = func(fd uintptr) bool {
		for {
			p.n, p.err = unix.Read(int(fd), p.buf)
			if !errors.Is(p.err, unix.EINTR) {
				return true
			}
		}
	}
	p.wait = func(fd uintptr) bool {
		if p.woke {
			return true
		}
		// The runtime's poller is edge-triggered and forgot what came before
		// this call, so ask once more.
		p.woke = true
		p.fds[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
		n, err := unix.Poll(p.fds[:], 0)
		return n != 0 || err != nil // an error: let Read find out
	}
	return nil
}

// pollRead reads what has arrived or returns errAgain.
func (c *Conn) pollRead(b []byte) (int, error) {
	p := &c.poll
	p.buf = b
	err := p.raw.Read(p.try)
	p.buf = nil
	switch {
	case err != nil:
		return 0, err // closed, or the deadline is over
	case errors.Is(p.err, unix.EAGAIN):
		return 0, errAgain{}
	case p.err != nil:
		return 0, &net.OpError{Op: "read", Net: c.raw.LocalAddr().Network(), Err: p.err}
	case p.n == 0:
		return 0, io.EOF
	default:
		return p.n, nil
	}
}

// waitReadable waits, holding no buffer, until Read has something to say.
func (c *Conn) waitReadable() error {
	c.poll.woke = false
	return c.poll.raw.Read(c.poll.wait)
}

// dead reports whether the kernel has given the connection up, as it does at
// a reset.
func (c *Conn) dead() bool {
	if _, ok := c.raw.(*net.TCPConn); !ok {
		return false
	}
	closed := false
	c.control(func(fd int) { closed = tcpClosed(fd) })
	return closed
}

func tcpClosed(fd int) bool {
	const tcpClose = 7 // TCP_CLOSE in the kernel's net/tcp_states.h
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	return err == nil && info.State == tcpClose
}

// waitReset waits until the peer resets the connection and reports true, or
// false when the read deadline is over. It is for the reader of a stream that
// has ended, who would not learn of it otherwise. It reads nothing: what a
// peer sends behind its close_notify is to be ignored (RFC 8446 §6.1).
func (c *Conn) waitReset() bool {
	if _, ok := c.raw.(*net.TCPConn); !ok || !c.poll.on {
		return false
	}
	err := c.poll.raw.Read(func(fd uintptr) bool { return tcpClosed(int(fd)) })
	if err != nil {
		return false
	}
	c.ended.Store(uint32(EndReset))
	return true
}

// unsent returns the number of bytes that the peer has not acknowledged.
func (c *Conn) unsent() int {
	if _, ok := c.raw.(*net.TCPConn); !ok {
		return 0
	}
	n := 0
	c.control(func(fd int) {
		if q, err := unix.IoctlGetInt(fd, unix.SIOCOUTQ); err == nil {
			n = q
		}
	})
	return n
}

// control runs f on the descriptor unless the connection is closed.
func (c *Conn) control(f func(fd int)) {
	sc, ok := c.raw.(syscall.Conn)
	if !ok {
		return
	}
	if raw, err := sc.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { f(int(fd)) })
	}
}

// isTimeout reports whether a deadline of ours is over. The kernel's ETIMEDOUT,
// by which a connection breaks, is none.
func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// isReset reports whether a write failed because the peer is gone.
func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		errors.Is(err, syscall.ETIMEDOUT) || errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH)
}
