package relay_test

import (
	"io"
	"testing"

	"github.com/snicketlb/snicket/pkg/relay"
)

// BenchmarkCopyRoundTrip is 64 bytes there and back through one relay.
func BenchmarkCopyRoundTrip(b *testing.B) {
	g := newStage(b, 0)
	client, cfd := connect(b, "tcp4", 0)
	backend, bfd := connect(b, "tcp4", 0)
	s := g.start(cfd, bfd, nil, 0)
	go func() {
		_, _ = io.Copy(writerOnly{backend}, readerOnly{backend})
		backend.end()
	}()
	buf := make([]byte, 64)
	conn := client.Conn
	b.ReportAllocs()
	for b.Loop() {
		if _, err := conn.Write(buf); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(conn, buf); err != nil {
			b.Fatal(err)
		}
	}
	client.end()
	s.wait(b)
}

// BenchmarkSplice is bulk from client to backend, a MiB a write; copy is the
// same without pipes.
func BenchmarkSplice(b *testing.B) {
	for _, bb := range []struct {
		name  string
		pipes int
	}{{"splice", 1}, {"copy", 0}} {
		b.Run(bb.name, func(b *testing.B) {
			g := newStage(b, bb.pipes)
			client, cfd := connect(b, "tcp4", 0)
			backend, bfd := connect(b, "tcp4", 0)
			s := g.start(cfd, bfd, nil, 0)
			buf := pattern(relay.PipeSize)
			got := make(chan int64)
			go func() {
				n, _ := io.CopyBuffer(writerOnly{io.Discard}, readerOnly{backend}, make([]byte, 1<<20))
				got <- n
			}()
			b.SetBytes(int64(len(buf)))
			b.ReportAllocs()
			sent := int64(0)
			for b.Loop() {
				client.send(buf)
				sent += int64(len(buf))
			}
			client.end()
			if n := <-got; n != sent {
				b.Errorf("%d bytes of %d arrived", n, sent)
			}
			backend.end()
			s.wait(b)
		})
	}
}

// readerOnly and writerOnly hide the ways round Read and Write that io.Copy
// would take: it would splice itself.
type (
	readerOnly struct{ io.Reader }
	writerOnly struct{ io.Writer }
)
