// Package upgrade is how a running balancer and the process that is to follow it speak:
// over a Unix socket that the new one inherits, by which descriptors travel too.
//
// Start at [Start], which runs the new process, and at [Inherited], by which that finds
// its side. What is said, and in which order, stands with the messages in message.go.
//
// The package moves nothing by itself, and decides nothing: the data plane freezes and
// adopts sessions, and the server says when. Both processes are the same user's, so what
// comes is trusted as far as one's own code is; all of it is bounded all the same.
package upgrade

import (
	"bytes"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// variable names, in the environment of the new process, its descriptor of the socket.
const variable = "SNICKET_UPGRADE"

// A frame is a header, kind (1 byte), zero (1), number of descriptors (2), length of the
// payload (4), all big-endian, then the payload. The descriptors come with its first byte.
const (
	headerSize = 8
	mostFrame  = 64 << 20
	// mostFiles is what the kernel takes at a time (SCM_MAX_FD, unix(7)).
	mostFiles = 253
)

var errEnded = errors.New("the other process has ended")

// Silence is how long the other side may be silent while sessions stand still.
const Silence = 2 * time.Second

// patience is the same while all goes on, for what takes no time by itself.
const patience = 10 * time.Second

// Conn is one side. It belongs to one goroutine.
type Conn struct {
	c    *net.UnixConn
	out  bytes.Buffer
	enc  *gob.Encoder
	in   bytes.Buffer
	dec  *gob.Decoder
	raw  []byte // read and not yet looked at
	read []byte // room to read into
	fds  []int  // received and not yet given out
}

func newConn(f *os.File) (*Conn, error) {
	defer f.Close()
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	socket, ok := conn.(*net.UnixConn)
	if !ok {
		conn.Close()
		return nil, errors.New("the descriptor is no Unix socket")
	}
	c := &Conn{c: socket, read: make([]byte, 64<<10)}
	c.enc, c.dec = gob.NewEncoder(&c.out), gob.NewDecoder(&c.in)
	return c, nil
}

// pair is both sides; that of the new process as the file it is to inherit.
func pair() (own *Conn, other *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	other = os.NewFile(uintptr(fds[1]), "upgrade")
	if own, err = newConn(os.NewFile(uintptr(fds[0]), "upgrade")); err != nil {
		other.Close()
		return nil, nil, err
	}
	return own, other, nil
}

// Inherited is the side of a process that was started to follow another; nil if it was
// not. It takes the variable that says so out of the environment.
func Inherited() (*Conn, error) {
	text, ok := os.LookupEnv(variable)
	if !ok {
		return nil, nil
	}
	_ = os.Unsetenv(variable) // fails for no name that has no "="
	fd, err := strconv.Atoi(text)
	if err != nil || fd < 3 {
		return nil, fmt.Errorf("%s=%q is no descriptor", variable, text)
	}
	unix.CloseOnExec(fd)
	c, err := newConn(os.NewFile(uintptr(fd), "upgrade"))
	if err != nil {
		return nil, fmt.Errorf("%s=%s: %w", variable, text, err)
	}
	return c, nil
}

// Close closes the socket, and what was received and nobody took.
func (c *Conn) Close() {
	_ = c.c.Close()
	closeAll(c.fds)
	c.fds = nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

// send sends a message with at most mostFiles descriptors, which stay the caller's.
func (c *Conn) send(kind Kind, v any, fds []int) error {
	if len(fds) > mostFiles {
		return fmt.Errorf("%v with %d descriptors, limit %d", kind, len(fds), mostFiles)
	}
	c.out.Reset()
	c.out.Write(make([]byte, headerSize))
	if err := c.enc.Encode(v); err != nil {
		return fmt.Errorf("%v: %w", kind, err)
	}
	b := c.out.Bytes()
	if len(b) > headerSize+mostFrame {
		return fmt.Errorf("%v of %d bytes, limit %d", kind, len(b)-headerSize, mostFrame)
	}
	b[0] = byte(kind)
	binary.BigEndian.PutUint16(b[2:], uint16(len(fds)))
	binary.BigEndian.PutUint32(b[4:], uint32(len(b)-headerSize))
	within := Silence
	if kind == sockets {
		within = patience
	}
	if err := c.c.SetWriteDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	n, _, err := c.c.WriteMsgUnix(b, rights, nil)
	if err == nil && n < len(b) {
		_, err = c.c.Write(b[n:])
	}
	switch {
	case errors.Is(err, unix.EPIPE), errors.Is(err, unix.ECONNRESET):
		return fmt.Errorf("%v: %w", kind, errEnded)
	case err != nil:
		return fmt.Errorf("%v: %w", kind, err)
	}
	return nil
}

// receive waits for the next message, decodes it into v if it is of the kind wanted, and
// returns its descriptors, which are the caller's. A refusal is an error.
func (c *Conn) receive(want Kind, v any, within time.Duration) (fds []int, err error) {
	if err := c.c.SetReadDeadline(time.Now().Add(within)); err != nil {
		return nil, err
	}
	header, err := c.take(headerSize)
	if err != nil {
		return nil, fmt.Errorf("waiting for %v: %w", want, err)
	}
	kind := Kind(header[0])
	files, size := int(binary.BigEndian.Uint16(header[2:])), int(binary.BigEndian.Uint32(header[4:]))
	if files > mostFiles || size > mostFrame {
		return nil, fmt.Errorf("waiting for %v: got %v of %d bytes with %d descriptors", want, kind, size, files)
	}
	payload, err := c.take(size)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", kind, err)
	}
	if len(c.fds) < files {
		return nil, fmt.Errorf("%v: %d descriptors came of %d", kind, len(c.fds), files)
	}
	c.in.Write(payload)
	switch {
	case kind == refusal:
		var r Refusal
		if err := c.dec.Decode(&r); err != nil {
			return nil, fmt.Errorf("%v: %w", kind, err)
		}
		return nil, &r
	case kind != want:
		return nil, fmt.Errorf("waiting for %v: got %v", want, kind)
	}
	if err := c.dec.Decode(v); err != nil {
		return nil, fmt.Errorf("%v: %w", kind, err)
	}
	fds, c.fds = c.fds[:files:files], c.fds[files:]
	return fds, nil
}

// take returns the next n bytes, valid until the next call.
func (c *Conn) take(n int) ([]byte, error) {
	rights := make([]byte, unix.CmsgSpace(4*mostFiles))
	for len(c.raw) < n {
		m, k, flags, _, err := c.c.ReadMsgUnix(c.read, rights)
		if k > 0 {
			if err := c.keep(rights[:k]); err != nil {
				return nil, err
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, unix.ECONNRESET):
			return nil, errEnded
		case err != nil:
			return nil, err
		case flags&unix.MSG_CTRUNC != 0:
			return nil, errors.New("descriptors were lost: the process has no room for them")
		}
		c.raw = append(c.raw, c.read[:m]...)
	}
	b := c.raw[:n:n]
	c.raw = c.raw[n:]
	return b, nil
}

// keep takes the descriptors out of a control message.
func (c *Conn) keep(control []byte) error {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return fmt.Errorf("control message: %w", err)
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue // of another type
		}
		c.fds = append(c.fds, fds...)
	}
	return nil
}
