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
	return newTable(ids, weights, uint64(tableSize(len(ids))))
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

// newTable builds a table of a prime size. The weights are at least 1.
func newTable(ids []string, weights []int64, size uint64) *table {
	t := &table{ids: ids, weights: weights, slots: make([]uint32, size)}
	fillers := make([]filler, len(ids))
	equal := true
	for i, id := range ids {
		h := hashString(id)
		fillers[i] = filler{
			index: uint32(i), weight: weights[i], count: 1,
			next: h % size, skip: mix(h+golden)%(size-1) + 1,
		}
		equal = equal && weights[i] == weights[0]
	}
	taken := make(bitmap, (size+63)/64)
	if equal { // they take turns, which is what the heap would say at eight times the price
		for n := range size {
			t.slots[fillers[n%uint64(len(ids))].take(taken, size)] = uint32(n % uint64(len(ids)))
		}
		return t
	}
	for i := len(fillers)/2 - 1; i >= 0; i-- {
		siftDown(fillers, i)
	}
	for range size {
		f := &fillers[0]
		t.slots[f.take(taken, size)] = f.index
		f.count++
		siftDown(fillers, 0)
	}
	return t
}

// take returns the first slot of f's permutation that is free, and takes it.
func (f *filler) take(taken bitmap, size uint64) uint64 {
	slot := f.next
	for taken.has(slot) {
		if slot += f.skip; slot >= size {
			slot -= size
		}
	}
	taken.add(slot)
	f.next = slot
	return slot
}

// bitmap is a set of small numbers. One bit for each slot of the largest table fits
// where a byte for each would not: into a processor's own cache.
type bitmap []uint64

func (b bitmap) has(n uint64) bool { return b[n/64]&(1<<(n%64)) != 0 }

func (b bitmap) add(n uint64) { b[n/64] |= 1 << (n % 64) }

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
