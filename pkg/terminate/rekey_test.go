package terminate_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/pkg/loop"
	"github.com/snicketlb/snicket/pkg/terminate"
)

// A rekeyer writes a client's records of TLS 1.3 in place of crypto/tls, which has
// no call for a KeyUpdate (RFC 8446 §4.6.3).
type rekeyer struct {
	t      *testing.T
	peer   *peer
	secret []byte // client_application_traffic_secret_N
	aead   cipher.AEAD
	iv     []byte
	seq    uint64
	out    []byte
}

// startRekeying is startOn with a client of TLS 1.3 that has not written anything.
func startRekeying(t *testing.T, observer func(*stream)) (*session, *rekeyer) {
	t.Helper()
	l, r := newLab(t), newRig(t)
	far, fd := socketPair(t, "tcp")
	var keys bytes.Buffer
	client := &peer{t: t, conn: &wire{Conn: far}}
	client.tls = tls.Client(client.conn, &tls.Config{
		ServerName: host, RootCAs: l.authority.Pool(), MinVersion: tls.VersionTLS13, KeyLogWriter: &keys,
	})
	near := r.port(fd, nil)
	conn := shake(t, client.tls, near.accept(l.server))
	if suite := client.tls.ConnectionState().CipherSuite; suite != tls.TLS_AES_128_GCM_SHA256 {
		t.Fatalf("cipher suite %s, want the one that the test speaks, which machines with AES prefer", tls.CipherSuiteName(suite))
	}
	k := &rekeyer{t: t, peer: client}
	for line := range strings.Lines(keys.String()) {
		if f := strings.Fields(line); f[0] == "CLIENT_TRAFFIC_SECRET_0" {
			secret, err := hex.DecodeString(f[2])
			if err != nil {
				t.Fatal(err)
			}
			k.rekey(secret)
		}
	}
	back, fd := socketPair(t, "tcp")
	s := &session{client: client, backend: &peer{t: t, conn: &wire{Conn: back}}}
	s.stream = r.relay(near, r.port(fd, nil), conn, nil, terminate.RelayOptions{}, observer)
	return s, k
}

// expand is HKDF-Expand-Label without a context (RFC 8446 §7.1).
func (k *rekeyer) expand(label string, n int) []byte {
	k.t.Helper()
	label = "tls13 " + label
	info := string(binary.BigEndian.AppendUint16(nil, uint16(n))) + string(rune(len(label))) + label + "\x00"
	b, err := hkdf.Expand(sha256.New, k.secret, info, n)
	if err != nil {
		k.t.Fatal(err)
	}
	return b
}

func (k *rekeyer) rekey(secret []byte) {
	k.t.Helper()
	k.secret, k.seq = secret, 0
	k.iv = k.expand("iv", 12)
	block, err := aes.NewCipher(k.expand("key", 16))
	if err != nil {
		k.t.Fatal(err)
	}
	if k.aead, err = cipher.NewGCM(block); err != nil {
		k.t.Fatal(err)
	}
}

// record appends a record (RFC 8446 §5.2).
func (k *rekeyer) record(content byte, b ...byte) {
	n := len(b) + 1 + k.aead.Overhead()
	header := []byte{23, 3, 3, byte(n >> 8), byte(n)}
	nonce := bytes.Clone(k.iv)
	seq := binary.BigEndian.AppendUint64(nil, k.seq)
	k.seq++
	for i, v := range seq {
		nonce[4+i] ^= v
	}
	k.out = append(k.out, header...)
	k.out = k.aead.Seal(k.out, nonce, append(bytes.Clone(b), content), header)
}

// data appends a record of plain text.
func (k *rekeyer) data(b ...byte) { k.record(23, b...) }

// updates appends KeyUpdates that ask for one in return: as many as crypto/tls
// bears between two records of data.
func (k *rekeyer) updates() {
	k.t.Helper()
	for range 16 {
		k.record(22, 24, 0, 0, 1, 1)
		k.rekey(k.expand("traffic upd", sha256.Size))
	}
}

// send writes what was appended.
func (k *rekeyer) send() {
	k.t.Helper()
	if _, err := k.peer.conn.Write(k.out); err != nil {
		k.t.Fatal(err)
	}
	k.out = nil
}

// quiet returns once the loop has nothing left to do: it has taken all events of
// what was written before.
func (s *session) quiet() {
	for seen, still := -1, 0; still < 100; still++ {
		turns := 0
		s.r.do(func() { turns = s.turns })
		if turns != seen {
			seen, still = turns, 0
		}
	}
}

// TestKeysAskedForByOneThatReadsNothing holds that answers to KeyUpdates do not
// pile up for a client that takes nothing, and that it is read again once it does.
func TestKeysAskedForByOneThatReadsNothing(t *testing.T) {
	noLeaks(t)
	most := int64(0)
	s, k := startRekeying(t, func(s *stream) { most = max(most, s.r.env.Caught()) })
	s.r.do(func() { loop.SetInt(s.ports[0].fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 4096) })
	if err := s.client.conn.Conn.(*net.TCPConn).SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	rounds := 0
	for int(s.in.Load()) == rounds {
		if rounds == 10_000 {
			t.Fatal("it is read though it takes no answers")
		}
		for range 20 {
			k.updates()
			k.data(0)
			rounds++
		}
		k.send()
		s.quiet()
	}
	go func() { _, _ = io.Copy(io.Discard, s.client.conn) }()
	_ = s.backend.conn.SetReadDeadline(time.Now().Add(patience))
	s.backend.readN(rounds)
	s.cancel(io.ErrClosedPipe)
	if limit := int64(32 << 10); most > limit {
		t.Errorf("up to %d bytes waited, limit %d", most, limit)
	}
}

// TestKeysAskedForBehindTheEnd holds that a KeyUpdate which nobody can answer any
// more makes no reset of the end that follows.
func TestKeysAskedForBehindTheEnd(t *testing.T) {
	noLeaks(t)
	s, k := startRekeying(t, nil)
	s.backend.end()
	s.client.expect(nil, "end")
	k.data('a')
	k.updates()
	k.data('b')
	k.send()
	s.backend.readN(2)
	s.client.fin()
	s.backend.expect(nil, "reset")
	s.result(t, terminate.Clean, terminate.ByBackend)
}

// TestKeysAskedForWithoutEnd holds that a client that has its keys changed all the
// time is served no more of that in one turn than others can wait for.
func TestKeysAskedForWithoutEnd(t *testing.T) {
	noLeaks(t)
	var before, most uint64
	s, k := startRekeying(t, func(s *stream) {
		in := s.in.Load()
		before, most = in, max(most, in-before)
	})
	const rounds = 300 // of 16 changes and a byte
	for range rounds {
		k.updates()
		k.data(0)
	}
	go func() { _, _ = io.Copy(io.Discard, s.client.conn) }()
	k.send()
	s.backend.readN(rounds)
	s.cancel(io.ErrClosedPipe)
	if limit := uint64(8); most > limit {
		t.Errorf("%d changes of keys in one turn, limit %d", 16*most, 16*limit)
	}
}
