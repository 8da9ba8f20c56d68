package web

import (
	"context"
	"time"
)

const (
	// heedEvery is how often a client is looked at from which nobody may be reading.
	heedEvery = time.Second
	// stillLooks is after how many looks without a byte between them the rest of what a
	// client has sent before its end is given up.
	stillLooks = 2
)

// heed begins to look after a client of HTTP/1.1: net/http reads from it only once its
// request has been read, and then as far ahead as to see that it leaves. Before that
// nobody does while a request waits for a backend, or a backend takes no more of it; nor
// once the protocol was switched and the backend takes no more.
func (x *exchange) heed() {
	c := x.visit.client
	if c.Left == nil || x.visit.h2() || x.body == nil && !x.tunnels {
		return
	}
	seen, still := x.last.Load(), 0
	look := func() {
		if x.body != nil && x.body.whole.Load() && !x.tunnels {
			return // net/http reads on
		}
		if now := x.last.Load(); now == seen {
			still++
		} else {
			seen, still = now, 0
		}
		switch left := c.Left(); {
		case x.ctx.Err() != nil || x.visit.conn.shut.Load():
			// Over; or ended by both sides in order, which looks as broken.
		case left == Gone, left == Ended && still >= stillLooks && !x.tunnels:
			// What was sent before an end goes on for as long as the backend takes it.
			x.cancel(context.Canceled)
			c.Conn.Close()
		default:
			x.presence.Reset(heedEvery)
		}
	}
	x.presence = stopped(look)
	x.presence.Reset(heedEvery)
}
