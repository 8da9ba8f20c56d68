// Package stat holds the few statistics the rig needs: medians, ranges, quantiles, and the ratio of two series that
// were measured in pairs, with its interval.
//
// A shared machine drifts by half while a run lasts, so two medians taken minutes apart say little. What says
// something is the ratio of two figures from the same round ([Paired]): drift hits both. Its interval comes from order
// statistics, so it assumes nothing about how the figures are spread and is the same at each evaluation.
//
// The package measures nothing and prints nothing.
package stat

import (
	"math"
	"slices"
)

// Summary is one series of figures: how many, the median and the range.
type Summary struct {
	N      int     `json:"n"`
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// Summarize returns the summary of values, which it does not change. Of no values it is all zero.
func Summarize(values []float64) Summary {
	if len(values) == 0 {
		return Summary{}
	}
	return Summary{N: len(values), Median: Median(values), Min: slices.Min(values), Max: slices.Max(values)}
}

// Median returns the middle of values, or the mean of the two middle ones. Of no values it is 0.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// Quantile returns the smallest of sorted that at least the share q (0 to 1) of them does not exceed: the nearest
// rank, never a value that was not measured. sorted must be in ascending order; of none it is the zero value.
func Quantile[T ~int64 | ~float64](sorted []T, q float64) T {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(math.Ceil(q*float64(len(sorted)))) - 1
	return sorted[min(max(rank, 0), len(sorted)-1)]
}

// Ratio is the median of paired ratios and the interval that holds the true median with a probability of at least
// 0.95. Below six pairs there is no such interval: Low and High are then the range, and Coverage says what it is worth.
type Ratio struct {
	N        int     `json:"n"`
	Median   float64 `json:"median"`
	Low      float64 `json:"low"`
	High     float64 `json:"high"`
	Coverage float64 `json:"coverage"`
}

// Paired returns the ratio of values to references, which were measured in the same rounds in this order. Pairs whose
// reference is not above 0 are left out, as no ratio exists. It panics when the lengths differ.
func Paired(values, references []float64) Ratio {
	if len(values) != len(references) {
		panic("stat: series of different lengths are not paired")
	}
	ratios := make([]float64, 0, len(values))
	for i, reference := range references {
		if reference > 0 {
			ratios = append(ratios, values[i]/reference)
		}
	}
	if len(ratios) == 0 {
		return Ratio{}
	}
	slices.Sort(ratios)
	skip, coverage := ranks(len(ratios))
	return Ratio{
		N: len(ratios), Median: Median(ratios),
		Low: ratios[skip], High: ratios[len(ratios)-1-skip], Coverage: coverage,
	}
}

// ranks tells how many of n ordered values to skip at either end so that what is left covers the true median with a
// probability of 0.95 or more, and that probability. The number of values below the true median is binomial with
// p = 1/2, whatever the distribution.
func ranks(n int) (skip int, coverage float64) {
	term := math.Pow(0.5, float64(n)) // P(exactly k below), k = 0
	tail := term                      // P(at most k below)
	coverage = 1 - 2*tail
	for k := 1; k < n/2; k++ {
		term *= float64(n-k+1) / float64(k)
		tail += term
		if 1-2*tail < 0.95 {
			break
		}
		skip, coverage = k, 1-2*tail
	}
	return skip, max(coverage, 0)
}
