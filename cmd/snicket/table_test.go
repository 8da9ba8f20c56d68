package main

import (
	"strings"
	"testing"

	"github.com/charmbracelet/x/ansi"
)

func TestGrid(t *testing.T) {
	rows := [][]string{
		{"BACKEND", "STATE", "TOTAL", "WHY"},
		{"web/b1", "ready", "12345", ""},
		{"日本/サーバー1", "down", "0", "connect to 192.0.2.7 port 8443: connection refused, and so on"},
		{"web/\x1b[2J", "down", "7", "bad\tnews"},
	}
	for _, tc := range []struct {
		name  string
		width int
		spare []string
		want  string
		notes string
	}{
		{name: "no terminal", spare: []string{"TOTAL"}, want: `
BACKEND         STATE  TOTAL  WHY
web/b1          ready  12345  -
日本/サーバー1  down   0      connect to 192.0.2.7 port 8443: connection refused, and so on
web/?[2J        down   7      bad?news
`},
		{name: "room for all", width: 100, spare: []string{"TOTAL"}, want: `
BACKEND         STATE  TOTAL  WHY
web/b1          ready  12345  -
日本/サーバー1  down   0      connect to 192.0.2.7 port 8443: connection refused, and so on
web/?[2J        down   7      bad?news
`},
		{name: "the last one in lines", width: 60, spare: []string{"TOTAL"}, want: `
BACKEND         STATE  TOTAL  WHY
web/b1          ready  12345  -
日本/サーバー1  down   0      connect to 192.0.2.7 port
                              8443: connection refused, and
                              so on
web/?[2J        down   7      bad?news
`},
		{name: "one that can be spared", width: 46, spare: []string{"TOTAL", "STATE"}, notes: "left out, as the terminal is 46 wide: TOTAL\n", want: `
BACKEND         STATE  WHY
web/b1          ready  -
日本/サーバー1  down   connect to 192.0.2.7
                       port 8443: connection
                       refused, and so on
web/?[2J        down   bad?news
`},
		{name: "no room at all", width: 20, want: `
BACKEND         STATE  TOTAL  WHY
web/b1          ready  12345  -
日本/サーバー1  down   0      connect to 192.0.2.7 port 8443: connection refused, and so on
web/?[2J        down   7      bad?news
`},
	} {
		var out, notes strings.Builder
		g := &grid{out: &out, notes: &notes, width: tc.width, spare: tc.spare}
		for _, row := range rows {
			g.row(row...)
		}
		if err := g.flush(); err != nil {
			t.Fatal(err)
		}
		if got := "\n" + out.String(); got != tc.want {
			t.Errorf("%s: got %s, want %s", tc.name, got, tc.want)
		}
		if got := notes.String(); got != tc.notes {
			t.Errorf("%s: got notes %q, want %q", tc.name, got, tc.notes)
		}
		for line := range strings.SplitSeq(out.String(), "\n") {
			if n := ansi.StringWidth(line); tc.width > 30 && n > tc.width {
				t.Errorf("%s: got a line %d wide, want %d at most: %q", tc.name, n, tc.width, line)
			}
		}
	}
}

func TestGridWithoutRows(t *testing.T) {
	var out strings.Builder
	if err := newList(&out).flush(); err != nil || out.String() != "" {
		t.Errorf("got %q, %v, want nothing", out.String(), err)
	}
}
