package main

import (
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/snicketlb/snicket/pkg/admin"
)

// A page is one of the lists of top.
type page int

const (
	pageRoutes page = iota
	pageBackends
	pageSessions
	pages
)

func (p page) String() string { return [...]string{"Routes", "Backends", "Sessions"}[p] }

// orders are the words by which a page can be sorted, the first by default.
func (p page) orders() []string {
	return [...][]string{{"name", "sessions", "bytes", "failed"}, {"state", "name", "sessions", "rate"}, admin.SessionOrders()}[p]
}

// rates are what went through a second, between two looks.
type rates struct {
	known                  bool
	ended, failed, in, out float64
}

func (r *rates) add(o rates) {
	r.known = r.known || o.known
	r.ended, r.failed, r.in, r.out = r.ended+o.ended, r.failed+o.failed, r.in+o.in, r.out+o.out
}

// top is the program that shows a balancer: what it saw last, and what the user has
// chosen to see of it.
type top struct {
	look func(sessions string) tea.Cmd
	wish func(pool, backend, state string) tea.Cmd

	width, height int
	page          page
	order         [pages]int
	chosen        [pages]string // key of the row that is marked
	filter        string
	typing        bool // the filter
	helping       bool
	asking        *request // that waits for a yes
	said          string   // the answer to the last one

	round  int // of looks; what an earlier one began goes no further
	seen   looked
	rated  looked    // what rates are counted from
	err    error     // of the latest look
	since  time.Time // of err
	rate   map[string]rates
	picked map[string]float64 // by backend: sessions a second
	total  rates
}

// request is what the user wants done to a backend.
type request struct{ pool, backend, state string }

func newTop(look func(sessions string) tea.Cmd, wish func(pool, backend, state string) tea.Cmd) *top {
	return &top{look: look, wish: wish, width: 80, height: 24}
}

// again is time for another look.
type again struct{ round int }

// rateOver is the least time that a rate is counted over.
const rateOver = topEvery / 2

// Init implements tea.Model.
func (t *top) Init() tea.Cmd { return t.lookNow() }

// lookNow looks, and again and again behind it.
func (t *top) lookNow() tea.Cmd {
	t.round++
	round, look := t.round, t.look(t.sessionOrder())
	return func() tea.Msg { return seen{round, look()} }
}

// seen is what came of a look.
type seen struct {
	round int
	msg   tea.Msg
}

// sessionOrder is the order in which sessions are wanted; empty: they are not.
func (t *top) sessionOrder() string {
	if t.page != pageSessions {
		return ""
	}
	return pageSessions.orders()[t.order[pageSessions]]
}

// Update implements tea.Model.
func (t *top) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		t.width, t.height = msg.Width, msg.Height
	case again:
		if msg.round == t.round {
			return t, t.lookNow()
		}
	case seen:
		if v, ok := msg.msg.(looked); ok && msg.round == t.round {
			t.take(&v)
			return t, tea.Tick(topEvery, func(time.Time) tea.Msg { return again{msg.round} })
		}
	case wished:
		if t.said = msg.text; msg.err != nil {
			t.said = "not done: " + msg.err.Error()
		}
		return t, t.lookNow()
	case tea.KeyPressMsg:
		return t, t.press(msg)
	}
	return t, nil
}

// take puts a look in place of the one before. What fails leaves that.
func (t *top) take(v *looked) {
	if v.err != nil {
		if t.err == nil {
			t.since = v.at
		}
		t.err = v.err
		return
	}
	t.seen, t.err = *v, nil
	was := t.rated
	if v.at.Sub(was.at) < rateOver {
		return
	}
	t.rated = *v
	t.rate, t.picked, t.total = map[string]rates{}, map[string]float64{}, rates{}
	if was.at.IsZero() || !was.status.Started.Equal(v.status.Started) {
		return // counters of another process are nothing to compare with
	}
	span := v.at.Sub(was.at).Seconds()
	before := map[string]*admin.Route{}
	for i := range was.routes {
		before[was.routes[i].Name] = &was.routes[i]
	}
	for i := range v.routes {
		r := &v.routes[i]
		if b := before[r.Name]; b != nil && b.Ended != nil && r.Ended != nil {
			x := rates{true, grown(endedOf(b), endedOf(r), span), grown(failedOf(b), failedOf(r), span), grown(b.BytesIn, r.BytesIn, span), grown(b.BytesOut, r.BytesOut, span)}
			t.rate[r.Name] = x
			t.total.add(x)
		}
	}
	totals := map[string]uint64{}
	for i := range was.backends {
		totals[backendKey(&was.backends[i])] = was.backends[i].Total
	}
	for i := range v.backends {
		b := &v.backends[i]
		if n, ok := totals[backendKey(b)]; ok {
			t.picked[backendKey(b)] = grown(n, b.Total, span)
		}
	}
}

