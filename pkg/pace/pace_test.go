package pace_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

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

// Whoever is held up each time asks less often: the whole takes twice the time at most, and
// a little more.
func TestRest(t *testing.T) {
	for _, tc := range []struct {
		name       string
		away       time.Duration // each time
		least, all int           // how often of 1000 times it gives way
	}{
		{"nobody waits", 0, 1000, 1000},
		{"a loop waits", 50 * time.Microsecond, 1000, 1000},
		{"others compute", 3 * time.Millisecond, 30, 35},
		{"very many compute", 100 * time.Millisecond, 1, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var w pace.Walk
				asked := 0
				for range 1000 {
					time.Sleep(100 * time.Microsecond) //nolint:forbidigo // the bubble's clock
					w.RestBy(func() {
						asked++
						time.Sleep(tc.away) //nolint:forbidigo // the bubble's clock
					})
				}
				if asked < tc.least || asked > tc.all {
					t.Errorf("gave way %d times, want %d to %d", asked, tc.least, tc.all)
				}
			})
		})
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
