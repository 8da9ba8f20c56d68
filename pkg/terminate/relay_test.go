package terminate_test

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/snicketlb/snicket/pkg/terminate"
)

// expect checks what a peer reads until its stream ends, and how it ends.
func (p *peer) expect(want []byte, wantEnd string) {
	p.t.Helper()
	got, end := p.readAll()
	if !bytes.Equal(got, want) {
		p.t.Errorf("peer read %d bytes, want %d (equal: false)", len(got), len(want))
	}
	if end != wantEnd {
		p.t.Errorf("peer's stream ended with %q, want %q", end, wantEnd)
	}
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}

// request and answer are what the peers say before something ends.
var (
	request = []byte("GET / HTTP/1.0\r\n\r\n")
	answer  = []byte("HTTP/1.0 200 OK\r\n\r\n")
)

// exchange passes a request and the beginning of an answer, so that both ways
// are known to work.
func (s *session) exchange() {
	s.client.t.Helper()
	s.client.write(request)
	s.backend.readN(len(request))
	s.backend.write(answer)
	s.client.readN(len(answer))
}

// TestClose holds the mapping of ends, for every pair of protocols.
func TestClose(t *testing.T) {
	sides := []struct {
		name string
		setup
	}{
		{"1.2 to plain", setup{version: tls.VersionTLS12}},
		{"1.3 to plain", setup{version: tls.VersionTLS13}},
		{"1.3 to unix", setup{version: tls.VersionTLS13, unix: true}},
		{"1.2 to 1.2", setup{version: tls.VersionTLS12, backend: tls.VersionTLS12}},
		{"1.3 to 1.2", setup{version: tls.VersionTLS13, backend: tls.VersionTLS12}},
		{"1.2 to 1.3", setup{version: tls.VersionTLS12, backend: tls.VersionTLS13}},
		{"1.3 to 1.3", setup{version: tls.VersionTLS13, backend: tls.VersionTLS13}},
	}
	rows := []struct {
		name    string
		options terminate.RelayOptions
		tls     bool // needs a backend that speaks TLS
		tcp     bool // needs a backend that knows RST
		run     func(t *testing.T, s *session)
	}{
		{"client ends, then 1 MB answer", terminate.RelayOptions{}, false, false, clientEndsFirst},
		{"backend ends, client goes on", terminate.RelayOptions{}, false, false, backendEndsFirst},
		{"client FIN without close_notify", terminate.RelayOptions{}, false, true, clientTruncates},
		{"client FIN after the whole answer", terminate.RelayOptions{}, false, true, clientClosesAfterAnswer},
		{"client reset", terminate.RelayOptions{}, false, true, clientResets},
		{"client reset after half-close", terminate.RelayOptions{}, false, true, clientResetsHalfClosed},
		{"backend reset", terminate.RelayOptions{}, false, true, backendResets},
		{"backend reset behind a full answer", terminate.RelayOptions{}, false, true, backendResetsUnread},
		{"backend FIN without close_notify", terminate.RelayOptions{}, true, true, backendTruncates},
		{"backend FIN without close_notify after client end", terminate.RelayOptions{}, true, true, backendTruncatesAtEnd},
		{"backend FIN without close_notify, nothing owed", terminate.RelayOptions{}, true, true, backendClosesAfterClient},
		{"client's bytes behind the backend's end", terminate.RelayOptions{}, false, true, backendRefusesLateBytes},
		{"idle", terminate.RelayOptions{Idle: 50 * time.Millisecond}, false, true, idles},
		{"fin", terminate.RelayOptions{Idle: time.Hour, Fin: 50 * time.Millisecond}, false, true, lingers},
		{"fin, client blocked", terminate.RelayOptions{Idle: time.Hour, Fin: 50 * time.Millisecond}, false, true, blocks},
		{"killed", terminate.RelayOptions{}, false, true, killed},
	}
	l := newLab(t)
	for _, row := range rows {
		for _, side := range sides {
			if row.tls && side.backend == 0 || row.tcp && side.unix {
				continue
			}
			t.Run(row.name+"/"+side.name, func(t *testing.T) {
				noLeaks(t)
				o := side.setup
				o.options = row.options
				row.run(t, start(t, l, o))
			})
		}
	}
}

func clientEndsFirst(t *testing.T, s *session) {
	s.client.write(request)
	s.client.end()
	s.backend.expect(request, "end")
	big := random(1_000_000)
	go func() {
		s.backend.write(big)
		s.backend.end()
	}()
	s.client.expect(big, "end")
	r := s.result(t, terminate.Clean, terminate.ByClient)
	if r.In != uint64(len(request)) || r.Out != uint64(len(big)) {
		t.Errorf("counted %d in, %d out, want %d and %d", r.In, r.Out, len(request), len(big))
	}
}

