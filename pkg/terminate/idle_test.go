package terminate_test

import (
	"crypto/tls"
	"io"
	"runtime"
	"testing"

	"github.com/snicketlb/snicket/pkg/terminate"
)

// inUse returns the bytes of heap and stacks in use.
func inUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what pools hold goes at the second
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// TestIdleHoldsNoBuffer holds that sessions that have passed bytes and fallen
// silent keep no copy buffer: what a relay adds to its two connections is far
// below one.
func TestIdleHoldsNoBuffer(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector's own memory counts")
	}
	noLeaks(t)
	const sessions = 200
	l := newLab(t)
	type pair struct {
		client, backend *peer
		near, side      terminate.Side
	}
	before := inUse()
	var pairs []pair
	for range sessions {
		var p pair
		p.client, p.near = clientPair(t, l, tls.VersionTLS13)
		far, raw := socketPair(t, "tcp")
		p.backend = &peer{t: t, conn: terminate.NewConn(far, nil)}
		p.side = terminate.Side{Conn: terminate.NewConn(raw, nil)}
		// The bytes pass without a relay first, so that what crypto/tls keeps
		// for them is there already.
		p.client.write(request)
		if _, err := io.ReadFull(p.near.TLS, make([]byte, len(request))); err != nil {
			t.Fatal(err)
		}
		if _, err := p.near.TLS.Write(answer); err != nil {
			t.Fatal(err)
		}
		p.client.readN(len(answer))
		pairs = append(pairs, p)
	}
	connected := inUse()
	done := make(chan terminate.Result, sessions)
	for _, p := range pairs {
		s := &session{client: p.client, backend: p.backend}
		go func() {
			done <- terminate.Relay(t.Context(), p.near, p.side, terminate.RelayOptions{}, &s.in, &s.out)
		}()
		s.exchange()
	}
	relaying := inUse()
	adds := (relaying - connected) / sessions
	t.Logf("an idle session of TLS 1.3 to plain TCP: the relay adds %d bytes, stacks included; both connections with their test peers hold %d", adds, (connected-before)/sessions)
	if limit := int64(24 << 10); adds > limit {
		t.Errorf("an idle relay holds %d bytes, limit %d", adds, limit)
	}
	for _, p := range pairs {
		p.client.end()
		p.backend.end()
	}
	for range sessions {
		if r := <-done; r.Reason != terminate.Clean {
			t.Errorf("ended %v: %v", r.Reason, r.Err)
		}
	}
}

// BenchmarkBulk passes bytes from a plain backend to a client with TLS 1.3.
func BenchmarkBulk(b *testing.B) {
	l := newLab(b)
	s := start(b, l, setup{version: tls.VersionTLS13})
	chunk := make([]byte, 1<<20)
	into := make([]byte, len(chunk))
	b.SetBytes(int64(len(chunk)))
	b.ReportAllocs()
	for b.Loop() {
		go func() { _, _ = s.backend.conn.Write(chunk) }()
		if _, err := io.ReadFull(s.client.tls, into); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPingPong passes 16 bytes there and back.
func BenchmarkPingPong(b *testing.B) {
	l := newLab(b)
	s := start(b, l, setup{version: tls.VersionTLS13})
	go func() { _, _ = io.Copy(s.backend.conn, onlyReader{s.backend.conn}) }()
	message, into := make([]byte, 16), make([]byte, 16)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.client.tls.Write(message); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(s.client.tls, into); err != nil {
			b.Fatal(err)
		}
	}
}

type onlyReader struct{ io.Reader }
