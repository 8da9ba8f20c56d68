package relay_test

import (
	"bytes"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/pkg/loop"
	"github.com/snicketlb/snicket/pkg/relay"
)

// pattern is n bytes of which no two near ones are alike.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8*13)
	}
	return b
}

// A half-close travels at its own time, and the other way goes on as long as it
// likes; whichever side ends first.
func TestHalfCloseThenLongAnswer(t *testing.T) {
	for _, network := range networks {
		for _, first := range []relay.Side{relay.Client, relay.Backend} {
			t.Run(fmt.Sprintf("%s/%s first", network, []string{"client", "backend"}[first]), func(t *testing.T) {
				leakCheck(t)
				g := newStage(t, 4)
				client, cfd := connect(t, network, 0)
				backend, bfd := connect(t, network, 0)
				s := g.start(cfd, bfd, nil, 0)
				a, b := client, backend
				if first == relay.Backend {
					a, b = b, a
				}
				question, answer := pattern(100), pattern(1_000_000)
				a.send(question)
				a.end()
				if got, err := b.rest(); !bytes.Equal(got, question) || err != nil {
					t.Fatalf("question of %d bytes, %v; want %d and an end", len(got), err, len(question))
				}
				var side relay.Side
				var half, both bool
				g.on(func() {
					side, half = s.relay.FirstEnd()
					both = !s.relay.HalfEnded()
				})
				if side != first || !half || both {
					t.Errorf("FirstEnd() = %d, %t; want %d, true", side, half, first)
				}
				go func() {
					for part := range bytesOf(answer, 10_000) {
						b.send(part)
					}
					b.end()
				}()
				if got, err := a.rest(); !bytes.Equal(got, answer) || err != nil {
					t.Errorf("answer of %d bytes, %v; want %d and an end", len(got), err, len(answer))
				}
				r := s.wait(t)
				want := result{status: relay.Ended, in: 100, out: 1_000_000}
				if first == relay.Backend {
					want.in, want.out = want.out, want.in
				}
				if r != want {
					t.Errorf("result %+v, want %+v", r, want)
				}
			})
		}
	}
}

// bytesOf yields b in parts of n bytes.
func bytesOf(b []byte, n int) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(b) > 0 {
			k := min(n, len(b))
			if !yield(b[:k]) {
				return
			}
			b = b[k:]
		}
	}
}

// What the events before Start told of is lost to the relay: bytes behind the
// hello and a FIN behind them are there and nobody will say so again.
func TestBytesAndEndFromBeforeStartNeedNoEvent(t *testing.T) {
	for _, network := range networks {
		for _, n := range []int{0, 1, relay.ChunkSize - 1, relay.ChunkSize, relay.ChunkSize + 1, 5 * relay.ChunkSize} {
			t.Run(fmt.Sprintf("%s/%d bytes", network, n), func(t *testing.T) {
				leakCheck(t)
				env := relay.NewEnv(1)
				defer env.Close()
				client, cfd := connect(t, network, 0)
				backend, bfd := connect(t, network, 0)
				defer loop.Close(cfd)
				defer loop.Close(bfd)
				header, hello, behind := "PROXY ", "hello", pattern(n)
				client.send(behind)
				client.end()
				await(t, cfd, unix.POLLRDHUP)

				var r relay.Relay
				first := append(append(env.Borrow(64), header...), hello...)
				r.Start(env, cfd, bfd, first, len(header))
				if got := env.Caught(); got != int64(len(first)) {
					t.Errorf("Caught() = %d, want %d", got, len(first))
				}
				if got := r.Bytes(relay.Client); got != 0 {
					t.Errorf("Bytes(Client) = %d before anything was sent, want 0", got)
				}
				settle(t, &r, env)
				want := header + hello + string(behind)
				if got, err := backend.rest(); string(got) != want || err != nil {
					t.Fatalf("backend got %d bytes, %v; want %d and an end", len(got), err, len(want))
				}
				if got, want := r.Bytes(relay.Client), int64(len(hello)+n); got != want {
					t.Errorf("Bytes(Client) = %d, want %d", got, want)
				}
				if !r.Moved() || r.Moved() {
					t.Error("Moved() is not true once")
				}
				backend.end()
				await(t, bfd, unix.POLLRDHUP)
				r.Note(relay.Backend, loop.PeerShut|loop.Readable)
				if got := r.Pump(env); got != relay.Ended {
					t.Errorf("Pump = %d, want Ended", got)
				}
				if got := env.Caught(); got != 0 {
					t.Errorf("Caught() = %d, want 0", got)
				}
				r.Close(env)
			})
		}
	}
}

