package stat_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/snicketlb/snicket/benchmarks/internal/stat"
)

func TestSummarize(t *testing.T) {
	for name, c := range map[string]struct {
		values []float64
		want   stat.Summary
	}{
		"none":        {nil, stat.Summary{}},
		"one":         {[]float64{3}, stat.Summary{N: 1, Median: 3, Min: 3, Max: 3}},
		"odd":         {[]float64{9, 1, 4}, stat.Summary{N: 3, Median: 4, Min: 1, Max: 9}},
		"even":        {[]float64{4, 1, 9, 2}, stat.Summary{N: 4, Median: 3, Min: 1, Max: 9}},
		"one far off": {[]float64{1, 1, 1, 1, 1000}, stat.Summary{N: 5, Median: 1, Min: 1, Max: 1000}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := stat.Summarize(c.values); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestMedianKeepsTheOrderOfItsArgument(t *testing.T) {
	values := []float64{3, 1, 2}
	stat.Median(values)
	if values[0] != 3 || values[1] != 1 || values[2] != 2 {
		t.Errorf("got %v, want the order kept", values)
	}
}

func TestQuantile(t *testing.T) {
	hundred := make([]int64, 100)
	for i := range hundred {
		hundred[i] = int64(i + 1)
	}
	for name, c := range map[string]struct {
		sorted []int64
		q      float64
		want   int64
	}{
		"none":          {nil, 0.5, 0},
		"one":           {[]int64{7}, 0.999, 7},
		"p50":           {hundred, 0.5, 50},
		"p99":           {hundred, 0.99, 99},
		"p99.9 of 100":  {hundred, 0.999, 100},
		"smallest":      {hundred, 0, 1},
		"all":           {hundred, 1, 100},
		"two, p50":      {[]int64{1, 2}, 0.5, 1},
		"two, over p50": {[]int64{1, 2}, 0.51, 2},
	} {
		t.Run(name, func(t *testing.T) {
			if got := stat.Quantile(c.sorted, c.q); got != c.want {
				t.Errorf("got %d, want %d", got, c.want)
			}
		})
	}
}

func TestPaired(t *testing.T) {
	for name, c := range map[string]struct {
		values, references []float64
		want               stat.Ratio
	}{
		"none": {nil, nil, stat.Ratio{}},
		"drift hits both": {
			[]float64{12, 24, 48, 12, 24, 48},
			[]float64{10, 20, 40, 10, 20, 40},
			stat.Ratio{N: 6, Median: 1.2, Low: 1.2, High: 1.2, Coverage: 1 - 2.0/64},
		},
		"too few for an interval": {
			[]float64{1, 3}, []float64{1, 1}, stat.Ratio{N: 2, Median: 2, Low: 1, High: 3, Coverage: 0.5},
		},
		"a reference of nothing": {
			[]float64{1, 5}, []float64{1, 0}, stat.Ratio{N: 1, Median: 1, Low: 1, High: 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := stat.Paired(c.values, c.references); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

// TestPairedRanks holds the interval against the ranks every table of the sign test prints.
func TestPairedRanks(t *testing.T) {
	for _, c := range []struct {
		n         int
		low, high float64 // of 1..n
	}{{6, 1, 6}, {9, 2, 8}, {15, 4, 12}, {20, 6, 15}, {25, 8, 18}, {31, 10, 22}} {
		values, ones := make([]float64, c.n), make([]float64, c.n)
		for i := range values {
			values[i], ones[i] = float64(i+1), 1
		}
		got := stat.Paired(values, ones)
		if got.Low != c.low || got.High != c.high || got.Coverage < 0.95 {
			t.Errorf("%d pairs: got %v..%v with coverage %v, want %v..%v with at least 0.95",
				c.n, got.Low, got.High, got.Coverage, c.low, c.high)
		}
	}
}

// TestPairedCovers draws from a skewed distribution whose median is known and counts how often the interval holds it.
func TestPairedCovers(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	const draws, n = 20000, 15
	held := 0
	for range draws {
		values, ones := make([]float64, n), make([]float64, n)
		for i := range values {
			values[i], ones[i] = rng.ExpFloat64(), 1
		}
		if r := stat.Paired(values, ones); r.Low <= math.Ln2 && math.Ln2 <= r.High {
			held++
		}
	}
	if got := float64(held) / draws; got < 0.95 || got > 0.975 {
		t.Errorf("got the median within the interval in %v of the draws, want about 0.965", got)
	}
}
