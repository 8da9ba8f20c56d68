package proxy

import (
	"io"
	"net"
	"time"
)

// What a client may take to be told of its end, and what it may send meanwhile.
const (
	partWithin = 2 * time.Second
	partBytes  = 64 << 10
)

// part ends a guest whose time to drain is over, and which sees by its protocol that what
// was under way is cut: the streams of HTTP/2, and WebSocket. It is told by close_notify
// and a FIN, as all others are ([terminal.dismiss]), before its requests are given up: a
// client of gRPC then reads that the server is unavailable, and not that a request has
// failed within. False: an end in order could be taken for that of an answer, or nobody is
// there to tell.
func (g *guest) part() bool {
	if !g.tunnel.Load() && (g.client.TLS == nil || g.client.TLS.NegotiatedProtocol != "h2") {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.transport == nil || g.aborted || g.parted != nil {
		return false
	}
	g.parted = make(chan struct{})
	transport := g.transport
	g.p.offloaded.Go(func() { // which the guest's own goroutine, not done yet, keeps open
		defer close(g.parted)
		g.tell(transport)
	})
	return true
}

// tell is what part does.
func (g *guest) tell(transport net.Conn) {
	late := time.AfterFunc(partWithin, func() { resetConn(transport) })
	defer late.Stop()
	err := g.conn.CloseWrite()
	g.cut()
	if err == nil {
		_, err = io.CopyN(io.Discard, transport, partBytes) // beside whoever reads still: it is nobody's
	}
	if err == io.EOF { //nolint:errorlint // package net does not wrap it
		_ = transport.Close()
		return
	}
	resetConn(transport)
}

// parting is closed once the guest has been told of its end; nil: it is not.
func (g *guest) parting() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.parted
}
