// Package wire is what stands around a balancer under test: the backends behind it ([Serve]) and the load in front of
// it ([Load], [LoadTLS]).
//
// Both are the same for every balancer and cost little: one thread with raw system calls, bytes that nobody looks at
// are dropped in the kernel. What a session is to do is written by the client into the first bytes the backend reads
// ([Command]), so one backend serves all workloads and a balancer needs one route. On a passed-through connection
// those bytes are the random of a ClientHello, where no balancer looks.
//
// The package measures on the outside alone: it asks the kernel what the balancer used, never the balancer.
package wire

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
)

// Mode says what a backend does with a session.
type Mode byte

// The modes of a session.
const (
	Answer Mode = iota + 1 // send Size bytes and close
	Stream                 // send till the client goes
	Sink                   // drop all that comes
	Echo                   // send back all that comes, message by message
	Hold                   // send one byte and wait
	Reply                  // send Size bytes and wait for the end of the client
)

// Command is the order of a client to a backend, at the very start of a session.
type Command struct {
	Mode Mode
	Size int64 // bytes; Answer and Reply alone
}

const (
	magic       = "rig1"
	commandSize = 16
	randomAt    = 5 + 4 + 2 // record header, handshake header, legacy_version: RFC 8446 §4.1.2
	recordType  = 22        // handshake, RFC 8446 §5.1
)

// errShort says that more bytes are needed to tell the command.
var errShort = errors.New("the command is not whole yet")

// Append appends the command in its form for a plain session.
func (c Command) Append(b []byte) []byte {
	b = append(b, magic...)
	b = append(b, byte(c.Mode), 0, 0, 0)
	return binary.BigEndian.AppendUint64(b, uint64(c.Size))
}

// ParseCommand reads the command at the start of b, bare or in the random of a ClientHello. n is how many bytes it
// takes: of a hello the whole record, of which b must hold all. It returns errShort while bytes are missing.
func ParseCommand(b []byte) (c Command, n int, err error) {
	if len(b) == 0 {
		return Command{}, 0, errShort
	}
	at := 0
	n = commandSize
	if b[0] == recordType {
		if len(b) < 5 {
			return Command{}, 0, errShort
		}
		at, n = randomAt, 5+int(binary.BigEndian.Uint16(b[3:]))
		if n < at+commandSize {
			return Command{}, 0, fmt.Errorf("record of %d bytes: too short for a ClientHello", n)
		}
	}
	if len(b) < n {
		return Command{}, 0, errShort
	}
	field := b[at : at+commandSize]
	if string(field[:4]) != magic {
		return Command{}, 0, fmt.Errorf("session begins with %q: not from this rig", field)
	}
	c = Command{Mode: Mode(field[4]), Size: int64(binary.BigEndian.Uint64(field[8:]))}
	if c.Mode < Answer || c.Mode > Reply || c.Size < 0 {
		return Command{}, 0, fmt.Errorf("command %+v does not exist", c)
	}
	return c, n, nil
}

// Name returns the host name of number i: all have the same length, so that one can be written over another.
func Name(i int) string { return fmt.Sprintf("n%07d.bench.test", i) }

// hello is a ClientHello as crypto/tls sends it, with a command in its random and a name that can be changed.
type hello struct {
	bytes  []byte
	nameAt int
}

// newHello lets crypto/tls make a hello for Name(0), with an X25519 key share alone, and writes c into it.
func newHello(c Command) (*hello, error) {
	var sent capture
	client := tls.Client(&sent, &tls.Config{
		ServerName: Name(0), MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"}, CurvePreferences: []tls.CurveID{tls.X25519},
	})
	if err := client.Handshake(); !errors.Is(err, errCaptured) {
		return nil, fmt.Errorf("capturing a ClientHello: %w", err)
	}
	h := &hello{bytes: sent.Bytes(), nameAt: bytes.Index(sent.Bytes(), []byte(Name(0)))}
	if h.nameAt < 0 || len(h.bytes) < randomAt+commandSize {
		return nil, errors.New("no name in the captured ClientHello")
	}
	copy(h.bytes[randomAt:], c.Append(nil))
	return h, nil
}

// setName writes number i into the hello.
func (h *hello) setName(i int) {
	for at := h.nameAt + 7; at > h.nameAt; at-- {
		h.bytes[at] = byte('0' + i%10)
		i /= 10
	}
}

var errCaptured = errors.New("captured")

// capture is a connection that keeps what is written and answers nothing.
type capture struct {
	net.Conn // nil: the handshake calls nothing else
	bytes.Buffer
}

func (c *capture) Write(b []byte) (int, error) { return c.Buffer.Write(b) }
func (c *capture) Read([]byte) (int, error)    { return 0, errCaptured }
