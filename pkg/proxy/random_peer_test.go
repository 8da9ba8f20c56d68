package proxy_test

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
)

// The peers of TestRandomSessions are processes of their own: this test program,
// started once more with a role. Both sides compute what a session is to do from
// the seed of the run and the number of the session, which the client tells the
// backend behind its hello.

// A part is what one side of a session does.
type part struct {
	size   int64 // bytes it sends
	seed   uint64
	chunk  int  // of at most so many at a time
	reads  int  // takes at most so many at a time
	buffer int  // size of its socket's buffers; 0: the kernel's choice
	pauses int  // one of so many reads and writes is followed by a pause; 0: none is
	waits  bool // sends only once it has seen the other's end
	turns  int  // sends in so many parts, each once the other's has come; 0: at will
	second bool // the other's first part comes before its own
	resets bool // resets its connection when it has sent all
}

// sessionOf returns what the client and the backend of one session do.
func sessionOf(seed, number uint64) (client, backend part) {
	r := rand.New(rand.NewPCG(seed, number))
	client, backend = partOf(r), partOf(r)
	if r.IntN(2) == 0 { // nothing follows a part until it has all arrived, no end either
		client.turns = 2 + r.IntN(8)
		backend.turns, backend.second = client.turns, true
	}
	switch r.IntN(8) {
	case 0:
		client.resets = true
	case 1:
		backend.resets = true
	case 2:
		client.waits, client.turns, backend.turns = true, 0, 0
	case 3:
		backend.waits, client.turns, backend.turns = true, 0, 0
	}
	return client, backend
}

func partOf(r *rand.Rand) part {
	p := part{size: int64(r.IntN(1 << (1 + r.IntN(20)))), seed: r.Uint64()}
	if r.IntN(4) == 0 { // at the edges of a chunk of the relay
		p.size = int64(r.IntN(4)*16<<10 + r.IntN(3) - 1)
		p.size = max(p.size, 0)
	}
	p.chunk = max(1<<r.IntN(18), int(p.size/64))
	p.reads = max(1<<(6+r.IntN(12)), int(p.size/64))
	p.buffer = []int{0, 0, 16 << 10, 64 << 10}[r.IntN(4)]
	p.pauses = []int{0, 64, 16, 4}[r.IntN(4)]
	return p
}

// pause lets up to 2 ms pass now and then, and seldom up to 50 ms: the load has
// gaps in it, nothing waits for them to be over.
func (p *part) pause(r *rand.Rand) {
	if p.pauses == 0 || r.IntN(p.pauses) != 0 {
		return
	}
	d := time.Duration(r.IntN(2000)) * time.Microsecond
	if r.IntN(32) == 0 {
		d *= 25
	}
	<-time.After(d)
}

// until is how much of the other's bytes must have come before the byte at is sent.
func (p *part) until(at, theirs int64) int64 {
	switch {
	case p.waits:
		return math.MaxInt64
	case p.turns == 0 || p.size == 0:
		return 0
	}
	turn := at * int64(p.turns) / p.size
	if p.second {
		turn++
	}
	return theirs * turn / int64(p.turns)
}

// A gauge is how far the reading of a connection has come.
type gauge struct {
	mu   sync.Mutex // guards the fields below
	more *sync.Cond // of mu
	n    int64
	over bool
}

func newGauge() *gauge {
	g := new(gauge)
	g.more = sync.NewCond(&g.mu)
	return g
}

func (g *gauge) add(n int, over bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.n += int64(n)
	g.over = over
	g.more.Broadcast()
}

// reach waits for n bytes, or the end.
func (g *gauge) reach(n int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.n < n && !g.over {
		g.more.Wait()
	}
}

// playing counts what the sessions of one process have done.
type playing struct {
	out                       io.Writer
	seed                      uint64
	start                     chan struct{} // closed when all are to begin
	sessions, bytes, failures atomic.Int64
}

func (y *playing) fail(number uint64, side string, c net.Conn, format string, args ...any) {
	y.failures.Add(1)
	fmt.Fprintf(y.out, "failed: session %d: %s at %v: %s\n", number, side, c.LocalAddr(), fmt.Sprintf(format, args...))
}

// play sends what mine says and takes what theirs says, and tells what is wrong.
func (y *playing) play(number uint64, side string, c *net.TCPConn, mine, theirs *part) {
	<-y.start
	_ = c.SetDeadline(time.Now().Add(randomPatience))
	come := newGauge()
	sent := make(chan error, 1)
	go func() {
		err := mine.send(c, number, func(at int64) { come.reach(mine.until(at, theirs.size)) })
		switch {
		case mine.resets:
			_ = c.SetLinger(0)
			_ = c.Close()
		case err == nil:
			err = c.CloseWrite()
		}
		sent <- err
	}()
	sum, n, err := mine.receive(c, number, come)
	lost := <-sent
	y.sessions.Add(1)
	y.bytes.Add(n)
	if mine.resets {
		return
	}
	if err == nil { // the kernel tells of a reset once, here perhaps to the sender
		err = lost
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		y.fail(number, side, c, "stalled after %d bytes of %d; sending: %v", n, theirs.size, lost)
	case err != nil && !theirs.resets:
		y.fail(number, side, c, "%d bytes of %d: %v", n, theirs.size, err)
	case err == nil && theirs.resets:
		y.fail(number, side, c, "an end of one that was reset, after %d bytes of %d", n, theirs.size)
	case err == nil && n != theirs.size, n > theirs.size, sum != sumOf(n, theirs.seed):
		y.fail(number, side, c, "%d bytes, not the %d sent: %x", n, theirs.size, sum)
	}
	_ = c.Close()
}

