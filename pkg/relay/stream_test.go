package relay_test

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/pkg/loop"
	"github.com/snicketlb/snicket/pkg/relay"
)

// A receiver that takes nothing makes the relay catch at most one chunk or one
// pipe and then leave its sender alone; once it reads, all arrives.
func TestSlowReceiver(t *testing.T) {
	for _, tt := range []struct {
		name  string
		pipes int
		part  int // of each write of the sender
		most  int64
	}{
		{"leftover in a chunk", 0, 32 << 10, relay.ChunkSize},
		{"leftover in a pipe", 1, 256 << 10, relay.PipeSize},
		{"small writes", 1, 100, relay.PipeSize},
	} {
		for side, name := range sides {
			for _, network := range networks {
				t.Run(fmt.Sprintf("%s/%s/%s", tt.name, name, network), func(t *testing.T) {
					leakCheck(t)
					g := newStage(t, tt.pipes)
					var peers [2]peer
					var fds [2]int
					for i := range fds {
						peers[i], fds[i] = connect(t, network, 8<<10)
					}
					s := g.start(fds[0], fds[1], nil, 0)
					sent := pattern(4 << 20)
					var wg sync.WaitGroup
					wg.Go(func() {
						for part := range bytesOf(sent, tt.part) {
							peers[side].send(part)
						}
						peers[side].end()
					})
					for off := 0; off < len(sent); {
						part := min(len(sent)-off, 64<<10)
						if got := peers[side^1].receive(part); !bytes.Equal(got, sent[off:off+part]) {
							t.Fatalf("wrong bytes at %d", off)
						}
						off += part
						if got := g.env.Caught(); got > tt.most {
							t.Errorf("Caught() = %d, want %d at most", got, tt.most)
						}
					}
					peers[side^1].end()
					for i := range peers {
						if got, err := peers[i].rest(); len(got) != 0 || err != nil {
							t.Errorf("%s: %d bytes, %v; want the end", sides[relay.Side(i)], len(got), err)
						}
					}
					wg.Wait()
					if r := s.wait(t); r.status != relay.Ended || r.in+r.out != int64(len(sent)) {
						t.Errorf("result %+v, want Ended with %d bytes", r, len(sent))
					}
				})
			}
		}
	}
}

// A full receiver holds what was caught, and no more is read: the sender stalls.
func TestFullReceiverStopsItsSender(t *testing.T) {
	for _, pipes := range []int{0, 1} {
		t.Run(fmt.Sprintf("%d pipes", pipes), func(t *testing.T) {
			leakCheck(t)
			env := relay.NewEnv(pipes)
			client, cfd := connect(t, "unix", 4096)
			backend, bfd := connect(t, "unix", 4096)
			defer loop.Close(cfd)
			defer loop.Close(bfd)
			var r relay.Relay
			r.Start(env, cfd, bfd, nil, 0)
			sent := pattern(64 << 10)
			off := 0
			for {
				n := client.trySend(sent[off:])
				off += n
				r.Note(relay.Client, loop.Readable)
				settle(t, &r, env)
				if n == 0 {
					break
				}
			}
			if off == len(sent) {
				t.Fatal("the sender was never stopped")
			}
			if got := env.Caught(); got <= 0 || got > relay.PipeSize {
				t.Errorf("Caught() = %d with a full receiver", got)
			}
			caught := env.Caught()
			r.Note(relay.Backend, loop.Writable) // a lie is harmless
			if got := r.Pump(env); got != relay.Waiting || env.Caught() > caught {
				t.Errorf("Pump = %d, Caught() %d; want Waiting and %d at most", got, env.Caught(), caught)
			}
			_ = backend
			r.Close(env)
			if got := env.Caught(); got != 0 {
				t.Errorf("Caught() = %d after Close, want 0", got)
			}
			env.Close()
			if got := env.Pipes(); got != 0 {
				t.Errorf("Pipes() = %d after Close, want 0", got)
			}
		})
	}
}

