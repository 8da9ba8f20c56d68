package terminate

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/pkg/loop"
)

// End says how the read side of a transport ended.
type End uint8

// The ways in which a read side ends.
const (
	EndNone  End = iota // it has not
	EndFIN              // the peer closed its sending side
	EndReset            // the peer reset the connection, or it broke
)

// maxControl is how much of its own crypto/tls may have to say to a peer that
// takes nothing, answers to KeyUpdates above all, before nothing more is read
// from that peer.
const maxControl = 16 << 10

// maxHandshake is how much a client may send in its handshake, in bytes: a hello as large
// as crypto/tls takes one, and as much again for a second one and for certificates. Of
// these crypto/tls takes 256 KiB, 1.3 MB once they are parsed, from whoever is asked.
const maxHandshake = 128 << 10

// Conn is a net.Conn, as crypto/tls wants one, over a non-blocking socket that is
// registered edge-triggered with a loop. It serves bytes read before it was made
// first, counts what passes and notes how the transport ended, which crypto/tls
// does not tell: there a FIN between two records looks like a close_notify.
//
// Read never waits: outside a handshake it answers with a temporary error when
// nothing is there, which crypto/tls takes up at the next Read; in a handshake it
// yields to the loop. Write never fails for want of room, which crypto/tls would
// take for the end: what the socket does not take is kept, and sent by Flush.
//
// The descriptor stays its owner's, who closes it. A Conn belongs to its loop, until
// it leaves for goroutines.
type Conn struct {
	env    *Env
	fd     int
	prefix []byte // read before
	out    []byte // borrowed: out[off:] is to be sent
	off    int
	shake  *Handshake // whose coroutine reads here
	away   *away      // nil on the loop

	failed  error // of every Read and Write from now on
	readAny uint64
	written uint64
	foreign uint64 // of written and out: by Hold
	control int    // written while out waited, since it last was empty
	writes  uint64 // by crypto/tls, but for corked ones

	// A flag is true as long as the kernel has not said otherwise: with
	// edge-triggered events nobody says it twice.
	readable, writable bool
	behind             bool // something may lie behind a short read
	hup                bool // an event told of an error, or of both ends
	held               bool // out waits for more to go with it
	fin                bool // the reader met a FIN
	shut               bool // our FIN is sent
	shutDue            bool // our FIN is to follow out
	noCert             bool // no certificate covers the client's name
	ended              End
}

// NewConn returns a Conn over the socket fd that first serves prefix, the bytes
// already read from it, which must not change until they are served.
func NewConn(env *Env, fd int, prefix []byte) *Conn {
	c := new(Conn)
	c.Init(env, fd, prefix)
	return c
}

// Init is NewConn for a Conn that is part of something.
func (c *Conn) Init(env *Env, fd int, prefix []byte) {
	*c = Conn{env: env, fd: fd, prefix: prefix, readable: true, writable: true, behind: true}
}

// Note records events of the descriptor. What waits for room is sent by Flush.
func (c *Conn) Note(ev loop.Events) {
	if ev&(loop.Readable|loop.PeerShut|loop.Hangup|loop.Error|loop.Urgent) != 0 {
		c.readable = true
	}
	if ev&(loop.PeerShut|loop.Hangup|loop.Error|loop.Urgent) != 0 {
		c.behind = true
	}
	if ev&(loop.Hangup|loop.Error) != 0 {
		c.hup = true
	}
	if ev&loop.Writable != 0 {
		c.writable = true
	}
}

// Drained tells that there is nothing to read now, as far as events have told:
// it saves the read that would find that out.
func (c *Conn) Drained() { c.readable, c.behind = false, false }

// Ended returns how the read side ended, as far as reads and writes have met
// it. A reset is never taken back.
func (c *Conn) Ended() End {
	if c.away != nil {
		return End(c.away.ended.Load())
	}
	return c.ended
}

// Prefix returns what of the bytes given to NewConn has not been served.
func (c *Conn) Prefix() []byte { return c.prefix }

// KeepPrefix exchanges the bytes not served yet for a copy.
func (c *Conn) KeepPrefix() { c.prefix = append([]byte(nil), c.prefix...) }

// BytesRead returns the number of bytes served by Read, prefix included.
func (c *Conn) BytesRead() uint64 { return c.readAny }

// BytesWritten returns the number of bytes that the transport has taken.
func (c *Conn) BytesWritten() uint64 { return c.written }

