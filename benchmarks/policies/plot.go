package main

import (
	"image/color"
	"math"
	"path/filepath"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/snicketlb/snicket/balancer"
	"github.com/snicketlb/snicket/benchmarks/internal/chart"
)

// draw writes the plots of waiting and of imbalance.
func (r *report) draw(dir string) error {
	// Nobody waits a time that has a place on a logarithmic axis: below 1 ms is 1 ms.
	waiting := func(v result) float64 { return max(v.P99, 0.001) }
	err := r.plot("1 session in 100 waits longer than this for a worker", "seconds (1 ms: or less)", waiting,
		filepath.Join(dir, "policies-waiting.svg"))
	if err != nil {
		return err
	}
	return r.plot("highest load of a backend ÷ mean load, mean over time", "imbalance",
		func(v result) float64 { return v.Imbalance }, filepath.Join(dir, "policies-imbalance.svg"))
}

// plot shows one value of each policy, a column of points, by situation.
func (r *report) plot(title, unit string, value func(result) float64, path string) error {
	p := chart.New(title, unit)
	p.Add(plotter.NewGrid())
	names := balancer.Policies()
	low, high := math.Inf(1), 0.0
	for i, s := range situations() {
		var points plotter.XYs
		for _, v := range r.Results {
			if v.Situation == s.name {
				y := value(v)
				low, high = min(low, y), max(high, y)
				// Side by side, so that none hides another.
				points = append(points, plotter.XY{X: float64(len(points)) + 0.12*float64(i) - 0.18, Y: y})
			}
		}
		scatter, err := plotter.NewScatter(points)
		if err != nil {
			return err
		}
		scatter.GlyphStyle = glyph(i)
		p.Add(scatter)
		p.Legend.Add(s.name, scatter)
	}
	p.Legend.Top = true
	p.NominalX(names...)
	p.X.Tick.Label.Rotation, p.X.Tick.Label.XAlign, p.X.Tick.Label.YAlign = 0.4, draw.XRight, draw.YCenter
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	// Room above the points for the legend.
	p.Y.Min, p.Y.Max = low/1.3, high*math.Pow(high/low, 0.45)*1.3
	p.X.Min, p.X.Max = -0.6, float64(len(names))-0.4
	return chart.Save(p, path)
}

func glyph(i int) draw.GlyphStyle {
	styles := []draw.GlyphStyle{
		{Color: chart.Dark(), Shape: draw.CircleGlyph{}},
		{Color: color.RGBA{R: 0x2e, G: 0x8b, B: 0x57, A: 0xff}, Shape: draw.SquareGlyph{}},
		{Color: color.RGBA{R: 0xd9, G: 0x8c, B: 0x1f, A: 0xff}, Shape: draw.PyramidGlyph{}},
		{Color: color.RGBA{R: 0xb2, G: 0x22, B: 0x22, A: 0xff}, Shape: draw.BoxGlyph{}},
	}
	s := styles[i%len(styles)]
	s.Radius = vg.Points(3)
	return s
}
