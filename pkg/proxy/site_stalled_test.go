package proxy_test

import (
	"io"
	"sync"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/proxy"
)

// TestSiteStalledUpload: an upload of which the backend takes no more, so that nobody
// reads from the client, ends when it is killed and at the end of the data plane.
func TestSiteStalledUpload(t *testing.T) {
	for outcome, end := range map[proxy.Outcome]func(h *siteHarness, id proxy.SessionID){
		proxy.Killed: func(h *siteHarness, id proxy.SessionID) {
			if ok, err := h.p.Kill(h.t.Context(), id); !ok || err != nil {
				h.t.Error(ok, err)
			}
		},
		proxy.Drained: func(h *siteHarness, _ proxy.SessionID) { h.stop() },
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
			end(h, last.ID)
			h.want(outcome)
			upload.Wait()
			deaf.Close() // which takes nothing, not even the end
		})
	}
}