// With fewer pipes than bulk streams the rest is copied, and all arrives.
func TestOutOfPipes(t *testing.T) {
	for _, pipes := range []int{0, 1, 3} {
		t.Run(fmt.Sprintf("%d pipes", pipes), func(t *testing.T) {
			leakCheck(t)
			g := newStage(t, pipes)
			sent := pattern(2 << 20)
			var wg sync.WaitGroup
			for i := range 16 {
				client, cfd := connect(t, networks[i%3], 16<<10)
				backend, bfd := connect(t, networks[i/3%3], 16<<10)
				s := g.start(cfd, bfd, nil, 0)
				for _, p := range []peer{client, backend} {
					wg.Go(func() {
						p.send(sent)
						p.end()
					})
					wg.Go(func() {
						if got, err := p.rest(); !bytes.Equal(got, sent) || err != nil {
							t.Errorf("got %d bytes, %v; want %d and an end", len(got), err, len(sent))
						}
					})
				}
				wg.Go(func() {
					if r := <-s.ended; r.status != relay.Ended {
						t.Errorf("result %+v, want Ended", r)
					}
				})
			}
			wg.Wait()
			g.on(func() {
				if got := g.env.Pipes(); got > pipes {
					t.Errorf("Pipes() = %d, want %d at most", got, pipes)
				}
			})
		})
	}
}

// An idle session holds two descriptors and nothing else, whatever it did before.
func TestIdleRelayHoldsNothing(t *testing.T) {
	leakCheck(t)
	if got, most := unsafe.Sizeof(relay.Relay{}), uintptr(176); got > most {
		t.Errorf("a Relay has %d bytes, want %d at most", got, most)
	}
	g := newStage(t, 4)
	client, cfd := connect(t, "tcp4", 0)
	backend, bfd := connect(t, "tcp4", 0)
	first := append(g.env.Borrow(100), "hello"...)
	s := g.start(cfd, bfd, first, 0)
	sent := pattern(1 << 20)
	_ = backend.receive(5)
	for range 3 {
		var wg sync.WaitGroup
		wg.Go(func() { client.send(sent) })
		if got := backend.receive(len(sent)); !bytes.Equal(got, sent) {
			t.Error("wrong bytes")
		}
		wg.Wait()
		g.on(func() {
			if got := g.env.Caught(); got != 0 {
				t.Errorf("Caught() = %d while idle, want 0", got)
			}
			if made, free := g.env.Pipes(), g.env.FreePipes(); made != free || made == 0 {
				t.Errorf("%d of %d pipes free while idle, want one and all", free, made)
			}
		})
	}
	client.end()
	backend.end()
	if r := s.wait(t); r.status != relay.Ended || r.in != int64(3*len(sent)+5) {
		t.Errorf("result %+v, want Ended with %d bytes in", r, 3*len(sent)+5)
	}
}

// One Pump moves no more of a way than its budget, however much there is.
func TestPumpStopsAtItsBudget(t *testing.T) {
	leakCheck(t)
	for _, pipes := range []int{0, 1} {
		env := relay.NewEnv(pipes)
		client, cfd := connect(t, "tcp4", 4<<20)
		backend, bfd := connect(t, "tcp4", 4<<20)
		var wg sync.WaitGroup
		total := 32 << 20
		wg.Go(func() {
			part := pattern(1 << 20)
			for range total / len(part) {
				client.send(part)
			}
		})
		wg.Go(func() {
			b := make([]byte, 1<<20)
			for got := 0; got < total; {
				n, err := backend.Read(b)
				if err != nil {
					t.Error(err)
					return
				}
				got += n
			}
		})
		var r relay.Relay
		r.Start(env, cfd, bfd, nil, 0)
		was, more := int64(0), 0
		for r.Bytes(relay.Client) < int64(total) {
			await(t, cfd, unix.POLLIN|unix.POLLOUT)
			r.Note(relay.Client, loop.Readable)
			r.Note(relay.Backend, loop.Writable)
			if r.Pump(env) == relay.More {
				more++
			}
			moved := r.Bytes(relay.Client) - was
			if most := int64(relay.TurnBytes + relay.PipeSize); moved > most {
				t.Errorf("%d bytes in one turn, want %d at most", moved, most)
			}
			was += moved
		}
		wg.Wait()
		if more == 0 {
			t.Errorf("%d pipes: the budget never stopped it", pipes)
		}
		r.Close(env)
		env.Close()
		loop.Close(cfd)
		loop.Close(bfd)
	}
}