// send writes a pattern in chunks of any size up to the part's; before each it asks
// ready, which returns when its turn has come.
func (p *part) send(w io.Writer, number uint64, ready func(at int64)) error {
	r := rand.New(rand.NewPCG(p.seed, number))
	src := io.LimitReader(lab.Pattern(p.seed), p.size)
	buf := make([]byte, min(p.chunk, int(p.size)+1))
	for at := int64(0); ; {
		ready(at)
		n, err := io.ReadFull(src, buf[:1+r.IntN(len(buf))])
		at += int64(n)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return err
			}
		}
		if err != nil {
			return nil
		}
		p.pause(r)
	}
}

// receive reads to the end and returns the sum and count of what came.
func (p *part) receive(c io.Reader, number uint64, come *gauge) (sum [sha256.Size]byte, n int64, err error) {
	r := rand.New(rand.NewPCG(p.seed+1, number))
	h := sha256.New()
	buf := make([]byte, p.reads)
	for {
		k, err := c.Read(buf[:1+r.IntN(len(buf))])
		h.Write(buf[:k])
		n += int64(k)
		come.add(k, err != nil)
		if err == io.EOF {
			err = nil
		} else if err == nil {
			p.pause(r)
			continue
		}
		h.Sum(sum[:0])
		return sum, n, err
	}
}

func sumOf(n int64, seed uint64) (sum [sha256.Size]byte) {
	h := sha256.New()
	_, _ = io.CopyN(h, lab.Pattern(seed), n)
	h.Sum(sum[:0])
	return sum
}

// The words between the test and its peers.
const (
	roleVariable = "SNICKET_TEST_ROLE" // client or backend
	seedVariable = "SNICKET_TEST_SEED" // of the run; of the test itself: to run one again
)

// playRole is a peer's whole life. It reads "go" when all sessions are open, and
// the end of its input when nobody needs it any more.
func playRole(role string, out io.Writer) int {
	y := &playing{out: out, start: make(chan struct{})}
	y.seed, _ = strconv.ParseUint(os.Getenv(seedVariable), 10, 64)
	words := bufio.NewScanner(os.Stdin)
	var all sync.WaitGroup
	switch role {
	case "client":
		first, _ := strconv.Atoi(os.Getenv("FIRST"))
		count, _ := strconv.Atoi(os.Getenv("COUNT"))
		y.open(&all, os.Getenv("ADDRESS"), first, count)
		fmt.Fprintln(y.out, "open")
	case "backend":
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			fmt.Fprintln(y.out, "failed:", err)
			return 1
		}
		fmt.Fprintln(y.out, "listening", l.Addr())
		go y.serve(&all, l) // ends with the process
	}
	if words.Scan() {
		close(y.start)
		if role == "client" {
			all.Wait()
			fmt.Fprintln(y.out, "over")
		}
	}
	for words.Scan() { // a session that hangs is looked at before this ends
	}
	if role == "backend" {
		all.Wait()
	}
	fmt.Fprintf(y.out, "sessions %d bytes %d failures %d\n", y.sessions.Load(), y.bytes.Load(), y.failures.Load())
	return 0
}

// open opens the sessions, some at a time; each is through to its backend, which
// has said so by a byte.
func (y *playing) open(all *sync.WaitGroup, address string, first, count int) {
	hello := lab.Hello("a.test")
	slots := make(chan struct{}, 32)
	var opened sync.WaitGroup
	for i := first; i < first+count; i++ {
		slots <- struct{}{}
		opened.Add(1)
		all.Go(func() {
			number := uint64(i)
			mine, theirs := sessionOf(y.seed, number)
			c, err := mine.dial(address)
			if err == nil {
				_ = c.SetDeadline(time.Now().Add(randomPatience))
				said := binary.BigEndian.AppendUint64(append([]byte{}, hello...), number)
				cut := rand.New(rand.NewPCG(y.seed+1, number)).IntN(len(said))
				_, _ = c.Write(said[:cut])
				_, _ = c.Write(said[cut:])
				_, err = io.ReadFull(c, make([]byte, 1))
			}
			<-slots
			opened.Done()
			if err != nil {
				y.failures.Add(1)
				fmt.Fprintf(y.out, "failed: session %d: opening: %v\n", number, err)
				return
			}
			y.play(number, "client", c, &mine, &theirs)
		})
	}
	opened.Wait()
}

// dial connects with the part's buffers, which count for the window from the
// first packet on.
func (p *part) dial(address string) (*net.TCPConn, error) {
	d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) {
			if p.buffer != 0 {
				_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, p.buffer)
				_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF, p.buffer)
			}
		})
	}}
	d.SetMultipathTCP(false)
	c, err := d.Dial("tcp4", address)
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

func (y *playing) serve(all *sync.WaitGroup, l net.Listener) {
	hello := lab.Hello("a.test")
	for {
		conn, err := l.Accept()
		if err != nil {
			continue
		}
		all.Go(func() {
			c := conn.(*net.TCPConn)
			defer func() { _ = c.Close() }()
			b := make([]byte, len(hello)+8)
			if _, err := io.ReadFull(c, b); err != nil {
				y.failures.Add(1)
				fmt.Fprintln(y.out, "failed: the backend's first bytes:", err)
				return
			}
			number := binary.BigEndian.Uint64(b[len(hello):])
			theirs, mine := sessionOf(y.seed, number)
			if mine.buffer != 0 {
				_ = c.SetReadBuffer(mine.buffer)
				_ = c.SetWriteBuffer(mine.buffer)
			}
			_, _ = c.Write([]byte{0})
			y.play(number, "backend", c, &mine, &theirs)
		})
	}
}
