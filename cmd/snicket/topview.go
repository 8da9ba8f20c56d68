package main

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/snicketlb/snicket/pkg/admin"
)

// Styles. Each line that has one says the same in words, for terminals without.
const (
	plain   = "\x1b[0m"
	bold    = "\x1b[1m"
	faint   = "\x1b[2m"
	reverse = "\x1b[7m"
	red     = "\x1b[31m"
	green   = "\x1b[32m"
	yellow  = "\x1b[33m"
	magenta = "\x1b[35m"
)

func styled(style, text string) string { return style + text + plain }

// topColumn is a column of a page.
type topColumn struct {
	title string
	width int // 0: what the others leave
	right bool
}

// topRow is a row of a page.
type topRow struct {
	key, style string
	cells      []string
	note       string // shown below where there is room, for the row that is marked
}

// Lines of the screen that are no rows: two heads, tabs, titles, and a line at the end.
const topChrome = 6

// room is how many rows there is room for.
func (t *top) room() int { return max(1, t.height-topChrome) }

// View implements tea.Model.
func (t *top) View() tea.View {
	lines := make([]string, 0, t.height)
	lines = append(lines, t.head()...)
	if t.helping {
		lines = append(lines, topHelp()...)
	} else {
		lines = append(lines, t.tabs())
		lines = append(lines, t.table()...)
	}
	for len(lines) < t.height-1 {
		lines = append(lines, "")
	}
	lines = append(lines[:max(0, min(len(lines), t.height-1))], t.foot())
	for i, line := range lines {
		lines[i] = ansi.Truncate(line, t.width, "…")
	}
	v := tea.NewView(strings.Join(lines, "\n"))
	v.AltScreen, v.WindowTitle = true, "snicket top"
	return v
}

// head are the lines about the balancer as a whole.
func (t *top) head() []string {
	s := &t.seen.status
	if t.seen.at.IsZero() {
		return []string{styled(bold, "snicket"), "", ""}
	}
	state := styled(green, "ready")
	switch {
	case t.err != nil:
		state = styled(red, "no answer")
	case s.State != admin.Running:
		state = styled(yellow, string(s.State))
	case !s.Ready:
		state = styled(red, "not ready")
	}
	now := t.seen.at
	first := fmt.Sprintf("%s %s  %s  for %s  generation %d for %s", styled(bold, "snicket"), sentence(s.Version), state,
		lasting(now.Sub(s.Started)), s.Generation, lasting(now.Sub(s.Loaded)))
	second := fmt.Sprintf("sessions %s  in %s  out %s  ended %s  failed %s", styled(bold, strconv.Itoa(s.Sessions)),
		rateBytes(t.total, t.total.in), rateBytes(t.total, t.total.out), rateText(t.total, t.total.ended), rateText(t.total, t.total.failed))
	return []string{first, second, t.trouble()}
}

// trouble is the one line about what is wrong, the worst first.
func (t *top) trouble() string {
	s := &t.seen.status
	var parts []string
	if t.err != nil {
		parts = append(parts, styled(red, "no answer for "+lasting(time.Since(t.since))+", asking again; this is how it stood"))
	}
	if len(s.NotReady) > 0 {
		parts = append(parts, styled(red, sentence(s.NotReady[0])))
	}
	if s.ReloadFailed != "" {
		parts = append(parts, styled(red, "the latest reload failed: "+sentence(s.ReloadFailed)))
	}
	if n := len(s.Faults); n > 0 {
		text := faultText(&s.Faults[0])
		if n > 1 {
			text = fmt.Sprintf("%d files are not taken, see snicket status", n)
		}
		parts = append(parts, styled(yellow, text))
	}
	if s.Paused {
		parts = append(parts, styled(yellow, "accepting pauses: max_connections is reached"))
	}
	counts := map[string]int{}
	for i := range t.seen.backends {
		counts[t.seen.backends[i].State]++
	}
	var words strings.Builder
	fmt.Fprintf(&words, "backends %d of %d ready", counts["ready"], len(t.seen.backends))
	for _, state := range []string{"down", "ejected", "draining"} {
		if n := counts[state]; n > 0 {
			words.WriteString(styled(stateStyle(state), fmt.Sprintf(", %d %s", n, state)))
		}
	}
	return strings.Join(append(parts, words.String()), "; ")
}

