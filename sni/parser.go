package sni

import (
	"errors"
	"fmt"
)

// DefaultMax is the size of the largest ClientHello accepted by default, in
// bytes of the handshake message with its 4-byte header. Hellos seen in the wild
// have 200 to 2,500 bytes; many key shares or a long ECH payload make them grow.
const DefaultMax = 65536

// The record layer (RFC 8446 §5.1) and the handshake header (§4):
//
//	record:  type(1) version(2) length(2) payload(length)
//	message: type(1) length(3) body(length), over one or more payloads
const (
	recordHeader    = 5
	recordHandshake = 22
	maxPayload      = 1 << 14

	messageHeader = 4
	clientHello   = 1
)

// What Reset lets a Parser keep: one odd hello must not tie up memory for good.
const (
	keepMessage = 16 << 10 // bytes
	keepWords   = 1 << 10
	keepALPN    = 64
)

// Parser reads one ClientHello from a growing prefix of a stream. The zero value
// is ready and accepts DefaultMax bytes.
//
// A hello in one record, the usual case, is decoded in place once the record is
// complete. One that spans records is gathered in a buffer that grows with the
// bytes received, never with a length only announced. A Parser allocates nothing
// but the server name once its buffers have grown (see Remember). It must not be copied
// after first use, and is not safe for concurrent use.
type Parser struct {
	limit int    // as Reset got it
	off   int    // bytes of the stream in records taken
	size  int    // bytes of the message with its header; 0 while unknown
	msg   []byte // the message so far, if it does not end in its first record
	done  bool
	err   error // once refused
	hello Hello
	names *Names // may be nil

	// what the slices of hello are made of
	words   []uint16
	alpn    []string
	session [32]byte
}

// Remember has p take the strings of server names from n, where they are; nil is
// nowhere. Reset does not change it.
func (p *Parser) Remember(n *Names) { p.names = n }

// Reset forgets the hello, which ends the life of its slices, and keeps the
// buffers unless they have grown unusually large. limit is the size in bytes
// of the largest handshake message to accept, its 4-byte header included; 0 means
// DefaultMax.
func (p *Parser) Reset(limit int) {
	p.limit = limit
	p.off, p.size, p.done, p.err = 0, 0, false, nil
	p.hello = Hello{}
	if cap(p.msg) > keepMessage {
		p.msg = nil
	}
	if cap(p.words) > keepWords {
		p.words = nil
	}
	if cap(p.alpn) > keepALPN {
		p.alpn = nil
	}
	clear(p.alpn[:cap(p.alpn)]) // their strings may hold a whole list
	p.msg, p.words, p.alpn = p.msg[:0], p.words[:0], p.alpn[:0]
}

// Parse looks for the hello in b, everything received so far: each call's b
// extends the former one's, and may be another slice. While the hello is incomplete it
// returns ErrMore; then the Hello, which belongs to the Parser; or one of the
// sentinels of this package, wrapped. Each is the answer of all further calls until Reset.
//
// The stream may take up to six times the limit on the message, as records of
// one byte are allowed: a caller with a bounded buffer has its own limit to watch.
func (p *Parser) Parse(b []byte) (*Hello, error) {
	if p.done {
		return &p.hello, nil
	}
	if p.err != nil {
		return nil, p.err
	}
	if err := p.read(b); err != nil {
		if !errors.Is(err, ErrMore) {
			p.err = err
		}
		return nil, err
	}
	p.done = true
	return &p.hello, nil
}

// Parse reads the ClientHello at the beginning of b, as a new [Parser] with the
// given limit would; 0 means DefaultMax.
func Parse(b []byte, limit int) (*Hello, error) {
	p := &Parser{limit: limit}
	return p.Parse(b)
}

// read takes whole records from b until the message is complete. Checks come in
// the order of the bytes they need, so that no way of cutting the stream into
// calls can change which of several faults is reported.
func (p *Parser) read(b []byte) error {
	for {
		rec := b[min(p.off, len(b)):]
		n, err := p.recordLen(rec)
		if err != nil {
			return err
		}
		payload := rec[recordHeader:min(len(rec), recordHeader+n)]
		if p.size == 0 {
			if err := p.readHeader(payload); err != nil {
				return err
			}
		}
		if p.size != 0 && len(p.msg)+n > p.size {
			return fmt.Errorf("%w: %d bytes", ErrTrailing, len(p.msg)+n-p.size)
		}
		if len(payload) < n {
			return ErrMore
		}
		p.off += recordHeader + n
		if n == p.size {
			return p.decode(payload)
		}
		p.msg = append(p.msg, payload...)
		if len(p.msg) == p.size {
			return p.decode(p.msg)
		}
	}
}

// recordLen returns the payload length that the header of the record rec states.
func (p *Parser) recordLen(rec []byte) (int, error) {
	if len(rec) == 0 {
		return 0, ErrMore
	}
	first := p.off == 0
	if typ := rec[0]; typ != recordHandshake {
		if first {
			return 0, notTLS(rec)
		}
		return 0, fmt.Errorf("%w: record of type %d after %d bytes", ErrInterleaved, typ, len(p.msg))
	}
	if len(rec) < 2 {
		return 0, ErrMore
	}
	if major := rec[1]; major != 3 {
		switch {
		case !first:
			return 0, fmt.Errorf("%w: major version %d", ErrRecordVersion, major)
		case major == 0xfe:
			return 0, ErrDTLS
		}
		return 0, fmt.Errorf("%w: record of major version %d", ErrNotTLS, major)
	}
	if len(rec) < recordHeader {
		return 0, ErrMore
	}
	if first {
		p.hello.RecordVersion = uint16(rec[1])<<8 | uint16(rec[2])
	}
	n := int(rec[3])<<8 | int(rec[4])
	if n == 0 {
		return 0, ErrEmptyRecord
	}
	if n > maxPayload {
		return 0, fmt.Errorf("%w: %d bytes, limit %d", ErrRecordTooLarge, n, maxPayload)
	}
	return n, nil
}

// notTLS says what b, which does not begin like a handshake record, is instead.
// An SSLv2 CLIENT-HELLO is a 15-bit length with the high bit set, then its type
// 1 (RFC 5246 Appendix E.2).
func notTLS(b []byte) error {
	if b[0]&0x80 != 0 {
		if len(b) < 3 {
			return ErrMore
		}
		if b[2] == 1 {
			return ErrSSLv2
		}
	}
	return fmt.Errorf("%w: first byte 0x%02x", ErrNotTLS, b[0])
}

// readHeader reads the message header, which may itself be spread over records,
// as far as payload goes on with what msg holds. It sets size once all of it is there.
func (p *Parser) readHeader(payload []byte) error {
	var hdr [messageHeader]byte
	n := copy(hdr[:], p.msg)
	n += copy(hdr[n:], payload)
	if n > 0 && hdr[0] != clientHello {
		return fmt.Errorf("%w: handshake message of type %d", ErrNotClientHello, hdr[0])
	}
	if n < len(hdr) {
		return nil
	}
	limit := p.limit
	if limit == 0 {
		limit = DefaultMax
	}
	size := messageHeader + (int(hdr[1])<<16 | int(hdr[2])<<8 | int(hdr[3]))
	if size > limit {
		return fmt.Errorf("%w: ClientHello of %d bytes, limit %d", ErrTooLarge, size, limit)
	}
	p.size = size
	return nil
}
