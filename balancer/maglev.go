package balancer

import (
	"cmp"
	"slices"
)

// A table is Maglev's (Eisenbud et al., "Maglev: A Fast and Reliable Software
// Network Load Balancer", NSDI 2016, §3.4): each slot names a backend, each
// backend has nearly as many slots as its weight says, and few slots change
// hands when a backend comes or goes. It follows from the set of IDs and weights
// alone, not from their order.
type table struct {
	ids     []string // sorted
	weights []int64  // by index in ids
	slots   []uint32 // indices in ids
}

// tableSizes are primes of which the smallest is used that is at least a hundred
// times the number of backends. They are few, and the steps between them large,
// because a table of another size has nothing in common with the former one. The
// first two are the paper's.
func tableSizes() [3]int { return [...]int{65_537, 655_373, 6_553_577} }

func tableSize(backends int) int {
	sizes := tableSizes()
	for _, n := range sizes {
		if n >= 100*backends {
			return n
		}
	}
	return sizes[len(sizes)-1]
}

// tableLocked returns the table of a tier, the former one if nothing that it
// follows from has changed.
func (p *Pool) tableLocked(d *draft) *table {
	sorted := slices.SortedFunc(slices.Values(d.declared), func(a, b *Backend) int { return cmp.Compare(a.id, b.id) })
	ids := make([]string, len(sorted))
	weights := make([]int64, len(sorted))
	for i, b := range sorted {
		ids[i], weights[i] = b.id, int64(b.Weight())
	}
	if t := p.tables[d.number]; t != nil && slices.Equal(t.ids, ids) && slices.Equal(t.weights, weights) {
		return t
	}
	return newTable(ids, weights)
}

// index leads from the table to the members.
func (t *tier) index() {
	t.places = make([]int32, len(t.table.ids))
	for i := range t.places {
		t.places[i] = -1
	}
	for i := range t.members {
		j, _ := slices.BinarySearch(t.table.ids, t.members[i].id)
		t.places[j] = int32(i)
	}
	t.thin = t.thins()
}

// filler is a backend that fills the table: its next wish in its permutation of
// the slots, and how many it will have with the next one.
type filler struct {
	index      uint32
	next, skip uint64
	weight     int64
	count      int64
}

// goesBefore reports whether f's next slot is due before g's: the middle of it,
// on a scale where all backends have all their slots at the same time. Equal
// backends take turns in the order of their IDs, as in the paper.
func (f *filler) goesBefore(g *filler) bool {
	a, b := (2*f.count-1)*g.weight, (2*g.count-1)*f.weight
	return a < b || a == b && f.index < g.index
}

// newTable builds a table. The weights are at least 1.
func newTable(ids []string, weights []int64) *table {
	size := uint64(tableSize(len(ids)))
	t := &table{ids: ids, weights: weights, slots: make([]uint32, size)}
	heap := make([]filler, len(ids))
	for i, id := range ids {
		h := hashString(id)
		heap[i] = filler{
			index: uint32(i), weight: weights[i], count: 1,
			next: h % size, skip: mix(h+golden)%(size-1) + 1,
		}
	}
	for i := len(heap)/2 - 1; i >= 0; i-- {
		siftDown(heap, i)
	}
	taken := make([]bool, size)
	for range size {
		f := &heap[0]
		for taken[f.next] {
			f.next = (f.next + f.skip) % size
		}
		taken[f.next] = true
		t.slots[f.next] = f.index
		f.count++
		siftDown(heap, 0)
	}
	return t
}

// siftDown restores the heap whose element i became larger.
func siftDown(heap []filler, i int) {
	for {
		child := 2*i + 1
		if child >= len(heap) {
			return
		}
		if child+1 < len(heap) && heap[child+1].goesBefore(&heap[child]) {
			child++
		}
		if !heap[child].goesBefore(&heap[i]) {
			return
		}
		heap[i], heap[child] = heap[child], heap[i]
		i = child
	}
}
