package balancer

import (
	"encoding/binary"
	"net/netip"
)

// The hash is fixed for all time, machines and versions: balancers of a fleet
// that differ in it would send a client to different backends. It is FNV-1a
// (Fowler, Noll and Vo) of 64 bits, finished by the mixer of SplitMix64 (Steele,
// Lea and Flood, OOPSLA 2014), since FNV alone leaves its high bits weak. It has
// no key: a client that may choose its address chooses its backend, which the
// policy lets it do in any case.
const (
	fnvOffset = 0xcbf29ce484222325
	fnvPrime  = 0x100000001b3
	golden    = 0x9e3779b97f4a7c15
)

func hashString(s string) uint64 {
	h := uint64(fnvOffset)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * fnvPrime
	}
	return mix(h)
}

// hashAddr hashes the 4 or 16 bytes of an address; an IPv4 address is the same
// one also if it is mapped into IPv6.
func hashAddr(a netip.Addr) uint64 {
	bytes := a.As16()
	h := uint64(fnvOffset)
	if a = a.Unmap(); a.Is4() {
		return mix((h ^ uint64(binary.BigEndian.Uint32(bytes[12:]))) * fnvPrime)
	}
	h = mix((h ^ binary.BigEndian.Uint64(bytes[:8])) * fnvPrime)
	return mix((h ^ binary.BigEndian.Uint64(bytes[8:])) * fnvPrime)
}

func mix(h uint64) uint64 {
	h ^= h >> 30
	h *= 0xbf58476d1ce4e5b9
	h ^= h >> 27
	h *= 0x94d049bb133111eb
	return h ^ h>>31
}

// choices is how many backends the table names for a key, one after the other,
// before every member is asked.
const choices = 16

// byHash picks the first of the key's choices that is a member, untried and
// below its limit.
func (t *tier) byHash(key uint64, not []*Backend, now int64) (b *Backend, full bool) {
	h := key
	for range choices {
		if m := t.choice(h); m != nil && !tried(not, m.Backend) && t.keeps(m, h, now) && m.enter(m.limit) {
			return m.Backend, false
		}
		h = mix(h + golden)
	}
	return t.highest(key, not)
}

// choice returns the member that the table names for h, nil if that is not
// ready.
func (t *tier) choice(h uint64) *member {
	place := t.places[t.table.slots[h%uint64(len(t.table.slots))]]
	if place < 0 {
		return nil
	}
	return &t.members[place]
}

// keeps reports whether m takes the client of h: if it counts for less than its
// weight it passes some on, the same ones each time, and the fewer the more it
// counts for. The table stays as it is, so that no other client moves.
func (t *tier) keeps(m *member, h uint64, now int64) bool {
	if !t.thin {
		return true
	}
	share := min(float64(m.share.Load())/100, 1) * m.ramp(now)
	return share >= 1 || float64(mix(h^golden)>>11)/(1<<53) < share
}

// thins reports whether some member counts for its whole weight and some does
// not: if none does they are equals again.
func (t *tier) thins() bool {
	var whole, part bool
	for i := range t.members {
		m := &t.members[i]
		if m.rampEnd != 0 || m.share.Load() < 100 {
			part = true
		} else {
			whole = true
		}
	}
	return whole && part
}

// highest asks every member and picks the one whose hash with the key is the
// highest (rendezvous hashing, Thaler and Ravishankar 1998), which again is the
// same on every balancer. Weights play no role.
func (t *tier) highest(key uint64, not []*Backend) (b *Backend, full bool) {
	for {
		full = false
		var best *member
		var bestHash uint64
		for i := range t.members {
			m := &t.members[i]
			if tried(not, m.Backend) {
				continue
			}
			if m.full(m.limit) {
				full = true
				continue
			}
			if h := mix(key ^ m.hash); best == nil || h > bestHash {
				best, bestHash = m, h
			}
		}
		if best == nil {
			return nil, full
		}
		if best.enter(best.limit) {
			return best.Backend, false
		}
	}
}
