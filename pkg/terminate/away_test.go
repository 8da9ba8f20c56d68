package terminate_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/pkg/certs"
	"github.com/snicketlb/snicket/pkg/loop"
	"github.com/snicketlb/snicket/pkg/terminate"
)

// leave takes a port off its loop: the connection of package net below it.
func (p *port) leave() net.Conn {
	p.r.t.Helper()
	p.r.do(func() { p.r.l.Remove(p.tok, p.fd) })
	transport, err := loop.NetConn(p.fd)
	if err != nil {
		p.r.t.Fatal(err)
	}
	p.fd = -1
	p.r.t.Cleanup(func() { transport.Close() })
	if err := p.conn.Leave(transport); err != nil {
		p.r.t.Fatal(err)
	}
	return transport
}

// secured is a TLS connection whose handshake was on a loop, and its client.
func secured(t *testing.T, version uint16) (*port, *tls.Conn, *tls.Conn) {
	t.Helper()
	noLeaks(t)
	lab := newLab(t)
	r := newRig(t)
	far, fd := socketPair(t, "tcp")
	p := r.port(fd, nil)
	client := tls.Client(far, &tls.Config{RootCAs: lab.authority.Pool(), ServerName: host, MaxVersion: version})
	done := p.accept(lab.server)
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	res := <-done
	if res.err != nil {
		t.Fatal(res.err)
	}
	return p, res.conn, client
}

// A handshake of a loop, and then goroutines: one reads while another writes, until
// the client ends its side.
func TestLeave(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			p, near, client := secured(t, version)
			// Bytes that the loop has not read yet.
			if _, err := io.WriteString(client, "early"); err != nil {
				t.Fatal(err)
			}
			p.leave()
			const size = 1 << 20
			sent := bytes.Repeat([]byte("0123456789abcdef"), size/16)
			var peers sync.WaitGroup
			peers.Go(func() {
				if _, err := client.Write(sent); err != nil {
					t.Error(err)
				}
				if err := client.CloseWrite(); err != nil {
					t.Error(err)
				}
			})
			peers.Go(func() {
				if got, err := io.ReadAll(client); err != nil || !bytes.Equal(got, sent) {
					t.Errorf("the client has read %d bytes, %v; want %d", len(got), err, size)
				}
			})
			peers.Go(func() {
				if _, err := near.Write(sent); err != nil {
					t.Error(err)
				}
			})
			got, err := io.ReadAll(near)
			if err != nil || !bytes.Equal(got, append([]byte("early"), sent...)) {
				t.Errorf("read %d bytes, %v; want %d", len(got), err, size+5)
			}
			if err := near.CloseWrite(); err != nil {
				t.Error(err)
			}
			peers.Wait()
			if err := near.Close(); err != nil {
				t.Error(err)
			}
			if _, err := p.conn.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("read of a closed connection: %v", err)
			}
		})
	}
}

func TestLeaveServesPrefixFirst(t *testing.T) {
	noLeaks(t)
	r := newRig(t)
	far, fd := socketPair(t, "unix")
	p := r.port(fd, []byte("peeked, "))
	p.leave()
	if _, err := io.WriteString(far, "then read"); err != nil {
		t.Fatal(err)
	}
	far.Close()
	got, err := io.ReadAll(p.conn)
	if want := "peeked, then read"; err != nil || string(got) != want {
		t.Errorf("read %q, %v; want %q", got, err, want)
	}
	if got := p.conn.Ended(); got != terminate.EndFIN {
		t.Errorf("ended %v, want EndFIN", got)
	}
}

