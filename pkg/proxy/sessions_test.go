package proxy_test

import (
	"bufio"
	"context"
	"io"
	"net/netip"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/proxy"
)

// seen returns the sessions of now, by client.
func (h *harness) seen(f proxy.SessionFilter) map[string]proxy.SessionView {
	h.t.Helper()
	all, err := h.p.Sessions(h.t.Context(), f)
	if err != nil {
		h.t.Fatal(err)
	}
	byClient := map[string]proxy.SessionView{}
	for _, v := range all {
		byClient[v.Client.String()] = v
	}
	if len(byClient) != len(all) {
		h.t.Errorf("%d sessions of %d clients", len(all), len(byClient))
	}
	return byClient
}

// exchange sends a word, and reads it back from an echo.
func exchange(t testing.TB, c io.ReadWriter, word string) {
	t.Helper()
	if _, err := io.WriteString(c, word); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(word))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != word {
		t.Fatalf("read %q, %v; want %q", got, err, word)
	}
}

// Sessions are seen as they stand, in whatever phase, and can be ended.
func TestSessionViews(t *testing.T) {
	ca := authority(t)
	echo := lab.Serve(t, lab.Echo(), lab.Options{})
	mute := lab.Serve(t, lab.Mute(), lab.Options{})
	r, passed := route("a.test", echo.Addr()), route("b.test", mute.Addr())
	ca.terminate(t, r)
	r.Counts, passed.Counts = proxy.NewRouteCounts(2), proxy.NewRouteCounts(2)
	h := start(t, state(t, r, passed))

	silent := h.dial()
	term := h.tls(ca.client("a.test"))
	exchange(t, term, "ping")
	pass := h.hello("b.test", "h2", "x")
	mute.WaitAccepted(t, 1)
	eventually(t, "three sessions", func() bool { return len(h.seen(proxy.SessionFilter{})) == 3 })
	all := h.seen(proxy.SessionFilter{})
	v := all[silent.LocalAddr().String()]
	if v.Phase != proxy.PhaseHello || v.Routed || v.SNI != "" || v.Backend != "" || v.Listener != "https" {
		t.Errorf("silent: %+v", v)
	}
	v = all[term.LocalAddr().String()]
	if v.Phase != proxy.PhaseRelay || v.Mode != proxy.Terminate || v.Route != "a.test" || v.Backend != echo.Addr() || v.BytesIn != 4 || v.BytesOut != 4 ||
		v.TLSVersion != term.ConnectionState().Version || v.Idle > v.Age {
		t.Errorf("terminated: %+v", v)
	}
	v = all[pass.LocalAddr().String()]
	if v.Phase != proxy.PhaseRelay || v.Mode != proxy.Passthrough || v.SNI != "b.test" || v.ALPN != "h2,x" || v.BytesIn != int64(len(lab.Hello("b.test", "h2", "x"))) {
		t.Errorf("passed through: %+v", v)
	}
	if got := passed.Counts.Totals(); got.In != uint64(v.BytesIn) || got.Out != 0 {
		t.Errorf("%d bytes in and %d out counted while it lasts, want %d and 0", got.In, got.Out, v.BytesIn)
	}
	for name, tc := range map[string]struct {
		f    proxy.SessionFilter
		want int
	}{
		"route":   {proxy.SessionFilter{Route: "a.test"}, 1},
		"pool":    {proxy.SessionFilter{Pool: "b.test"}, 1},
		"backend": {proxy.SessionFilter{Pool: "b.test", Backend: echo.Addr()}, 0},
		"client":  {proxy.SessionFilter{Client: netip.MustParsePrefix("127.0.0.0/8")}, 3},
		"others":  {proxy.SessionFilter{Client: netip.MustParsePrefix("::/0")}, 0},
	} {
		if got := len(h.seen(tc.f)); got != tc.want {
			t.Errorf("%s: %d sessions, want %d", name, got, tc.want)
		}
	}
	if c := h.p.Counters(); c.Active["https"] != 3 || c.Hello.Count != 2 || c.Dial.Count != 2 || c.Handshake.Count != 1 {
		t.Errorf("counted %+v", c)
	}

	for client := range all {
		if killed, err := h.p.Kill(t.Context(), all[client].ID); !killed || err != nil {
			t.Errorf("%s: killed %t, %v", client, killed, err)
		}
		if rec := h.want(proxy.Killed); rec.ID != all[client].ID || rec.EndedBy != proxy.BySnicket {
			t.Errorf("ended %v by %v, want the session killed", rec.ID, rec.EndedBy)
		}
		if killed, err := h.p.Kill(t.Context(), all[client].ID); killed || err != nil {
			t.Errorf("%s: killed twice: %t, %v", client, killed, err)
		}
	}
	if c := h.p.Counters(); c.Active["https"] != 0 {
		t.Errorf("%d sessions counted, want none", c.Active["https"])
	}
	if got := r.Counts.Totals(); got.In != 4 || got.Out != 4 || got.Ended[proxy.Killed] != 1 {
		t.Errorf("counted %+v of the terminated route", got)
	}
	// Nobody waits for loops that a caller has no time for.
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.p.Sessions(gone, proxy.SessionFilter{}); err == nil {
		t.Error("no error of a context that is done")
	}
}

// A session that goroutines serve is seen and ended as every other.
func TestSessionViewOfHTTP(t *testing.T) {
	h := start(t, plainState(t))
	c := h.dial()
	from := bufio.NewReader(c)
	get(t, c, from, "GET / HTTP/1.1\r\nHost: nobody.test\r\n\r\n")
	var v proxy.SessionView
	eventually(t, "the answer is counted", func() bool { // by a goroutine, once the client has it
		v = h.seen(proxy.SessionFilter{})[c.LocalAddr().String()]
		return v.BytesOut > 0
	})
	if v.Phase != proxy.PhaseRelay || v.Listener != "http" || v.BytesIn == 0 || v.Idle > v.Age {
		t.Errorf("%+v", v)
	}
	if killed, err := h.p.Kill(t.Context(), v.ID); !killed || err != nil {
		t.Errorf("killed %t, %v", killed, err)
	}
	reset(t, from)
	h.want(proxy.Killed)
}

// BenchmarkSessions lists 1,024 idle sessions of one loop, which serves others between
// the four slices that they are taken in.
func BenchmarkSessions(b *testing.B) {
	const sessions = 1024
	mute := lab.Serve(b, lab.Mute(), lab.Options{})
	h := startLoops(b, 1, state(b, route("a.test", mute.Addr())))
	for range sessions {
		h.hello("a.test")
	}
	mute.WaitAccepted(b, sessions)
	b.ReportAllocs()
	for b.Loop() {
		if all, err := h.p.Sessions(b.Context(), proxy.SessionFilter{}); err != nil || len(all) != sessions {
			b.Fatalf("%d sessions, %v", len(all), err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/4, "µs/slice")
}
