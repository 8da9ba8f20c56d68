package proxy_test

import (
	"io"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/proxy"
)

// Package net arms a keepalive of its own on the sockets it takes over.
func TestKeepaliveOfATerminatedClient(t *testing.T) {
	for _, want := range []string{"02", "00"} {
		ca := authority(t)
		echo := lab.Serve(t, lab.Echo(), lab.Options{})
		r := route("a.test", echo.Addr())
		ca.terminate(t, r)
		s := state(t, r)
		if want == "00" {
			s.Timeouts.Keepalive = 0
		}
		h := start(t, s)
		c := h.tls(ca.client("a.test"))
		if _, err := io.WriteString(c, "x"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "client timer "+want, func() bool {
			l, ok := sideOf(t, h.addr, c.LocalAddr().String())
			return ok && l.timer == want
		})
		ask(t, c, "")
		h.want(proxy.OK)
	}
}
