package sni

import (
	"fmt"
	"slices"
)

// decode reads a whole ClientHello with its header (RFC 8446 §4.1.2):
//
//	legacy_version(2) random(32) session_id<0..32> cipher_suites<2..2^16-2>
//	compression_methods<1..2^8-1> [extensions<0..2^16-1>]
//
// The extensions may be missing altogether (RFC 5246 §7.4.1.2).
func (p *Parser) decode(msg []byte) error {
	h := &p.hello
	h.Len = p.off
	c := cursor(msg[messageHeader:])

	version, err := c.take("legacy_version", 2)
	if err != nil {
		return err
	}
	h.LegacyVersion = uint16(version[0])<<8 | uint16(version[1])
	if _, err := c.take("random", 32); err != nil {
		return err
	}
	session, err := c.vector8("session_id")
	if err != nil {
		return err
	}
	if len(session) > len(p.session) {
		return fmt.Errorf("%w: session_id of %d bytes, limit %d", ErrBounds, len(session), len(p.session))
	}
	h.SessionID = p.session[:copy(p.session[:], session)]
	suites, err := c.vector16("cipher_suites")
	if err != nil {
		return err
	}
	if h.CipherSuites, err = p.uint16s("cipher_suites", suites); err != nil {
		return err
	}
	compression, err := c.vector8("compression_methods")
	if err != nil {
		return err
	}
	if len(compression) == 0 {
		return fmt.Errorf("%w: compression_methods is empty", ErrBounds)
	}
	if len(c) == 0 {
		return nil
	}
	extensions, err := c.vector16("extensions")
	if err != nil {
		return err
	}
	if err := c.end("extensions"); err != nil {
		return err
	}
	return p.decodeExtensions(extensions)
}

// uint16s decodes s, a list of at least one uint16, into words. A list that is
// outgrown stays whole where it is, so earlier results remain valid.
func (p *Parser) uint16s(what string, s cursor) ([]uint16, error) {
	if len(s) == 0 {
		return nil, fmt.Errorf("%w: %s is empty", ErrBounds, what)
	}
	if len(s)%2 != 0 {
		return nil, fmt.Errorf("%w: %s of %d bytes, an odd number", ErrLength, what, len(s))
	}
	start := len(p.words)
	p.words = slices.Grow(p.words, len(s)/2)[:start+len(s)/2]
	list := p.words[start:len(p.words):len(p.words)]
	for i := range list {
		list[i] = uint16(s[2*i])<<8 | uint16(s[2*i+1])
	}
	return list, nil
}

// cursor is the unread rest of a message or of a vector in it. Its methods
// return ErrLength, wrapped, where what they shall read is not there.
type cursor []byte

// take reads n bytes.
func (c *cursor) take(what string, n int) (cursor, error) {
	if n > len(*c) {
		return nil, tooShort(what, n, len(*c))
	}
	s := (*c)[:n]
	*c = (*c)[n:]
	return s, nil
}

// tooShort is apart so that take is inlined.
func tooShort(what string, n, left int) error {
	return fmt.Errorf("%w: %s of %d bytes, %d left", ErrLength, what, n, left)
}

// vector8 reads a vector with a length of one byte.
func (c *cursor) vector8(what string) (cursor, error) {
	n, err := c.take(what, 1)
	if err != nil {
		return nil, err
	}
	return c.take(what, int(n[0]))
}

// vector16 reads a vector with a length of two bytes.
func (c *cursor) vector16(what string) (cursor, error) {
	n, err := c.take(what, 2)
	if err != nil {
		return nil, err
	}
	return c.take(what, int(n[0])<<8|int(n[1]))
}

// end checks that nothing is left behind what.
func (c *cursor) end(what string) error {
	if len(*c) != 0 {
		return fmt.Errorf("%w: %d bytes behind %s", ErrLength, len(*c), what)
	}
	return nil
}
