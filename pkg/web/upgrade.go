package web

import (
	"bufio"
	"net"
	"net/http"
	"slices"
	"strings"
)

// onlyWebSocket takes away the wish to switch to any protocol but WebSocket (RFC
// 6455 §4.1): what goes on within another, such as h2c, no rule here would see. It
// reports whether there is one to WebSocket.
func onlyWebSocket(r *http.Request) bool {
	u := r.Header["Upgrade"]
	if len(u) == 1 && strings.EqualFold(u[0], "websocket") {
		return true
	}
	r.Header.Del("Upgrade")
	return false
}

// upgrader is the ResponseWriter of a request that wants an upgrade. httputil takes
// the connection over, but not what was read of it already: what a client sends
// before it knows the answer would be lost.
type upgrader struct{ http.ResponseWriter }

// Unwrap returns the ResponseWriter below, for http.ResponseController.
func (u upgrader) Unwrap() http.ResponseWriter { return u.ResponseWriter }

// Hijack hands over the connection with all that is to be read of it.
func (u upgrader) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(u.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	early, err := rw.Peek(rw.Reader.Buffered())
	if err == nil && len(early) > 0 {
		c = &behind{Conn: c, early: slices.Clone(early)}
	}
	return c, rw, err
}

// behind is a connection with bytes that were read before.
type behind struct {
	net.Conn
	early []byte
}

// Read returns the early bytes first.
func (b *behind) Read(p []byte) (int, error) {
	if len(b.early) == 0 {
		return b.Conn.Read(p)
	}
	n := copy(p, b.early)
	b.early = b.early[n:]
	return n, nil
}

// CloseWrite ends the direction to the client.
func (b *behind) CloseWrite() error { return closeWrite(b.Conn) }
