package proxy

import (
	"iter"
	"math/bits"
)

// Sessions live in slabs: thousands of idle ones are a few dozen objects to the
// collector, and lie without room between them.
const (
	slabSessions = 64 // a bit of a word each
	// keepSlabs is how many empty slabs a loop keeps for the next rush. What is
	// beyond goes back; that is why the lowest place is always taken first.
	keepSlabs = 16
)

type slab struct {
	taken    uint64
	sessions [slabSessions]session
}

// A store holds the sessions of one loop. Their addresses do not change.
type store struct {
	slabs []*slab  // nil: given up
	room  []uint64 // a bit for each slab that has a place
	empty int      // slabs without a session
}

// get takes a place. The session is zero but for that.
func (st *store) get() *session {
	i := st.withRoom()
	sl := st.slabs[i]
	if sl.taken == 0 {
		st.empty--
	}
	k := bits.TrailingZeros64(^sl.taken)
	sl.taken |= 1 << k
	if ^sl.taken == 0 {
		st.room[i/64] &^= 1 << (i % 64)
	}
	s := &sl.sessions[k]
	s.place = uint32(i*slabSessions + k)
	return s
}

// withRoom is the first slab that has a place, a new one if none has.
func (st *store) withRoom() int {
	for j, word := range st.room {
		if word != 0 {
			return 64*j + bits.TrailingZeros64(word)
		}
	}
	i := 0
	for i < len(st.slabs) && st.slabs[i] != nil {
		i++
	}
	if i == len(st.slabs) {
		st.slabs = append(st.slabs, nil)
		if i%64 == 0 {
			st.room = append(st.room, 0)
		}
	}
	st.slabs[i] = new(slab)
	st.room[i/64] |= 1 << (i % 64)
	st.empty++
	return i
}

// put zeroes the session and takes its place back.
func (st *store) put(s *session) {
	i, k := int(s.place)/slabSessions, int(s.place)%slabSessions
	*s = session{}
	sl := st.slabs[i]
	sl.taken &^= 1 << k
	st.room[i/64] |= 1 << (i % 64)
	switch {
	case sl.taken != 0:
	case st.empty < keepSlabs:
		st.empty++
	default:
		st.slabs[i] = nil
		st.room[i/64] &^= 1 << (i % 64)
	}
}

// slab calls f with the sessions of the i-th slab, which may be put back meanwhile, and
// reports whether there may be any behind it.
func (st *store) slab(i int, f func(*session)) (more bool) {
	if i >= len(st.slabs) {
		return false
	}
	if sl := st.slabs[i]; sl != nil {
		for k := range slabSessions {
			if sl.taken&(1<<k) != 0 {
				f(&sl.sessions[k])
			}
		}
	}
	return i+1 < len(st.slabs)
}

// all are the sessions of the store, which may be put back meanwhile.
func (st *store) all() iter.Seq[*session] {
	return func(yield func(*session) bool) {
		for _, sl := range st.slabs {
			for k := range slabSessions {
				if sl != nil && sl.taken&(1<<k) != 0 && !yield(&sl.sessions[k]) {
					return
				}
			}
		}
	}
}
