package proxy_test

import (
	"bytes"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/sni/hellotest"
)

// TestHelloTable holds the data plane against the hello table: each stream, in
// its segments, byte-exact at the right backend or at none.
func TestHelloTable(t *testing.T) {
	cases, err := hellotest.Load("../../sni/testdata/hellos")
	if err != nil {
		t.Fatal(err)
	}
	heard := map[string]*lab.Recorder{"a": lab.NewRecorder(), "default": lab.NewRecorder()}
	a := lab.Serve(t, lab.Announce("a", heard["a"]), lab.Options{})
	other := lab.Serve(t, lab.Announce("default", heard["default"]), lab.Options{})
	rest := route("*", other.Addr())
	rest.Hosts = []string{"*", "-"}
	h := start(t, state(t, route("a.test", a.Addr()), rest))
	for _, tc := range cases {
		t.Run(tc.Name, func(t *testing.T) {
			counts := map[string]int{"a": heard["a"].Count(), "default": heard["default"].Count()}
			c := h.dial()
			for _, segment := range tc.Segments() {
				if _, err := c.Write(segment); err != nil && tc.Backend != "none" {
					t.Fatal(err)
				}
			}
			switch {
			case tc.Backend != "none":
				if got := line(t, c); got != tc.Backend {
					t.Errorf("backend %s, want %s", got, tc.Backend)
				}
				if got := heard[tc.Backend].Wait(t, counts[tc.Backend], len(tc.Stream)); !bytes.Equal(got, tc.Stream) {
					t.Errorf("the backend got other bytes than the %d sent", len(tc.Stream))
				}
				_ = c.CloseWrite()
				closed(t, c)
				counts[tc.Backend]++
			case tc.Alert != hellotest.NoAlert:
				alerted(t, c, byte(tc.Alert))
			default:
				closed(t, c)
			}
			_ = c.Close()
			r := h.record()
			if r.Outcome.String() != tc.Outcome {
				t.Errorf("outcome %v (%s), want %s", r.Outcome, r.Error, tc.Outcome)
			}
			if tc.Outcome == "ok" && r.SNI != tc.ServerName {
				t.Errorf("name %q, want %q", r.SNI, tc.ServerName)
			}
			for name, want := range counts {
				if got := heard[name].Count(); got != want {
					t.Errorf("backend %s heard of %d connections, want %d", name, got, want)
				}
			}
		})
	}
}