func backendEndsFirst(t *testing.T, s *session) {
	s.backend.write(answer)
	s.backend.end()
	s.client.expect(answer, "end")
	big := random(200_000)
	go func() {
		s.client.write(big)
		s.client.end()
	}()
	s.backend.expect(big, "end")
	s.result(t, terminate.Clean, terminate.ByBackend)
}

func clientTruncates(t *testing.T, s *session) {
	s.exchange()
	s.client.write(request)
	s.client.fin()
	s.backend.expect(request, "reset")
	s.client.expect(nil, "reset")
	s.result(t, terminate.ClientTruncated, terminate.ByClient)
}

func clientClosesAfterAnswer(t *testing.T, s *session) {
	s.exchange()
	s.backend.end()
	s.client.expect(nil, "end")
	s.client.fin()
	s.backend.expect(nil, "reset")
	s.result(t, terminate.Clean, terminate.ByBackend)
}

func clientResets(t *testing.T, s *session) {
	s.exchange()
	s.client.conn.abort()
	s.backend.expect(nil, "reset")
	s.result(t, terminate.ClientReset, terminate.ByClient)
}

func clientResetsHalfClosed(t *testing.T, s *session) {
	s.exchange()
	s.client.end()
	s.backend.expect(nil, "end")
	s.client.conn.abort()
	s.result(t, terminate.ClientReset, terminate.ByClient)
	if _, err := s.backend.conn.Read(make([]byte, 1)); s.backend.conn.Ended() != terminate.EndReset {
		t.Errorf("backend read %v, want a reset", err)
	}
}

func backendResets(t *testing.T, s *session) {
	s.exchange()
	s.backend.conn.abort()
	s.client.expect(nil, "reset")
	s.result(t, terminate.BackendReset, terminate.ByBackend)
}

// backendResetsUnread resets while the client has not read a byte of what the
// backend had sent.
func backendResetsUnread(t *testing.T, s *session) {
	big := random(300_000)
	s.backend.write(big)
	for deadline := time.Now().Add(patience); s.out.Load() < uint64(len(big)); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d bytes passed", s.out.Load(), len(big))
		}
	}
	s.backend.conn.abort()
	s.client.expect(big, "reset")
	s.result(t, terminate.BackendReset, terminate.ByBackend)
}

func backendTruncates(t *testing.T, s *session) {
	s.exchange()
	s.backend.write(answer)
	s.backend.fin()
	s.client.expect(answer, "reset")
	s.backend.expect(nil, "reset")
	s.result(t, terminate.BackendTruncated, terminate.ByBackend)
}

func backendTruncatesAtEnd(t *testing.T, s *session) {
	s.client.write(request)
	s.client.end()
	s.backend.expect(request, "end")
	s.backend.write(answer)
	s.backend.fin()
	s.client.expect(answer, "reset")
	s.result(t, terminate.BackendTruncated, terminate.ByBackend)
}

func backendClosesAfterClient(t *testing.T, s *session) {
	s.exchange()
	s.client.end()
	s.backend.expect(nil, "end")
	s.backend.fin()
	s.client.expect(nil, "reset")
	s.flawed(t, terminate.ByClient)
}

func backendRefusesLateBytes(t *testing.T, s *session) {
	s.exchange()
	s.backend.end()
	_ = s.backend.conn.Close()
	s.client.expect(nil, "end")
	s.client.write(request)
	s.flawed(t, terminate.ByBackend)
}

func idles(t *testing.T, s *session) {
	s.client.expect(nil, "reset")
	s.backend.expect(nil, "reset")
	s.result(t, terminate.IdleTimeout, terminate.ByBalancer)
}

func lingers(t *testing.T, s *session) {
	s.client.write(request)
	s.client.end()
	s.backend.expect(request, "end")
	s.client.expect(nil, "reset")
	s.result(t, terminate.FinTimeout, terminate.ByBalancer)
}

// blocks lets the client end and then read nothing of an answer without end.
func blocks(t *testing.T, s *session) {
	s.client.end()
	s.backend.expect(nil, "end")
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		chunk := make([]byte, 1<<20)
		for {
			var err error
			if s.backend.tls != nil {
				_, err = s.backend.tls.Write(chunk)
			} else {
				_, err = s.backend.conn.Write(chunk)
			}
			if err != nil {
				return
			}
		}
	}()
	s.result(t, terminate.FinTimeout, terminate.ByBalancer)
	<-stopped
}

func killed(t *testing.T, s *session) {
	s.exchange()
	why := errors.New("killed by the operator")
	s.cancel(why)
	s.client.expect(nil, "reset")
	s.backend.expect(nil, "reset")
	if r := s.result(t, terminate.Canceled, terminate.ByBalancer); !errors.Is(r.Err, why) {
		t.Errorf("error %v, want the cause %v", r.Err, why)
	}
}
