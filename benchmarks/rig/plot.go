package main

import (
	"path/filepath"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/snicketlb/snicket/benchmarks/internal/chart"
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
		if err := chart.Save(p, filepath.Join(dir, s.Name+suffix)); err != nil {
			return err
		}
	}
	p, err := r.overview()
	if err != nil || p == nil {
		return err
	}
	return chart.Save(p, filepath.Join(dir, "ratios"+suffix))
}

// plot shows every round of every peer as a point, and the median as a bar behind them.
func (s *section) plot() (*plot.Plot, error) {
	p := chart.New(s.Name+": "+s.What, s.Unit)
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
	bar, err := plotter.NewBarChart(bars, chart.Width/vg.Length(2*len(bars)+2))
	if err != nil {
		return nil, err
	}
	bar.Color, bar.LineStyle.Width = chart.Pale(), 0
	scatter, err := plotter.NewScatter(points)
	if err != nil {
		return nil, err
	}
	scatter.GlyphStyle = draw.GlyphStyle{Color: chart.Dark(), Radius: vg.Points(1.5), Shape: draw.CircleGlyph{}}
	p.Add(plotter.NewGrid(), bar, scatter)
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
	p := chart.New("snicket, ratio to the reference of the same round, 95 % interval", "ratio")
	errors, err := plotter.NewYErrorBars(all)
	if err != nil {
		return nil, err
	}
	scatter, err := plotter.NewScatter(all)
	if err != nil {
		return nil, err
	}
	scatter.GlyphStyle = draw.GlyphStyle{Color: chart.Dark(), Radius: vg.Points(2.5), Shape: draw.CircleGlyph{}}
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