// grown is how much a counter grew a second; one that began anew has not.
func grown(was, is uint64, seconds float64) float64 {
	if is < was {
		return 0
	}
	return float64(is-was) / seconds
}

func endedOf(r *admin.Route) (n uint64) {
	for _, x := range r.Ended {
		n += x
	}
	return n
}

func failedOf(r *admin.Route) uint64 { return endedOf(r) - r.Ended["ok"] }

func backendKey(b *admin.Backend) string { return b.Pool + "/" + b.Name }

// press is a key.
func (t *top) press(msg tea.KeyPressMsg) tea.Cmd {
	key := msg.String()
	switch {
	case key == "ctrl+c":
		return tea.Quit
	case t.typing:
		t.typeFilter(msg)
		return nil
	case t.asking != nil:
		asked := t.asking
		if t.asking, t.said = nil, "nothing done"; key == "y" || key == "Y" {
			t.said = ""
			return t.wish(asked.pool, asked.backend, asked.state)
		}
		return nil
	case t.helping:
		t.helping = false
		return nil
	}
	t.said = ""
	switch key {
	case "q":
		return tea.Quit
	case "?", "h":
		t.helping = true
	case "/":
		t.typing = true
	case "esc":
		t.filter = ""
	case "tab", "right", "l":
		return t.turn((t.page + 1) % pages)
	case "shift+tab", "left":
		return t.turn((t.page + pages - 1) % pages)
	case "1", "2", "3":
		return t.turn(page(key[0] - '1'))
	case "s":
		t.order[t.page] = (t.order[t.page] + 1) % len(t.page.orders())
		return t.turn(t.page)
	case "d":
		t.ask("drain")
	case "r":
		t.ask("ready")
	default:
		t.move(key)
	}
	return nil
}

func (t *top) typeFilter(msg tea.KeyPressMsg) {
	switch msg.String() {
	case "enter":
		t.typing = false
	case "esc":
		t.typing, t.filter = false, ""
	case "backspace":
		if r := []rune(t.filter); len(r) > 0 {
			t.filter = string(r[:len(r)-1])
		}
	case "ctrl+u":
		t.filter = ""
	default:
		t.filter += msg.Text
	}
}

// turn shows a page.
func (t *top) turn(p page) tea.Cmd {
	t.page = p
	if p == pageSessions {
		return t.lookNow() // they are asked for only where they are shown
	}
	return nil
}

// ask wants a state of the backend that is marked, once the user has said yes.
func (t *top) ask(state string) {
	if t.page != pageBackends {
		t.said = "2 shows the backends, of which one can be chosen"
		return
	}
	rows := t.rows()
	if len(rows) == 0 {
		return
	}
	pool, name, _ := strings.Cut(rows[t.marked(rows)].key, "/")
	t.asking = &request{pool, name, state}
}

// move moves the mark.
func (t *top) move(key string) {
	rows := t.rows()
	if len(rows) == 0 {
		return
	}
	i, screen := t.marked(rows), max(1, t.room()-1)
	switch key {
	case "up", "k":
		i--
	case "down", "j":
		i++
	case "pgup", "ctrl+b":
		i -= screen
	case "pgdown", "ctrl+f", "space":
		i += screen
	case "home", "g":
		i = 0
	case "end", "G":
		i = len(rows) - 1
	default:
		return
	}
	t.chosen[t.page] = rows[min(max(i, 0), len(rows)-1)].key
}

// marked is the row that is marked. One that is no more leaves the mark to the first.
func (t *top) marked(rows []topRow) int {
	return max(0, slices.IndexFunc(rows, func(r topRow) bool { return r.key == t.chosen[t.page] }))
}
