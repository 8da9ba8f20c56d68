package proxy_test

import (
	"crypto/tls"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/snicketlb/snicket/balancer"
	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/proxy"
)

// TestSiteStalledUpload: an upload of which the backend takes no more, so that nobody
// reads from the client, ends when the client breaks off, when it is killed and at the end
// of the data plane.
func TestSiteStalledUpload(t *testing.T) {
	for outcome, end := range map[proxy.Outcome]func(h *siteHarness, c *tls.Conn, id proxy.SessionID){
		proxy.ClientReset: func(_ *siteHarness, c *tls.Conn, _ proxy.SessionID) { resetTCP(c) },
		proxy.Killed: func(h *siteHarness, _ *tls.Conn, id proxy.SessionID) {
			if ok, err := h.p.Kill(h.t.Context(), id); !ok || err != nil {
				h.t.Error(ok, err)
			}
		},
		proxy.Drained: func(h *siteHarness, _ *tls.Conn, _ proxy.SessionID) { h.stop() },
	} {
		t.Run(outcome.String(), func(t *testing.T) {
			deaf := lab.Serve(t, lab.Deaf(), lab.Options{})
			h := newSite(t, func(r *proxy.Route, _ *proxy.State) {
				update(r.Pool.Balancer, []any{target(deaf.Addr())}, "deaf")
			})
			c, _ := h.client()
			io.WriteString(c, "POST /x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n")
			var upload sync.WaitGroup
			upload.Go(func() { _, _ = io.Copy(c, io.LimitReader(lab.Pattern(1), 0xfffffff)) }) // until it is cut
			var last proxy.SessionView
			eventually(t, "the upload stands", func() bool {
				views, err := h.p.Sessions(t.Context(), proxy.SessionFilter{})
				if err != nil || len(views) != 1 {
					return false
				}
				stands := views[0].BytesIn > 1<<16 && views[0].BytesIn == last.BytesIn
				last = views[0]
				return stands
			})
			end(h, c, last.ID)
			if rec := h.want(outcome); (rec.EndedBy == proxy.ByClient) != (outcome == proxy.ClientReset) {
				t.Errorf("ended by %v", rec.EndedBy)
			}
			upload.Wait()
			deaf.Close() // which takes nothing, not even the end
		})
	}
}

// resetTCP breaks a connection off.
func resetTCP(c *tls.Conn) {
	_ = c.NetConn().(*net.TCPConn).SetLinger(0)
	c.NetConn().Close()
}

// TestSiteClientLeavesQueue: a client whose request waits in the queue with its body,
// which nobody reads before there is a backend for it, is given up when it leaves.
func TestSiteClientLeavesQueue(t *testing.T) {
	for name, tt := range map[string]struct {
		leave func(c *tls.Conn)
		want  proxy.Outcome
	}{
		"reset":        {resetTCP, proxy.ClientReset},
		"FIN":          {func(c *tls.Conn) { c.NetConn().Close() }, proxy.OK},
		"close_notify": {func(c *tls.Conn) { c.Close() }, proxy.OK},
	} {
		t.Run(name, func(t *testing.T) {
			h := newSite(t, func(r *proxy.Route, _ *proxy.State) {
				b := r.Pool.Balancer
				b.Configure(balancer.Options{QueueSize: 1})
				b.Update([]balancer.Spec{{ID: "full", Weight: 1, MaxConnections: 1, Value: b.Backends()[0].Value()}})
				r.Pool.QueueTimeout = time.Hour
			})
			pool := h.route.Pool.Balancer
			taken, err := pool.Acquire(balancer.Pick{})
			if err != nil {
				t.Fatal(err)
			}
			c, _ := h.client()
			h.send(c, []byte("POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhel"))
			eventually(t, "it waits", func() bool { return pool.QueueLength() == 1 })
			tt.leave(c)
			if rec := h.want(tt.want); rec.EndedBy != proxy.ByClient {
				t.Errorf("ended by %v, want the client", rec.EndedBy)
			}
			if n := pool.QueueLength(); n != 0 {
				t.Errorf("%d wait in the queue, want none", n)
			}
			pool.Release(taken, balancer.Result{})
		})
	}
}
