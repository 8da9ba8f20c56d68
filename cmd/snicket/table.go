package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/charmbracelet/x/ansi"
	"github.com/charmbracelet/x/term"
	"github.com/urfave/cli/v2"
)

// grid prints rows of cells in columns, below their headings if there are any. What goes
// to a terminal fits it as far as that can be: columns that can be spared are left out,
// and the last one is broken into lines. What goes elsewhere is whole.
type grid struct {
	out, notes io.Writer
	width      int // of the terminal; 0: it is none
	indent     string
	rows       [][]string
	spare      []string // headings of the columns that are left out first
}

const (
	gridGap = 2
	// gridLast is how wide the last column is at least when it is broken into lines.
	gridLast = 20
)

func newGrid(c *cli.Context, headings ...string) *grid {
	g := newList(c.App.Writer)
	g.notes = c.App.ErrWriter
	g.row(headings...)
	return g
}

// newList is a grid without headings, whose columns are all needed.
func newList(out io.Writer) *grid {
	return &grid{out: out, width: columnsOf(out)}
}

// columnsOf is how wide a stream is; 0 if it is no terminal.
func columnsOf(stream io.Writer) int {
	f := terminal(stream)
	if f == nil {
		return 0
	}
	width, _, err := term.GetSize(f.Fd())
	if err != nil {
		return 0
	}
	return width
}

// row adds one row. What is empty is shown as "-", and what no terminal should be sent as
// "?".
func (g *grid) row(cells ...string) {
	row := make([]string, len(cells))
	for i, cell := range cells {
		if row[i] = sentence(cell); cell == "" {
			row[i] = "-"
		}
	}
	g.rows = append(g.rows, row)
}

// flush prints the rows.
func (g *grid) flush() error {
	left := g.spareColumns()
	widths := g.widths()
	var b strings.Builder
	for _, row := range g.rows {
		b.WriteString(g.indent)
		at := ansi.StringWidth(g.indent)
		for i, cell := range row[:len(row)-1] {
			b.WriteString(cell + strings.Repeat(" ", widths[i]-ansi.StringWidth(cell)+gridGap))
			at += widths[i] + gridGap
		}
		last := row[len(row)-1]
		if room := g.width - at; g.width > 0 && room >= gridLast && ansi.StringWidth(last) > room {
			last = strings.ReplaceAll(wrap(last, room), "\n", "\n"+strings.Repeat(" ", at))
		}
		b.WriteString(last + "\n")
	}
	if _, err := io.WriteString(g.out, b.String()); err != nil {
		return err
	}
	if len(left) > 0 {
		fmt.Fprintf(g.notes, "left out, as the terminal is %d wide: %s\n", g.width, strings.Join(left, ", "))
	}
	return nil
}

// spareColumns leaves out as few columns as it takes for the rest to fit, and returns their
// headings. If it never does, all stay.
func (g *grid) spareColumns() (left []string) {
	if g.width == 0 || len(g.spare) == 0 {
		return nil
	}
	widths := g.widths()
	out := make([]bool, len(widths))
	var tried []int
	for _, heading := range g.spare {
		if g.fits(widths, out) {
			break
		}
		if i := slices.Index(g.rows[0], heading); i >= 0 {
			out[i] = true
			tried = append(tried, i)
		}
	}
	if !g.fits(widths, out) {
		return nil
	}
	for _, i := range slices.Backward(tried) { // a wide one may have made room for others
		if out[i] = false; !g.fits(widths, out) {
			out[i] = true
		}
	}
	for i, heading := range g.rows[0] {
		if out[i] {
			left = append(left, heading)
		}
	}
	for n, row := range g.rows {
		var kept []string
		for i, cell := range row {
			if !out[i] {
				kept = append(kept, cell)
			}
		}
		g.rows[n] = kept
	}
	return left
}

// fits reports whether columns of these widths fit, but for those left out, when the last
// one is as narrow as it can be made.
func (g *grid) fits(widths []int, out []bool) bool {
	sum, last := ansi.StringWidth(g.indent), 0
	for i, w := range widths {
		if !out[i] {
			sum += w + gridGap
			last = w
		}
	}
	return sum-gridGap-max(0, last-gridLast) <= g.width
}

// widths are those of the columns.
func (g *grid) widths() []int {
	var widths []int
	for _, row := range g.rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], ansi.StringWidth(cell))
		}
	}
	return widths
}
