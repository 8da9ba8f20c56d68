package terminate_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/snicketlb/snicket/pkg/certs"
	"github.com/snicketlb/snicket/pkg/terminate"
)

// piece is how much one write or read of a peer takes, most often little.
func piece(rng *rand.Rand) int {
	sizes := [...]int{1, 5, 100, 1208, 4096, 16384, 16385, 70_000, maxPiece}
	return 1 + rng.IntN(sizes[rng.IntN(len(sizes))])
}

const maxPiece = 300_000

// pour writes n bytes of the source by pieces of any size and yields now and then.
func pour(w io.Writer, n int, rng *rand.Rand) ([32]byte, error) {
	sum := sha256.New()
	source := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(rng.Int())})
	for n > 0 {
		b := make([]byte, min(n, piece(rng)))
		_, _ = source.Read(b) // never fails
		sum.Write(b)
		if _, err := w.Write(b); err != nil {
			return [32]byte{}, err
		}
		n -= len(b)
		for range rng.IntN(20) {
			runtime.Gosched()
		}
	}
	return [32]byte(sum.Sum(nil)), nil
}

// drain reads to the end by pieces of any size.
func drain(r io.Reader, rng *rand.Rand) (n int, sum [32]byte, err error) {
	h := sha256.New()
	b := make([]byte, maxPiece)
	for {
		m, err := r.Read(b[:piece(rng)])
		h.Write(b[:m])
		n += m
		if errors.Is(err, io.EOF) {
			return n, [32]byte(h.Sum(nil)), nil
		}
		if err != nil {
			return n, sum, err
		}
		for range rng.IntN(20) {
			runtime.Gosched()
		}
	}
}

func (p *peer) stream() io.ReadWriter {
	if p.tls != nil {
		return p.tls
	}
	return p.conn
}

// TestStreams carries much both ways over many sessions of one loop at a time,
// through peers that read and write in pieces of any size, end each way by itself,
// and are of any protocol. All must arrive, and be counted.
func TestStreams(t *testing.T) {
	noLeaks(t)
	l, r := newLab(t), newRig(t)
	versions := []uint16{tls.VersionTLS12, tls.VersionTLS13}
	backends := []uint16{0, tls.VersionTLS12, tls.VersionTLS13}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	var all sync.WaitGroup
	for i := range 24 {
		s := startOn(t, r, l, setup{version: versions[i%2], backend: backends[i%3], unix: i%6 == 0}, nil)
		up, down := rng.IntN(3<<20), rng.IntN(3<<20)
		for way, ends := range [][2]*peer{{s.client, s.backend}, {s.backend, s.client}} {
			from, to, n := ends[0], ends[1], []int{up, down}[way]
			sent := make(chan [32]byte, 1)
			rngs := [2]*rand.Rand{rand.New(rand.NewPCG(rng.Uint64(), 2)), rand.New(rand.NewPCG(rng.Uint64(), 3))}
			all.Go(func() {
				sum, err := pour(from.stream(), n, rngs[0])
				if err != nil {
					t.Errorf("session %d, way %d: write: %v", i, way, err)
				}
				sent <- sum
				from.end()
			})
			all.Go(func() {
				_ = to.conn.SetReadDeadline(time.Now().Add(patience))
				got, sum, err := drain(to.stream(), rngs[1])
				if want := <-sent; err != nil || got != n || sum != want {
					t.Errorf("session %d, way %d: %d of %d bytes, %v, the same: %t", i, way, got, n, err, sum == want)
				}
			})
		}
		all.Go(func() {
			select {
			case res := <-s.done:
				if res.Reason != terminate.Clean || res.Err != nil || res.In != uint64(up) || res.Out != uint64(down) {
					t.Errorf("session %d: %v (%v), %d in, %d out; want clean, %d and %d", i, res.Reason, res.Err, res.In, res.Out, up, down)
				}
			case <-time.After(2 * patience):
				t.Errorf("session %d: the relay goes on", i)
			}
		})
	}
	all.Wait()
}

// TestStreamsCut resets one side in the middle of much: the other is reset too,
// never ended, and what it had got until then is a beginning of the whole.
func TestStreamsCut(t *testing.T) {
	noLeaks(t)
	l, r := newLab(t), newRig(t)
	rng := rand.New(rand.NewPCG(rand.Uint64(), 1))
	var all sync.WaitGroup
	for i := range 12 {
		s := startOn(t, r, l, setup{version: tls.VersionTLS13, backend: []uint16{0, tls.VersionTLS13}[i%2]}, nil)
		from, to, reason, by := s.client, s.backend, terminate.ClientReset, terminate.ByClient
		if i%4 >= 2 {
			from, to, reason, by = s.backend, s.client, terminate.BackendReset, terminate.ByBackend
		}
		whole := random(1 << 20)
		cut := rng.IntN(len(whole))
		all.Go(func() {
			from.write(whole[:cut])
			from.conn.abort()
		})
		all.Go(func() {
			got, end := to.readAll()
			if end != "reset" || !bytes.HasPrefix(whole, got) {
				t.Errorf("session %d: %d bytes, then %q; want a beginning, then a reset", i, len(got), end)
			}
			s.ended(t, reason, by)
		})
	}
	all.Wait()
}

// dribble is a transport that sends one byte at a time.
type dribble struct{ net.Conn }

func (d dribble) Write(b []byte) (int, error) {
	for i := range b {
		if _, err := d.Conn.Write(b[i : i+1]); err != nil {
			return i, err
		}
		runtime.Gosched()
	}
	return len(b), nil
}

