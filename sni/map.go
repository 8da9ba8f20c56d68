package sni

import (
	"fmt"
	"hash/maphash"
	"iter"
	"math"
	"math/bits"
	"strings"
)

// Map finds the value of the most specific pattern that matches a server name.
// It does not change once made and is safe for concurrent use. The zero Map is
// empty. The forms of patterns are those of [CheckPattern].
//
// The patterns stand one behind the other in a single string, and a hash table
// of 32-bit slots points into it. That costs, per pattern, its text, 4 bytes for
// where it ends, 5 to 11 for its slots, and the size of a V; and leaves one
// pointer to the garbage collector, however many patterns there are.
type Map[V any] struct {
	seed   maphash.Seed
	text   string   // every pattern, without separators
	ends   []uint32 // ends[i] is where pattern i ends in text
	values []V

	// slots is an open-addressing table with linear probing, a power of two in size
	// and at most three quarters full. A slot holds the index of a pattern plus
	// one in its low indexBits bits and part of its hash above, so that nearly
	// all other patterns are told apart without looking at their text. 0 is free.
	slots     []uint32
	indexBits int

	counts [kinds]int
}

// kind is the form of a pattern.
type kind uint8

const (
	exact   kind = iota // a.example.com
	one                 // *.example.com
	several             // **.example.com
	anyName             // *
	noName              // -
	kinds
)

// NewMap makes a Map of entries, pairs of pattern and value, which it goes through
// twice. It returns an error that names the pattern if CheckPattern refuses one, or
// if two are the same once in normal form.
func NewMap[V any](entries iter.Seq2[string, V]) (*Map[V], error) {
	m := &Map[V]{seed: maphash.MakeSeed()}
	patterns, size := 0, 0
	for pattern := range entries {
		patterns++
		size += len(pattern)
	}
	if patterns > 0 {
		m.slots = make([]uint32, 1<<bits.Len(uint(patterns+patterns/3)))
		m.indexBits = bits.Len(uint(patterns))
	}
	m.ends, m.values = make([]uint32, 0, patterns), make([]V, 0, patterns)
	var text strings.Builder
	text.Grow(size)
	for pattern, v := range entries {
		if len(m.ends) == patterns {
			return nil, fmt.Errorf("more than %d patterns, of which there were so many: NewMap goes through them twice", patterns)
		}
		normal, err := CheckPattern(pattern)
		if err != nil {
			return nil, err
		}
		text.WriteString(normal)
		if text.Len() > math.MaxUint32 {
			return nil, fmt.Errorf("patterns of more than %d bytes in all", uint32(math.MaxUint32))
		}
		m.text = text.String()
		m.ends = append(m.ends, uint32(text.Len()))
		m.values = append(m.values, v)
		if err := m.index(len(m.ends) - 1); err != nil {
			return nil, err
		}
	}
	if len(m.ends) < patterns {
		return nil, fmt.Errorf("%d patterns, of which there were %d: NewMap goes through them twice", len(m.ends), patterns)
	}
	return m, nil
}

// index gives pattern i, the last one there is, its slot.
func (m *Map[V]) index(i int) error {
	k, suffix := split(m.pattern(i))
	h := m.hash(k, suffix)
	if j := m.find(k, suffix, h); j >= 0 {
		return fmt.Errorf("pattern %q comes twice", m.pattern(i))
	}
	at := m.home(h)
	for m.slots[at] != 0 {
		at = (at + 1) % len(m.slots)
	}
	m.slots[at] = m.tag(h) | uint32(i+1)
	m.counts[k]++
	return nil
}

// split returns the kind of a pattern in normal form, and what follows its stars.
func split(pattern string) (kind, string) {
	switch {
	case pattern == "*":
		return anyName, ""
	case pattern == "-":
		return noName, ""
	case strings.HasPrefix(pattern, "**."):
		return several, pattern[3:]
	case strings.HasPrefix(pattern, "*."):
		return one, pattern[2:]
	}
	return exact, pattern
}

// Len returns the number of patterns.
func (m *Map[V]) Len() int { return len(m.ends) }

// All yields the patterns, in normal form, with their values, in the order in
// which NewMap got them.
func (m *Map[V]) All() iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		for i := range m.ends {
			if !yield(m.pattern(i), m.values[i]) {
				return
			}
		}
	}
}

// Lookup returns the most specific pattern that matches name, in normal form, and
// its value. name is as [Hello.ServerName] has it; "" is a hello without a name,
// which "-" alone matches.
//
// The order is: the name itself; "*." and its parent; "**." and its parent, then
// with each label less; "*". A pattern "*.b" matches a name only if b is its
// parent, the longest suffix there is, so nothing but the name itself and no
// "**." pattern can be more specific. It takes one probe per label and two
// more, and allocates nothing.
func (m *Map[V]) Lookup(name string) (pattern string, v V, ok bool) {
	i := m.lookup(name)
	if i < 0 {
		return "", v, false
	}
	return m.pattern(i), m.values[i], true
}

// lookup returns the index of the pattern that Lookup returns, or -1.
func (m *Map[V]) lookup(name string) int {
	if len(m.slots) == 0 {
		return -1
	}
	if name == "" {
		return m.get(noName, "")
	}
	if i := m.get(exact, name); i >= 0 {
		return i
	}
	if m.counts[one]+m.counts[several] > 0 {
		if i := m.lookupParents(name); i >= 0 {
			return i
		}
	}
	return m.get(anyName, "")
}

func (m *Map[V]) lookupParents(name string) int {
	for k := one; ; k = several {
		dot := strings.IndexByte(name, '.')
		if dot < 0 {
			return -1
		}
		name = name[dot+1:]
		if k == one {
			if i := m.get(one, name); i >= 0 {
				return i
			}
		}
		if m.counts[several] == 0 {
			return -1
		}
		if i := m.get(several, name); i >= 0 {
			return i
		}
	}
}

// get returns the index of the pattern of kind k with the given suffix, or -1.
func (m *Map[V]) get(k kind, suffix string) int {
	if m.counts[k] == 0 {
		return -1
	}
	return m.find(k, suffix, m.hash(k, suffix))
}

func (m *Map[V]) find(k kind, suffix string, h uint64) int {
	tag := m.tag(h)
	for at := m.home(h); ; at = (at + 1) % len(m.slots) {
		slot := m.slots[at]
		if slot == 0 {
			return -1
		}
		index := slot & (1<<m.indexBits - 1)
		if slot != tag|index {
			continue
		}
		if pk, ps := split(m.pattern(int(index) - 1)); pk == k && ps == suffix {
			return int(index) - 1
		}
	}
}

// hash returns the hash of a pattern. The seed is random: nobody can choose names that
// meet in one slot.
func (m *Map[V]) hash(k kind, suffix string) uint64 {
	const odd = 0x9e3779b97f4a7c15
	return (maphash.String(m.seed, suffix) + uint64(k)) * odd
}

// home is the first slot to look at.
func (m *Map[V]) home(h uint64) int { return int(h>>32) & (len(m.slots) - 1) }

// tag is the part of the hash that stands in a slot, from bits that home does not use.
func (m *Map[V]) tag(h uint64) uint32 { return uint32(h) << m.indexBits }

func (m *Map[V]) pattern(i int) string {
	var start uint32
	if i > 0 {
		start = m.ends[i-1]
	}
	return m.text[start:m.ends[i]]
}
