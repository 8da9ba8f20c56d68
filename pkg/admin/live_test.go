package admin_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/admin"
)

// shown is what a test's balancer shows, for it to change.
type shown struct {
	mu       sync.Mutex // guards the fields below
	backends []admin.Backend
	routes   []admin.Route
	refused  []admin.Refusal
	looks    int // how often it was asked for routes
}

func (s *shown) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// serveShown answers what s shows over TCP, and returns where.
func serveShown(t *testing.T, s *shown) (address string, events *admin.Events) {
	t.Helper()
	events = admin.NewEvents()
	address = lab.FreeAddr(t)
	server := admin.New(admin.Options{
		Log: slog.New(slog.DiscardHandler), Metrics: http.NotFoundHandler(), Events: events,
		NotReady: func() []string { return nil },
		Status: func() admin.Status {
			return admin.Status{State: admin.Running, NotReady: []string{}, Listeners: []admin.Listener{}, Pools: []admin.Pool{{Name: "web"}}}
		},
		Routes: func() []admin.Route {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.looks++
			return append([]admin.Route{}, s.routes...)
		},
		Backends: func() []admin.Backend {
			s.mu.Lock()
			defer s.mu.Unlock()
			return append([]admin.Backend{}, s.backends...)
		},
		Refused: func() []admin.Refusal {
			s.mu.Lock()
			defer s.mu.Unlock()
			return append([]admin.Refusal{}, s.refused...)
		},
		Certificates: func() []admin.Certificate { return []admin.Certificate{{Key: "ECDSA P-256"}} },
	})
	change, err := server.Prepare(admin.Settings{Address: address})
	if err != nil {
		t.Fatal(err)
	}
	change.Commit()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return address, events
}

// watched is a stream of frames.
type watched struct {
	t     *testing.T
	res   *http.Response
	lines *bufio.Scanner
}

func watch(t *testing.T, address, query string) *watched {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/v1/live"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	if got := res.Header.Get("Content-Type"); res.StatusCode == http.StatusOK && got != "text/event-stream" {
		t.Errorf("got content of type %q", got)
	}
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, 64<<20)
	return &watched{t, res, lines}
}

// next is the next frame.
func (w *watched) next() admin.Frame {
	w.t.Helper()
	var frame admin.Frame
	for w.lines.Scan() {
		if text, ok := strings.CutPrefix(w.lines.Text(), "data: "); ok {
			if err := json.Unmarshal([]byte(text), &frame); err != nil {
				w.t.Fatalf("%v in %q", err, text)
			}
			return frame
		}
	}
	w.t.Fatalf("the stream has ended: %v", w.lines.Err())
	return frame
}

// end waits for the end of the stream: whoever was watching has left.
func (w *watched) end() {
	w.t.Helper()
	for w.lines.Scan() {
		if text := w.lines.Text(); text != "" {
			w.t.Errorf("got %q, want the end of the stream", text)
		}
	}
}

// until returns the first frame for which is is true.
func (w *watched) until(is func(*admin.Frame) bool) admin.Frame {
	w.t.Helper()
	for {
		if f := w.next(); is(&f) {
			return f
		}
	}
}

func names(c admin.Changed) string {
	var names []string
	for _, text := range c.Set {
		var v struct{ Name string }
		_ = json.Unmarshal(text, &v)
		names = append(names, v.Name)
	}
	return strings.Join(names, " ")
}

// The first frame holds all, those behind it what is otherwise.
func TestLiveTellsWhatChanges(t *testing.T) {
	lab.Leaks(t)
	s := &shown{
		backends: []admin.Backend{{Pool: "web", Name: "b1", State: "ready"}, {Pool: "web", Name: "b2", State: "ready"}},
		routes:   []admin.Route{{Name: "r1"}, {Name: "r2"}},
		refused:  []admin.Refusal{{ID: "1", SNI: "a.test"}},
	}
	address, events := serveShown(t, s)
	events.Add(admin.Event{Message: "before"})
	w := watch(t, address, "")
	f := w.next()
	if !f.Whole || names(f.Pools) != "web" || names(f.Routes) != "r1 r2" || names(f.Backends) != "b1 b2" || len(f.Refused) != 1 ||
		len(f.Certificates) != 1 || len(f.Events) != 1 || f.Events[0].Message != "before" || len(f.Status.Pools) != 0 {
		t.Errorf("got %+v, want all there is", f)
	}
	f = w.next()
	if f.Whole || len(f.Pools.Set)+len(f.Routes.Set)+len(f.Backends.Set)+len(f.Events) != 0 || f.Refused != nil || f.Certificates != nil {
		t.Errorf("got %+v, want nothing that is as before", f)
	}
	s.change(func() {
		s.backends[1].State, s.backends[1].Why = "down", "<b>refused</b>"
		s.routes = s.routes[:1]
		s.refused = []admin.Refusal{{ID: "2", SNI: "b.test"}, s.refused[0]}
	})
	events.Add(admin.Event{Message: "backend down"})
	var all admin.Frame // the change may be in a frame before that of the event
	w.until(func(f *admin.Frame) bool {
		all.Whole = all.Whole || f.Whole
		all.Backends.Set, all.Routes.Set = append(all.Backends.Set, f.Backends.Set...), append(all.Routes.Set, f.Routes.Set...)
		all.Routes.Gone = append(all.Routes.Gone, f.Routes.Gone...)
		all.Refused, all.Events = append(all.Refused, f.Refused...), append(all.Events, f.Events...)
		return len(f.Events) > 0
	})
	if f := all; f.Whole || len(f.Events) != 1 || f.Events[0].Message != "backend down" || names(f.Backends) != "b2" || names(f.Routes) != "" ||
		fmt.Sprint(f.Routes.Gone) != "[r2]" || len(f.Refused) != 2 || f.Refused[0].SNI != "b.test" {
		t.Errorf("got %+v, want what has changed", f)
	}
	if other := watch(t, address, "?frames=1"); !other.next().Whole || other.lines.Scan() && other.lines.Text() != "" {
		t.Error("a newcomer got no whole frame, or more than one")
	}
}

