package terminate

import (
	"io"
	"net"
	"sync/atomic"
)

// away is the transport of a Conn that has left its loop.
type away struct {
	net.Conn
	prefix []byte // read before; the reader's
	ended  atomic.Uint32
}

// Leave gives the Conn to goroutines: from now on it reads from and writes to n, which
// is the same socket, waits, minds deadlines, and closes n. It sends first what waited
// for room, which may take as long as n's write deadline allows; bytes read before are
// served first. There may be one reader and one writer at a time, as for any net.Conn.
//
// The socket must have left the loop, and no handshake may be under way. From then on
// only Ended and the methods of [net.Conn] may be called, and Release, on the loop, when
// all goroutines are done with it.
func (c *Conn) Leave(n net.Conn) error {
	a := &away{Conn: n, prefix: c.prefix}
	a.ended.Store(uint32(c.ended))
	c.away, c.prefix = a, nil
	if len(c.out) == c.off {
		return nil
	}
	_, err := a.Write(c.out[c.off:])
	return err
}

func (a *away) Read(b []byte) (int, error) {
	if len(a.prefix) > 0 && len(b) > 0 {
		n := copy(b, a.prefix)
		if a.prefix = a.prefix[n:]; len(a.prefix) == 0 {
			a.prefix = nil
		}
		return n, nil
	}
	n, err := a.Conn.Read(b)
	switch {
	case err == nil:
	case err == io.EOF: //nolint:errorlint // of package net, which does not wrap it
		a.end(EndFIN)
	case isReset(err):
		a.end(EndReset)
	}
	return n, err
}

func (a *away) Write(b []byte) (int, error) {
	n, err := a.Conn.Write(b)
	if err != nil && isReset(err) {
		a.end(EndReset)
	}
	return n, err
}

// end notes how the peer ended; the first news holds: who has ended in order may
// answer what comes behind by a reset.
func (a *away) end(e End) { a.ended.CompareAndSwap(uint32(EndNone), uint32(e)) }
