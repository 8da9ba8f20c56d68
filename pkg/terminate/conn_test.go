package terminate_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/snicketlb/snicket/pkg/loop"
	"github.com/snicketlb/snicket/pkg/relay"
	"github.com/snicketlb/snicket/pkg/terminate"
)

func TestConnServesPrefixFirst(t *testing.T) {
	noLeaks(t)
	a, fd := socketPair(t, "tcp")
	defer loop.Close(fd)
	c := terminate.NewConn(terminate.NewEnv(relay.NewEnv(0), nil), fd, []byte("peeked, "))
	if _, err := io.WriteString(a, "then read"); err != nil {
		t.Fatal(err)
	}
	if got := c.Ended(); got != terminate.EndNone {
		t.Errorf("ended %v before its end", got)
	}
	if err := a.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := readAllNow(c)
	if err != nil {
		t.Fatal(err)
	}
	if want := "peeked, then read"; string(got) != want {
		t.Errorf("read %q, want %q", got, want)
	}
	if got, want := c.BytesRead(), uint64(len("peeked, then read")); got != want {
		t.Errorf("counted %d bytes, want %d", got, want)
	}
	if got := c.Ended(); got != terminate.EndFIN {
		t.Errorf("ended %v, want EndFIN", got)
	}
}

// readAllNow reads to the end by asking again and again.
func readAllNow(c *terminate.Conn) ([]byte, error) {
	var all []byte
	b := make([]byte, 64)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		n, err := c.Read(b)
		all = append(all, b[:n]...)
		var temporary net.Error
		switch {
		case errors.As(err, &temporary) && temporary.Timeout():
			c.Note(loop.Readable | loop.PeerShut)
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return all, err
		}
	}
	return all, errors.New("no end")
}

// TestConnKnowsAReset holds that a reset whose news a write has taken is not
// read as an end.
func TestConnKnowsAReset(t *testing.T) {
	noLeaks(t)
	a, fd := socketPair(t, "tcp")
	defer loop.Close(fd)
	c := terminate.NewConn(terminate.NewEnv(relay.NewEnv(0), nil), fd, nil)
	(&wire{Conn: a}).abort()
	for {
		// The raw socket, so that c does not learn of it from the write.
		if _, errno := loop.Write(fd, []byte("x")); errno != 0 {
			break
		}
	}
	if n, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("read %d, %v; want a reset", n, err)
	}
	if got := c.Ended(); got != terminate.EndReset {
		t.Errorf("ended %v, want EndReset", got)
	}
}

// TestCloseNotifyHasNoDeadline holds that a close_notify waits behind what a
// slow client has still to read. crypto/tls would give it up after five seconds
// and leave a whole answer without its end.
func TestCloseNotifyHasNoDeadline(t *testing.T) {
	noLeaks(t)
	s := start(t, newLab(t), setup{version: tls.VersionTLS13})
	s.exchange()
	s.r.do(func() {
		for _, p := range s.ports {
			if err := p.conn.SetDeadline(time.Unix(1, 0)); err != nil {
				t.Error(err)
			}
		}
	})
	big := random(16 << 20) // more than the sockets hold
	go func() {
		s.backend.write(big)
		s.backend.end()
	}()
	s.client.expect(big, "end")
	s.client.end()
	s.backend.expect(nil, "end")
	s.result(t, terminate.Clean, terminate.ByBackend)
}

// TestConnKeepsWhatIsNotTaken holds that a write never fails for want of room, and
// that all arrives in order once there is some.
func TestConnKeepsWhatIsNotTaken(t *testing.T) {
	noLeaks(t)
	a, fd := socketPair(t, "tcp")
	defer loop.Close(fd)
	env := terminate.NewEnv(relay.NewEnv(0), nil)
	c := terminate.NewConn(env, fd, nil)
	c.Hold([]byte("header "))
	var want int
	for chunk := make([]byte, 1<<20); !c.Unsent() || want == 0; want += len(chunk) {
		if _, err := c.Write(chunk); err != nil {
			t.Fatal(err)
		}
	}
	if env.Caught() == 0 || c.BytesWritten() == 0 {
		t.Errorf("%d caught, %d written", env.Caught(), c.BytesWritten())
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got := make(chan int)
	go func() {
		b, err := io.ReadAll(a)
		if err != nil || string(b[:7]) != "header " {
			t.Errorf("read %d bytes, %v", len(b), err)
		}
		got <- len(b)
	}()
	for deadline := time.Now().Add(patience); c.Unsent() && time.Now().Before(deadline); {
		c.Note(loop.Writable)
		if err := c.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if n := <-got; n != want+7 {
		t.Errorf("read %d bytes, want %d", n, want+7)
	}
	if env.Caught() != 0 {
		t.Errorf("%d caught at the end", env.Caught())
	}
}
