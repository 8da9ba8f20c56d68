package terminate

import (
	"io"
	"time"

	"github.com/snicketlb/snicket/pkg/relay"
)

const (
	// flushLimit bounds the wait for the last bytes before a RST where there is no
	// fin timeout.
	flushLimit = 30 * time.Second
	// flushPoll is how often a side that is to be reset is asked whether it has
	// all: the kernel does not tell when a send queue runs empty.
	flushPoll = 10 * time.Millisecond
)

// stream returns where the plain text of the side is read and written.
func (s *Side) stream() io.ReadWriter {
	if s.TLS != nil {
		return s.TLS
	}
	return s.Conn
}

// closeWrite tells the side that no more bytes come: close_notify if it speaks
// TLS and has not been told, then FIN, for peers that wait for that. An error
// means that the side is gone or cannot be told; it then gets a FIN alone, which
// is no orderly end of TLS, and its reader reports what happened. When last, the
// FIN is left to the closing of the descriptor, which follows at once.
func (s *Side) closeWrite(told, last bool) {
	if s.TLS != nil && !told {
		_ = s.TLS.CloseWrite()
	}
	if !last || s.Conn.Unsent() {
		_ = s.Conn.CloseWrite()
	}
}

func (r *Relay) finLimit() time.Duration {
	if r.o.Fin > 0 {
		return r.o.Fin
	}
	return flushLimit
}

// end makes the result final, unless it is.
func (r *Relay) end(reason Reason, by Party, err error, now time.Duration) {
	if r.state != running {
		return
	}
	r.state = closing
	r.until = now + r.finLimit()
	r.result.Reason, r.result.EndedBy, r.result.Err = reason, by, err
}

// settle ends the relay once both ways have, and closing once the side that is to
// be reset has what came before.
func (r *Relay) settle(now time.Duration) {
	client, backend := r.sides[relay.Client].Conn, r.sides[relay.Backend].Conn
	up, down := &r.ways[relay.Client], &r.ways[relay.Backend]
	if r.state == running && up.done && down.done && !client.Unsent() && !backend.Unsent() {
		// A side that ended in order and was gone when we wrote to it has cut
		// what we had for it: the client its answer, the backend only what came
		// behind its own end.
		switch {
		case down.lost != nil:
			r.end(ClientReset, ByClient, down.lost, now)
		case up.lost != nil:
			down.cut = up.lost
			fallthrough
		default:
			r.end(Clean, r.first, down.cut, now)
		}
	}
	if r.state == closing && (now >= r.until || r.survivorsHave()) {
		r.state = over
	}
}

// survivorsHave reports whether those that are reset for what the other side has
// done have been delivered what came before it, since the RST drops what has not.
func (r *Relay) survivorsHave() bool {
	client, backend := r.survivors()
	if backend && !r.has(relay.Backend) {
		return false
	}
	return !client || r.has(relay.Client)
}

func (r *Relay) survivors() (client, backend bool) {
	switch r.result.Reason {
	case Clean:
		return r.ways[relay.Backend].cut != nil, r.ways[relay.Client].cut != nil
	case ClientReset, ClientTruncated:
		return false, true
	case BackendReset, BackendTruncated:
		return true, false
	case IdleTimeout, FinTimeout, Canceled:
	}
	return false, false
}

func (r *Relay) has(s relay.Side) bool {
	c := r.sides[s].Conn
	if c.Unsent() {
		_ = c.Flush() // after an error nothing is unsent
	}
	return c.delivered()
}

// Result returns how the relay ended; it is final once the relay is over, and may
// be asked for before.
func (r *Relay) Result() Result {
	res := r.result
	res.In, res.Out = r.Bytes(relay.Client), r.Bytes(relay.Backend)
	return res
}

// Closing reports whether the result is final and only its consequences remain.
func (r *Relay) Closing() bool { return r.state != running }

// Resets tells which sides are to be closed by a reset.
func (r *Relay) Resets() (client, backend bool) {
	if r.state != running && r.result.Reason == Clean {
		return r.survivors()
	}
	return true, true
}
