// Package proxyheader reads and writes PROXY protocol headers, versions 1 and
// 2, by which a proxy tells the next hop who its client is.
//
// It works on bytes only: [Parse] takes what has been received so far and says
// whether a whole header is there, [Append] writes a header in front of what is
// sent. Neither touches a socket, so both serve an event loop as well as a
// goroutine. The syntax itself is go-proxyproto's; this package decides
// completeness first and hands that library whole headers alone, because its
// reader blocks, and never uses its Listener or Conn, which hide CloseWrite.
//
// Whether a header may be believed is the caller's to decide, by the address of
// the peer that sent it.
//
// Source: The PROXY protocol, versions 1 & 2,
// https://www.haproxy.org/download/3.4/doc/proxy-protocol.txt
package proxyheader

import "errors"

// The three ways in which [Parse] yields no header.
var (
	// ErrMore says that the bytes so far are the beginning of a header: call
	// Parse again with more of them.
	ErrMore = errors.New("PROXY header: incomplete")
	// ErrNone says that the bytes cannot be the beginning of a header, so the
	// peer speaks something else.
	ErrNone = errors.New("PROXY header: none")
	// ErrBad is wrapped by every error about a header that is one by its
	// signature and breaks the protocol.
	ErrBad = errors.New("PROXY header")
)

const (
	// maxV1 bounds a version 1 header, CRLF included (PROXY protocol §2.1).
	maxV1 = 107
	// maxV2 bounds a version 2 header, its 16 fixed bytes included. The
	// protocol allows 65551; real ones stay below 4 KiB even when they carry a
	// client certificate.
	maxV2 = 4096
	// fixedV2 is the length of a version 2 header up to its address block:
	// signature 12, version and command 1, family and protocol 1, length 2.
	fixedV2 = 16

	signatureV1 = "PROXY "
	signatureV2 = "\r\n\r\n\x00\r\nQUIT\n"

	commandLocal = 0x20 // version 2, command LOCAL
	commandProxy = 0x21 // version 2, command PROXY
	familyUnspec = 0x00 // no addresses
)