// No more are let in than there is room for, and no more of one address than its share.
func TestLiveIsBounded(t *testing.T) {
	c := serveCrowd(t, 1, nil)
	watch := func(ip string) int { // their frames fit into the buffers of their sockets: none is cut off
		t.Helper()
		conn := c.from(ip)
		send(t, conn, "GET", "/v1/live", "")
		return hear(t, conn).StatusCode
	}
	for i, tc := range []struct {
		ip   string
		want int
	}{{"127.0.0.1", 200}, {"127.0.0.2", 200}, {"127.0.0.3", 503}, {"socket", 200}} {
		for range 8 {
			if got := watch(tc.ip); got != tc.want {
				t.Errorf("%d: got %d from %s, want %d", i, got, tc.ip, tc.want)
			}
		}
		if got := watch(tc.ip); got != 503 {
			t.Errorf("%d: got %d for one more from %s, want 503", i, got, tc.ip)
		}
	}
}

// Many who do not read cost nobody anything: those that read get their frames.
func TestLiveWaitsForNobody(t *testing.T) {
	lab.Leaks(t)
	s := &shown{routes: []admin.Route{{Name: "r1"}}}
	for i := range 2000 { // a frame that no socket buffer takes whole
		s.backends = append(s.backends, admin.Backend{Pool: "web", Name: fmt.Sprint("b", i), Why: strings.Repeat("x", 4000)})
	}
	address, events := serveShown(t, s)
	w := watch(t, address, "")
	var mute []net.Conn
	var coming sync.WaitGroup
	coming.Go(func() { // while w reads
		defer events.Add(admin.Event{Message: "still told"})
		for i := range 15 { // of addresses that each have their share
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i))}}
			c, err := d.DialContext(t.Context(), "tcp", address)
			if err != nil {
				t.Error(err)
				return
			}
			mute = append(mute, c)
			if _, err := io.WriteString(c, "GET /v1/live HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
				t.Error(err)
				return
			}
			if _, err := io.ReadFull(c, make([]byte, 15)); err != nil { // it is heard
				t.Error(err)
				return
			}
		}
	})
	w.until(func(f *admin.Frame) bool {
		return len(f.Events) > 0 && f.Events[len(f.Events)-1].Message == "still told"
	})
	coming.Wait()
	if res, err := http.Get("http://" + address + "/healthz"); err != nil || res.StatusCode != http.StatusOK {
		t.Errorf("got %v, %v of others", res, err)
	} else {
		res.Body.Close()
		http.DefaultClient.CloseIdleConnections()
	}
	for _, c := range mute {
		c.Close()
	}
}

// The page takes nothing from elsewhere and runs nothing that is not its own.
func TestDashboardFiles(t *testing.T) {
	lab.Leaks(t)
	address, _ := serveShown(t, &shown{})
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: lab.Patience}
	for path, want := range map[string]string{
		"/": "text/html; charset=utf-8", "/dashboard/dashboard.js": "text/javascript; charset=utf-8", "/dashboard/view.js": "text/javascript; charset=utf-8",
		"/dashboard/dashboard.css": "text/css; charset=utf-8", "/dashboard/icon.svg": "image/svg+xml",
		"/dashboard/none.js": "", "/dashboard/": "", "/dashboard/..%2fdashboard.go": "", "/index.html": "",
	} {
		res, err := c.Get("http://" + address + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		got := res.Header.Get("Content-Type")
		if want == "" {
			if res.StatusCode != http.StatusNotFound && res.StatusCode != http.StatusBadRequest {
				t.Errorf("%s: got %s, want none", path, res.Status)
			}
			continue
		}
		if res.StatusCode != http.StatusOK || got != want {
			t.Errorf("%s: got %s, %s, want %s", path, res.Status, got, want)
		}
		policy := res.Header.Get("Content-Security-Policy")
		for _, part := range []string{"default-src 'none'", "script-src 'self';", "frame-ancestors 'none'", "require-trusted-types-for 'script'"} {
			if !strings.Contains(policy, part) {
				t.Errorf("%s: got policy %q, want %s", path, policy, part)
			}
		}
		for _, bad := range []string{"https://", "innerHTML", "<style", " style=\"", "onclick"} {
			if strings.Contains(string(body), bad) {
				t.Errorf("%s holds %s", path, bad)
			}
		}
	}
}

// Nobody is asked anything while nobody watches.
func TestLiveIsIdle(t *testing.T) {
	lab.Leaks(t)
	s := &shown{routes: []admin.Route{{Name: "r1"}}}
	address, events := serveShown(t, s)
	first := watch(t, address, "?frames=1")
	first.next()
	first.end()
	s.change(func() { s.looks = 0 })
	for range 100 {
		events.Add(admin.Event{Time: time.Now(), Message: "something"})
	}
	w := watch(t, address, "?frames=1")
	if f := w.next(); len(f.Events) != 100 {
		t.Errorf("got %d events, want all", len(f.Events))
	}
	s.change(func() {
		if s.looks != 1 {
			t.Errorf("got asked %d times, want once, by who watches", s.looks)
		}
	})
}
