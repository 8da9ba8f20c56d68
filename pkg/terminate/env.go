package terminate

import (
	"sync/atomic"

	"github.com/snicketlb/snicket/pkg/loop"
	"github.com/snicketlb/snicket/pkg/relay"
)

// plainSize is how much plain text is gathered before it is written: four full
// records, which then go out by one system call.
const plainSize = 64 << 10

// An Env is what the terminated sessions of one loop share. It belongs to the
// loop's thread, save for Caught.
type Env struct {
	pool    *relay.Env
	offload func(work, done func())
	co      loop.Coroutines
	plain   [plainSize]byte
	records []byte // what corked has written
	corked  *Conn
	caught  atomic.Int64
}

// NewEnv makes the shared part for one loop. Buffers are borrowed from pool.
// offload has work done by a goroutine and then done called on the loop; nil for
// doing it at once.
func NewEnv(pool *relay.Env, offload func(work, done func())) *Env {
	return &Env{pool: pool, offload: offload}
}

// Caught is the number of bytes that wait for a receiver to take them. Any
// goroutine may ask.
func (e *Env) Caught() int64 { return e.caught.Load() }

// Handshakes is the number of handshakes that have begun and are not over.
func (e *Env) Handshakes() int { return e.co.Busy() }

// Close ends the coroutines. All handshakes must be over.
func (e *Env) Close() { e.co.Close() }

// cork keeps what is written to c until uncork.
func (e *Env) cork(c *Conn) { e.corked, e.records = c, e.records[:0] }

// uncork sends what was kept, by one call; more says that the end follows.
func (e *Env) uncork(more bool) error {
	c := e.corked
	e.corked = nil
	if len(e.records) == 0 {
		return nil
	}
	return c.send(e.records, more)
}
