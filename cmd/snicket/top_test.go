package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/snicketlb/snicket/pkg/admin"
)

// topScreen is a top that is shown looks by hand.
type topScreen struct {
	t *testing.T
	*top
	at     time.Time
	wishes []string
}

func newTopScreen(t *testing.T) *topScreen {
	s := &topScreen{t: t, at: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	s.top = newTop(func(string) tea.Cmd { return nil }, func(pool, backend, state string) tea.Cmd {
		s.wishes = append(s.wishes, state+" "+pool+"/"+backend)
		return nil
	})
	return s
}

// see shows it a look, a second after the one before.
func (s *topScreen) see(v looked) {
	s.at = s.at.Add(time.Second)
	v.at = s.at
	s.Update(seen{s.round, v})
}

// keys presses keys: words of more than one letter are names of keys.
func (s *topScreen) keys(keys ...string) {
	named := map[string]rune{"down": tea.KeyDown, "up": tea.KeyUp, "end": tea.KeyEnd, "home": tea.KeyHome, "pgdown": tea.KeyPgDown, "enter": tea.KeyEnter, "esc": tea.KeyEscape, "tab": tea.KeyTab, "backspace": tea.KeyBackspace}
	for _, k := range keys {
		if code, ok := named[k]; ok {
			s.Update(tea.KeyPressMsg{Code: code})
			continue
		}
		for _, r := range k {
			s.Update(tea.KeyPressMsg{Code: r, Text: string(r)})
		}
	}
}

// screen is what is shown, without styles. It fits, whatever there is.
func (s *topScreen) screen() string {
	s.t.Helper()
	text := ansi.Strip(s.View().Content)
	lines := strings.Split(text, "\n")
	if len(lines) != s.height {
		s.t.Errorf("got %d lines, want %d\n%s", len(lines), s.height, text)
	}
	for _, l := range lines {
		if ansi.StringWidth(l) > s.width {
			s.t.Errorf("got %d columns, want %d at most: %q", ansi.StringWidth(l), s.width, l)
		}
	}
	return text
}

func (s *topScreen) want(parts ...string) {
	s.t.Helper()
	text := s.screen()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			s.t.Errorf("got no %q in\n%s", p, text)
		}
	}
}

func (s *topScreen) wantNot(parts ...string) {
	s.t.Helper()
	text := s.screen()
	for _, p := range parts {
		if strings.Contains(text, p) {
			s.t.Errorf("got %q in\n%s", p, text)
		}
	}
}

// aLook is a look at a balancer with three backends, n times after the first.
func aLook(n uint64) looked {
	return looked{
		status: admin.Status{Version: "v1.2.3", State: admin.Running, Ready: true, Started: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Generation: 7, Loaded: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Sessions: 42},
		routes: []admin.Route{
			{Name: "api", Mode: "terminate", Pool: "web", Hosts: []string{"api.test"}, Sessions: 2, Ended: map[string]uint64{"ok": 100 * n, "denied": 3 * n}, BytesIn: 1024 * n, BytesOut: 5 << 20 * n},
			{Name: "uncounted", Mode: "reject", Hosts: []string{"no.test"}},
			{Name: "www", Mode: "passthrough", Pool: "web", Hosts: []string{"www.test"}, Sessions: 40, Ended: map[string]uint64{"ok": n}},
		},
		backends: []admin.Backend{
			{Pool: "web", Name: "b1", State: "ready", Probe: "ready", Share: 100, Weight: 1, Total: 7 * n},
			{Pool: "web", Name: "b2", State: "down", Why: "connect: refused \x1b[2J", Probe: "down", Share: 100, Weight: 1},
			{Pool: "web", Name: "b3", State: "draining", Why: "operator root wishes it", Probe: "ready", Share: 100, Weight: 1, Sessions: 9},
		},
	}
}

// ordered wants parts to be shown one behind the other.
func (s *topScreen) ordered(parts ...string) {
	s.t.Helper()
	text, last := s.screen(), -1
	for _, p := range parts {
		i := strings.Index(text, p)
		if i <= last {
			s.t.Errorf("got %q not behind the others of %q in\n%s", p, parts, text)
		}
		last = i
	}
}