// Unsent reports whether bytes wait for room in the transport.
func (c *Conn) Unsent() bool { return len(c.out) > 0 }

// errAgain is what Read returns when nothing has arrived. It is temporary, so
// crypto/tls keeps what it has of a record and goes on at the next Read.
type errAgain struct{}

func (errAgain) Error() string   { return "nothing to read yet" }
func (errAgain) Timeout() bool   { return true }
func (errAgain) Temporary() bool { return true }

var errLongHandshake = fmt.Errorf("handshake of more than %d bytes", maxHandshake)

func isAgain(err error) bool {
	_, again := err.(errAgain) //nolint:errorlint // never wrapped: crypto/tls hands it on as it is
	return again
}

// Read serves the prefix, then the transport.
func (c *Conn) Read(b []byte) (int, error) {
	if c.away != nil {
		return c.away.Read(b)
	}
	for {
		n, err := c.receive(b)
		if c.shake != nil && isAgain(err) {
			c.shake.co.Yield()
			continue
		}
		c.readAny += uint64(n)
		if err == nil && c.readAny > maxHandshake && c.shake != nil && !c.shake.backend {
			return 0, errLongHandshake
		}
		return n, err
	}
}

func (c *Conn) receive(b []byte) (int, error) {
	switch {
	case c.failed != nil:
		return 0, c.failed
	case len(b) == 0:
		return 0, nil
	case len(c.prefix) > 0:
		n := copy(b, c.prefix)
		if c.prefix = c.prefix[n:]; len(c.prefix) == 0 {
			c.prefix = nil
		}
		return n, nil
	case !c.readable || c.control > maxControl:
		return 0, errAgain{}
	}
	n, errno := loop.Read(c.fd, b)
	switch {
	case errno == unix.EAGAIN:
		c.readable, c.behind = false, false
		return 0, errAgain{}
	case errno != 0:
		c.ended = EndReset
		return 0, c.opError("read", errno)
	case n == 0:
		return 0, c.atEnd()
	case n < len(b) && !c.behind:
		c.readable = false // drained: the next byte brings its own event
	}
	return n, nil
}

// atEnd notes how a read ended that gave no byte, and returns the error that
// tells it. The kernel tells of a reset once. If a write took the news, the read
// finds a plain end: the state of the socket still knows better.
func (c *Conn) atEnd() error {
	if c.ended == EndReset || !c.shut && loop.Gone(c.fd) {
		c.ended = EndReset
		return c.opError("read", unix.ECONNRESET)
	}
	c.fin, c.ended = true, EndFIN
	return io.EOF
}

func (c *Conn) opError(op string, errno unix.Errno) error {
	network := "unix"
	if loop.TCP(c.fd) {
		network = "tcp"
	}
	return &net.OpError{Op: op, Net: network, Err: errno}
}

// Write writes to the transport, and keeps what that does not take.
func (c *Conn) Write(b []byte) (int, error) {
	switch {
	case c.away != nil:
		return c.away.Write(b)
	case c.failed != nil:
		return 0, c.failed
	case c.shutDue:
		// An answer of crypto/tls behind our FIN is lost. Were it told so, it would
		// read the new records of a KeyUpdate by the old keys.
		return len(b), nil
	case c.env.corked == c:
		c.env.records = append(c.env.records, b...)
		return len(b), nil
	case c.Unsent() && !c.held:
		c.control += len(b)
	}
	c.writes++
	if err := c.send(b, false); err != nil {
		return 0, err
	}
	return len(b), nil
}

// Hold keeps b, a copy of it, to be sent with what is written next, or by Flush.
// It is not counted as a part of the stream.
func (c *Conn) Hold(b []byte) {
	c.keep(b)
	c.held = true
	c.foreign += uint64(len(b))
}

// send writes b behind what waits; more says that the end follows at once.
func (c *Conn) send(b []byte, more bool) error {
	if c.Unsent() {
		c.keep(b)
		return c.Flush()
	}
	n, err := c.push(b, more)
	if err == nil && n < len(b) {
		c.keep(b[n:])
	}
	return err
}