// What the socket had no room for on the loop goes out before all else.
func TestLeaveSendsWhatWaits(t *testing.T) {
	noLeaks(t)
	r := newRig(t)
	far, fd := socketPair(t, "tcp")
	p := r.port(fd, nil)
	waiting := bytes.Repeat([]byte("x"), 8<<20)
	r.do(func() {
		if _, err := p.conn.Write(waiting); err != nil {
			t.Error(err)
		}
		if !p.conn.Unsent() {
			t.Error("the socket took all")
		}
	})
	all := make(chan []byte, 1)
	go func() {
		b, _ := io.ReadAll(far)
		all <- b
	}()
	p.leave()
	if _, err := io.WriteString(p.conn, "end"); err != nil {
		t.Fatal(err)
	}
	p.conn.Close()
	if got := <-all; len(got) != len(waiting)+3 || !bytes.HasSuffix(got, []byte("xend")) {
		t.Errorf("%d bytes arrived, want %d", len(got), len(waiting)+3)
	}
	r.do(p.conn.Release) // as the loop does in the end
}

func TestLeaveMindsDeadlines(t *testing.T) {
	p, near, client := secured(t, tls.VersionTLS13)
	p.leave()
	_ = near.SetReadDeadline(time.Now().Add(-time.Second))
	if _, err := near.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read behind the deadline: %v", err)
	}
	_ = near.SetReadDeadline(time.Time{})
	if _, err := io.WriteString(client, "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := near.Read(make([]byte, 1)); err != nil {
		t.Errorf("read after a deadline was lifted: %v", err)
	}
}

func TestLeaveNotesAReset(t *testing.T) {
	p, near, client := secured(t, tls.VersionTLS13)
	p.leave()
	_ = client.NetConn().(*net.TCPConn).SetLinger(0)
	client.NetConn().Close()
	if _, err := near.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("read %v, want a reset", err)
	}
	if got := p.conn.Ended(); got != terminate.EndReset {
		t.Errorf("ended %v, want EndReset", got)
	}
}

// A goroutine's handshake with a backend verifies, offers, shows and remembers as that
// of a loop does.
func TestBackendHandshake(t *testing.T) {
	noLeaks(t)
	lab := newLab(t)
	own, err := lab.authority.Issue(certs.IssueOptions{CommonName: "balancer", Client: true})
	if err != nil {
		t.Fatal(err)
	}
	server := &tls.Config{
		Certificates: []tls.Certificate{lab.cert.Certificate}, NextProtos: []string{"h2", "http/1.1"},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: lab.authority.Pool(),
	}
	b := terminate.NewBackend(terminate.BackendOptions{Roots: lab.authority.Pool(), Certificate: &own.Certificate, SessionCache: 8})
	try := func(p terminate.Peer) (tls.ConnectionState, error) {
		far, fd := socketPair(t, "tcp")
		near, err := loop.NetConn(fd)
		if err != nil {
			t.Fatal(err)
		}
		defer near.Close()
		var served sync.WaitGroup
		defer served.Wait()
		served.Go(func() {
			defer far.Close()
			c := tls.Server(far, server)
			_, _ = io.WriteString(c, "x") // the tickets come before it
		})
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		c, err := b.Handshake(ctx, near, p)
		if err != nil {
			near.Close()
			return tls.ConnectionState{}, err
		}
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Error(err)
		}
		return c.ConnectionState(), nil
	}
	peer := terminate.Peer{Address: "a", ClientSNI: host, Offers: []string{"http/1.1", "h2"}}
	for round, resumed := range []bool{false, true} {
		state, err := try(peer)
		if err != nil {
			t.Fatal(err)
		}
		if state.NegotiatedProtocol != "h2" || state.DidResume != resumed {
			t.Errorf("round %d: %q, resumed %t; want h2, %t", round, state.NegotiatedProtocol, state.DidResume, resumed)
		}
	}
	for name, p := range map[string]terminate.Peer{
		"another name": {Address: "a", ClientSNI: "other.test"},
		"no name":      {Address: "a"},
	} {
		if _, err := try(p); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	if _, err := b.Handshake(ctx, near, peer); !errors.Is(err, context.Canceled) {
		t.Errorf("of a caller that is gone: %v", err)
	}
}
