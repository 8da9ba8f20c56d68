package relay_test

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"

	"github.com/snicketlb/snicket/pkg/relay"
)

// A plan is what one side of a session does.
type plan struct {
	size  int  // bytes it sends
	parts int  // of at most so many at a time
	reads int  // takes at most so many at a time
	waits bool // sends only once it has seen the other's end
	reset int  // resets its connection after sending so many bytes; -1: never
}

func randomPlan(rng *rand.Rand) plan {
	sizes := []int{0, 1, 100, relay.ChunkSize - 1, relay.ChunkSize, relay.ChunkSize + 1, 200_000}
	p := plan{
		size:  sizes[rng.IntN(len(sizes))] + rng.IntN(2)*rng.IntN(100_000),
		parts: 1 << (6 + rng.IntN(13)),
		reads: 1 << (8 + rng.IntN(9)),
		reset: -1,
	}
	if rng.IntN(4) == 0 {
		p.reset = rng.IntN(p.size + 1)
	}
	return p
}

// stream is what a side sends: it differs by session, side and place.
func stream(session int, side relay.Side, size int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(session), byte(session >> 8), byte(side)}).Read(b)
	return b
}

// A report is what one side saw.
type report struct {
	sent     int // handed to its kernel
	received int
	good     bool   // what it received is what was sent, as far as it goes
	sum      []byte // SHA-256 of what it received
	err      error  // what ended its reading; nil for a FIN
}

// play does what the plan says, reading meanwhile.
func (pl plan) play(p peer, mine, theirs []byte) report {
	var r report
	over := make(chan struct{}) // its reading
	var writeErr error
	var wg sync.WaitGroup
	wg.Go(func() {
		if pl.waits {
			<-over
		}
		limit := len(mine)
		if pl.reset >= 0 {
			limit = pl.reset
		}
		for part := range bytesOf(mine[:limit], pl.parts) {
			n, err := p.Write(part)
			r.sent += n
			if err != nil { // reset by the other side
				writeErr = err
				return
			}
		}
		if pl.reset >= 0 {
			p.reset()
		} else {
			writeErr = p.Conn.(interface{ CloseWrite() error }).CloseWrite()
		}
	})
	sum := sha256.New()
	r.received, r.good, r.err = compare(p, theirs, pl.reads, sum)
	close(over)
	wg.Wait()
	if r.err == nil {
		r.err = writeErr // a reset is told once, to the first who asks
	}
	r.sum = sum.Sum(nil)
	return r
}

// compare reads to the end in pieces of n and compares with what was sent.
func compare(src io.Reader, want []byte, n int, sum hash.Hash) (got int, good bool, err error) {
	b := make([]byte, n)
	good = true
	for {
		k, err := src.Read(b)
		if got+k > len(want) || string(b[:k]) != string(want[got:min(got+k, len(want))]) {
			good = false
		}
		sum.Write(b[:k])
		got += k
		if err == io.EOF {
			return got, good, nil
		}
		if err != nil {
			return got, good, err
		}
	}
}

// Sessions of all sorts on two loops at once, with small buffers, slow readers,
// half-closes and resets. A lost wake-up hangs one of them.
func TestRandomSessions(t *testing.T) {
	leakCheck(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	stages := []*stage{newStage(t, 8), newStage(t, 2)}
	// So many at once; each has two connections and four goroutines.
	slots := make(chan struct{}, 64)
	var wg sync.WaitGroup
	for i := range randomSessions {
		slots <- struct{}{}
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		plans := [2]plan{randomPlan(rng), randomPlan(rng)}
		plans[rng.IntN(2)].waits = rng.IntN(3) == 0
		buffer := []int{0, 4 << 10, 16 << 10, 64 << 10}[rng.IntN(4)]
		var peers [2]peer
		var fds [2]int
		for side := range peers {
			network := networks[rng.IntN(len(networks))]
			if plans[side].reset >= 0 {
				network = networks[rng.IntN(2)] // a Unix socket has no reset
			}
			peers[side], fds[side] = connect(t, network, buffer)
		}
		wg.Go(func() {
			defer func() { <-slots }()
			randomSession(t, i, stages[i%2], plans, peers, fds)
		})
	}
	wg.Wait()
}

func randomSession(t *testing.T, i int, g *stage, plans [2]plan, peers [2]peer, fds [2]int) {
	var streams [2][]byte
	for side := range streams {
		streams[side] = stream(i, relay.Side(side), plans[side].size)
	}
	s := g.start(fds[0], fds[1], nil, 0)
	var reports [2]report
	var wg sync.WaitGroup
	for side := range peers {
		wg.Go(func() {
			reports[side] = plans[side].play(peers[side], streams[side], streams[side^1])
		})
	}
	r := s.wait(t)
	wg.Wait()
	for side := range peers {
		_ = peers[side].Close()
	}
	what := fmt.Sprintf("session %d: plans %+v, result %+v", i, plans, r)
	clean := plans[0].reset < 0 && plans[1].reset < 0
	if clean != (r.status == relay.Ended) {
		// A side that resets after all else has ended is not heard.
		if clean || r.in != int64(plans[0].size) || r.out != int64(plans[1].size) {
			t.Errorf("%s: wrong status", what)
		}
	}
	for side := range peers {
		got, sender := reports[side], reports[side^1]
		if !got.good || got.received > sender.sent {
			t.Errorf("%s: %s received %d bytes, right: %t, of %d sent", what, sides[relay.Side(side)], got.received, got.good, sender.sent)
		}
		if full := sha256.Sum256(streams[side^1]); clean && (got.err != nil || string(got.sum) != string(full[:])) {
			t.Errorf("%s: %s received %d bytes, %v; want all %d and an end", what, sides[relay.Side(side)], got.received, got.err, len(streams[side^1]))
		}
		// A way that was cut short must not look like one that ended, where there
		// is another way to look: a Unix socket has no reset.
		if _, tcp := peers[side].Conn.(*net.TCPConn); tcp && plans[side^1].reset >= 0 && plans[side].reset < 0 && got.err == nil {
			t.Errorf("%s: %s saw an end after %d bytes where the other was reset", what, sides[relay.Side(side)], got.received)
		}
	}
}
