package lab_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
)

func dial(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(lab.Patience))
	return c.(*net.TCPConn)
}

func pattern(n int64) []byte {
	b, _ := io.ReadAll(io.LimitReader(lab.Pattern(uint64(n)), n))
	return b
}

// TestHandlers sends each handler the same input and its end, and looks at what comes back.
func TestHandlers(t *testing.T) {
	input := []byte("a few bytes")
	sum := sha256.Sum256(input)
	tests := []struct {
		name    string
		handler lab.Handler
		want    []byte
		wantErr error
	}{
		{name: "echo", handler: lab.Echo(), want: input},
		{name: "answer after the end", handler: lab.AnswerAfterEnd(100_000, time.Millisecond), want: pattern(100_000)},
		{name: "slow", handler: lab.Slow(5000, 20_000), want: pattern(5000)},
		{name: "digest", handler: lab.Digest(), want: fmt.Appendf(nil, "%d %s\n", len(input), hex.EncodeToString(sum[:]))},
		{name: "announce", handler: lab.Announce("b1", nil), want: []byte("b1\n")},
		{name: "reset after the input", handler: lab.ResetAfter(int64(len(input))), wantErr: syscall.ECONNRESET},
	}
	for _, tt := range tests {
		for _, withTLS := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, tls %v", tt.name, withTLS), func(t *testing.T) {
				lab.Leaks(t)
				var o lab.Options
				ca := lab.NewAuthority(t, "lab")
				if withTLS {
					o.TLS = ca.Server(t, "a.test")
				}
				s := lab.Serve(t, tt.handler, o)
				var c interface {
					io.ReadWriter
					CloseWrite() error
				} = dial(t, s.Addr())
				if withTLS {
					tc := tls.Client(c.(net.Conn), ca.Client("a.test"))
					if err := tc.Handshake(); err != nil {
						t.Fatal(err)
					}
					c = tc
				}
				c.Write(input)
				if tt.wantErr == nil {
					c.CloseWrite() // else it may be this call that meets the reset, which is reported once
				}
				got, err := io.ReadAll(c)
				if !errors.Is(err, tt.wantErr) || !bytes.Equal(got, tt.want) {
					t.Errorf("got %d bytes %.40q, error %v; want %d bytes %.40q, error %v",
						len(got), got, err, len(tt.want), tt.want, tt.wantErr)
				}
			})
		}
	}
}

func TestResetAtAccept(t *testing.T) {
	lab.Leaks(t)
	s := lab.Serve(t, lab.ResetAfter(0), lab.Options{})
	c, err := net.Dial("tcp", s.Addr())
	if err == nil {
		defer c.Close()
		_, err = io.ReadAll(c)
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got error %v, want a reset", err)
	}
}

func TestResetAnswering(t *testing.T) {
	lab.Leaks(t)
	s := lab.Serve(t, lab.ResetAnswering(1000), lab.Options{})
	c := dial(t, s.Addr())
	c.Write([]byte("x"))
	if _, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got error %v, want a reset", err)
	}
}

func TestFlood(t *testing.T) {
	lab.Leaks(t)
	s := lab.Serve(t, lab.Flood(), lab.Options{})
	c := dial(t, s.Addr())
	c.Write([]byte("x"))
	got := make([]byte, 1<<20)
	if _, err := io.ReadFull(c, got); err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 1<<20)
	io.ReadFull(lab.Pattern(0), want)
	if !bytes.Equal(got, want) {
		t.Error("the flood is not the pattern of seed 0")
	}
}

// TestMute shows that the mute server outlasts the client's end and notices its reset.
func TestMute(t *testing.T) {
	lab.Leaks(t)
	s := lab.Serve(t, lab.Mute(), lab.Options{})
	c := dial(t, s.Addr())
	c.Write([]byte("x"))
	c.CloseWrite()
	s.WaitAccepted(t, 1)
	if got := s.Open(); got != 1 {
		t.Errorf("got %d open connections after the client's end, want 1", got)
	}
	c.SetLinger(0)
	c.Close()
	s.WaitOpen(t, 0)
}

func TestRecorder(t *testing.T) {
	lab.Leaks(t)
	r := lab.NewRecorder()
	s := lab.Serve(t, lab.Announce("b1", r), lab.Options{})
	c := dial(t, s.Addr())
	c.Write([]byte("hello "))
	r.Wait(t, 0, 6)
	c.Write([]byte("again"))
	if got, want := string(r.Wait(t, 0, 11)), "hello again"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestHello(t *testing.T) {
	hello := lab.Hello("a.test", "h2")
	if hello[0] != 22 || len(hello) != 5+int(hello[3])<<8+int(hello[4]) {
		t.Errorf("got % x..., want one handshake record", hello[:9])
	}
	if !bytes.Contains(hello, []byte("a.test")) {
		t.Error("the name is not in the hello")
	}
	if bytes.Contains(lab.Hello(""), []byte("test")) {
		t.Error("a hello without a name has one")
	}
}

func TestReadAlert(t *testing.T) {
	got, err := lab.ReadAlert(bytes.NewReader([]byte{21, 3, 3, 0, 2, 2, 112}))
	if want := (lab.Alert{Level: 2, Description: 112}); err != nil || got != want {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	for _, bad := range [][]byte{nil, {21, 3, 3, 0, 2, 2}, {21, 3, 3, 0, 2, 2, 112, 0}, {22, 3, 3, 0, 2, 2, 112}} {
		if got, err := lab.ReadAlert(bytes.NewReader(bad)); err == nil {
			t.Errorf("% x: got %v, want an error", bad, got)
		}
	}
}
