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
	r := newRig(t)
	before := inUse()
	var all []*session
	for range sessions {
		all = append(all, startOn(t, r, l, setup{version: tls.VersionTLS13}, nil))
	}
	connected := inUse()
	for _, s := range all {
		s.exchange()
	}
	// The peers' own buffers count: both are crypto/tls, or nothing.
	exchanged := inUse()
	adds := (exchanged - connected) / sessions
	t.Logf("an idle session of TLS 1.3 to plain TCP: %d bytes with its test peers, %d of them since the first bytes passed", (exchanged-before)/sessions, adds)
	if limit := int64(4 << 10); adds > limit {
		t.Errorf("bytes that have passed leave %d bytes, limit %d", adds, limit)
	}
	for _, p := range all {
		p.client.end()
		p.backend.end()
		p.result(t, terminate.Clean, terminate.ByClient)
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
