package balancer

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

func tableOf(n int, weight func(int) int64) *table {
	var ids []string
	var weights []int64
	for i := range n {
		ids = append(ids, fmt.Sprintf("10.0.%03d.%03d:443", i/250, i%250))
		weights = append(weights, weight(i))
	}
	return newTable(ids, weights, uint64(tableSize(n)))
}

func equalWeight(int) int64 { return 1 }

func counts(t *table) []int {
	n := make([]int, len(t.ids))
	for _, s := range t.slots {
		n[s]++
	}
	return n
}

// Equal backends make the table of the paper's pseudocode (§3.4), which is
// written here as it stands there.
func TestTableIsThePapers(t *testing.T) {
	for _, n := range []int{1, 2, 3, 7, 100} {
		got := tableOf(n, equalWeight)
		m := uint64(len(got.slots))
		entry := make([]int64, m)
		for j := range entry {
			entry[j] = -1
		}
		permutation := func(i int, j uint64) uint64 {
			h := hashString(got.ids[i])
			offset, skip := h%m, mix(h+golden)%(m-1)+1
			return (offset + j*skip) % m
		}
		next := make([]uint64, n)
		for filled := uint64(0); filled < m; {
			for i := 0; i < n && filled < m; i++ {
				c := permutation(i, next[i])
				for entry[c] >= 0 {
					next[i]++
					c = permutation(i, next[i])
				}
				entry[c] = int64(i)
				next[i]++
				filled++
			}
		}
		for j := range entry {
			if entry[j] != int64(got.slots[j]) {
				t.Fatalf("%d backends: slot %d names %d, want %d", n, j, got.slots[j], entry[j])
			}
		}
	}
}

// The shares of equal backends differ by a slot, which is at most 1 % with a
// hundred slots for each; those of unequal ones are as their weights say, to a
// slot as well.
func TestTableShares(t *testing.T) {
	for _, n := range []int{1, 10, 100, 655, 656, 1000} {
		c := counts(tableOf(n, equalWeight))
		if low, high := slices.Min(c), slices.Max(c); high-low > 1 || float64(high) > 1.01*float64(low) {
			t.Errorf("%d backends have %d to %d slots each", n, low, high)
		}
	}
	for _, weights := range [][]int64{{1, 2, 7}, {1, 1, 1000}, {maxWeight, maxWeight - 1, 1 << 18}, {3, 3, 3, 1}} {
		total := int64(0)
		for _, w := range weights {
			total += w
		}
		tab := tableOf(len(weights), func(i int) int64 { return weights[i] })
		for i, got := range counts(tab) {
			want := float64(len(tab.slots)) * float64(weights[i]) / float64(total)
			if float64(got) < want-1 || float64(got) > want+1 {
				t.Errorf("of weights %d, %d has %d slots, want %.1f", weights, weights[i], got, want)
			}
		}
	}
}

// TestTableResilience is the paper's experiment (§5.3): of 1000 backends some leave at
// the same time, chosen at random, and the entries of the new table that differ from the
// old one are counted, for both of the paper's sizes. No table can keep the entries of
// those that left.
func TestTableResilience(t *testing.T) {
	const backends, rounds = 1000, 5
	random := rand.New(rand.NewPCG(1, 2))
	for _, tt := range []struct {
		size uint64
		gone int
		most float64 // per cent
	}{
		{65_537, 1, 0.8},
		{65_537, 5, 3},
		{65_537, 20, 6},
		{655_373, 1, 0.6},
		{655_373, 5, 1.2},
		{655_373, 20, 3.2},
	} {
		ids := slices.Clone(tableOf(backends, equalWeight).ids)
		weights := slices.Repeat([]int64{1}, backends)
		before := newTable(ids, weights, tt.size)
		sum := 0.0
		for range rounds {
			left := slices.Clone(ids)
			random.Shuffle(len(left), func(i, j int) { left[i], left[j] = left[j], left[i] })
			left = slices.Sorted(slices.Values(left[tt.gone:]))
			after := newTable(left, weights[:len(left)], tt.size)
			changed := 0
			for i := range before.slots {
				if before.ids[before.slots[i]] != after.ids[after.slots[i]] {
					changed++
				}
			}
			sum += 100 * float64(changed) / float64(tt.size)
		}
		unavoidable := 100 * float64(tt.gone) / backends
		t.Logf("%d slots, %d of %d leave: %.2f %% of the entries change, %.2f %% of them must", tt.size, tt.gone, backends, sum/rounds, unavoidable)
		if got := sum / rounds; got > tt.most || got < unavoidable-0.01 {
			t.Errorf("%d slots, %d of %d leave: %.2f %% of the entries change, want %.2f to %.2f %%", tt.size, tt.gone, backends, got, unavoidable, tt.most)
		}
	}
}

func TestTableSizes(t *testing.T) {
	tests := []struct{ backends, want int }{
		{1, 65_537}, {655, 65_537}, {656, 655_373}, {6_553, 655_373}, {6_554, 6_553_577}, {1_000_000, 6_553_577},
	}
	for _, tt := range tests {
		if got := tableSize(tt.backends); got != tt.want {
			t.Errorf("%d backends have %d slots, want %d", tt.backends, got, tt.want)
		}
	}
	// A skip reaches every slot only if the size is prime.
	for _, n := range tableSizes() {
		for d := 2; d*d <= n; d++ {
			if n%d == 0 {
				t.Errorf("%d is %d × %d", n, d, n/d)
			}
		}
	}
}
