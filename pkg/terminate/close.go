package terminate

import (
	"context"
	"io"
	"time"
)

// flushLimit bounds the wait for the last bytes before a RST where there is no
// fin timeout.
const flushLimit = 30 * time.Second

// stream returns where the plain text of the side is read and written.
func (s Side) stream() io.ReadWriter {
	if s.TLS != nil {
		return s.TLS
	}
	return s.Conn
}

// closeWrite tells the side that no more bytes come: close_notify if it speaks
// TLS, then FIN, for peers that wait for that. An error means that the side is
// gone or cannot be told; it then gets a FIN alone, which is no orderly end
// of TLS, and its reader reports what happened.
func (s Side) closeWrite() {
	if s.TLS != nil {
		// crypto/tls gives the alert five seconds, too few when the peer reads
		// slowly and its window is full. The session's own timeouts bound it.
		s.Conn.holdTime.Store(true)
		_ = s.TLS.CloseWrite()
	}
	_ = s.Conn.CloseWrite()
}

// close closes both sides as the result demands.
func (r *relay) close(ctx context.Context, result Result) {
	client, backend := r.client, r.backend
	switch result.Reason {
	case Clean:
		if r.up.cut != nil {
			r.flush(ctx, backend.Conn)
			_ = backend.Conn.Abort()
		}
		if r.down.cut != nil {
			r.flush(ctx, client.Conn)
			_ = client.Conn.Abort()
		}
	case ClientReset, ClientTruncated:
		r.flush(ctx, backend.Conn)
		_ = backend.Conn.Abort()
		_ = client.Conn.Abort()
	case BackendReset, BackendTruncated:
		_ = backend.Conn.Abort()
		r.flush(ctx, client.Conn)
		_ = client.Conn.Abort()
	case IdleTimeout, FinTimeout, Canceled:
		_ = client.Conn.Abort()
		_ = backend.Conn.Abort()
	}
	// What is closed already stays closed; the error says only that.
	_ = client.Conn.Close()
	_ = backend.Conn.Close()
}

// flush waits until the peer of c has acknowledged everything, since the RST
// that follows drops what it has not. It gives up after the fin timeout and
// when ctx ends.
func (r *relay) flush(ctx context.Context, c *Conn) {
	limit := r.o.Fin
	if limit <= 0 {
		limit = flushLimit
	}
	deadline := time.Now().Add(limit)
	// The kernel does not tell when a send queue runs empty, so ask, ever more
	// seldom.
	for pause := time.Millisecond; c.unsent() > 0 && time.Now().Before(deadline); pause = min(2*pause, 100*time.Millisecond) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}
