// Package chart gives the plots of all benchmarks one size and one look, and
// writes them as SVG.
package chart

import (
	"image/color"
	"os"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Width and Height are the size of a plot.
const (
	Width  = 16 * vg.Centimeter
	Height = 9 * vg.Centimeter
)

// New returns an empty plot with a title and the unit of its Y axis.
func New(title, unit string) *plot.Plot {
	p := plot.New()
	p.Title.Text, p.Y.Label.Text = title, unit
	p.Title.TextStyle.Font.Variant, p.Y.Label.TextStyle.Font.Variant = "Sans", "Sans"
	p.X.Tick.Label.Font.Variant, p.Y.Tick.Label.Font.Variant = "Sans", "Sans"
	p.Legend.TextStyle.Font.Variant = "Sans"
	p.Title.Padding = vg.Points(6)
	return p
}

// Dark is the colour of what was measured, Pale that of what stands behind it.
func Dark() color.Color { return color.RGBA{R: 0x1f, G: 0x4e, B: 0x79, A: 0xff} }

// Pale is lighter than Dark.
func Pale() color.Color { return color.RGBA{R: 0xbf, G: 0xd4, B: 0xe8, A: 0xff} }

// Save writes p to a file.
func Save(p *plot.Plot, path string) error {
	c := vgsvg.New(Width, Height)
	p.Draw(draw.New(c))
	return Write(c, path)
}

// Write writes to a file what was drawn on c.
func Write(c *vgsvg.Canvas, path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := c.WriteTo(f); err != nil {
		return err
	}
	return f.Close()
}
