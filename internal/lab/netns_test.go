//go:build e2e

package lab_test

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
)

// TestNamespace reaches a server inside a namespace, makes it a black hole, where a connect hangs and an open
// connection falls silent, and brings it back.
func TestNamespace(t *testing.T) {
	lab.Leaks(t)
	ns := lab.NewNamespace(t)
	s := lab.Serve(t, lab.Echo(), lab.Options{Listener: ns.Listen(t, 0)})
	c := dial(t, s.Addr())
	pingPong := func() {
		t.Helper()
		c.Write([]byte("x"))
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	pingPong()

	ns.Blackhole(t)
	_, err := net.DialTimeout("tcp", s.Addr(), 200*time.Millisecond)
	if e := net.Error(nil); !errors.As(err, &e) || !e.Timeout() {
		t.Errorf("got error %v from a connect into a black hole, want a timeout", err)
	}
	c.SetDeadline(time.Now().Add(200 * time.Millisecond))
	c.Write([]byte("y"))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got error %v from a black hole, want silence", err)
	}

	ns.Restore(t)
	c.SetDeadline(time.Now().Add(lab.Patience))
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Errorf("the echo sent into the black hole never came: %v", err)
	}
	pingPong()
}