func stateStyle(state string) string {
	return map[string]string{"down": red, "ejected": magenta, "draining": yellow}[state]
}

func (t *top) tabs() string {
	var b strings.Builder
	for p := range pages {
		text := fmt.Sprintf(" %d %s ", p+1, p)
		if p == t.page {
			text = styled(reverse, fmt.Sprintf("[%d %s]", p+1, p))
		}
		b.WriteString(text)
	}
	fmt.Fprintf(&b, "  by %s", t.page.orders()[t.order[t.page]])
	switch {
	case t.typing:
		fmt.Fprintf(&b, "  filter: %s_", sentence(t.filter))
	case t.filter != "":
		fmt.Fprintf(&b, "  only %q", t.filter)
	}
	return b.String()
}

// table is the page: titles, and as many rows around the mark as there is room for.
func (t *top) table() []string {
	columns, rows := t.columns(), t.rows()
	widths := t.widths(columns)
	titles := make([]string, len(columns))
	for i, c := range columns {
		titles[i] = c.title
	}
	lines := []string{styled(faint, "  "+line(columns, widths, titles))}
	if len(rows) == 0 {
		none := "none"
		if t.filter != "" {
			none = "none of that name"
		}
		return append(lines, "  "+none)
	}
	mark, room := t.marked(rows), t.room()
	note := rows[mark].note
	if note != "" {
		room--
	}
	first := min(max(0, mark-room/2), max(0, len(rows)-room))
	for i := first; i < min(first+room, len(rows)); i++ {
		text := line(columns, widths, rows[i].cells)
		switch {
		case i == mark:
			lines = append(lines, styled(reverse, "> "+text))
			if note != "" {
				lines = append(lines, styled(faint, "  "+note))
			}
		case rows[i].style != "":
			lines = append(lines, "  "+styled(rows[i].style, text))
		default:
			lines = append(lines, "  "+text)
		}
	}
	return lines
}

// widths gives what the fixed columns leave to the others, and drops from the right
// what there is no room for, as 0.
func (t *top) widths(columns []topColumn) []int {
	const least = 14
	left, open := t.width-2, 0
	widths := make([]int, len(columns))
	for _, c := range columns {
		if c.width == 0 {
			left, open = left-least-1, open+1
		}
	}
	for i, c := range columns {
		if c.width > 0 && left >= c.width+1 {
			widths[i] = c.width
			left -= c.width + 1
		}
	}
	for i, c := range columns {
		if c.width == 0 {
			widths[i] = least + left/open
		}
	}
	return widths
}

// line sets cells in columns.
func line(columns []topColumn, widths []int, cells []string) string {
	var b strings.Builder
	for i, c := range columns {
		w := widths[i]
		if w == 0 {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		text := ansi.Truncate(cmp.Or(cells[i], "-"), w, "…")
		pad := strings.Repeat(" ", w-ansi.StringWidth(text))
		if c.right {
			b.WriteString(pad + text)
		} else {
			b.WriteString(text + pad)
		}
	}
	return b.String()
}

// foot is the last line: what is asked, what was said, or the keys.
func (t *top) foot() string {
	switch {
	case t.asking != nil:
		return styled(bold, fmt.Sprintf("%s %s/%s? y does it, any other key does not", t.asking.state, sentence(t.asking.pool), sentence(t.asking.backend)))
	case t.said != "":
		return styled(bold, sentence(t.said))
	case t.typing:
		return styled(faint, "Enter keeps the filter, Esc drops it")
	case t.helping:
		return styled(faint, "any key goes back")
	}
	keys := "1-3 lists  arrows move  s sorts  / filters " // fits 80 columns with all below
	if t.page == pageBackends {
		keys += " d drains  r readies "
	}
	return styled(faint, keys+" ? help  q quits")
}

func topHelp() []string {
	return []string{
		"",
		"  1 2 3, Tab       routes, backends, sessions",
		"  arrows, j k      choose a row; PgUp, PgDn, Home, End go further",
		"  s                sort by the next word",
		"  /                show only what has a text in it; Esc ends that",
		"  d                drain the backend that is chosen, once you have said y",
		"  r                take back what keeps sessions from it, likewise",
		"  q, Ctrl-C        quit",
		"",
		"  ENDED, FAILED, NEW, IN and OUT are of the latest second; failed are sessions",
		"  with another outcome than ok. Of sessions there are at most " + strconv.Itoa(topSessions) + ".",
	}
}
