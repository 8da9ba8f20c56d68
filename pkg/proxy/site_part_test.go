package proxy_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/proxy"
)

// frame is one of HTTP/2 (RFC 9113 §4.1).
func frame(kind, flags byte, stream uint32, payload string) string {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(payload))<<8|uint32(kind))
	b = binary.BigEndian.AppendUint32(append(b, flags), stream)
	return string(b) + payload
}

// field is one of a header that is not indexed (RFC 7541 §6.2.2).
func field(name, value string) string {
	return "\x00" + string([]byte{byte(len(name))}) + name + string([]byte{byte(len(value))}) + value
}

// TestSiteDrainParts: streams that outlive the drain end in order where that cannot be
// taken for the end of an answer: by close_notify, and without a word of a failed request
// before it. To their backends they are reset.
func TestSiteDrainParts(t *testing.T) {
	t.Run("HTTP/2", func(t *testing.T) {
		h := newSite(t)
		c := h.tls(h.ca.client("a.test", "h2"))
		h.send(c, []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"+frame(4, 0, 0, "")+frame(1, 5, 1,
			field(":method", "GET")+field(":scheme", "https")+field(":authority", "a.test")+field(":path", "/wait"))))
		<-h.backend.waiting
		expire(t, h)
		all := readAll(t, c) // fails unless it ends by close_notify
		for len(all) >= 9 {
			if kind := all[3]; kind == 3 {
				t.Error("a stream was reset")
			}
			all = all[min(len(all), 9+int(all[0])<<16|int(all[1])<<8|int(all[2])):]
		}
		c.Close()
		h.want(proxy.Drained)
		eventually(t, "the backend's count is given back", func() bool { return h.route.Pool.Balancer.Backends()[0].Active() == 0 })
	})
	t.Run("WebSocket", func(t *testing.T) {
		ended := make(chan error, 1)
		backend := lab.Serve(t, func(c *lab.Conn) {
			r := bufio.NewReader(c)
			if _, err := http.ReadRequest(r); err != nil {
				ended <- err
				return
			}
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
			_, err := io.Copy(io.Discard, r)
			ended <- err
		}, lab.Options{})
		h := newSite(t, func(r *proxy.Route, _ *proxy.State) {
			update(r.Pool.Balancer, []any{target(backend.Addr())}, "ws")
		})
		c, from := h.client()
		h.send(c, []byte("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"))
		if res, err := http.ReadResponse(from, nil); err != nil || res.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("got %v, %v, want 101", res, err)
		}
		expire(t, h)
		closed(t, from)
		c.Close()
		h.want(proxy.Drained)
		select {
		case <-ended:
		case <-time.After(lab.Patience):
			t.Error("the backend's connection stays")
		}
	})
	t.Run("a client that takes nothing", func(t *testing.T) {
		h := newSite(t)
		c := h.tls(h.ca.client("a.test", "h2"))
		h.send(c, []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"+frame(4, 0, 0, "")+frame(1, 5, 1,
			field(":method", "GET")+field(":scheme", "https")+field(":authority", "a.test")+field(":path", "/wait"))))
		<-h.backend.waiting
		expire(t, h)
		h.want(proxy.Drained) // though the client neither reads nor ends
		_ = c.NetConn().Close()
	})
}

// expire has the time of a drain be over as it begins.
func expire(t *testing.T, h *siteHarness) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	h.p.Drain(ctx)
}
