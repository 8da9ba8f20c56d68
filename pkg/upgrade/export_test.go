package upgrade

import "io"

// Pair is both sides within one process, and the raw end of the second.
func Pair() (old, next *Conn, err error) {
	old, file, err := pair()
	if err != nil {
		return nil, nil, err
	}
	next, err = newConn(file)
	if err != nil {
		old.Close()
		return nil, nil, err
	}
	return old, next, nil
}

// Raw is what is written to the other side as it is.
func (c *Conn) Raw() io.Writer { return c.c }