// TestByteAtATime shakes hands and talks with peers that send single bytes.
func TestByteAtATime(t *testing.T) {
	l := newLab(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			noLeaks(t)
			r := newRig(t)
			far, fd := socketPair(t, "tcp")
			near := r.port(fd, nil)
			client := &peer{t: t, conn: &wire{Conn: far}}
			client.tls = tls.Client(dribble{client.conn}, &tls.Config{ServerName: host, RootCAs: l.authority.Pool(), MaxVersion: version})
			conn := shake(t, client.tls, near.accept(l.server))
			back, fd := socketPair(t, "tcp")
			side := r.port(fd, nil)
			backend := &peer{t: t, conn: &wire{Conn: back}}
			backend.tls = tls.Server(dribble{backend.conn}, &tls.Config{Certificates: []tls.Certificate{l.cert.Certificate}, MaxVersion: version})
			b := terminate.NewBackend(terminate.BackendOptions{Roots: l.authority.Pool()})
			sideTLS := shake(t, backend.tls, side.connect(b, terminate.Peer{ClientSNI: host}))
			s := &session{stream: r.relay(near, side, conn, sideTLS, terminate.RelayOptions{}, nil), client: client, backend: backend}
			s.exchange()
			s.client.end()
			s.backend.expect(nil, "end")
			s.backend.end()
			s.client.expect(nil, "end")
			s.result(t, terminate.Clean, terminate.ByClient)
		})
	}
}

// TestAbort ends a handshake from outside at each of its stages.
func TestAbort(t *testing.T) {
	l := newLab(t)
	slow, err := l.authority.Issue(certs.IssueOptions{Names: []string{host}, RSA: true})
	if err != nil {
		t.Fatal(err)
	}
	signing := make(chan struct{})
	release := make(chan struct{})
	held := *slow
	held.PrivateKey = &heldKey{slow.PrivateKey.(crypto.Signer), signing, release}
	rsa := terminate.ServerConfig(terminate.ServerOptions{
		Store: certs.Fixed(&held),
	})
	tests := []struct {
		name   string
		server *tls.Config
		until  func(t *testing.T, far net.Conn)
	}{
		{"before the hello", l.server, func(*testing.T, net.Conn) {}},
		{"behind the server's flight", l.server, func(t *testing.T, far net.Conn) {
			go func() {
				_ = tls.Client(silent{far}, &tls.Config{ServerName: host, RootCAs: l.authority.Pool()}).Handshake()
			}()
			if _, err := far.Read(make([]byte, 1)); err != nil {
				t.Error(err)
			}
		}},
		{"while a signature is made", rsa, func(_ *testing.T, far net.Conn) {
			go func() { _ = tls.Client(far, &tls.Config{ServerName: host, RootCAs: l.authority.Pool()}).Handshake() }()
			<-signing
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			noLeaks(t)
			r := newRig(t)
			far, fd := socketPair(t, "tcp")
			p := r.port(fd, nil)
			result := p.accept(tt.server)
			tt.until(t, far)
			why := errors.New("killed")
			r.do(func() {
				p.shake.Abort(why)
				p.step()
			})
			if got := <-result; !errors.Is(got.err, why) {
				t.Errorf("ended by %v, want %v", got.err, why)
			}
			r.do(func() { p.close(true) })
			if tt.server == rsa {
				close(release)
			}
		})
	}
}

// silent is a transport on which all but the hello is lost, and nothing is read.
type silent struct{ net.Conn }

func (silent) Read([]byte) (int, error) { return 0, context.Canceled }

// TestSlowKeyHoldsNobodyUp has a signature wait while another session of the same
// loop goes on.
func TestSlowKeyHoldsNobodyUp(t *testing.T) {
	noLeaks(t)
	l, r := newLab(t), newRig(t)
	slow, err := l.authority.Issue(certs.IssueOptions{Names: []string{host}, RSA: true})
	if err != nil {
		t.Fatal(err)
	}
	signing, release := make(chan struct{}), make(chan struct{})
	held := *slow
	held.PrivateKey = &heldKey{slow.PrivateKey.(crypto.Signer), signing, release}
	cfg := terminate.ServerConfig(terminate.ServerOptions{
		Store: certs.Fixed(&held),
	})
	far, fd := socketPair(t, "tcp")
	waits := r.port(fd, nil).accept(cfg)
	client := tls.Client(far, &tls.Config{ServerName: host, RootCAs: l.authority.Pool()})
	shaken := make(chan error, 1)
	go func() { shaken <- client.Handshake() }()
	<-signing
	other := startOn(t, r, l, setup{version: tls.VersionTLS13}, nil)
	other.exchange()
	select {
	case got := <-waits:
		t.Errorf("the handshake ended before its signature was made: %v", got.err)
	default:
	}
	close(release)
	if err := <-shaken; err != nil {
		t.Error(err)
	}
	if got := <-waits; got.err != nil {
		t.Error(got.err)
	}
	other.client.end()
	other.backend.end()
	other.ended(t, terminate.Clean, terminate.ByClient)
}

// heldKey tells of a signature that is to be made, and makes it when let.
type heldKey struct {
	crypto.Signer
	signing chan<- struct{}
	release <-chan struct{}
}

func (k *heldKey) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	k.signing <- struct{}{}
	<-k.release
	return k.Signer.Sign(rand, digest, opts)
}