func TestTopShowsRates(t *testing.T) {
	s := newTopScreen(t)
	s.want("snicket")
	s.see(aLook(1))
	s.want("v1.2.3  ready", "generation 7", "sessions 42", "backends 1 of 3 ready, 1 down, 1 draining", "[1 Routes]")
	s.wantNot("103/s", "101/s")
	s.see(aLook(2))
	s.want("104/s", "3.0/s", "5.0 MiB/s", "api.test; so far 6 denied")
	s.ordered("api", "uncounted", "www")
	s.keys("s") // by sessions
	s.ordered("www", "api", "uncounted")
	// The counters of another process are no rate, nor less than none.
	other := aLook(0)
	other.status.Started = other.status.Started.Add(time.Hour)
	s.see(other)
	s.wantNot("/s")
}

func TestTopKeepsWhatItSaw(t *testing.T) {
	s := newTopScreen(t)
	s.see(aLook(1))
	s.see(looked{err: errors.New("gone")})
	s.want("no answer", "asking again", "api", "sessions 42")
	s.see(aLook(2))
	s.wantNot("no answer")
	s.want("ended 52.0/s") // over two seconds
}

func TestTopBackends(t *testing.T) {
	s := newTopScreen(t)
	s.see(aLook(1))
	s.see(aLook(2))
	s.keys("d")
	s.want("2 shows the backends")
	s.keys("2")
	s.want("[2 Backends]", "> web/b2", "connect: refused ?[2J", "7.0/s", "  d drains  r readies  ? help  q quits")
	s.ordered("web/b2", "web/b3", "web/b1")
	s.keys("down", "d")
	s.want("drain web/b3? y does it")
	s.keys("n")
	s.want("nothing done")
	s.keys("end", "dy")
	s.keys("home", "r", "y")
	if got := fmt.Sprint(s.wishes); got != "[drain web/b1 ready web/b2]" {
		t.Errorf("got wishes %s", got)
	}
	s.Update(wished{text: "web/b2 is ready, with 0 sessions"})
	s.want("web/b2 is ready, with 0 sessions")
	s.Update(wished{err: errors.New("no backend b2")})
	s.want("not done: no backend b2")
	// The mark stays with its backend, wherever that goes.
	s.keys("end", "s")
	s.want("> web/b1")
}

func TestTopFilter(t *testing.T) {
	s := newTopScreen(t)
	s.see(aLook(1))
	s.keys("/", "APIq")
	s.want("filter: APIq_", "none of that name")
	s.keys("backspace", "enter")
	s.want(`only "API"`, "> api")
	s.wantNot("www")
	s.keys("esc")
	s.want("www")
	s.keys("?")
	s.want("drain the backend", "any key goes back")
	s.keys("x")
	s.want("> api")
	if _, cmd := s.Update(tea.KeyPressMsg{Code: 'q', Text: "q"}); cmd == nil {
		t.Error("q does not quit")
	} else if _, ok := cmd().(tea.QuitMsg); !ok {
		t.Error("q does not quit")
	}
}

// Every size has its screen, and names of the network none of the terminal.
func TestTopFits(t *testing.T) {
	v := aLook(1)
	for i := range 3000 {
		v.routes = append(v.routes, admin.Route{Name: fmt.Sprintf("日本-%04d-%s", i, strings.Repeat("long", 20)), Hosts: []string{"x.test"}})
		v.sessions.Sessions = append(v.sessions.Sessions, admin.Session{ID: fmt.Sprintf("%016x", i), SNI: "a\x1b]0;b\a.test", Client: "[2001:db8::1]:65535", AgeMS: int64(i) * 3e6, Phase: "handshake", BytesIn: 1 << 62})
	}
	s := newTopScreen(t)
	s.see(v)
	for _, size := range [][2]int{{80, 24}, {200, 60}, {40, 10}, {20, 8}, {10, 6}} {
		s.Update(tea.WindowSizeMsg{Width: size[0], Height: size[1]})
		for p := range pages {
			s.keys(fmt.Sprint(int(p) + 1))
			s.screen()
			s.keys("end", "pgdown", "up", "up")
			if text := s.screen(); size[1] > 6 && !strings.Contains(text, ">") {
				t.Errorf("%v: got no mark in\n%s", size, text)
			}
			if strings.Contains(s.View().Content, "\x1b]0") {
				t.Errorf("%v: a name has said something to the terminal", size)
			}
			s.keys("home")
		}
	}
}
