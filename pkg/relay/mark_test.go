package relay_test

import (
	"io"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/pkg/loop"
	"github.com/snicketlb/snicket/pkg/relay"
)

// elephant is a relay whose client has sent so much that its next burst marks it.
type elephant struct {
	t               *testing.T
	env             *relay.Env
	r               relay.Relay
	client, backend peer
	cfd             int
}

func newElephant(t *testing.T) *elephant {
	t.Helper()
	leakCheck(t)
	e := &elephant{t: t, env: relay.NewEnv(2)}
	t.Cleanup(e.env.Close)
	var bfd int
	e.client, e.cfd = connect(t, "tcp4", 0)
	e.backend, bfd = connect(t, "tcp4", 0)
	t.Cleanup(func() { loop.Close(bfd) })
	t.Cleanup(func() { loop.Close(e.cfd) })
	e.r.Start(e.env, e.cfd, bfd, nil, 0)
	t.Cleanup(func() { e.r.Close(e.env) })
	done := make(chan error, 2)
	go func() {
		_, err := io.CopyN(e.client, readerOnly{zeros{}}, relay.MarkAfter)
		done <- err
	}()
	go func() {
		_, err := io.CopyN(io.Discard, readerOnly{e.backend}, relay.MarkAfter)
		done <- err
	}()
	for e.r.Bytes(relay.Client) < relay.MarkAfter {
		if e.r.Marked() {
			t.Fatalf("marked after %d bytes", e.r.Bytes(relay.Client))
		}
		await(t, bfd, unix.POLLOUT)
		e.pump()
	}
	for range cap(done) {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	return e
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func (e *elephant) pump() relay.Status {
	e.r.Note(relay.Client, loop.Readable)
	e.r.Note(relay.Backend, loop.Writable)
	return settle(e.t, &e.r, e.env)
}

// burst sends n bytes and relays them once all wait.
func (e *elephant) burst(n int) {
	e.t.Helper()
	e.client.send(make([]byte, n))
	e.arrived(n)
	e.pump()
	e.backend.receive(n)
}

// arrived returns once n bytes wait, of which a mark lets no event tell.
func (e *elephant) arrived(n int) {
	e.t.Helper()
	for {
		queued, err := unix.IoctlGetInt(e.cfd, unix.TIOCINQ)
		if err != nil {
			e.t.Fatal(err)
		}
		if queued >= n {
			return
		}
		runtime.Gosched()
	}
}

// lowMark is what the kernel waits for before it tells of bytes.
func (e *elephant) lowMark() int {
	n, err := unix.GetsockoptInt(e.cfd, unix.SOL_SOCKET, unix.SO_RCVLOWAT)
	if err != nil {
		e.t.Fatal(err)
	}
	return n
}

func (e *elephant) want(marked bool, low int) {
	e.t.Helper()
	if got, kernel := e.r.Marked(), e.lowMark(); got != marked || kernel != low {
		e.t.Errorf("marked %t, at %d bytes; want %t, %d", got, kernel, marked, low)
	}
}

// What a marked sender leaves below its mark is asked for at the second doubt, and
// the sender is marked no more.
func TestMarkedTailIsFetched(t *testing.T) {
	e := newElephant(t)
	e.burst(4 * relay.ChunkSize)
	e.want(true, relay.MarkBytes)
	e.client.send(make([]byte, 100))
	e.arrived(100)
	if e.r.Doubt() {
		t.Error("doubted a way that had flowed since")
	}
	if !e.r.Doubt() {
		t.Error("a way on which nothing came is not doubted")
	}
	e.want(false, 1)
	if s := settle(t, &e.r, e.env); s != relay.Waiting {
		t.Errorf("status %d", s)
	}
	e.backend.receive(100)
	e.burst(4 * relay.ChunkSize)
	e.want(false, 1)
}

// An end behind a tail brings its event in spite of the mark.
func TestMarkedEnd(t *testing.T) {
	e := newElephant(t)
	e.burst(4 * relay.ChunkSize)
	e.want(true, relay.MarkBytes)
	e.client.send(make([]byte, 100))
	e.client.end()
	await(t, e.cfd, unix.POLLIN)
	e.r.Note(relay.Client, loop.Readable|loop.PeerShut)
	settle(t, &e.r, e.env)
	if b, err := e.backend.rest(); len(b) != 100 || err != nil {
		t.Errorf("%d bytes, %v; want 100 and an end", len(b), err)
	}
	// Nobody needs to look after a way that has ended, however long the other lasts.
	e.r.Doubt()
	e.r.Doubt()
	e.want(false, 1)
}

// Close leaves the sockets as they were.
func TestMarkEndsWithTheRelay(t *testing.T) {
	e := newElephant(t)
	e.burst(4 * relay.ChunkSize)
	e.want(true, relay.MarkBytes)
	e.r.Close(e.env)
	e.want(false, 1)
}
