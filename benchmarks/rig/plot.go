package main

import (
	"image/color"
	"os"
	"path/filepath"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

const (
	plotWidth  = 16 * vg.Centimeter
	plotHeight = 9 * vg.Centimeter
)

// draw writes a plot for each workload, NAME.svg, and ratios.svg over all of them. A run as another account than root
// adds its name, so that both can stand in one directory.
func (r *report) draw(dir string) error {
	suffix := ".svg"
	if r.Account != "root" {
		suffix = "-" + r.Account + ".svg"
	}
	for _, s := range r.Sections {
		if len(s.Peers) == 0 {
			continue
		}
		p, err := s.plot()
		if err != nil {
			return err
		}
		if err := save(p, filepath.Join(dir, s.Name+suffix)); err != nil {
			return err
		}
	}
	p, err := r.overview()
	if err != nil || p == nil {
		return err
	}
	return save(p, filepath.Join(dir, "ratios"+suffix))
}

// plot shows every round of every peer as a point, and the median as a bar behind them.
func (s *section) plot() (*plot.Plot, error) {
	p := canvas(s.Name+": "+s.What, s.Unit)
	var bars plotter.Values
	var points plotter.XYs
	var names []string
	for x, series := range s.Peers {
		names = append(names, series.Peer)
		bars = append(bars, series.Main.Median)
		for i, sample := range series.Samples {
			// Side by side in the order of the rounds, so that drift shows.
			shift := 0.0
			if n := len(series.Samples); n > 1 {
				shift = 0.5*float64(i)/float64(n-1) - 0.25
			}
			points = append(points, plotter.XY{X: float64(x) + shift, Y: sample.Main})
		}
	}
	chart, err := plotter.NewBarChart(bars, plotWidth/vg.Length(2*len(bars)+2))
	if err != nil {
		return nil, err
	}
	chart.Color, chart.LineStyle.Width = pale(), 0
	scatter, err := plotter.NewScatter(points)
	if err != nil {
		return nil, err
	}
	scatter.GlyphStyle = draw.GlyphStyle{Color: dark(), Radius: vg.Points(1.5), Shape: draw.CircleGlyph{}}
	p.Add(plotter.NewGrid(), chart, scatter)
	p.NominalX(names...)
	p.Y.Min, p.X.Min, p.X.Max = 0, -0.6, float64(len(names))-0.4
	return p, nil
}

// ratios are the error bars of the overview.
type ratios struct {
	plotter.XYs
	plotter.YErrors
}

// overview shows Snicket's ratio to the reference of each workload that measures processor time, with its interval;
// nil when there is none.
func (r *report) overview() (*plot.Plot, error) {
	var all ratios
	var names []string
	for _, s := range r.Sections {
		if !strings.HasPrefix(s.Unit, "µs/") && !strings.HasPrefix(s.Unit, "CPU-s/") {
			continue
		}
		for _, series := range s.Peers {
			if series.Peer != "snicket" || series.Ratio.N == 0 || s.Reference == "snicket" {
				continue
			}
			v := series.Ratio
			all.XYs = append(all.XYs, plotter.XY{X: float64(len(names)), Y: v.Median})
			all.YErrors = append(all.YErrors, struct{ Low, High float64 }{v.Median - v.Low, v.High - v.Median})
			names = append(names, s.Name+" ÷ "+s.Reference)
		}
	}
	if len(names) == 0 {
		return nil, nil
	}
	p := canvas("snicket, ratio to the reference of the same round, 95 % interval", "ratio")
	errors, err := plotter.NewYErrorBars(all)
	if err != nil {
		return nil, err
	}
	scatter, err := plotter.NewScatter(all)
	if err != nil {
		return nil, err
	}
	scatter.GlyphStyle = draw.GlyphStyle{Color: dark(), Radius: vg.Points(2.5), Shape: draw.CircleGlyph{}}
	even, err := plotter.NewLine(plotter.XYs{{X: -0.5, Y: 1}, {X: float64(len(names)) - 0.5, Y: 1}})
	if err != nil {
		return nil, err
	}
	even.Dashes = []vg.Length{vg.Points(3), vg.Points(3)}
	p.Add(plotter.NewGrid(), even, errors, scatter)
	p.NominalX(names...)
	p.X.Tick.Label.Rotation, p.X.Tick.Label.XAlign, p.X.Tick.Label.YAlign = 0.6, draw.XRight, draw.YCenter
	p.Y.Min, p.X.Min, p.X.Max = 0, -0.6, float64(len(names))-0.4
	return p, nil
}

func canvas(title, unit string) *plot.Plot {
	p := plot.New()
	p.Title.Text, p.Y.Label.Text = title, unit
	p.Title.TextStyle.Font.Variant, p.Y.Label.TextStyle.Font.Variant = "Sans", "Sans"
	p.X.Tick.Label.Font.Variant, p.Y.Tick.Label.Font.Variant = "Sans", "Sans"
	p.Title.Padding = vg.Points(6)
	return p
}

func dark() color.Color { return color.RGBA{R: 0x1f, G: 0x4e, B: 0x79, A: 0xff} }
func pale() color.Color { return color.RGBA{R: 0xbf, G: 0xd4, B: 0xe8, A: 0xff} }

func save(p *plot.Plot, path string) error {
	c := vgsvg.New(plotWidth, plotHeight)
	p.Draw(draw.New(c))
	return write(c, path)
}

func write(c *vgsvg.Canvas, path string) error {
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
