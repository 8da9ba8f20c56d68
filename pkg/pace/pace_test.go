package pace_test

import (
	"slices"
	"testing"

	"github.com/snicketlb/snicket/pkg/pace"
)

func TestAll(t *testing.T) {
	list := make([]int, 1000)
	for i := range list {
		list[i] = 3 * i
	}
	var got []int
	for i, v := range pace.All(list) {
		if v != 3*i {
			t.Fatalf("got %d at %d", v, i)
		}
		got = append(got, v)
	}
	if !slices.Equal(got, list) {
		t.Errorf("got %d of %d", len(got), len(list))
	}
	seen := 0
	for range pace.All(list) {
		if seen++; seen == 300 {
			break
		}
	}
	if seen != 300 {
		t.Errorf("went on to %d", seen)
	}
}

// BenchmarkStep is what a row costs more.
func BenchmarkStep(b *testing.B) {
	b.ReportAllocs()
	var w pace.Walk
	for b.Loop() {
		w.Step()
	}
}
