package proxyheader

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"net/netip"

	proxyproto "github.com/pires/go-proxyproto"
)

// Header is what a received header says.
type Header struct {
	// Version is 1 or 2.
	Version int
	// Local says that the header gives no address to use: command LOCAL (a
	// probe of the proxy itself), UNKNOWN or UNSPEC, a Unix or a datagram
	// address. The connection's own addresses hold, and Source and Destination
	// are zero.
	Local bool
	// Source is the client, Destination the address it connected to. An IPv4
	// address mapped into IPv6 appears as IPv4.
	Source, Destination netip.AddrPort
}

// Maybe reports whether b, of at least one byte, is the beginning of a header
// or begins with one, going by the signature alone.
func Maybe(b []byte) bool {
	return begins(b, signatureV1) || begins(b, signatureV2)
}

// begins reports whether b and signature agree as far as both reach.
func begins(b []byte, signature string) bool {
	n := min(len(b), len(signature))
	return n > 0 && string(b[:n]) == signature[:n]
}

// Parse reads the header at the beginning of b, the bytes received so far, and
// returns it with its length n; what follows b[:n] belongs to the next
// protocol. Header does not alias b.
//
// The error is [ErrMore] while b is a strict prefix of a header, [ErrNone] if b
// cannot begin one, and otherwise wraps [ErrBad]: a line over 107 bytes or
// without CRLF, a version 2 header over 4 KiB, an unknown version, command or
// family, addresses that are not of the family stated, ports out of range,
// TLVs that do not fill their block, or a CRC32c that is wrong
// (PROXY protocol §2.1, §2.2). No prefix of an accepted header yields anything
// but ErrMore.
func Parse(b []byte) (h Header, n int, err error) {
	switch {
	case len(b) == 0:
		return Header{}, 0, ErrMore
	case begins(b, signatureV1):
		n, err = lengthV1(b)
	case begins(b, signatureV2):
		n, err = lengthV2(b)
	default:
		return Header{}, 0, ErrNone
	}
	if err != nil {
		return Header{}, 0, err
	}
	if h, err = parseWhole(b[:n]); err != nil {
		return Header{}, 0, err
	}
	return h, n, nil
}

// lengthV1 returns the length of the line that b begins with.
func lengthV1(b []byte) (int, error) {
	if i := bytes.IndexByte(b[:min(len(b), maxV1)], '\n'); i >= 0 {
		return i + 1, nil
	}
	if len(b) >= maxV1 {
		return 0, fmt.Errorf("%w: version 1 line of more than %d bytes", ErrBad, maxV1)
	}
	return 0, ErrMore
}

// lengthV2 returns the length that the fixed part of b states, once b has all of it.
func lengthV2(b []byte) (int, error) {
	if len(b) < fixedV2 {
		return 0, ErrMore
	}
	n := fixedV2 + int(binary.BigEndian.Uint16(b[fixedV2-2:]))
	if n > maxV2 {
		return 0, fmt.Errorf("%w: version 2 header of %d bytes, limit %d", ErrBad, n, maxV2)
	}
	if len(b) < n {
		return 0, ErrMore
	}
	return n, nil
}

// parseWhole parses b, which is one whole header by its own account.
func parseWhole(b []byte) (Header, error) {
	proxied := b[0] == signatureV2[0] && b[12] == commandProxy
	text := b
	if proxied && b[13] == familyUnspec {
		// The protocol leaves PROXY without addresses to the receiver, and
		// proxies send it for clients on Unix sockets; go-proxyproto refuses
		// it. It means what LOCAL means, so that is what the library is shown.
		text = bytes.Clone(b)
		text[12] = commandLocal
	}
	r := bufio.NewReaderSize(bytes.NewReader(text), len(text))
	p, err := proxyproto.Read(r)
	if err != nil {
		return Header{}, fmt.Errorf("%w: %w", ErrBad, err)
	}
	if proxied {
		// A LOCAL header's block is discarded unread (§2.2).
		if err := checkTLVs(b); err != nil {
			return Header{}, fmt.Errorf("%w: %w", ErrBad, err)
		}
	}
	h := Header{Version: int(p.Version), Local: true}
	src, dst, ok := p.TCPAddrs()
	if ok && p.Command.IsProxy() {
		h.Local = false
		h.Source, h.Destination = addrPort(src), addrPort(dst)
	}
	return h, nil
}

func addrPort(a *net.TCPAddr) netip.AddrPort {
	ap := a.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// checkTLVs checks that the TLVs of b, a whole version 2 header that
// go-proxyproto has accepted, fill their block, and verifies the CRC32c if
// there is one (§2.2.3).
func checkTLVs(b []byte) error {
	at := fixedV2 + addressLength(b[13])
	sum := -1
	for at < len(b) {
		if len(b)-at < 3 {
			return proxyproto.ErrTruncatedTLV
		}
		kind, size := proxyproto.PP2Type(b[at]), int(binary.BigEndian.Uint16(b[at+1:]))
		at += 3
		if size > len(b)-at {
			return proxyproto.ErrTruncatedTLV
		}
		if kind == proxyproto.PP2_TYPE_CRC32C {
			if size != crc32.Size || sum >= 0 {
				return errors.New("malformed CRC32c")
			}
			sum = at
		}
		at += size
	}
	if sum < 0 {
		return nil
	}
	stated, actual := binary.BigEndian.Uint32(b[sum:]), checksum(b, sum)
	if stated != actual {
		return fmt.Errorf("CRC32c is %08x, the header states %08x", actual, stated)
	}
	return nil
}

// checksum returns the CRC32c of the header b with the four bytes at at taken
// as zero.
func checksum(b []byte, at int) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli) // the one shared table
	sum := crc32.Update(0, table, b[:at])
	sum = crc32.Update(sum, table, make([]byte, crc32.Size))
	return crc32.Update(sum, table, b[at+crc32.Size:])
}

// addressLength returns the size of the address block of family, the 14th
// byte of a version 2 header (§2.2).
func addressLength(family byte) int {
	switch family >> 4 {
	case 1: // AF_INET
		return 2*4 + 2*2
	case 2: // AF_INET6
		return 2*16 + 2*2
	case 3: // AF_UNIX
		return 2 * 108
	default:
		return 0
	}
}
