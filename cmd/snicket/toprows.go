package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/snicketlb/snicket/pkg/admin"
)

func (t *top) columns() []topColumn {
	switch t.page {
	case pageRoutes:
		return []topColumn{{"ROUTE", 0, false}, {"SESSIONS", 8, true}, {"ENDED", 8, true}, {"FAILED", 8, true}, {"IN", 12, true}, {"OUT", 12, true}, {"MODE", 11, false}, {"POOL", 16, false}}
	case pageBackends:
		return []topColumn{{"BACKEND", 0, false}, {"STATE", 8, false}, {"FOR", 8, true}, {"SESSIONS", 8, true}, {"NEW", 8, true}, {"WEIGHT", 6, true}, {"PROBE", 7, false}, {"ADDRESS", 22, false}}
	default:
	}
	return []topColumn{{"SNI", 0, false}, {"BACKEND", 0, false}, {"PHASE", 9, false}, {"AGE", 6, true}, {"IDLE", 6, true}, {"IN", 9, true}, {"OUT", 9, true}, {"CLIENT", 21, false}, {"ID", 16, false}}
}

// rows are those of the page, filtered and sorted.
func (t *top) rows() []topRow {
	switch t.page {
	case pageRoutes:
		return t.routeRows()
	case pageBackends:
		return t.backendRows()
	default:
		return t.sessionRows()
	}
}

// passes reports whether a row with these texts is to be shown.
func (t *top) passes(texts ...string) bool {
	f := strings.ToLower(t.filter)
	return f == "" || slices.ContainsFunc(texts, func(s string) bool { return strings.Contains(strings.ToLower(s), f) })
}

func (t *top) routeRows() []topRow {
	list := slices.Clone(t.seen.routes)
	weight := func(r *admin.Route) float64 {
		switch t.page.orders()[t.order[t.page]] {
		case "sessions":
			return float64(r.Sessions)
		case "bytes":
			return t.rate[r.Name].in + t.rate[r.Name].out
		case "failed":
			return t.rate[r.Name].failed
		}
		return 0
	}
	slices.SortStableFunc(list, func(a, b admin.Route) int { return cmp.Compare(weight(&b), weight(&a)) })
	var rows []topRow
	for i := range list {
		r := &list[i]
		if !t.passes(append([]string{r.Name, r.Pool, r.Mode}, r.Hosts...)...) {
			continue
		}
		x := t.rate[r.Name]
		note := few(r.Hosts)
		if others := othersText(r.Ended); others != "" {
			note += "; so far " + others
		}
		rows = append(rows, topRow{
			key: r.Name, note: sentence(note),
			cells: []string{sentence(r.Name), strconv.Itoa(r.Sessions), rateText(x, x.ended), rateText(x, x.failed), rateBytes(x, x.in), rateBytes(x, x.out), r.Mode, sentence(r.Pool)},
		})
	}
	return rows
}

func (t *top) backendRows() []topRow {
	list := slices.Clone(t.seen.backends)
	worst := []string{"down", "ejected", "draining", "ready"}
	weight := func(b *admin.Backend) float64 {
		switch t.page.orders()[t.order[t.page]] {
		case "state":
			return float64(-slices.Index(worst, b.State))
		case "sessions":
			return float64(b.Sessions)
		case "rate":
			return t.picked[backendKey(b)]
		}
		return 0
	}
	slices.SortStableFunc(list, func(a, b admin.Backend) int { return cmp.Compare(weight(&b), weight(&a)) })
	var rows []topRow
	for i := range list {
		b := &list[i]
		if !t.passes(backendKey(b), b.Address, b.State) {
			continue
		}
		picked, known := t.picked[backendKey(b)]
		rows = append(rows, topRow{
			key: backendKey(b), style: stateStyle(b.State), note: sentence(whyText(b)),
			cells: []string{sentence(backendKey(b)), b.State, since(b.Since), strconv.Itoa(b.Sessions), rateText(rates{known: known}, picked), weightText(b), b.Probe, b.Address},
		})
	}
	return rows
}

func (t *top) sessionRows() []topRow {
	var rows []topRow
	for i := range t.seen.sessions.Sessions {
		s := &t.seen.sessions.Sessions[i]
		if !t.passes(s.SNI, s.Client, s.Route, s.Pool+"/"+s.Backend, s.ID) {
			continue
		}
		backend := ""
		if s.Backend != "" {
			backend = s.Pool + "/" + s.Backend
		}
		rows = append(rows, topRow{
			key: s.ID, note: sentence(fmt.Sprintf("%s from %s by route %s, %s", s.ID, cmp.Or(s.Client, "a Unix socket"), cmp.Or(s.Route, "-"), cmp.Or(s.TLSVersion, "TLS untouched"))),
			cells: []string{
				printable(s.SNI), sentence(backend), s.Phase, shortAge(s.AgeMS), shortAge(s.IdleMS), bytesText(s.BytesIn), bytesText(s.BytesOut), s.Client, s.ID,
			},
		})
	}
	return rows
}

// shortAge is milliseconds in six columns.
func shortAge(ms int64) string {
	d := time.Duration(ms) * time.Millisecond
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 100*time.Hour:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}

func rateText(r rates, v float64) string {
	switch {
	case !r.known:
		return ""
	case v == 0:
		return "0/s"
	case v < 100:
		return fmt.Sprintf("%.1f/s", v)
	}
	return fmt.Sprintf("%.0f/s", v)
}

func rateBytes(r rates, v float64) string {
	if !r.known {
		return ""
	}
	return bytesText(uint64(v)) + "/s"
}
