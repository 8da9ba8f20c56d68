package lab

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"
)

// Hello returns the first TLS record that crypto/tls would send: a whole ClientHello with that server name (none when
// it is empty) offering those ALPN protocols.
func Hello(name string, alpn ...string) []byte {
	c := &helloConn{}
	conf := &tls.Config{ServerName: name, NextProtos: alpn, InsecureSkipVerify: name == ""}
	if err := tls.Client(c, conf).Handshake(); err == nil || len(c.written) == 0 {
		panic("lab: no hello written")
	}
	return c.written
}

// helloConn keeps what is written and ends at the first read.
type helloConn struct{ written []byte }

var errHelloWritten = errors.New("hello written")

func (c *helloConn) Write(b []byte) (int, error) {
	c.written = append(c.written, b...)
	return len(b), nil
}
func (c *helloConn) Read([]byte) (int, error)         { return 0, errHelloWritten }
func (c *helloConn) Close() error                     { return nil }
func (c *helloConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *helloConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *helloConn) SetDeadline(time.Time) error      { return nil }
func (c *helloConn) SetReadDeadline(time.Time) error  { return nil }
func (c *helloConn) SetWriteDeadline(time.Time) error { return nil }

// Alert is a TLS alert record as a client that has sent a hello reads it.
type Alert struct {
	Level       byte // 1 warning, 2 fatal
	Description byte // RFC 8446 §6
}

// ReadAlert reads one TLS record, which must be a plain alert, and then the end of the stream. Anything else is an
// error, a reset too: an alert that a reset overtakes is one the client may never see.
func ReadAlert(r io.Reader) (Alert, error) {
	b, err := io.ReadAll(io.LimitReader(r, 8))
	switch {
	case err != nil:
		return Alert{}, err
	case len(b) != 7 || b[0] != 21 || b[1] != 3 || b[3] != 0 || b[4] != 2:
		return Alert{}, errors.New("not one alert record: " + string(appendHex(nil, b)))
	}
	return Alert{Level: b[5], Description: b[6]}, nil
}

func appendHex(dst, b []byte) []byte {
	const digits = "0123456789abcdef"
	for _, c := range b {
		dst = append(dst, digits[c>>4], digits[c&15])
	}
	return dst
}
