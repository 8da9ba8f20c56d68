package proxy_test

import (
	"io"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/proxy"
)

// TestLargeFlowLeavesNoTail sends so much each way that events of its sender are held
// back, and then as much as tells of nothing: all of it arrives, no end pushes it.
func TestLargeFlowLeavesNoTail(t *testing.T) {
	const large = 80 << 20
	hello := lab.Hello("a.test")
	sizes := []int64{int64(len(hello)) + large, 1, 70_000, 300_000, 17, large, 1000}
	srv := lab.Serve(t, func(c *lab.Conn) {
		for _, size := range sizes {
			if _, err := io.CopyN(io.Discard, struct{ io.Reader }{c}, size); err != nil {
				t.Errorf("the backend: %v", err)
				return
			}
			if _, err := io.CopyN(c, lab.Pattern(1), size); err != nil {
				t.Errorf("the backend: %v", err)
				return
			}
		}
	}, lab.Options{})
	h := start(t, state(t, route("a.test", srv.Addr())))
	c := h.hello("a.test")
	for i, size := range sizes {
		if i == 0 {
			size -= int64(len(hello))
		}
		if _, err := io.CopyN(struct{ io.Writer }{c}, lab.Pattern(2), size); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		if _, err := io.CopyN(io.Discard, struct{ io.Reader }{c}, sizes[i]); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
	}
	_ = c.Close()
	h.want(proxy.OK)
}
