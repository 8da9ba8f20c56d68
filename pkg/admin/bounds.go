package admin

import "time"

// bounds are what clients of one place may hold. Each place has its own, so that nothing
// over TCP can use up what operators at the socket need. The descriptors of connections
// are set aside by pkg/server.
type bounds struct {
	conns     bound
	answers   bound // that are being made: each may take as much memory as there are sessions
	scrapes   bound // the same of /metrics
	followers bound // of events
	watchers  bound // of frames
	kept      int   // bytes of answers that are made, until their clients have taken them
	origin    func(*guest) string
}

// bound is how many there may be at a time, in all and of one origin: of an address over
// TCP, of a user at the socket. What is left of most is for others.
type bound struct{ most, share int }

// socketBounds are those of the Unix socket. Everybody there may change the balancer, so
// nobody has a share: one operator may use all of it.
func socketBounds() bounds {
	return bounds{
		conns: bound{32, 32}, answers: bound{4, 4}, scrapes: bound{4, 4}, followers: bound{8, 8}, watchers: bound{8, 8},
		kept: 64 << 20, origin: byUser,
	}
}

// addressBounds are those of the TCP address.
func addressBounds() bounds {
	return bounds{
		conns: bound{32, 16}, answers: bound{4, 2}, scrapes: bound{4, 2}, followers: bound{8, 4}, watchers: bound{16, 8},
		kept: 64 << 20, origin: byAddress,
	}
}

// How long clients may take, at either place.
const (
	headerTimeout = 5 * time.Second
	requestTime   = 10 * time.Second // to send a request
	turnTime      = 10 * time.Second // to wait for a turn
	answerTime    = 30 * time.Second // for all that, and to take the answer
	profileTime   = 5 * time.Minute  // the same of a profile
	eventTime     = 10 * time.Second // to take one event
	idleTimeout   = 10 * time.Second
	mostHeader    = 16 << 10
	mostBody      = 64 << 10
	// endTime is how long requests under way have when a place is given up.
	endTime = time.Second
)