// push writes once, if there may be room.
func (c *Conn) push(b []byte, more bool) (n int, err error) {
	if !c.writable || len(b) == 0 {
		return 0, nil
	}
	var errno unix.Errno
	if more {
		n, errno = loop.WriteMore(c.fd, b)
	} else {
		n, errno = loop.Write(c.fd, b)
	}
	c.written += uint64(n)
	switch {
	case errno == unix.EAGAIN || errno == 0 && n < len(b):
		c.writable = false
	case errno != 0:
		if isReset(errno) {
			c.ended = EndReset
		}
		return 0, c.opError("write", errno)
	}
	return n, nil
}

func (c *Conn) keep(b []byte) {
	if c.out == nil {
		c.out = c.env.pool.Borrow(len(b))
	}
	c.out = append(c.out, b...)
	c.env.caught.Add(int64(len(b)))
}

// Flush sends what waits, as far as there is room, and the FIN behind it. After
// an error nothing waits any more.
func (c *Conn) Flush() error {
	c.held = false
	if c.Unsent() {
		n, err := c.push(c.out[c.off:], false)
		c.off += n
		c.env.caught.Add(-int64(n))
		if err != nil {
			c.drop()
			return err
		}
		if c.off < len(c.out) {
			return nil
		}
		c.drop()
	}
	if c.shutDue && !c.shut {
		c.shut = true
		// It fails only where the peer is gone, and reading tells of that.
		_ = loop.Shut(c.fd)
	}
	return nil
}

// drop gives the buffer back, with what is in it.
func (c *Conn) drop() {
	if c.out == nil {
		return
	}
	c.env.caught.Add(-int64(len(c.out) - c.off))
	c.env.pool.Return(c.out)
	c.out, c.off, c.held, c.control = nil, 0, false, 0
}

// CloseWrite sends a FIN once all is sent: the peer reads an end, and can go on
// sending.
func (c *Conn) CloseWrite() error {
	c.shutDue = true
	return c.Flush()
}

// Release drops what waits to be sent. The Conn is not to be used any more.
func (c *Conn) Release() {
	c.drop()
	c.prefix = nil
	if c.failed == nil {
		c.failed = net.ErrClosed
	}
}

// Close makes every further Read and Write fail. The descriptor stays open, unless
// the Conn has left its loop.
func (c *Conn) Close() error {
	if c.away != nil {
		return c.away.Close()
	}
	c.Release()
	return nil
}

// LocalAddr returns the address of this end.
func (c *Conn) LocalAddr() net.Addr {
	if c.away != nil {
		return c.away.LocalAddr()
	}
	if a := loop.LocalAddr(c.fd); a.IsValid() {
		return net.TCPAddrFromAddrPort(a)
	}
	return &net.UnixAddr{Net: "unix"}
}

// RemoteAddr returns the address of the peer.
func (c *Conn) RemoteAddr() net.Addr {
	if c.away != nil {
		return c.away.RemoteAddr()
	}
	if a := loop.PeerAddr(c.fd); a.IsValid() {
		return net.TCPAddrFromAddrPort(a)
	}
	return &net.UnixAddr{Net: "unix"}
}

// SetDeadline does nothing on the loop, whose the timeouts are. crypto/tls would give a
// close_notify five seconds, too few when the peer reads slowly.
func (c *Conn) SetDeadline(t time.Time) error {
	if c.away != nil {
		return c.away.SetDeadline(t)
	}
	return nil
}

// SetReadDeadline does nothing on the loop.
func (c *Conn) SetReadDeadline(t time.Time) error {
	if c.away != nil {
		return c.away.SetReadDeadline(t)
	}
	return nil
}

// SetWriteDeadline does nothing on the loop.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	if c.away != nil {
		return c.away.SetWriteDeadline(t)
	}
	return nil
}

// gone reports whether the peer has reset the connection, which a reader that is
// done would not learn otherwise.
func (c *Conn) gone() bool {
	if c.hup && !c.shut && loop.Gone(c.fd) {
		c.ended = EndReset
		return true
	}
	return false
}

// delivered reports whether the peer has acknowledged everything. A Unix socket
// keeps for its reader what was written before it was closed.
func (c *Conn) delivered() bool {
	return !c.Unsent() && (!loop.TCP(c.fd) || loop.Unsent(c.fd) == 0)
}

// isReset reports whether a write failed because the peer is gone.
func isReset(err error) bool {
	for _, errno := range [...]unix.Errno{unix.ECONNRESET, unix.EPIPE, unix.ETIMEDOUT, unix.EHOSTUNREACH, unix.ENETUNREACH} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}