// A read stops in front of urgent data, and a splice even calls that the end;
// what lies behind them has no event of its own.
func TestUrgentDataHoldUpNothing(t *testing.T) {
	for _, tt := range []struct {
		name          string
		before, after int
		end           bool
	}{
		{"small", 3, 5, false},
		{"small, with an end", 3, 5, true},
		{"bulk", 10 * relay.ChunkSize, 2 * relay.ChunkSize, false},
		{"bulk, with an end", 10 * relay.ChunkSize, 2 * relay.ChunkSize, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			leakCheck(t)
			g := newStage(t, 1)
			client, cfd := connect(t, "tcp4", 0)
			backend, bfd := connect(t, "tcp4", 0)
			sent := pattern(tt.before + tt.after)
			client.send(sent[:tt.before])
			urgent(t, client)
			client.send(sent[tt.before:])
			if tt.end {
				client.end()
			}
			s := g.start(cfd, bfd, nil, 0)
			if got := backend.receive(len(sent)); !bytes.Equal(got, sent) {
				t.Errorf("backend did not get what was sent around the urgent byte")
			}
			if !tt.end {
				client.end()
			}
			if got, err := backend.rest(); len(got) != 0 || err != nil {
				t.Errorf("then %d bytes, %v; want the end", len(got), err)
			}
			backend.end()
			if r := s.wait(t); r.status != relay.Ended || r.in != int64(len(sent)) {
				t.Errorf("result %+v, want Ended with %d bytes in", r, len(sent))
			}
		})
	}
}

func urgent(t *testing.T, p peer) {
	t.Helper()
	p.control(func(fd int) {
		if err := unix.Sendto(fd, []byte("!"), unix.MSG_OOB, nil); err != nil {
			t.Error(err)
		}
	})
}

// The FIN of the way that ends first goes out at once, that of the second with the
// closing of the socket, which follows, unless an answer was sent to who had ended.
func TestSecondEndIsLeftToClosing(t *testing.T) {
	for side, name := range sides {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, "tcp4", 0)
			d.peers[side].end()
			await(t, d.fds[side], unix.POLLRDHUP)
			d.relay.Note(side, whenEnded)
			if got := d.pump(); got != relay.Waiting {
				t.Fatalf("Pump = %d, want Waiting", got)
			}
			if _, err := d.peers[side^1].rest(); err != nil {
				t.Fatalf("the other side got %v, want an end", err)
			}
			d.peers[side^1].end()
			await(t, d.fds[side^1], unix.POLLRDHUP)
			d.relay.Note(side^1, whenEnded)
			if got := d.pump(); got != relay.Ended {
				t.Fatalf("Pump = %d, want Ended", got)
			}
			if first, ok := d.relay.FirstEnd(); first != side || !ok {
				t.Errorf("FirstEnd() = %d, %t; want %d", first, ok, side)
			}
			info, err := unix.GetsockoptTCPInfo(d.fds[side], unix.IPPROTO_TCP, unix.TCP_INFO)
			if err != nil || info.State != unix.BPF_TCP_CLOSE_WAIT {
				t.Errorf("state %d, %v; want CLOSE_WAIT: its own end has not gone out", info.State, err)
			}
		})
	}
}