// A bulk stream that never ends and ping-pongs on one loop: each makes progress
// while the others run.
func TestFairness(t *testing.T) {
	for _, pipes := range []int{0, 2} {
		t.Run(fmt.Sprintf("%d pipes", pipes), func(t *testing.T) {
			leakCheck(t)
			g := newStage(t, pipes)
			const pongs, trips = 8, 100
			client, cfd := connect(t, "tcp4", 0)
			backend, bfd := connect(t, "tcp4", 0)
			bulk := g.start(cfd, bfd, nil, 0)
			stop := make(chan struct{})
			var bulks, wg sync.WaitGroup
			bulks.Go(func() {
				part := pattern(1 << 20)
				for {
					select {
					case <-stop:
						client.end()
						return
					default:
						client.send(part)
					}
				}
			})
			bulks.Go(func() {
				b := make([]byte, 1<<20)
				for {
					if _, err := backend.Read(b); err != nil {
						backend.end()
						return
					}
				}
			})
			_ = passed(g, bulk, 1)
			for range pongs {
				a, afd := connect(t, "tcp4", 0)
				b, bfd := connect(t, "tcp4", 0)
				s := g.start(afd, bfd, nil, 0)
				wg.Go(func() {
					for range trips {
						a.send([]byte("ping"))
						if got := b.receive(4); string(got) != "ping" {
							t.Errorf("got %q, want ping", got)
						}
						b.send([]byte("pong"))
						if got := a.receive(4); string(got) != "pong" {
							t.Errorf("got %q, want pong", got)
						}
					}
					a.end()
					b.end()
					<-s.ended
				})
			}
			before := passed(g, bulk, 1)
			wg.Wait()
			if got := passed(g, bulk, before+1); got <= before {
				t.Errorf("bulk at %d bytes, then at %d", before, got)
			}
			close(stop)
			bulks.Wait()
			if r := bulk.wait(t); r.status != relay.Ended {
				t.Errorf("result %+v, want Ended", r)
			}
		})
	}
}

// passed waits until s has handed on n bytes at least, and tells how many.
func passed(g *stage, s *session, n int64) (got int64) {
	for got < n {
		g.on(func() { got = s.relay.Bytes(relay.Client) })
	}
	return got
}

// Moving bytes allocates nothing, neither copied nor spliced.
func TestPumpAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for _, tt := range []struct {
		name string
		size int
	}{{"copied", 64}, {"spliced", 4 * relay.ChunkSize}} {
		t.Run(tt.name, func(t *testing.T) {
			leakCheck(t)
			env := relay.NewEnv(1)
			defer env.Close()
			client, cfd := connect(t, "unix", 1<<20)
			backend, bfd := connect(t, "unix", 1<<20)
			defer loop.Close(cfd)
			defer loop.Close(bfd)
			var r relay.Relay
			r.Start(env, cfd, bfd, nil, 0)
			b, sent := make([]byte, tt.size), pattern(tt.size)
			var out, in int
			client.control(func(fd int) { out = fd })
			backend.control(func(fd int) { in = fd })
			if got := testing.AllocsPerRun(100, func() {
				_, _ = loop.Write(out, sent)
				r.Note(relay.Client, loop.Readable)
				settle(t, &r, env)
				for n := 0; n < len(b); {
					k, errno := loop.Read(in, b[n:])
					if errno != 0 {
						t.Fatal(errno)
					}
					n += k
				}
			}); got != 0 {
				t.Errorf("%v allocations, want 0", got)
			}
			if !bytes.Equal(b, sent) {
				t.Error("wrong bytes")
			}
			r.Close(env)
		})
	}
}

func TestBorrowAndReturn(t *testing.T) {
	env := relay.NewEnv(0)
	for _, tt := range []struct{ n, want int }{
		{0, 1 << 10}, {1, 1 << 10}, {1 << 10, 1 << 10}, {1<<10 + 1, 1 << 11}, {70_000, 1 << 17}, {1 << 17, 1 << 17}, {1<<17 + 1, 1<<17 + 1},
	} {
		b := env.Borrow(tt.n)
		if len(b) != 0 || cap(b) < tt.n || cap(b) != tt.want {
			t.Errorf("Borrow(%d): length %d, capacity %d; want 0, %d", tt.n, len(b), cap(b), tt.want)
		}
		b = append(b, make([]byte, tt.n)...)
		env.Return(b)
		again := env.Borrow(tt.n)
		if same := unsafe.SliceData(again) == unsafe.SliceData(b); same != (tt.want <= 1<<17) || len(again) != 0 {
			t.Errorf("Borrow(%d) again: the same %t, length %d", tt.n, same, len(again))
		}
	}
	env.Return(nil)
	env.Return(make([]byte, 10))
	env.Return(make([]byte, 3<<10)) // no power of two
	if got := env.Borrow(3 << 10); cap(got) != 4<<10 {
		t.Errorf("capacity %d, want %d", cap(got), 4<<10)
	}
}
