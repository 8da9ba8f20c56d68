package health

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
)

// Exchange is the probe of kind exchange: the backend passes if what it says
// matches a pattern, after it was sent some bytes or by itself. [Preset] has the
// words of some protocols.
type Exchange struct {
	TCP

	// TLS is the configuration of a handshake that comes first, which is not
	// changed; nil is plain TCP.
	TLS *tls.Config

	// Send is written first. Leave it empty for a protocol in which the server
	// speaks first, as in SMTP: many a server drops a client that does not wait.
	Send []byte

	// Expect is what the answer has to match, as far as it has come: bytes are
	// waited for until it does, the backend ends, 16 KiB are read, or the
	// timeout is over. Bytes that are no UTF-8 match as U+FFFD each. The default
	// matches any byte.
	Expect *regexp.Regexp

	// Bye is written after a match, so that the backend ends in good order and
	// has nothing to log: "QUIT\r\n".
	Bye []byte
}

// maxAnswer bounds what an exchange reads.
const maxAnswer = 16 << 10

// Probe connects, completes a handshake if TLS is set, sends, and reads until the
// answer matches. Then it says Bye, ends its side, and gives the backend half a
// second to do the same; what comes in that time decides nothing.
func (p Exchange) Probe(ctx context.Context) (Observation, error) {
	conn, o, err := p.open(ctx)
	if err != nil {
		return o, err
	}
	defer reset(transport(conn))
	if err := p.converse(ctx, conn); err != nil {
		return o, err
	}
	part(ctx, conn, p.Bye)
	return o, nil
}

func (p *Exchange) open(ctx context.Context) (net.Conn, Observation, error) {
	if p.TLS != nil {
		conn, o, err := TLS{TCP: p.TCP, Config: p.TLS}.Connect(ctx)
		if err != nil {
			return nil, o, err
		}
		return conn, o, nil
	}
	conn, err := p.connect(ctx)
	return conn, Observation{}, err
}

func (p *Exchange) converse(ctx context.Context, conn net.Conn) error {
	defer guard(ctx, transport(conn), 0)()
	if len(p.Send) > 0 {
		if _, err := conn.Write(p.Send); err != nil {
			return explain("send", err)
		}
	}
	var answer []byte
	for len(answer) < maxAnswer {
		if len(answer) == cap(answer) {
			answer = append(make([]byte, 0, min(max(512, 4*len(answer)), maxAnswer)), answer...)
		}
		n, err := conn.Read(answer[len(answer):cap(answer)])
		answer = answer[:len(answer)+n]
		if n > 0 && (p.Expect == nil || p.Expect.Match(answer)) {
			return nil
		}
		if err != nil {
			return p.unmatched(answer, err)
		}
	}
	return fmt.Errorf("%s, want match of %s", heard(answer), p.wanted())
}

// unmatched puts into words how an answer ended that did not match.
func (p *Exchange) unmatched(answer []byte, err error) error {
	switch {
	case isTimeout(err) && len(answer) == 0:
		return ErrNoAnswer
	case isTimeout(err):
		return fmt.Errorf("%s, then no more, want match of %s", heard(answer), p.wanted())
	case errors.Is(err, io.EOF):
		return fmt.Errorf("read EOF after %s, want match of %s", heard(answer)[len("read "):], p.wanted())
	}
	return explain("read", err)
}

func (p *Exchange) wanted() string {
	if p.Expect == nil {
		return "any byte"
	}
	return quoted([]byte(p.Expect.String()))
}

// heard says how much was read and how it begins.
func heard(answer []byte) string {
	if len(answer) == 0 {
		return "read 0 bytes"
	}
	return "read " + count(len(answer), "byte") + " " + quoted(answer)
}

// quoted quotes foreign text, or its beginning.
func quoted(b []byte) string {
	const most = 80
	if len(b) > most {
		return fmt.Sprintf("%q...", b[:most])
	}
	return fmt.Sprintf("%q", b)
}

// transport returns what conn's bytes travel by: the connection under TLS.
func transport(conn net.Conn) net.Conn {
	if secure, ok := conn.(*tls.Conn); ok {
		return secure.NetConn()
	}
	return conn
}

// part ends a conversation that has served its purpose as a client would, so that
// the backend has no broken connection to log. No error matters any more.
func part(ctx context.Context, conn net.Conn, bye []byte) {
	defer guard(ctx, transport(conn), patience)()
	if len(bye) > 0 {
		_, _ = conn.Write(bye)
	}
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	_, _ = io.CopyN(io.Discard, conn, maxAnswer)
}
