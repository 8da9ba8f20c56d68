package proxy_test

import (
	"net/netip"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/loop"
)

// peers are a client and a backend around a data plane, on one goroutine and by
// system calls that allocate nothing: what is allocated is the data plane's.
type peers struct {
	t        testing.TB
	h        *harness
	target   *loop.Address
	listener int
	fds      []unix.PollFd
	hello    []byte
	answer   []byte
	buf      []byte
}

func newPeers(t testing.TB) *peers {
	t.Helper()
	a := loop.TCPAddress(netip.MustParseAddrPort("127.0.0.1:0"), 0)
	fd, errno := a.Socket()
	if errno != 0 {
		t.Fatal(errno)
	}
	t.Cleanup(func() { loop.Close(fd) })
	if errno := a.Bind(fd); errno != 0 {
		t.Fatal(errno)
	}
	if err := unix.Listen(fd, 100); err != nil {
		t.Fatal(err)
	}
	p := &peers{
		t: t, listener: fd, fds: make([]unix.PollFd, 1),
		hello: lab.Hello("a.test", "h2", "http/1.1"), answer: make([]byte, 1024), buf: make([]byte, 64<<10),
	}
	p.h = startLoops(t, 1, state(t, route("a.test", loop.LocalAddr(fd).String())))
	p.target = loop.TCPAddress(netip.MustParseAddrPort(p.h.addr), 0)
	drained := make(chan struct{})
	go func() { // ends with the channel's last record, below
		defer close(drained)
		for r := range p.h.records {
			if r.Outcome != 0 {
				t.Errorf("outcome %v: %s", r.Outcome, r.Error)
			}
		}
	}()
	t.Cleanup(func() {
		p.h.stop()
		close(p.h.records)
		<-drained
	})
	return p
}

func (p *peers) wait(fd int, events int16) {
	p.fds[0] = unix.PollFd{Fd: int32(fd), Events: events}
	for {
		n, err := unix.Poll(p.fds, int(lab.Patience.Milliseconds()))
		if err == unix.EINTR {
			continue
		}
		if n != 1 || err != nil {
			p.t.Fatalf("poll: %d, %v", n, err)
		}
		return
	}
}

// read reads n bytes, or to the end if n is 0.
func (p *peers) read(fd, n int) {
	for got := 0; n == 0 || got < n; {
		p.wait(fd, unix.POLLIN)
		m, errno := loop.Read(fd, p.buf)
		if errno != 0 {
			p.t.Fatal(errno)
		}
		if m == 0 {
			if n != 0 {
				p.t.Fatalf("the end after %d bytes, want %d", got, n)
			}
			return
		}
		got += m
	}
}

func (p *peers) write(fd int, b []byte) {
	if n, errno := loop.Write(fd, b); n != len(b) {
		p.t.Fatalf("wrote %d of %d: %v", n, len(b), errno)
	}
}

// open makes a session, whose backend has read the hello.
func (p *peers) open() (client, backend int) {
	client, errno := p.target.Socket()
	if errno != 0 {
		p.t.Fatal(errno)
	}
	if errno := p.target.Connect(client); errno != 0 && errno != unix.EINPROGRESS {
		p.t.Fatal(errno)
	}
	p.wait(client, unix.POLLOUT)
	p.write(client, p.hello)
	p.wait(p.listener, unix.POLLIN)
	backend, _, errno = loop.Accept(p.listener)
	if errno != 0 {
		p.t.Fatal(errno)
	}
	p.read(backend, len(p.hello))
	return client, backend
}

// connection is a session from connect to close: hello, answer, end.
func (p *peers) connection() {
	client, backend := p.open()
	p.write(backend, p.answer)
	loop.Shut(backend)
	p.read(client, 0)
	loop.Close(client)
	p.read(backend, 0)
	loop.Close(backend)
}

// roundTrip is a small message there and back.
func (p *peers) roundTrip(client, backend int) {
	p.write(client, p.answer)
	p.read(backend, len(p.answer))
	p.write(backend, p.answer)
	p.read(client, len(p.answer))
}

// mallocs is how many allocations the process makes for each of n calls of f.
func mallocs(n int, f func()) float64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range n {
		f()
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / float64(n)
}

// TestAllocations pins what a session costs the collector: nothing while it
// relays, nothing in all where a like session was before.
func TestAllocations(t *testing.T) {
	if raced {
		return
	}
	p := newPeers(t)
	client, backend := p.open()
	if got := mallocs(2000, func() { p.roundTrip(client, backend) }); got > 0.1 {
		t.Errorf("%.2f allocations a round trip, want none", got)
	}
	loop.Close(client)
	p.read(backend, 0)
	loop.Close(backend)
	mallocs(200, p.connection) // what is kept for reuse is there now
	got := mallocs(2000, p.connection)
	t.Logf("%.1f allocations a connection", got)
	if got > 0.1 {
		t.Errorf("%.2f allocations a connection, want none", got)
	}
}

// TestIdleMemory pins what an idle session holds of the heap, its registrations
// and its part of what grows with their number included.
func TestIdleMemory(t *testing.T) {
	if raced {
		return
	}
	const sessions = 2000
	p := newPeers(t)
	heap := func() int64 {
		runtime.GC()
		runtime.GC() // what the first one's sweep has yet to do
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	var fds [2 * sessions]int
	mallocs(10, p.connection)
	before := heap()
	for i := range sessions {
		fds[2*i], fds[2*i+1] = p.open()
	}
	got := (heap() - before) / sessions
	t.Logf("%d bytes a session", got)
	if got > 416 {
		t.Errorf("%d bytes a session, want at most 416", got)
	}
	for i := range sessions { // each ends before the next: none is left to be drained
		client, backend := fds[2*i], fds[2*i+1]
		loop.Shut(client)
		p.read(backend, 0)
		loop.Close(backend)
		p.read(client, 0)
		loop.Close(client)
	}
}

// BenchmarkConnection is a short session: hello, 1 KiB of answer, close.
func BenchmarkConnection(b *testing.B) {
	p := newPeers(b)
	b.ReportAllocs()
	for b.Loop() {
		p.connection()
	}
}

// BenchmarkRoundTrip is 1 KiB there and back on an open session.
func BenchmarkRoundTrip(b *testing.B) {
	p := newPeers(b)
	client, backend := p.open()
	b.ReportAllocs()
	b.SetBytes(int64(2 * len(p.answer)))
	for b.Loop() {
		p.roundTrip(client, backend)
	}
	loop.Close(client)
	p.read(backend, 0)
	loop.Close(backend)
}
