package main

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"
)

// grid prints rows of cells in columns, below their headings.
type grid struct {
	w *tabwriter.Writer
}

func newGrid(c *cli.Context, headings ...string) grid {
	g := grid{tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)}
	g.row(headings...)
	return g
}

// row prints one row. What is empty is shown as "-".
func (g grid) row(cells ...string) {
	for i, cell := range cells {
		if cell == "" {
			cells[i] = "-"
		}
	}
	fmt.Fprintln(g.w, strings.Join(cells, "\t"))
}
